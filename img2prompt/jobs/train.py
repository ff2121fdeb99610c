"""`img2prompt train captioner|regressor|upsampler|text2image`: LightningCLI over a model and its data, a row each."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError, OutputError
from img2prompt.jobs.doctor import installation

if TYPE_CHECKING:
    from img2prompt.training.cli import TrainingCLI

RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class Trainee:
    """Something that can be trained.

    Attributes:
        line: what training it does, for the help.
        module: its class, "MODULE:CLASS", imported only when it trains.
        data: the class of its data.
        recipes: those that come along.
        example: a key that its recipes leave to the user.
        defaults: of keys that all trainees share, where they differ.
    """

    line: str
    module: str
    data: str
    recipes: tuple[str, ...]
    example: str
    defaults: Mapping[str, str] = field(default_factory=dict)


TRAINEES: dict[str, Trainee] = {
    "captioner": Trainee(
        line="Trains or fine-tunes a captioner: from a picture to its prompt.",
        module="img2prompt.training.captioner:CaptionTraining",
        data="img2prompt.training.data:CaptionPairs",
        recipes=("coca_l14_sd", "storybook_captioner", "storybook_tower"),
        example="--data.source.train=FOLDER",
    ),
    "regressor": Trainee(
        line="Trains or fine-tunes a regressor: from a picture to its prompt's sentence embedding.",
        module="img2prompt.training.regressor:RegressorTraining",
        data="img2prompt.training.embedding_data:EmbeddingPairs",
        recipes=("clip_vit_l_14", "storybook_regressor", "timm_vit_b_16", "vit_l_336"),
        example="--data.sources='[{path: FOLDER}]'",
        defaults={"keep.monitor": "val/cosine", "keep.mode": "max"},
    ),
    "upsampler": Trainee(
        line="Trains a small language model to make a short prompt a long one.",
        module="img2prompt.training.upsampler:UpsamplerTraining",
        data="img2prompt.training.text_pairs:TextPairs",
        recipes=("storybook_upsampler",),
        example="--data.source.train=FOLDER",
    ),
    "text2image": Trainee(
        line="Trains a small text-to-image model: from a prompt to a picture.",
        module="img2prompt.training.text2image:TextToImageTraining",
        data="img2prompt.training.data:CaptionPairs",
        recipes=("storybook_text2image", "storybook_text2image_gpu"),
        example="--data.source.train=FOLDER",
    ),
}

HELP = """usage: img2prompt train {names} --config RECIPE [--output FOLDER] [--resume] [--KEY VALUE ...]

{lines}
The recipe is YAML; every key of it can be set on the command line, such as
{example} --trainer.max_steps=1000.

  --config RECIPE     a file, or the name of a recipe that comes along:
{recipes}
  --output FOLDER     the run's folder (default: runs/{name}); last/ and best/ in it are models
  --resume            go on from the folder's last checkpoint: the same batches and losses as if never stopped
  --logger NAME       wandb or mlflow beside CSV and TensorBoard

  img2prompt train {name} --keys     every key with its meaning
"""


def raw(argv: list[str]) -> int:
    """Runs `train` with its own arguments.

    Args:
        argv: what stands after `train`.

    Raises:
        ConfigError: an argument or the recipe is wrong, or the run folder holds another run.
    """
    helps = not argv or "-h" in argv or "--help" in argv
    if helps and (not argv or argv[0] not in TRAINEES):
        print(_help(list(TRAINEES)), end="")
        return 0
    if argv[0] not in TRAINEES:
        raise ConfigError(f"train {argv[0]}: there is no such model to train; choose {' or '.join(TRAINEES)}")
    if helps:
        print(_help([argv[0]]), end="")
        return 0
    rest = [("--help" if word == "--keys" else word) for word in argv[1:]]
    cli = _parse(argv[0], [_named(rest[i - 1] if i else "", word) for i, word in enumerate(rest)])
    return _fit(cli)


def _help(names: list[str]) -> str:
    """The help of some of the trainees."""
    rows = {name: TRAINEES[name] for name in names}
    return HELP.format(
        names="|".join(rows),
        name=names[0] if len(names) == 1 else "NAME",
        lines="\n".join(row.line for row in rows.values()),
        example=next(iter(rows.values())).example,
        recipes="\n".join(f"                        {', '.join(row.recipes)}" for row in rows.values()),
    )


def _named(before: str, word: str) -> str:
    """A recipe's name as its path."""
    value = word.removeprefix("--config=") if word.startswith("--config=") else word if before == "--config" else None
    if value is None or Path(value).exists() or not (RECIPES / f"{value}.yaml").exists():
        return word
    path = str(RECIPES / f"{value}.yaml")
    return path if before == "--config" else f"--config={path}"


def _parse(name: str, arguments: list[str]) -> TrainingCLI:
    from img2prompt.training.cli import TrainingCLI

    trainee = TRAINEES[name]
    return TrainingCLI.of(name, _imported(trainee.module), _imported(trainee.data), trainee.defaults, arguments)


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _fit(cli: TrainingCLI) -> int:
    from img2prompt.training.callbacks import CHECKPOINT, Settings, check_checkpoint

    root = Path(cli.trainer.default_root_dir)
    path = root / CHECKPOINT
    if path.exists() and not cli.config["resume"]:
        raise ConfigError(f"{root}: holds a run; add --resume to go on with it, or choose another --output")
    resume = path if path.exists() else None
    if resume is not None:
        check_checkpoint(resume)

    def settings() -> None:
        cli.write_config(root)
        (root / "versions.json").write_text(json.dumps(installation(), indent=1) + "\n", encoding="utf-8")

    cli.trainer.callbacks.append(Settings(settings))
    with _told(root), _not_for_nothing(root, cli.trainer):
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
    if cli.trainer.is_global_zero:
        print(root / "last")
        print(f"{cli.datamodule.skipped} rows were left out", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _not_for_nothing(root: Path, trainer: Any) -> Iterator[None]:
    """Takes a folder away again that was made for a run which failed before its first step."""
    made = [place for place in (root, *root.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        if made and trainer.is_global_zero and not trainer.global_step:
            shutil.rmtree(root, ignore_errors=True)
            for parent in made[1:]:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    parent.rmdir()
        raise


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    """What the system says of the run's folder, in one line; the loggers make and write their files themselves."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's, but what a library calls by that name
            raise
        raise OutputError(
            f"{error.filename or root}: {error.strerror}; what was saved stays: run it again with --resume, or"
            " choose another --output"
        ) from error

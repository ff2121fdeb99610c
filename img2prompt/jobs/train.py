"""`img2prompt train captioner --config RECIPE`: LightningCLI over the captioner and its data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError
from img2prompt.jobs.doctor import installation

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningCLI

HELP = """usage: img2prompt train captioner --config RECIPE [--output FOLDER] [--resume] [--KEY VALUE ...]

Trains or fine-tunes a captioner. The recipe is YAML; every key of it can be set on the command line, such as
--data.source.train=FOLDER --trainer.max_steps=1000.

  --config RECIPE     a file, or the name of a recipe that comes along: {recipes}
  --output FOLDER     the run's folder (default: runs/captioner); last/ and best/ in it are models for --preset
  --resume            go on from the folder's last checkpoint: the same batches and losses as if never stopped
  --logger NAME       wandb or mlflow beside CSV and TensorBoard

  img2prompt train captioner --keys     every key with its meaning
"""
RECIPES = Path(__file__).parents[1] / "recipes"


def raw(argv: list[str]) -> int:
    """Runs `train` with its own arguments.

    Args:
        argv: what stands after `train`.

    Raises:
        ConfigError: an argument or the recipe is wrong, or the run folder holds another run.
    """
    if not argv or argv[0] in ("-h", "--help") or "-h" in argv or "--help" in argv:
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        print(HELP.format(recipes=names or "none"), end="")
        return 0
    if argv[0] != "captioner":
        raise ConfigError(f"train {argv[0]}: there is no such model to train; choose captioner")
    rest = [("--help" if word == "--keys" else word) for word in argv[1:]]
    cli = _parse([_named(rest[i - 1] if i else "", word) for i, word in enumerate(rest)])
    return _fit(cli)


def _named(before: str, word: str) -> str:
    """A recipe's name as its path."""
    value = word.removeprefix("--config=") if word.startswith("--config=") else word if before == "--config" else None
    if value is None or Path(value).exists() or not (RECIPES / f"{value}.yaml").exists():
        return word
    path = str(RECIPES / f"{value}.yaml")
    return path if before == "--config" else f"--config={path}"


def _parse(arguments: list[str]) -> LightningCLI:
    from img2prompt.training.cli import CaptionerCLI

    return CaptionerCLI.of(arguments)


def _fit(cli: Any) -> int:
    from img2prompt.training.callbacks import CHECKPOINT

    root = Path(cli.trainer.default_root_dir)
    path = root / CHECKPOINT
    if path.exists() and not cli.config["resume"]:
        raise ConfigError(f"{root}: holds a run; add --resume to go on with it, or choose another --output")
    root.mkdir(parents=True, exist_ok=True)
    cli.write_config(root)
    (root / "versions.json").write_text(json.dumps(installation(), indent=1) + "\n", encoding="utf-8")
    resume = str(path) if cli.config["resume"] and path.exists() else None
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
    print(root / "last")
    print(f"{cli.datamodule.skipped} pictures could not be read", file=sys.stderr)
    return 0

"""LightningCLI for whatever is trained: recipes are its YAML, with a few keys of our own on top."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from img2prompt.errors import ConfigError, first_lines
from img2prompt.extras import need
from img2prompt.training.callbacks import Ema, Keep, Tell
from img2prompt.training.module import Training

TRAINER_DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": -1,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 0,
    "check_val_every_n_epoch": None,
    "enable_checkpointing": False,  # Keep does it
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "gradient_clip_val": 1.0,
}


class TrainingCLI(LightningCLI):
    """Builds module, data and trainer from a recipe and arguments; `of` makes the class of what is trained.

    Attributes:
        name: what is trained.
        defaults: of the keys of our own, where they differ.
        strategies: see `Training`.
    """

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]
    strategies: ClassVar[Mapping[str, Callable[[], Any]]]

    @classmethod
    def of(
        cls,
        name: str,
        module: type[Training],
        data: type[LightningDataModule],
        defaults: Mapping[str, Any],
        arguments: list[str],
    ) -> TrainingCLI:
        """Reads the arguments.

        Args:
            name: what is trained, as the command line calls it.
            module: its class.
            data: the class of its data.
            defaults: of the keys of our own, where they differ.
            arguments: what stands on the command line after the name.

        Raises:
            ConfigError: one of them, or the recipe, is wrong.
        """
        import jsonargparse

        _quieten()
        program = f"img2prompt train {name}"
        parser = {"exit_on_error": False, "prog": program}
        own = type(cls.__name__, (cls,), {"name": name, "defaults": dict(defaults), "strategies": module.strategies})
        try:
            return own(
                module,
                data,
                args=list(_replacing(arguments)),
                run=False,
                auto_configure_optimizers=False,
                save_config_callback=None,
                trainer_defaults=TRAINER_DEFAULTS,
                seed_everything_default=42,
                parser_kwargs=parser,
            )
        except (jsonargparse.ArgumentError, OSError) as error:
            raise ConfigError(f"{' '.join(str(error).split())}; see {program} --keys") from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The keys of our own."""
        parser.add_argument("--output", type=Path, default=Path("runs") / self.name, help="the run's folder")
        parser.add_argument("--resume", action="store_true", help="go on from the folder's last checkpoint")
        names = Literal["wandb", "mlflow"] | None
        parser.add_argument("--logger", type=names, default=None, help="beside CSV and TensorBoard")
        parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves it to torch")
        parser.add_lightning_class_args(Ema, "ema")
        parser.add_lightning_class_args(Keep, "keep")
        parser.set_defaults(self.defaults)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, writing into the run folder."""
        root, extra = Path(self.config["output"]), self.config["logger"]
        given = self.config_init["trainer"]
        for key in ("accumulate_grad_batches", "log_every_n_steps", "val_check_interval"):
            if given[key] == 0:  # which Lightning takes, to divide by it after the first step
                raise ConfigError(f"trainer.{key}: must be more than 0")
        if self.config["threads"] < 0:
            raise ConfigError("threads: must not be negative")
        if self.config["threads"]:
            torch.set_num_threads(self.config["threads"])
        asked = given["strategy"]
        if isinstance(asked, str) and asked in self.strategies:
            kwargs["strategy"] = self.strategies[asked]()
        try:
            trainer = super().instantiate_trainer(default_root_dir=str(root), logger=loggers(root, extra), **kwargs)
        except (MisconfigurationException, ValueError) as error:  # what the keys' types do not tell: names, devices
            raise ConfigError(f"trainer: {first_lines(error)}; change the keys --trainer.* of that name") from error
        trainer.callbacks.append(Tell())
        return trainer

    def write_config(self, root: Path) -> None:
        """The resolved configuration, which is a recipe again."""
        self.parser.save(self.config, root / "config.yaml", skip_validation=True, overwrite=True, multifile=False)


def _replacing(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, so that a list of settings takes the place of the recipe's.

    jsonargparse would fill the items of a list with those of an equally long one before it: sources would keep column
    names, weights and limits of data sets that they have nothing to do with. Of an empty list there is nothing to keep.
    """
    for i, word in enumerate(arguments):
        key, equals, value = word.partition("=")
        following = value if equals else "".join(arguments[i + 1 : i + 2])
        if key.startswith("--") and following.lstrip().startswith("[{"):
            yield f"{key}=[]"
        yield word


def _quieten() -> None:
    """Leaves out the libraries' advertisements and the warnings that are answered elsewhere."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*mid-epoch.*",  # our batches are numbered, so the resumed ones are the right ones
        ".*LightningCLI's args parameter.*",
        ".*LeafSpec.*",
        ".*weights_only.*",
        ".*eval mode at the start.*",  # frozen parts
    ):
        warnings.filterwarnings("ignore", message)


def loggers(root: Path, extra: str | None) -> list[Logger]:
    """CSV and TensorBoard, and one more by name.

    Raises:
        MissingExtra: the asked one is not installed.
    """
    # A run that goes on writes beside what it wrote before: CSVLogger would delete that.
    number = next(i for i in itertools.count(1) if not (root / f"csv-{i}").exists())
    found: list[Logger] = [
        CSVLogger(root, name="", version=f"csv-{number}", flush_logs_every_n_steps=1),
        TensorBoardLogger(root, name="", version="tensorboard"),
    ]
    if extra == "wandb":
        need("wandb", "wandb")
        from lightning.pytorch.loggers import WandbLogger

        found.append(WandbLogger(project="img2prompt", save_dir=root))
    elif extra == "mlflow":
        need("mlflow", "mlflow")
        from lightning.pytorch.loggers import MLFlowLogger

        found.append(MLFlowLogger(experiment_name="img2prompt", save_dir=str(root / "mlruns")))
    return found

"""What happens around the steps: averaged weights, and a run folder that is always usable."""

from __future__ import annotations

import math
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer

from img2prompt.errors import TrainingError
from img2prompt.training.module import Training
from img2prompt.training.optim import Average, local

CHECKPOINT = Path("checkpoints") / "last.ckpt"


class Ema(Callback):
    """Averages the model's weights; validation and saved models use the average.

    Args:
        decay: of the exponential moving average; 0 turns it off.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.average: Average | None = None
        self._restored: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer, module: Training) -> None:
        """Starts from the weights that are there, or from a checkpoint's average."""
        if self.decay:
            self.average = Average((p for p in module.trained.parameters() if p.requires_grad), self.decay)
            if self._restored is not None:
                self.average.load_state_dict(self._restored)

    def on_train_batch_end(self, trainer: Trainer, module: Training, *_: Any) -> None:
        """Takes in the weights after every optimiser step."""
        if self.average is not None and trainer.fit_loop._should_accumulate() is False:
            self.average.update()

    def on_validation_start(self, trainer: Trainer, module: Training) -> None:
        """Puts the average in place."""
        if self.average is not None:
            self.average.swap()

    def on_validation_end(self, trainer: Trainer, module: Training) -> None:
        """Takes it out again."""
        if self.average is not None:
            self.average.swap()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with averaged weights."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self.average is None else self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the weights are there, which some strategies restore earlier than this."""
        self._restored = state_dict or None
        if self.average is not None and self._restored is not None:
            self.average.load_state_dict(self._restored)


class Keep(Callback):
    """Keeps a run folder from which training goes on and whose models can be used at any time.

    checkpoints/last.ckpt (everything a resume needs), last/ and best/ (models as the package loads them, averaged
    weights). Every file is replaced in one step, so a kill at any moment leaves the one before.

    Args:
        minutes: time between checkpoints.
        steps: or steps between them; 0 for time only.
        monitor: the validation metric that says which model is best.
        mode: "min" or "max".
    """

    def __init__(
        self, minutes: float = 3.0, steps: int = 0, monitor: str = "val/loss", mode: Literal["min", "max"] = "min"
    ) -> None:
        self.minutes, self.steps, self.monitor, self.mode = minutes, steps, monitor, mode
        self.best = math.inf if mode == "min" else -math.inf
        self._saved_at = time.monotonic()
        self._saved_step = -1

    def on_train_start(self, trainer: Trainer, module: Training) -> None:
        """Starts the clock."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: Training, *_: Any) -> None:
        """Saves when it is time, between optimiser steps only."""
        if trainer.fit_loop._should_accumulate() or trainer.global_step == self._saved_step:
            return
        if (self.steps and trainer.global_step % self.steps == 0) or self._due(trainer):
            self.save(trainer, module)

    def _due(self, trainer: Trainer) -> bool:
        due = time.monotonic() - self._saved_at >= 60 * self.minutes
        if trainer.world_size == 1:
            return due
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]  # asking takes time
            return False
        return bool(trainer.strategy.broadcast(due))  # one clock for all processes

    def on_validation_end(self, trainer: Trainer, module: Training) -> None:
        """Keeps the model when it is the best so far."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not math.isfinite(float(value)):
            return
        if (float(value) < self.best) if self.mode == "min" else (float(value) > self.best):
            self.best = float(value)
            with _ema(trainer).averaged():
                module.export(Path(trainer.default_root_dir) / "best")

    def on_train_end(self, trainer: Trainer, module: Training) -> None:
        """Saves the end."""
        if trainer.global_step != self._saved_step:
            self.save(trainer, module)

    def save(self, trainer: Trainer, module: Training) -> None:
        """Writes the checkpoint and the model, unless the weights are no longer finite."""
        finite = all(bool(torch.isfinite(local(p)).all()) for p in module.trained.parameters())
        if not trainer.strategy.reduce_boolean_decision(finite):
            return
        root = Path(trainer.default_root_dir)
        path = root / CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            fresh.replace(path)
        with _ema(trainer).averaged():
            module.export(root / "last")
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.best = state_dict["best"]


class Settings(Callback):
    """Writes what the run is made of, once data, model and checkpoint have turned out usable.

    Args:
        write: does it.
    """

    def __init__(self, write: Callable[[], None]) -> None:
        self.write = write

    def on_train_start(self, trainer: Trainer, module: Training) -> None:
        """Before the first step."""
        if trainer.is_global_zero:
            Path(trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
            self.write()


class Tell(Callback):
    """Says on stderr how training goes: a line at each log step, and the scores and an example of each validation."""

    def on_train_start(self, trainer: Trainer, module: Training) -> None:
        """Starts the clock."""
        self._since = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, module: Training, *_: Any) -> None:
        """One line every `log_every_n_steps`."""
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step % every or step == self._since[1]:
            return
        seconds = (time.monotonic() - self._since[0]) / (step - self._since[1])
        self._since = (time.monotonic(), step)
        if not trainer.is_global_zero:
            return
        pairs = trainer.datamodule.batch_size * trainer.accumulate_grad_batches / seconds  # type: ignore[attr-defined]
        left = (trainer.max_steps - step) * seconds / 60
        parts = [
            f"{name.removeprefix('train/')} {float(value):.3f}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and name != "train/batch"
        ]
        rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        line = (
            f"step {step}/{trainer.max_steps} {' '.join(parts)} lr {rate:.2e} {pairs:.0f} pairs/s {left:.0f} min left"
        )
        print(line, file=sys.stderr, flush=True)

    def on_validation_end(self, trainer: Trainer, module: Training) -> None:
        """The scores, and what was written for the first picture."""
        if not trainer.is_global_zero:
            return
        scores = sorted((k, float(v)) for k, v in trainer.callback_metrics.items() if k.startswith("val"))
        print("validation " + " ".join(f"{k} {v:.4f}" for k, v in scores), file=sys.stderr, flush=True)
        for manner, (written, truth) in module.examples.items():
            print(f"  {manner}: {written!r} for {truth!r}", file=sys.stderr, flush=True)
        if trainer.state.fn == "fit":  # validation is no part of a step's time
            self._since = (time.monotonic(), trainer.global_step)


def _ema(trainer: Trainer) -> Ema:
    return next((c for c in trainer.callbacks if isinstance(c, Ema)), Ema(0.0))  # type: ignore[attr-defined]


def check_checkpoint(path: Path) -> None:
    """Makes sure that a run can go on from a file, as far as the file alone tells; its numbers stay on the disk.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        known = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        if isinstance(known, dict) and "state_dict" in known:
            return
        reason = "it holds no model"
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise TrainingError(f"{path}: damaged checkpoint ({reason}); start from last/ in another --output")

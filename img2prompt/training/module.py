"""What the callbacks and the command line need of whatever is in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from img2prompt.errors import TrainingError


class Training(LightningModule, ABC):
    """A model in training.

    Attributes:
        examples: what validation shows of the model: name -> what it wrote and the truth.
        strategies: of several processes that it trains with in a way of its own: name -> what the trainer takes.
    """

    strategies: ClassVar[Mapping[str, Callable[[], Any]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, tuple[str, str]] = {}

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The model without what only its training needs."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Writes that model; with several processes all of them call it, and the first one writes."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch, for a checkpoint from which a run goes on.

        Raises:
            TrainingError: it is of another model; the first weight that differs is named.
        """
        saved, own = ({k: tuple(v.shape) for k, v in part.items()} for part in (state_dict, self.state_dict()))
        for name in {**own, **saved}:
            there, here = saved.get(name, "absent"), own.get(name, "absent")
            if there != here:
                raise TrainingError(
                    f"the checkpoint is of another model: {name} is {there} there and {here} here; go on with the run's"
                    " own config.yaml, or choose another --output"
                )
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    @property
    def fused(self) -> bool:
        """Whether the optimiser may move all weights in one call; Lightning clips none of its gradients if mixed."""
        return not str(self.trainer.precision).endswith("-mixed")

    @property
    def logs_now(self) -> bool:
        """Whether Lightning logs this step."""
        return bool((self.global_step + 1) % self.trainer.log_every_n_steps == 0)  # type: ignore[attr-defined]

    def check(self, total: Tensor, losses: Mapping[str, Tensor], number: int) -> None:
        """Stops the run when a loss is not finite; on a GPU it looks at log steps only, since looking waits for it.

        Raises:
            TrainingError: it is not.
        """
        if (self.logs_now or total.device.type == "cpu") and not torch.isfinite(total):
            parts = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise TrainingError(
                f"the loss of batch {number} is not finite ({parts}); the last good checkpoint is kept: "
                "lower optimiser.lr or set trainer.gradient_clip_val, then go on with --resume"
            )

"""AdamW with the groups and schedules that transformers are trained with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from img2prompt.errors import TrainingError
from img2prompt.training.muon import MuonAdamW


@dataclass(frozen=True)
class Optimiser:
    """How the weights move.

    Attributes:
        lr: highest learning rate.
        betas: of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        eps: of AdamW.
        weight_decay: of matrices; norms, biases and embeddings have none.
        warmup_steps: steps of linear warm-up.
        schedule: what follows: "cosine" or "linear" to 0, or "wsd": constant, then linear to 0 in the last
            `cooldown` of the run (so a run can be cut short or prolonged without having been wrong so far).
        cooldown: share of the run, for "wsd".
        layer_decay: factor on the learning rate from each block to the one below it, in each tower; 1 for none.
        head_lr_factor: learning rate of the training-only heads relative to `lr`.
        muon_lr: learning rate of the blocks' matrices under Muon; 0 leaves them to AdamW.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.1
    warmup_steps: int = 100
    schedule: Literal["cosine", "linear", "wsd"] = "cosine"
    cooldown: float = 0.3
    layer_decay: float = 1.0
    head_lr_factor: float = 1.0
    muon_lr: float = 0.0


def build(settings: Optimiser, model: nn.Module, heads: nn.Module | None, max_steps: int) -> dict[str, Any]:
    """The optimiser and its schedule, as Lightning takes them from `configure_optimizers`.

    Raises:
        TrainingError: every weight is frozen.
    """
    groups = parameter_groups(settings, model)
    if heads is not None:
        for group in parameter_groups(settings, heads):
            groups.append({**group, "lr": settings.lr * settings.head_lr_factor})
    if not groups:
        raise TrainingError("every weight is frozen; take a part out of model.freeze")
    optimizer = MuonAdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(settings, step, max_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def factor(settings: Optimiser, step: int, max_steps: int) -> float:
    """What the learning rate of a step (0 the first) is multiplied by, 0..1."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    share = min(1.0, (step - settings.warmup_steps) / max(1, max_steps - settings.warmup_steps))
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    if settings.schedule == "linear":
        return 1 - share
    return min(1.0, (1 - step / max(1, max_steps)) / settings.cooldown)


def parameter_groups(settings: Optimiser, model: nn.Module) -> list[dict[str, Any]]:
    """Parameters that train, in groups of equal weight decay and learning rate."""
    depths = _depths(model)
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            muon = bool(settings.muon_lr) and parameter.ndim == 2 and BLOCK.match(name) is not None
            lr = (settings.muon_lr if muon else settings.lr) * settings.layer_decay ** _below_top(name, depths)
            groups.setdefault((_decays(name, parameter), muon, lr), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": settings.weight_decay if decays else 0.0, "lr": lr, "muon": muon}
        for (decays, muon, lr), parameters in groups.items()
    ]


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and "embedding" not in name and not name.endswith("query")


BLOCK = re.compile(r"^(.*)\.(?:resblocks|cross_attn)\.(\d+)\.")


def _depths(model: nn.Module) -> dict[str, int]:
    """Tower -> its number of blocks."""
    depths: dict[str, int] = {}
    for name, _ in model.named_parameters():
        if found := BLOCK.match(name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    return depths


def _below_top(name: str, depths: dict[str, int]) -> int:
    """How many blocks lie between a parameter and the top of its tower: 0 for what comes after the last block."""
    if found := BLOCK.match(name):
        return depths[found[1]] - int(found[2])
    for tower, blocks in depths.items():
        stem = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "token_embedding", "cls_emb")
        if name.startswith(tuple(f"{tower.removesuffix('.transformer')}.{part}" for part in stem)):
            return blocks + 1
    return 0


class Average:
    """Exponential moving average of parameters (Polyak averaging), which young runs forget faster.

    Args:
        parameters: what is averaged; kept by reference.
        decay: of a long run; after t steps the decay is at most (1 + t) / (10 + t).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay, self.steps = decay, 0
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the parameters as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges parameters and averages; a second call undoes the first."""
        for parameter, value in zip(self.parameters, self.values, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.steps = state["steps"]
        for value, saved in zip(self.values, state["values"], strict=True):
            value.copy_(saved)

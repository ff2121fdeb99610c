"""AdamW with the groups and schedules that transformers are trained with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from img2prompt.errors import ConfigError, TrainingError
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
        head_lr_factor: learning rate relative to `lr` of what stands on the model or tower: a captioner's training-only
            heads, a regressor's pooling and head.
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

    def __post_init__(self) -> None:
        for name in ("lr", "eps", "weight_decay", "warmup_steps", "head_lr_factor", "muon_lr"):
            if not getattr(self, name) >= 0:  # NaN is neither
                raise ConfigError(f"model.optimiser.{name}: must not be negative")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("model.optimiser.betas: each is 0 or more and below 1")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a parameter lies.

    Attributes:
        below_top: blocks between it and the top of its tower, 0 for what comes after the last block.
        in_block: whether it belongs to a block, whose matrices Muon may move.
    """

    below_top: int
    in_block: bool


def build(
    settings: Optimiser, model: nn.Module, heads: nn.Module | None, max_steps: int, fused: bool = True
) -> dict[str, Any]:
    """A captioner's optimiser and its schedule, as Lightning takes them from `configure_optimizers`.

    Raises:
        TrainingError: every weight is frozen.
    """
    groups = parameter_groups(settings, model) + (head_groups(settings, heads) if heads is not None else [])
    return assembled(settings, groups, [lambda step: factor(settings, step, max_steps)] * len(groups), fused)


def assembled(
    settings: Optimiser, groups: list[dict[str, Any]], factors: Sequence[Callable[[int], float]], fused: bool
) -> dict[str, Any]:
    """Groups as an optimiser whose learning rates follow a function of the step each.

    Raises:
        TrainingError: there is no group.
    """
    if not groups:
        raise TrainingError("every weight is frozen; take a part out of model.freeze")
    optimizer = MuonAdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, list(factors))
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


def parameter_groups(
    settings: Optimiser, model: nn.Module, places: Mapping[str, Place] | None = None
) -> list[dict[str, Any]]:
    """Parameters that train, in groups of equal weight decay and learning rate.

    Args:
        settings: the rates.
        model: a captioner, or anything with `places`.
        places: where each parameter lies, by name.
    """
    places = _coca_places(model) if places is None else places
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            place = places[name]
            muon = bool(settings.muon_lr) and parameter.ndim == 2 and place.in_block
            lr = (settings.muon_lr if muon else settings.lr) * settings.layer_decay**place.below_top
            groups.setdefault((_decays(name, parameter), muon, lr), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": settings.weight_decay if decays else 0.0, "lr": lr, "muon": muon}
        for (decays, muon, lr), parameters in groups.items()
    ]


def head_groups(settings: Optimiser, heads: nn.Module) -> list[dict[str, Any]]:
    """Likewise what stands on top, with its own rate."""
    places = {name: Place(0, False) for name, _ in heads.named_parameters()}
    groups = parameter_groups(settings, heads, places)
    return [{**group, "lr": settings.lr * settings.head_lr_factor} for group in groups]


TABLES = ("query", "cls_token", "pos_embed", "reg_token")  # learned inputs: nothing multiplies them


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and "embedding" not in name and not name.endswith(TABLES)


BLOCK = re.compile(r"^(.*)\.(?:resblocks|cross_attn)\.(\d+)\.")


def _coca_places(model: nn.Module) -> dict[str, Place]:
    """Where the parameters of an open_clip CoCa lie, each in its tower."""
    names = [name for name, _ in model.named_parameters()]
    depths: dict[str, int] = {}  # tower -> its number of blocks
    for name in names:
        if found := BLOCK.match(name):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    return {name: Place(_below_top(name, depths), BLOCK.match(name) is not None) for name in names}


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
        """What a checkpoint keeps; where values are shared out among processes, all of them must ask."""
        return {"steps": self.steps, "values": [whole(value) for value in self.values]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.steps = state["steps"]
        for value, saved in zip(self.values, state["values"], strict=True):
            if isinstance(value, DTensor):
                saved = distribute_tensor(saved.to(value.device), value.device_mesh, value.placements)
            value.copy_(saved)


def whole(value: Tensor) -> Tensor:
    """A tensor that may be shared out among processes, which then must all ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """The part of a tensor that is in this process: all of it, unless it is shared out."""
    return value.to_local() if isinstance(value, DTensor) else value

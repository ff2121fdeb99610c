"""How far predicted embeddings are from true ones: LOSSES, one row a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from img2prompt.errors import ConfigError


@dataclass(frozen=True)
class EmbeddingLoss:
    """What is made small.

    Attributes:
        weights: row of LOSSES -> its weight in the sum.
        margin: for "mse_margin": by so much the cosine to the own target shall exceed that to any other one.
        alike: for "mse_margin": targets of the batch with this cosine or more count as the same prompt.
    """

    weights: dict[str, float] = field(default_factory=lambda: {"cosine": 1.0})
    margin: float = 0.2
    alike: float = 0.9


def cosine(predicted: Tensor, target: Tensor, settings: EmbeddingLoss) -> Tensor:
    """1 - cosine, 0..2."""
    return 1 - (predicted * target).sum(1).mean()


def angular(predicted: Tensor, target: Tensor, settings: EmbeddingLoss) -> Tensor:
    """The angle as a share of the half turn, 0..1.

    By half the angle's sine and cosine, |p - t| and |p + t| (W. Kahan, "How Futile are Mindless Assessments of Roundoff
    in Floating-Point Computation?", 2006, section 12): the arc cosine's slope has no bound where the two meet.
    """
    sine, cosine = (torch.linalg.vector_norm(x, dim=1) for x in (predicted - target, predicted + target))  # (B,)
    return (2 / math.pi) * torch.atan2(sine, cosine).mean()


def mse_margin(predicted: Tensor, target: Tensor, settings: EmbeddingLoss) -> Tensor:
    """Squared distance plus a hinge on the hardest other target of the batch, as in Faghri et al. 2018
    (arXiv:1707.05612), so that what tells prompts apart counts more than what they share."""
    distance = (predicted - target).square().sum(1).mean()
    cosines, same = predicted @ target.T, target @ target.T >= settings.alike  # (B,B) each
    other = cosines.masked_fill(same, -1.0).amax(1)  # (B,)
    hinge = (settings.margin + other - cosines.diagonal()).clamp(min=0)
    return distance + torch.where(same.all(1), 0.0, hinge).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor, EmbeddingLoss], Tensor]] = {
    "cosine": cosine,
    "angular": angular,
    "mse_margin": mse_margin,
}


def check(settings: EmbeddingLoss) -> None:
    """Refuses weights that train nothing.

    Raises:
        ConfigError: a loss is unknown, or none has a weight.
    """
    unknown = sorted(set(settings.weights) - set(LOSSES))
    if unknown:
        raise ConfigError(f"model.loss.weights: no loss {', '.join(unknown)}; choose among {', '.join(LOSSES)}")
    if not any(weight > 0 for weight in settings.weights.values()):
        raise ConfigError("model.loss.weights: give at least one loss a weight above 0")


def losses(predicted: Tensor, target: Tensor, settings: EmbeddingLoss) -> dict[str, Tensor]:
    """Every loss that has a weight, unweighted, in float32 under autocast too.

    Args:
        predicted: (B,D) unit rows.
        target: (B,D) unit rows.
        settings: which.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        predicted, target = predicted.float(), target.float()
        return {name: LOSSES[name](predicted, target, settings) for name, weight in settings.weights.items() if weight}


def total(parts: Mapping[str, Tensor], settings: EmbeddingLoss) -> Tensor:
    """Their weighted sum."""
    return torch.stack([value * settings.weights[name] for name, value in parts.items()]).sum()

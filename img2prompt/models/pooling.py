"""From the tokens of a picture to one vector: POOLINGS, one row a way."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from img2prompt.models.tower_base import Tokens

_HEADS = 8  # of attention, where they divide the width


class ClassPool(nn.Module):
    """The tower's own summary; for towers with `has_class_token`."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Tensor:
        """(B,W)."""
        assert tokens.class_token is not None, "this tower has no class token"
        return tokens.class_token


class MeanPool(nn.Module):
    """The mean of the patches."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Tensor:
        """(B,W)."""
        return tokens.patches.mean(dim=1)


class GemPool(nn.Module):
    """The generalised mean of the patches (Radenovic et al. 2019, arXiv:1711.02512) with a learned exponent.

    Exponent 1 is the mean, a large one nears the maximum. Negative values count as 0, as in the paper, whose maps
    come from a ReLU.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([3.0]))

    def forward(self, tokens: Tokens) -> Tensor:
        """(B,W), computed in float32 from logarithms: powers would leave the range of numbers."""
        exponent = self.exponent.float()
        logarithms = tokens.patches.float().clamp(min=1e-6).log() * exponent  # (B,P,W)
        mean = logarithms.logsumexp(dim=1) - math.log(logarithms.shape[1])
        return (mean / exponent).exp().to(tokens.patches.dtype)


class AttentionPool(nn.Module):
    """A weighted mean of the patches, with weights from a learned query a head; at first the plain mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, math.gcd(width, _HEADS), bias=False)  # a bias would not change the softmax
        nn.init.zeros_(self.query.weight)

    def weights(self, tokens: Tokens) -> Tensor:
        """Of each patch in each head (B,P,H); they sum to 1 over the patches."""
        scores: Tensor = self.query(tokens.patches)
        return scores.float().softmax(dim=1)

    def forward(self, tokens: Tokens) -> Tensor:
        """(B,W)."""
        weights = self.weights(tokens).to(tokens.patches.dtype)
        parts = tokens.patches.reshape(*weights.shape, -1)  # (B,P,H,W/H)
        return torch.einsum("bph,bphc->bhc", weights, parts).flatten(1)


POOLINGS: dict[str, type[nn.Module]] = {
    "class": ClassPool,
    "mean": MeanPool,
    "gem": GemPool,
    "attention": AttentionPool,
}

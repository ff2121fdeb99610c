"""What the members of an ensemble are worth: weights fitted to known prompts, and the table that says so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2prompt.ensemble import Ensemble, combine, fit_weights, held_out_estimates
from img2prompt.metrics import bootstrap_interval, cosines

EQUAL, HELD_OUT, FITTED = "all, equal weights", "all, fitted on the other half", "all, fitted on the same pictures"


@dataclass(frozen=True)
class Fitted:
    """Weights, and what they are worth.

    Attributes:
        weights: (M,), by the order of the members.
        scores: line of the table -> cosine of each picture (N,): every member, then all of them under equal weights,
            under weights fitted on the half that the picture is not in (what to expect of new pictures), and under
            the weights above, which these very pictures chose.
    """

    weights: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]


def fit_members(
    ensemble: Ensemble, embs: NDArray[np.float32], prompts: Sequence[str], targets: NDArray[np.float32]
) -> Fitted:
    """Fits the weights on all pictures and scores them on halves.

    Args:
        ensemble: for the members' names.
        embs: (M,N,D), what they estimate.
        prompts: N true prompts; equal ones come to one half.
        targets: (N,D), the prompts' embeddings.
    """
    count = len(embs)
    weights = fit_weights(embs, targets)
    estimates = {name: embs[i] for i, name in enumerate(ensemble.members)}
    if count > 1:
        held_out = held_out_estimates(embs, targets, halves(prompts))
        estimates[EQUAL] = combine(embs, np.full(count, 1 / count))
        if held_out is not None:
            estimates[HELD_OUT] = held_out
        estimates[FITTED] = combine(embs, weights)
    return Fitted(weights, {name: cosines(emb, targets) for name, emb in estimates.items()})


def halves(prompts: Sequence[str], seed: int = 0) -> NDArray[np.bool_]:
    """Two halves (N,) of nearly one size, equal prompts on one side, by hash: rows keep their side as others come."""
    texts = (f"{seed}\0{' '.join(prompt.lower().split())}" for prompt in prompts)
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    return np.array([key[0] & 1 == 1 for key in keys], bool)


def table(fitted: Fitted) -> Iterator[str]:
    """Lines of the readable table: cosine, its 95 % bootstrap interval, and the weight of each member."""
    count = len(fitted.weights)
    rows = [("", "cosine", "95 % interval", "weight")]
    for i, (name, values) in enumerate(fitted.scores.items()):
        low, high = bootstrap_interval(values)
        weight = f"{fitted.weights[i]:.3f}" if i < count else ""
        rows.append((name, f"{values.mean():.4f}", f"{low:.4f}-{high:.4f}", weight))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for name, *cells in rows:
        right = "".join("  " + cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield (name.ljust(widths[0]) + right).rstrip()

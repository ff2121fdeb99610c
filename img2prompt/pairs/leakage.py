"""How near the rows of one set come to the rows of another: what a split, or a benchmark, still gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from img2prompt.pairs.clustering import BLOCK
from img2prompt.pairs.near.cosines import cosines_of, unit_rows

THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
_WORST = 10  # examples in a report


@dataclass(frozen=True, slots=True)
class Leakage:
    """How near validation rows come to training rows.

    Attributes:
        rows: of validation.
        thresholds: cosines.
        counts: for each threshold, the validation rows that have a training row at that cosine or nearer.
        max_cosine: the nearest pair; -1 where one side is empty.
        mean_cosine: mean over validation of the cosine to the nearest training row; -1 likewise.
        worst: the nearest pairs: place in validation, place in training, cosine; the nearest first.
    """

    rows: int
    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    max_cosine: float
    mean_cosine: float
    worst: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = (f"{c} at {t:g}" for t, c in zip(self.thresholds, self.counts, strict=True))
        return f"of {self.rows} validation rows, near a training row: {', '.join(parts)}; nearest {self.max_cosine:.4f}"


def leakage(train_emb: ArrayLike, val_emb: ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> Leakage:
    """Compares every validation row with its nearest training row, in blocks.

    Args:
        train_emb: (N,D) embeddings.
        val_emb: (M,D) embeddings.
        thresholds: cosines at which validation rows are counted.

    Raises:
        DataError: a row is not finite.
    """
    train, val = unit_rows(train_emb), unit_rows(val_emb)
    if not len(train) or not len(val):
        return Leakage(len(val), tuple(thresholds), (0,) * len(thresholds), -1.0, -1.0, ())
    nearest = np.zeros(len(val), np.int64)  # (M,)
    best = np.full(len(val), -np.inf, np.float32)
    for top in range(0, len(val), BLOCK):
        for left in range(0, len(train), BLOCK):
            tile = val[top : top + BLOCK] @ train[left : left + BLOCK].T  # (R,C)
            found = tile.argmax(1)
            value = tile[np.arange(len(tile)), found]
            better = np.flatnonzero(value > best[top : top + BLOCK])
            best[top + better], nearest[top + better] = value[better], left + found[better]
    cosine = cosines_of(val, train, np.arange(len(val)), nearest)  # float64 decides at a threshold
    order = np.argsort(-cosine, kind="stable")[:_WORST]
    return Leakage(
        rows=len(val),
        thresholds=tuple(float(t) for t in thresholds),
        counts=tuple(int((cosine >= t).sum()) for t in thresholds),
        max_cosine=float(cosine.max()),
        mean_cosine=float(cosine.mean()),
        worst=tuple((int(i), int(nearest[i]), float(cosine[i])) for i in order),
    )

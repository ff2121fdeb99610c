"""Drawing tables of scores (N,S) again and again: what intervals and tests rest on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_AT_ONCE = 2_000_000  # numbers that resampling holds at a time
_EXACT_IMAGES = 14  # of so many all sign patterns are counted
_FLIPS = 20_000  # of more images so many patterns are drawn


def table_of(scores: ArrayLike) -> Array:
    """Scores as numbers (N,S); None is NaN.

    Raises:
        ValueError: they are no table.
    """
    table = np.asarray(scores, np.float64)  # (N,S)
    if table.ndim != 2:
        raise ValueError(f"scores are a table of images and seeds (N,S), not of shape {table.shape}")
    return table


def resampled_means(tables: Sequence[Array], resamples: int, seed: int) -> Array:
    """Means (resamples, tables) of draws of the same images from all tables, and of their seeds from each."""
    rng = np.random.default_rng(seed)
    images = len(tables[0])
    counts = [(~np.isnan(table)).sum(axis=1) for table in tables]  # each (N,), at least 1
    # What is known comes first; the values do not decide, so draws are the same in any unit.
    packed = [np.take_along_axis(table, np.argsort(np.isnan(table), axis=1, kind="stable"), 1) for table in tables]
    blocks = []
    step = max(1, _AT_ONCE // (images * max(table.shape[1] for table in tables)))
    for start in range(0, resamples, step):
        drawn = rng.integers(0, images, (min(step, resamples - start), images))  # (R,N)
        blocks.append(np.stack([_means(*pair, drawn, rng) for pair in zip(packed, counts, strict=True)], axis=1))
    return np.concatenate(blocks)


def _means(packed: Array, counts: NDArray[np.int64], drawn: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Mean (R,) over drawn images (R,N) of the mean over as many draws of their seeds as they have."""
    seeds = packed.shape[1]
    known = counts[drawn][..., None]  # (R,N,1)
    picks = (rng.random((*drawn.shape, seeds)) * known).astype(np.int64)  # (R,N,S)
    values = np.where(np.arange(seeds) < known, packed[drawn[..., None], picks], 0.0)
    means: Array = (values.sum(axis=2) / known[..., 0]).mean(axis=1)
    return means


def sign_flip_p(means: Array, seed: int) -> float:
    """Share of the sign patterns of `means` (N,) under which their sum is as far from 0 as it is."""
    count = len(means)
    # Sums that differ by rounding only are equal.
    limit = abs(means.sum()) - 1e-9 * np.abs(means).sum()
    if count <= _EXACT_IMAGES:
        patterns = np.arange(2 ** (count - 1))  # the other half mirrors them
        sums = np.full(len(patterns), means[-1])
        for place in range(count - 1):
            sums = sums + np.where(patterns >> place & 1, means[place], -means[place])
        return float((np.abs(sums) >= limit).mean())
    rng, far = np.random.default_rng(seed), 0
    step = max(1, _AT_ONCE // count)
    for start in range(0, _FLIPS, step):
        signs = rng.integers(0, 2, (min(step, _FLIPS - start), count), dtype=np.int8)  # (R,N)
        far += int((np.abs((2 * signs - 1) @ means) >= limit).sum())
    return (1 + far) / (1 + _FLIPS)


def interval_of(draws: Array, level: float) -> tuple[float, float]:
    """The ends between which a share `level` of the draws (R,) lies, as much left out below as above."""
    # Infinite draws stand at the ends; between one of them and its neighbour nothing can be interpolated.
    method: Literal["linear", "nearest"] = "linear" if np.isfinite(draws).all() else "nearest"
    low, high = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2), method=method)
    return float(low), float(high)

"""What scores say beyond chance: bootstrap intervals, the way from a floor to a ceiling, paired tests.

Scores of N images with S seeds each are tables (N,S). NaN (None in JSON) marks a score that could not be had: it is
left out, and so is an image without any. What is estimated is always the mean over images of their means over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from img2prompt.metrics.resampling import interval_of, resampled_means, sign_flip_p, table_of

_ROUNDING = 1e-12  # of two means, relative: below it they are equal


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and how sure it is; NaN and infinite where it is not known, which `to_dict` gives as None."""

    mean: float
    low: float
    high: float
    n: int  # images that it rests on

    def to_dict(self) -> dict[str, float | int | None]:
        """As plain data for JSON."""
        return {"mean": _plain(self.mean), "low": _plain(self.low), "high": _plain(self.high), "n": self.n}


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two ways to score the same images, compared image by image."""

    difference: float  # mean of a minus mean of b
    low: float  # of the difference
    high: float
    p: float  # two-sided
    n: int  # images with a score in both

    def to_dict(self) -> dict[str, float | int | None]:
        """As plain data for JSON; what is not known is None."""
        names = ("difference", "low", "high", "p")
        return {**{name: _plain(getattr(self, name)) for name in names}, "n": self.n}


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (B,); the same seed gives the same interval.

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    sample = np.asarray(values, np.float64)  # (B,)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"one or more values are needed, in one row; their shape is {sample.shape}")
    rng = np.random.default_rng(seed)
    # One resample at a time: a table of all indices would take resamples x B x 8 bytes.
    means = [sample[rng.integers(0, len(sample), len(sample))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def bootstrap_over(
    scores: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `scores` (N,S) over images and over seeds.

    Each resample draws images, and of each drawn image its seeds, both with replacement. Drawing on both levels makes
    it somewhat too wide where seeds vary more than images do, never too narrow, and gives a width to a single image
    too (Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8).

    Returns:
        low and high; the same seed gives the same interval; NaN without a score.
    """
    table = table_of(scores)
    table = table[~np.isnan(table).all(axis=1)]
    if not len(table):
        return math.nan, math.nan
    return interval_of(resampled_means([table], resamples, seed)[:, 0], level)


def estimate(scores: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of `scores` (N,S) with its interval of `bootstrap_over`."""
    table = table_of(scores)
    table = table[~np.isnan(table).all(axis=1)]
    if not len(table):
        return Estimate(math.nan, math.nan, math.nan, 0)
    low, high = bootstrap_over(table, level=level, resamples=resamples, seed=seed)
    return Estimate(float(np.nanmean(table, axis=1).mean()), low, high, len(table))


def fraction_of_way(score: float, floor: float, ceiling: float, *, higher_is_better: bool = True) -> float:
    """How far a score is from the floor to the ceiling: 0 at the floor, 1 at the ceiling, beyond both as it is.

    Args:
        score: to be placed.
        floor: what something unrelated scores.
        ceiling: the best that can be hoped for.
        higher_is_better: the metric's direction; of a distance the ceiling is the smaller number.

    Returns:
        NaN where the ceiling is not better than the floor: the metric does not tell them apart, so there is no way.
    """
    way = ceiling - floor if higher_is_better else floor - ceiling
    if not way > _ROUNDING * max(abs(floor), abs(ceiling)):
        return math.nan
    return (score - floor) / (ceiling - floor)


def fraction_over(
    scores: ArrayLike,
    floors: ArrayLike,
    ceilings: ArrayLike,
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """`fraction_of_way` of the means of three tables (N,S), (N,F) and (N,C) of the same images, with its interval.

    The fraction itself is bootstrapped: the images of a resample are the same for score, floor and ceiling, the seeds
    of each are drawn on their own. A resample whose ceiling is not better than its floor could stand for any fraction,
    so it counts for both ends; many of them make the interval infinite. Images that lack one of the three are left out.

    Raises:
        ValueError: the tables are not of the same images.
    """
    tables = [table_of(table) for table in (scores, floors, ceilings)]
    if len({len(table) for table in tables}) != 1:
        raise ValueError(f"scores, floors and ceilings are of {[len(table) for table in tables]} images; give the same")
    known = ~np.any([np.isnan(table).all(axis=1) for table in tables], axis=0)  # (N,)
    tables = [table[known] for table in tables]
    if not known.any():
        return Estimate(math.nan, math.nan, math.nan, 0)
    means = [float(np.nanmean(table, axis=1).mean()) for table in tables]
    fraction = fraction_of_way(*means, higher_is_better=higher_is_better)
    if math.isnan(fraction):
        return Estimate(math.nan, math.nan, math.nan, int(known.sum()))
    drawn = [
        fraction_of_way(*row, higher_is_better=higher_is_better)
        for row in resampled_means(tables, resamples, 0).tolist()
    ]
    ends = [value for draw in drawn for value in ((-math.inf, math.inf) if math.isnan(draw) else (draw, draw))]
    return Estimate(fraction, *interval_of(np.array(ends), level), int(known.sum()))


def paired_test(a: ArrayLike, b: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> PairedTest:
    """Whether two tables of scores (N,S) of the same images and seeds differ by more than chance.

    The p-value is that of a sign-flip permutation test over images of the mean difference over their seeds: exact for
    up to 14 images, from 20,000 drawn patterns of signs beyond. The interval is that of `bootstrap_over` of the
    differences, seed by seed, so that noise which both share cancels out.

    Source: Fisher, "The design of experiments", 1935, section 21; drawn patterns: Phipson and Smyth, 2010.

    Returns:
        n is 0, p 1 and the rest NaN where no image has a score in both.

    Raises:
        ValueError: the tables differ in shape.
    """
    first, second = table_of(a), table_of(b)
    if first.shape != second.shape:
        raise ValueError(f"the tables have the shapes {first.shape} and {second.shape}; pair images and seeds")
    table = first - second  # (N,S)
    table = table[~np.isnan(table).all(axis=1)]
    if not len(table):
        return PairedTest(math.nan, math.nan, math.nan, 1.0, 0)
    means = np.nanmean(table, axis=1)  # (N,)
    low, high = bootstrap_over(table, level=level, resamples=resamples, seed=seed)
    return PairedTest(float(means.mean()), low, high, sign_flip_p(means, seed), len(means))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values of several tests by their names, corrected so that the chance of any false finding keeps its level.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """How well a score separates two groups: the chance that a positive scores higher, ties counted half; 0..1.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", 1982.
    """
    high, low = np.asarray(positives, np.float64), np.sort(np.asarray(negatives, np.float64))
    if not high.size or not low.size or np.isnan(high).any() or np.isnan(low).any():
        raise ValueError("both groups need one or more scores, none of them NaN")
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")  # twice the count, ties once
    return float(below.mean() / 2 / low.size)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None

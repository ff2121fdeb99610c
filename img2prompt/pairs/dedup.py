"""Near-duplicates among embeddings: of what is near, the row of the lowest rank stays, and every other names it.

Rows are taken in order of rank; one goes when a survivor before it has a cosine of at least the threshold with it. So

1. no two survivors reach the threshold,
2. everything that goes reaches it with a survivor before it, the nearest of which is named (a copy of a row that goes
   names the same as that row),
3. of identical rows exactly one stays, that of the lowest rank,
4. batches, threads and devices make no difference: the cosines that decide are float64 of the float32 unit rows.

The exact way compares all rows; the approximate one, for more rows than time allows, those of neighbouring cells of a
k-means division, and measures on a sample how many of the near pairs that finds.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.pairs.near import exact as dedup_exact
from img2prompt.pairs.near.cosines import Rows, copies, unit_rows
from img2prompt.pairs.near.curve import THRESHOLDS, Curve, curve
from img2prompt.pairs.near.exact import Finder, Found, MakeFinder, ScreenFinder, greedy, workers
from img2prompt.pairs.near.sweep import cell_sweep

logger = logging.getLogger(__name__)

KEEP: dict[str, Callable[[Sequence[str]], NDArray[np.float64]]] = {  # rule -> what is lowest for the row to be kept
    "first": lambda prompts: np.zeros(len(prompts)),
    "longest": lambda prompts: -np.array([len(prompt) for prompt in prompts], np.float64),
    "shortest": lambda prompts: np.array([len(prompt) for prompt in prompts], np.float64),
}
ESTIMATED_ROWS = 2**16  # fewer take seconds
_TIMED_BLOCKS = 3  # of the exact way, from which its time is estimated


@dataclass(frozen=True, slots=True)
class DedupSettings:
    """How near-duplicates are looked for.

    Attributes:
        method: "exact", "approximate", or "auto": exact unless it would take longer than the budget.
        budget_s: seconds of the exact way above which "auto" is approximate.
        threads: 0: as many as this process may use.
        probes: cells that a row is compared with in the approximate way; None: learnt from the data.
        seed: of the approximate way's division and samples.
        finder: another way to multiply, such as on a GPU, for the exact way; None: this processor's.
    """

    method: Literal["auto", "exact", "approximate"] = "auto"
    budget_s: float = 600.0
    threads: int = 0
    probes: int | None = None
    seed: int = 0
    finder: MakeFinder | None = None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What stays and what goes.

    Attributes:
        keep: (N,) True for survivors.
        survivor: (N,) the row because of which a row goes; for survivors their own number. After `against`: a row of
            the other collection, and -1 for rows that stay.
        cosine: (N,) float32, to that survivor; 1.0 for rows that stay.
        method: what was done, for people.
        recall: share of a sample's near pairs that were compared, when it was measured: the way was approximate.
        recall_pairs: as many pairs the sample had.
    """

    keep: NDArray[np.bool_]
    survivor: NDArray[np.int64]
    cosine: NDArray[np.float32]
    method: str
    recall: float | None = None
    recall_pairs: int = 0


def find_duplicates(
    emb: ArrayLike, threshold: float = 0.9, rank: ArrayLike | None = None, *, settings: DedupSettings | None = None
) -> Duplicates:
    """Finds the rows that are to go.

    Args:
        emb: (N,D) embeddings, of any length.
        threshold: smallest cosine of near-duplicates, above 0 and at most 1.
        rank: (N,) of near rows the one of the lowest rank stays; equals in their order. None: the first.
        settings: how.

    Raises:
        DataError: a row is not finite.
    """
    settings = _checked(threshold, settings)
    rows = unit_rows(emb)
    order = np.arange(len(rows)) if rank is None else np.argsort(np.asarray(rank), kind="stable")  # (N,)
    if rank is not None:
        rows = rows[order]
    heads = copies(rows)  # (N,) in order of rank, like all that follows
    unique = np.flatnonzero(heads == np.arange(len(heads)))  # (U,)
    if len(unique) < len(rows):
        rows = rows[unique]
    (survivor, cosine), method, recall, pairs = _found(rows, threshold, settings)
    number = np.cumsum(heads == np.arange(len(heads))) - 1  # (N,) among the unique rows
    of_head = np.where(survivor < 0, unique, unique[survivor])[number[heads]]  # (N,) the survivor's place
    # A copy of a survivor goes with cosine 1, one of a row that goes with that row's.
    cosine = np.where(survivor < 0, 1.0, cosine)[number[heads]]
    result_survivor, result_cosine = np.empty(len(order), np.int64), np.empty(len(order), np.float32)
    result_survivor[order], result_cosine[order] = order[of_head], cosine
    keep = result_survivor == np.arange(len(order))
    return Duplicates(keep, result_survivor, result_cosine, method, recall, pairs)


def against(
    emb: ArrayLike, other: ArrayLike, threshold: float = 0.9, *, settings: DedupSettings | None = None
) -> Duplicates:
    """Finds the rows of `emb` (N,D) that are near a row of `other` (M,D), such as training rows near validation.

    Exact, whatever the settings say of the method.

    Raises:
        DataError: a row is not finite.
    """
    settings = _checked(threshold, settings)
    rows, columns = unit_rows(emb), unit_rows(other)
    if rows.shape[1] != columns.shape[1]:
        raise ValueError(f"embeddings of {rows.shape[1]} and of {columns.shape[1]} dimensions cannot be compared")
    with workers(settings.threads) as pool:
        finder = _finder(rows, columns, threshold, settings, pool)
        survivor, cosine = dedup_exact.against(rows, columns, threshold, finder)
    keep = survivor < 0
    return Duplicates(keep, survivor, np.where(keep, 1.0, cosine).astype(np.float32), "exact")


def survivor_curve(
    emb: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    rank: ArrayLike | None = None,
    *,
    settings: DedupSettings | None = None,
) -> Curve:
    """Counts the survivors at each of several thresholds, in one pass; exact, and as long as the lowest one takes.

    Raises:
        DataError: a row is not finite.
    """
    settings = _checked(min(thresholds), settings)
    rows = unit_rows(emb)
    if rank is not None:
        rows = rows[np.argsort(np.asarray(rank), kind="stable")]
    heads = copies(rows)
    with workers(settings.threads) as pool:
        found = curve(rows[heads == np.arange(len(heads))], thresholds, pool)
    return replace(found, rows=len(rows))


def ranked(prompts: Sequence[str], keep: str = "first", values: ArrayLike | None = None) -> NDArray[np.int64]:
    """Ranks (N,) that make a rule of which near-duplicate stays; equals in their order.

    Args:
        prompts: (N,) texts.
        keep: a rule of KEEP, or "best".
        values: (N,) for "best": the largest stays; NaN is the least.
    """
    if keep == "best":
        numbers = np.asarray(values, np.float64)
        key = -np.where(np.isnan(numbers), -np.inf, numbers)
    else:
        key = KEEP[keep](prompts)
    rank = np.empty(len(prompts), np.int64)
    rank[np.argsort(key, kind="stable")] = np.arange(len(prompts))
    return rank


def estimate_s(rows: Rows, threshold: float, finder: Finder) -> float:
    """Seconds that the exact way would take, from a few of its blocks: time grows with the square of the rows.

    Args:
        rows: (N,D) unit rows.
        threshold: cosine of near-duplicates.
        finder: empty.
    """
    columns = np.arange(min(len(rows), 16 * finder.block))  # (C,)
    finder.add(columns)
    finder.find(columns[: finder.block])  # memory is touched for the first time
    started = time.perf_counter()
    for number in range(_TIMED_BLOCKS):
        finder.find(columns[number * finder.block : (number + 1) * finder.block])
    took = time.perf_counter() - started
    finder.clear()
    pairs = max(1, min(_TIMED_BLOCKS * finder.block, len(columns)) * len(columns))
    return took * len(rows) ** 2 / 2 / pairs


def _found(rows: Rows, threshold: float, settings: DedupSettings) -> tuple[Found, str, float | None, int]:
    """Survivors of unique rows in order of rank, by the method that is asked for or fits the budget."""
    if settings.method != "approximate":
        with workers(settings.threads) as pool:
            finder, needed_s = _finder(rows, rows, threshold, settings, pool), 0.0
            if settings.method == "auto" and len(rows) >= ESTIMATED_ROWS:
                needed_s = estimate_s(rows, threshold, finder)
                logger.info("the exact way would take about %.0f s", needed_s)
            if needed_s <= settings.budget_s:
                return greedy(rows, threshold, finder), "exact", None, 0
    sweep = cell_sweep(rows, threshold, threads=settings.threads, probes=settings.probes, seed=settings.seed)
    method = f"approximate: {len(sweep.cells.centres)} cells, at most {sweep.cells.probes} of them looked into"
    return sweep.found, method, sweep.recall, sweep.recall_pairs


def _finder(rows: Rows, columns: Rows, threshold: float, settings: DedupSettings, pool: Executor) -> Finder:
    make = settings.finder or functools.partial(ScreenFinder, pool=pool, threads=settings.threads)
    return make(rows, columns, threshold)


def _checked(threshold: float, settings: DedupSettings | None) -> DedupSettings:
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold lies above 0 and at most at 1, not at {threshold}")
    settings = settings or DedupSettings()
    if settings.threads > 0:
        return settings
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return replace(settings, threads=cores)

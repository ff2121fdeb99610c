"""How many rows survive at which threshold, for all thresholds in one pass over the products.

Survivors of a lower threshold are not always among those of a higher one: a row that goes at both no longer removes
others. So every threshold has its own survivors, while the products, which take the time, are made once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.near.cosines import Places, Rows, cosines_of, margin
from img2prompt.pairs.near.exact import Pairs, screened
from img2prompt.pairs.near.screen import TILE, Side, likely
from img2prompt.progress import track

THRESHOLDS = tuple(round(0.70 + 0.02 * i, 2) for i in range(15))  # 0.70 to 0.98
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Curve:
    """Survivors over thresholds.

    Attributes:
        rows: N.
        thresholds: ascending.
        survivors: as many rows stay at each.
    """

    rows: int
    thresholds: tuple[float, ...]
    survivors: tuple[int, ...]

    def points(self) -> list[tuple[float, int]]:
        """Pairs of threshold and survivors."""
        return list(zip(self.thresholds, self.survivors, strict=True))


def curve(rows: Rows, thresholds: Sequence[float], pool: Executor) -> Curve:
    """Survivors at each threshold.

    Args:
        rows: (N,D) unit rows, none twice, in order of rank.
        thresholds: cosines; the lowest one settles the time.
        pool: threads.
    """
    levels = tuple(sorted({float(t) for t in thresholds}))
    alive = np.ones((len(levels), len(rows)), bool)  # (T,N)
    table, _ = screened(rows, rows, levels[0])
    starts = range(0, len(rows), _BLOCK)
    for start in track(starts, total=len(starts), unit="block", label="curve"):
        places = np.arange(start, min(start + _BLOCK, len(rows)))
        columns = np.flatnonzero(alive[:, :start].any(0))  # what survives at some threshold
        side = Side.of(table, places)
        tiles = [(side, c) for c in Side.of(table, columns).tiles(TILE[1])]
        for pairs in pool.map(lambda tile: likely(tile[0], tile[1], levels[0]), tiles):
            _removed(rows, pairs, levels, alive)
        _within(rows, likely(side, side, levels[0]), levels, alive)
    return Curve(len(rows), levels, tuple(int(row.sum()) for row in alive))


def _removed(rows: Rows, pairs: Pairs, levels: Sequence[float], alive: NDArray[np.bool_]) -> None:
    """Marks at each threshold the rows that an earlier survivor reaches."""
    for level, (i, j) in zip(alive, _reaching(rows, pairs, levels), strict=True):
        level[i[level[j]]] = False


def _within(rows: Rows, pairs: Pairs, levels: Sequence[float], alive: NDArray[np.bool_]) -> None:
    """The same between the rows of one block, in their order."""
    i, j, values = pairs
    order = np.flatnonzero(i > j)
    order = order[np.argsort(i[order], kind="stable")]
    for level, (later, earlier) in zip(
        alive, _reaching(rows, (i[order], j[order], values[order]), levels), strict=True
    ):
        heads = np.unique(later[level[later]])
        starts, ends = np.searchsorted(later, heads), np.searchsorted(later, heads, side="right")
        for row, first, last in zip(heads.tolist(), starts.tolist(), ends.tolist(), strict=True):
            level[row] = not level[earlier[first:last]].any()


def _reaching(rows: Rows, pairs: Pairs, levels: Sequence[float]) -> Iterator[tuple[Places, Places]]:
    """Of the pairs, in their order, those that reach each of the ascending levels; float64 decides near a level."""
    i, j, values = pairs
    exact = values.astype(np.float64)
    near = np.asarray(levels)[np.minimum(np.searchsorted(levels, values), len(levels) - 1)]
    below = np.asarray(levels)[np.maximum(np.searchsorted(levels, values) - 1, 0)]
    unsure = np.flatnonzero(np.minimum(np.abs(values - near), np.abs(values - below)) <= 2 * margin(rows.shape[1]))
    exact[unsure] = cosines_of(rows, rows, i[unsure], j[unsure])
    for level in levels:
        reach = exact >= level
        i, j, exact = i[reach], j[reach], exact[reach]
        yield i, j

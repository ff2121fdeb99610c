"""Approximate removal of near-duplicates: rows are compared with those of the nearest cells of a k-means division.

Two rows are compared when one of them lies in a cell that is among the nearest of the other. What is compared is
decided exactly, and what a cell gives depends on the rows in it and around it alone: cells can be done in any order
and on any machines, and `merged` makes of what they give the same result.

    cells = plan_cells(sample, threshold)            once; plain arrays, picklable
    probed = cells.probed(rows)                      (N,P) for any part of the rows
    cell_pairs(cells, rows, places, at_home)         for each cell: the rows with it in their `probed`
    merged(count, parts, recheck)                    once: (N,) survivors and cosines

`places` are the rows' numbers in order of rank over all the data, from 0; at home are rows whose `probed[:, 0]` it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.near.centres import Cells
from img2prompt.pairs.near.cosines import Places, Rows, cosines_of, margin
from img2prompt.pairs.near.exact import Found, best_of
from img2prompt.pairs.near.screen import TILE, Side, Table, likely

MOST_EARLIER = 8  # near earlier rows of a row that a cell tells of when it finds very many pairs
_MANY = 16  # pairs a row of a cell that are very many


@dataclass(frozen=True, slots=True)
class CellPairs:
    """What one cell gives.

    Attributes:
        later, earlier: (K,) places of near rows; a pair may be given by several cells.
        cosine: (K,) float64.
        cut: (M,) places of rows that have more near earlier rows than were told.
    """

    later: Places
    earlier: Places
    cosine: NDArray[np.float64]
    cut: Places


class Recheck(Protocol):
    """Looks again at a row of which not all pairs were told."""

    def __call__(self, place: int, alive: NDArray[np.bool_]) -> tuple[int, float]:
        """The nearest of the earlier rows that are alive (N,) and compared with it; (-1, 0) where none is near."""


def cell_pairs(cells: Cells, rows: Rows, places: Places, at_home: NDArray[np.bool_]) -> CellPairs:
    """The near pairs of one cell; needs nothing but its rows.

    Args:
        cells: the division.
        rows: (R,D) unit rows that have the cell among their nearest.
        places: (R,) their numbers in order of rank.
        at_home: (R,) whether it is their own.
    """
    return pairs_of_cell(cells.screen.table(rows), np.arange(len(rows)), at_home, places, cells.threshold)


def pairs_of_cell(
    table: Table, members: Places, at_home: NDArray[np.bool_], places: Places, threshold: float
) -> CellPairs:
    """The same for members (R,) of a table whose rows have the places (N,)."""
    visitors, homes = Side.of(table, members[~at_home]), Side.of(table, members[at_home])
    parts = [
        _tile_pairs(r, c, places, threshold, same=side is homes)
        for side in (homes, visitors)
        for r in side.tiles(TILE[0])
        for c in homes.tiles(TILE[1])
    ]
    return joined_pairs(parts)


def _tile_pairs(r: Side, c: Side, places: Places, threshold: float, *, same: bool) -> CellPairs:
    i, j, values = likely(r, c, threshold)
    if same:
        once = places[i] > places[j]  # the other half mirrors this one
        i, j, values = i[once], j[once], values[once]
    swapped = places[i] < places[j]
    i, j = np.where(swapped, j, i), np.where(swapped, i, j)  # i is the later one
    cut = np.zeros(0, np.int64)
    if len(i) > _MANY * (len(r.places) + len(c.places)):
        sure = values >= threshold + margin(r.table.rows.shape[1])
        order = np.lexsort((places[j], ~sure, i))
        i, j = i[order], j[order]
        heads, starts, counts = np.unique(i, return_index=True, return_counts=True)
        told = np.arange(len(i)) - np.repeat(starts, counts) < MOST_EARLIER
        i, j, cut = i[told], j[told], places[heads[counts > MOST_EARLIER]]
    cosines = cosines_of(r.table.rows, c.table.rows, i, j)
    near = cosines >= threshold
    return CellPairs(places[i[near]], places[j[near]], cosines[near], cut)


def joined_pairs(parts: Iterable[CellPairs]) -> CellPairs:
    """What several tiles or cells give, as one."""
    nothing = CellPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    every = [nothing, *parts]
    return CellPairs(
        np.concatenate([part.later for part in every]),
        np.concatenate([part.earlier for part in every]),
        np.concatenate([part.cosine for part in every]),
        np.unique(np.concatenate([part.cut for part in every])),
    )


def merged(count: int, parts: Iterable[CellPairs], recheck: Recheck) -> Found:
    """Every row's nearest survivor, -1 for survivors: rows in order of rank, as in the exact way.

    Args:
        count: N, rows of all the data.
        parts: what the cells gave, each once, in any order.
        recheck: looks again at rows of which not all pairs were told.
    """
    pairs = joined_pairs(parts)
    _, once = np.unique(pairs.later * count + pairs.earlier, return_index=True)  # also puts later rows together
    later, earlier, cosines = pairs.later[once], pairs.earlier[once], pairs.cosine[once]
    alive = _swept(count, later, earlier, pairs.cut, recheck)
    survivor, cosine = np.full(count, -1), np.zeros(count)
    stay = alive[earlier]
    later, earlier, cosines = best_of(later[stay], earlier[stay], cosines[stay])
    survivor[later], cosine[later] = earlier, cosines
    for place in pairs.cut[~alive[pairs.cut]].tolist():
        survivor[place], cosine[place] = recheck(place, alive)
    return survivor, cosine


def _swept(count: int, later: Places, earlier: Places, cut: Places, recheck: Recheck) -> NDArray[np.bool_]:
    """Which rows (N,) stay when each, in order, goes if an earlier one that stays is near."""
    heads = np.union1d(later, cut)
    starts, ends = np.searchsorted(later, heads), np.searchsorted(later, heads, side="right")
    alive, untold = np.ones(count, bool), set(cut.tolist())
    for row, start, end in zip(heads.tolist(), starts.tolist(), ends.tolist(), strict=True):
        near = alive[earlier[start:end]].any()
        alive[row] = not (near or (row in untold and recheck(row, alive)[0] >= 0))
    return alive


class Members:
    """Which rows have a cell among their nearest, for all cells, and what a row is compared with.

    Implements `Recheck`.

    Args:
        rows: (N,D) unit rows in order of rank; may be a memory-mapped file.
        probed: (N,P) the nearest cells of each, the nearest first; -1 is none.
        count: C, cells.
        threshold: cosine of near-duplicates.
    """

    def __init__(self, rows: Rows, probed: NDArray[np.int32], count: int, threshold: float) -> None:
        self._rows, self._probed, self._threshold = rows, probed, threshold
        flat = probed.reshape(-1)
        self._order = np.argsort(flat, kind="stable")  # (N*P,)
        self._starts = np.searchsorted(flat, np.arange(count + 1), sorter=self._order)
        self._homes = np.argsort(probed[:, 0], kind="stable")  # (N,)
        self._home_starts = np.searchsorted(probed[:, 0], np.arange(count + 1), sorter=self._homes)

    def of(self, cell: int) -> tuple[Places, NDArray[np.bool_]]:
        """The rows (R,) that have it among their nearest, in their order, and whether it is their own (R,)."""
        places, nth = np.divmod(self._order[self._starts[cell] : self._starts[cell + 1]], self._probed.shape[1])
        return places, nth == 0

    def __call__(self, place: int, alive: NDArray[np.bool_]) -> tuple[int, float]:
        own = self._probed[place]
        homes = [self._homes[self._home_starts[cell] : self._home_starts[cell + 1]] for cell in own[own >= 0]]
        others = np.concatenate([self.of(int(own[0]))[0], *homes])
        others = np.unique(others[(others < place) & alive[others]])
        values = self._rows[others] @ self._rows[place]  # (M,)
        limit = max(self._threshold, float(values.max(initial=-1))) - 2 * margin(self._rows.shape[1])
        others = others[values >= limit]
        cosines = cosines_of(self._rows, self._rows, others, np.full(len(others), place))
        near = cosines >= self._threshold
        if not near.any():
            return -1, 0.0
        best = int(np.argmax(np.where(near, cosines, -1)))  # the first of equals
        return int(others[best]), float(cosines[best])

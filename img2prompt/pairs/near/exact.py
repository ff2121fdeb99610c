"""Exact removal of near-duplicates: rows in order of rank against the survivors before them.

Only the upper triangle is computed, and only columns that survived. Memory is bounded whatever the number of pairs:
of a tile with many, each row's nearest are looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.near.cosines import Places, Rows, cosines_of, margin
from img2prompt.pairs.near.screen import TILE, Screen, Side, Table, fit_screen, likely, sample_of
from img2prompt.progress import track

Pairs = tuple[Places, Places, NDArray[np.float32]]
Found = tuple[Places, NDArray[np.float64]]  # (N,) the survivor of each row, -1 where there is none; its cosine


class Finder(Protocol):
    """Finds what is near among rows and a growing set of columns, on whatever computes products fast.

    Pairs are given as places (P,) of rows, places (P,) of columns, and float32 products (P,) right to `margin`.
    """

    block: int  # rows that are best decided together

    def add(self, places: Places) -> None:
        """Takes these columns (M,) into the set."""

    def clear(self) -> None:
        """Empties the set."""

    def find(self, places: Places) -> Pairs:
        """Pairs that hold, for each of these rows, its nearest column of the set, if its cosine reaches the threshold.

        Others may be among them.
        """

    def within(self, places: Places, earlier: Places) -> Pairs:
        """All pairs of these rows with some of them whose cosines reach the threshold; others may be among them."""


_PART = 256  # rows of a tile on the diagonal

MakeFinder = Callable[[Rows, Rows, float], Finder]  # of rows (N,D), columns (M,D) and a threshold


@contextlib.contextmanager
def workers(threads: int) -> Iterator[Executor]:
    """Threads that each multiply on a single one, so that none waits for another after every small product."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        yield pool


class ScreenFinder:
    """Products of this processor, after a bound that rules out most pairs; implements `Finder`."""

    block = TILE[0]

    def __init__(self, rows: Rows, columns: Rows, threshold: float, *, pool: Executor, threads: int) -> None:
        self._rows, self._columns = screened(rows, columns, threshold, pool)
        self._threshold, self._pool, self._threads = threshold, pool, threads
        self._places = np.empty(len(columns), np.int64)
        self._narrow = np.empty((len(columns), self._columns.narrow.shape[1]), np.float32)
        self._memory = [np.empty(TILE[0] * TILE[1], np.float32) for _ in range(threads)]
        self._count = 0

    def add(self, places: Places) -> None:
        part = slice(self._count, self._count + len(places))
        self._places[part], self._narrow[part] = places, self._columns.narrow[places]
        self._count += len(places)

    def clear(self) -> None:
        self._count = 0

    def find(self, places: Places) -> Pairs:
        columns = Side(self._columns, self._places[: self._count], self._narrow[: self._count])
        rows = Side.of(self._rows, places)
        return self._likely([(r, c) for r in rows.tiles(TILE[0]) for c in columns.tiles(TILE[1])], best_only=True)

    def within(self, places: Places, earlier: Places) -> Pairs:
        columns = Side.of(self._rows, earlier)
        rows = Side.of(self._rows, places).tiles(_PART)
        return self._likely([(r, c) for r in rows for c in columns.tiles(_PART) if c.places[0] <= r.places[-1]])

    def _likely(self, tiles: Sequence[tuple[Side, Side]], *, best_only: bool = False) -> Pairs:
        """Each thread has every so manieth tile, and memory of its own."""

        def work(number: int) -> list[Pairs]:
            some, memory = tiles[number :: self._threads], self._memory[number]
            return [likely(r, c, self._threshold, best_only=best_only, memory=memory) for r, c in some]

        done = [pairs for part in self._pool.map(work, range(self._threads)) for pairs in part]
        nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        i, j, values = (np.concatenate(column) for column in zip(nothing, *done, strict=True))
        return i, j, values


def screened(rows: Rows, columns: Rows, threshold: float, pool: Executor | None = None) -> tuple[Table, Table]:
    """Rows and columns with the bound that is cheapest for products of all with all."""
    screen = Screen()
    if max(len(rows), len(columns)) > TILE[1]:
        screen = fit_screen([(sample_of(rows)[::2], sample_of(columns)[1::2])], threshold)
    table = screen.table(rows, pool)
    return table, table if columns is rows else screen.table(columns, pool)


def greedy(rows: Rows, threshold: float, finder: Finder) -> Found:
    """Every row's nearest survivor among the rows before it, -1 for survivors.

    Args:
        rows: (N,D) unit rows in order of rank.
        threshold: cosine from which a row goes.
        finder: empty, of rows and rows.
    """
    survivor, cosine = np.full(len(rows), -1), np.zeros(len(rows))  # (N,)
    starts = range(0, len(rows), finder.block)
    for start in track(starts, total=len(starts), unit="block", label="near-duplicates"):
        places = np.arange(start, min(start + finder.block, len(rows)))  # (B,)
        nearest_of(rows, rows, finder.find(places), threshold, (survivor, cosine))
        _within(rows, finder, places, threshold, (survivor, cosine))
        finder.add(places[survivor[places] < 0])
    return survivor, cosine


def against(rows: Rows, columns: Rows, threshold: float, finder: Finder) -> Found:
    """Every row's nearest column, -1 where none has the cosine."""
    survivor, cosine = np.full(len(rows), -1), np.zeros(len(rows))  # (N,)
    finder.add(np.arange(len(columns)))
    starts = range(0, len(rows), finder.block)
    for start in track(starts, total=len(starts), unit="block", label="near-duplicates"):
        places = np.arange(start, min(start + finder.block, len(rows)))
        nearest_of(rows, columns, finder.find(places), threshold, (survivor, cosine))
    return survivor, cosine


def nearest_of(rows: Rows, columns: Rows, pairs: Pairs, threshold: float, found: Found) -> None:
    """Enters each row's nearest column, by cosines in float64, where it reaches the threshold and beats what is there.

    Equal cosines go to the column that comes first, so neither the order of the pairs nor their division matters.
    """
    i, j, values = pairs
    if not len(i):
        return
    best = np.full(int(i.max()) + 1 - int(i.min()), -np.inf, np.float32)
    np.maximum.at(best, i - i.min(), values)
    close = values >= best[i - i.min()] - 2 * margin(rows.shape[1])  # the nearest is among these
    i, j = i[close], j[close]
    cosines = cosines_of(rows, columns, i, j)
    near = cosines >= threshold
    i, j, cosines = i[near], j[near], cosines[near]
    i, j, cosines = best_of(i, j, cosines)
    survivor, cosine = found
    better = (survivor[i] < 0) | (cosines > cosine[i]) | ((cosines == cosine[i]) & (j < survivor[i]))
    survivor[i[better]], cosine[i[better]] = j[better], cosines[better]


def best_of(i: Places, j: Places, cosines: NDArray[np.float64]) -> tuple[Places, Places, NDArray[np.float64]]:
    """Of each row i the pair of the largest cosine, among equals that of the first j."""
    order = np.lexsort((j, -cosines, i))
    order = order[np.flatnonzero(np.diff(i[order], prepend=-1))]
    return i[order], j[order], cosines[order]


def _within(rows: Rows, finder: Finder, places: Places, threshold: float, found: Found) -> None:
    """Decides between the rows of one block, of which those near earlier survivors are decided."""
    survivor, _ = found
    i, j, values = finder.within(places, places[survivor[places] < 0])
    later = i > j
    i, j, values = i[later], j[later], values[later]
    unsure = np.flatnonzero(np.abs(values - threshold) <= 2 * margin(rows.shape[1]))
    near = values >= threshold
    near[unsure] = cosines_of(rows, rows, i[unsure], j[unsure]) >= threshold
    i, j, values = i[near], j[near], values[near]
    alive = survived(i, j, survivor[places] < 0, int(places[0]))
    stay = alive[j - places[0]]
    nearest_of(rows, rows, (i[stay], j[stay], values[stay]), threshold, found)


def survived(later: Places, earlier: Places, alive: NDArray[np.bool_], first: int = 0) -> NDArray[np.bool_]:
    """Which rows stay when each, in their order, goes if an earlier one that stays is near.

    Args:
        later, earlier: (P,) the near pairs.
        alive: (B,) rows not yet decided, or decided to go; places count from `first`.
        first: the place of the first row.
    """
    order = np.argsort(later, kind="stable")
    later, earlier = later[order] - first, earlier[order] - first
    heads = np.unique(later)
    starts, ends = np.searchsorted(later, heads), np.searchsorted(later, heads, side="right")
    alive = alive.copy()
    for row, start, end in zip(heads.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if alive[row] and alive[earlier[start:end]].any():
            alive[row] = False
    return alive

"""Cells for the approximate way: k-means centres, and how many cells to look into, both learnt from the data."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.near.cosines import Places, Rows, cosines_of
from img2prompt.pairs.near.exact import workers
from img2prompt.pairs.near.screen import TILE, Screen, Side, Table, fit_screen, likely

SAMPLE, QUERIES = 2**16, 2**14  # rows that settle the plan; those of them whose near rows are looked up
MOST_PAIRS = 2**17  # of a sample; as many say enough
QUERIES_AT_ONCE = 512
EVERY = 2.0  # a reach that every cell is in
_ROWS_AT_ONCE = 4096
_ROUNDS, _ROWS_PER_CELL = 5, 48  # of k-means
_FEWEST, _MOST = 32, 64  # cells that a row is compared with at most; its reach leaves a few of them
_MISSED = 1e-5  # share of a sample's near pairs that may be missed before a good deal is added
_TIE = 4e-6  # cosines to centres that lie nearer to each other than this are computed in float64


@dataclass(frozen=True, slots=True)
class Cells:
    """A division of the sphere.

    Attributes:
        centres: (C,D) unit rows.
        probes: P, how many of the nearest cells a row is compared with at most, its own among them.
        reach: by how much a cell's centre may be further than that of the row's own, as a cosine: a row in the midst
            of its cell is compared with few others.
        threshold: cosine of near-duplicates.
        screen: the bound for rows of one cell.
    """

    centres: Rows
    probes: int
    reach: float
    threshold: float
    screen: Screen

    def probed(self, rows: Rows, pool: Executor | None = None) -> NDArray[np.int32]:
        """The nearest cells (N,P) of each row, the nearest first, -1 beyond its reach; the same on any machine."""
        return nearest_cells(self.centres, rows, self.probes, self.reach, pool)


def plan_cells(
    sample: Rows, count: int, threshold: float, *, probes: int | None = None, seed: int = 0, threads: int = 1
) -> Cells:
    """A division for so many rows: the square root of their number of cells.

    Args:
        sample: (S,D) unit rows of all kinds that there are; some ten thousand suffice.
        count: N, rows of all the data.
        threshold: cosine of near-duplicates.
        probes: as many cells, whatever their distance; None: what the near pairs of the sample need, and beyond.
        seed: of the k-means.
        threads: to use.
    """
    import faiss

    cells = max(1, min(round(count**0.5), len(sample)))
    kmeans = faiss.Kmeans(
        sample.shape[1], cells, niter=_ROUNDS, spherical=True, seed=seed, min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_PER_CELL,
    )  # fmt: skip
    kmeans.train(np.ascontiguousarray(sample))
    centres = np.ascontiguousarray(kmeans.centroids)
    reach = EVERY
    if probes is None:
        with workers(threads) as pool:
            probes, reach = _enough(sample, centres, threshold, pool)
    probes = min(probes, cells)
    few = sample[::4]
    screen = _screen(few, nearest_cells(centres, few, probes, reach), threshold)
    return Cells(centres, probes, reach, threshold, screen)


def nearest_cells(
    centres: Rows, rows: Rows, probes: int, reach: float = EVERY, pool: Executor | None = None
) -> NDArray[np.int32]:
    """The cells (N,P) whose centres are nearest to each row, the nearest first, -1 beyond its reach.

    Where float32 cannot tell which, float64 does, so that blocks, threads and processors do not matter.
    """
    result = np.full((len(rows), min(probes, len(centres))), -1, np.int32)

    def work(start: int) -> None:
        part = slice(start, start + _ROWS_AT_ONCE)
        i, j = _within_reach(centres, rows[part], probes, reach)
        nth = np.arange(len(i)) - np.searchsorted(i, i)
        told = nth < probes
        result[part][i[told], nth[told]] = j[told]

    for _ in (map if pool is None else pool.map)(work, range(0, len(rows), _ROWS_AT_ONCE)):
        pass
    return result


def _within_reach(centres: Rows, rows: Rows, probes: int, reach: float) -> tuple[Places, Places]:
    """Rows and cells (P,) in the order of rows, each one's nearest cells first: at least `probes`, if they reach."""
    values = rows @ centres.T  # (B,C)
    floor = values.max(1) - reach
    if reach >= EVERY and probes < len(centres):
        floor = np.partition(values, len(centres) - probes, axis=1)[:, len(centres) - probes]
    i, j = np.divmod(np.flatnonzero(values >= floor[:, None] - _TIE), len(centres))
    cosines = values[i, j].astype(np.float64)
    order = np.argsort(2 * i - cosines)  # by row, then by cosine
    i, j, cosines = i[order], j[order], cosines[order]
    unsure = np.zeros(len(rows), bool)
    if reach < EVERY:
        unsure[i[np.abs(cosines - floor[i]) <= _TIE]] = True
    unsure[i[1:][(i[1:] == i[:-1]) & (cosines[:-1] - cosines[1:] <= _TIE)]] = True
    again = np.flatnonzero(unsure[i])
    exact = cosines_of(rows, centres, i[again], j[again])
    order = np.lexsort((j[again], -exact, i[again]))
    j[again], cosines[again] = j[again][order], exact[order]
    if reach >= EVERY:
        return i, j
    nearest = cosines[np.searchsorted(i, np.arange(len(rows)))]  # (B,)
    near = cosines >= nearest[i] - reach
    return i[near], j[near]


def _enough(sample: Rows, centres: Rows, threshold: float, pool: Executor) -> tuple[int, float]:
    """Cells and a reach that find the near pairs of a sample, and well beyond: the rarest pairs are not in it."""
    queries = np.random.default_rng(0).permutation(len(sample))[:QUERIES]
    screen = fit_screen([(sample[::64], sample[1::64])], threshold)
    i, j = near_pairs(screen.table(sample), queries, threshold, pool, most=MOST_PAIRS)
    if not len(i):
        return _FEWEST, EVERY
    home = nearest_cells(centres, sample, 1, 0.0, pool)[:, 0]
    one, other = _distance(sample, centres, i, home[j]), _distance(sample, centres, j, home[i])
    nearer = one[1] <= other[1]  # one of the two finding the other is enough
    ranks, gaps = np.sort(np.where(nearer, one[0], other[0])), np.sort(np.minimum(one[1], other[1]))
    last = min(len(i) - 1, int(len(i) * (1 - _MISSED)))
    return int(np.clip(2 * (ranks[last] + 1), _FEWEST, _MOST)), float(1.35 * gaps[last] + 0.01)


def _distance(rows: Rows, centres: Rows, i: Places, cells: NDArray[np.int32]) -> tuple[Places, NDArray[np.float32]]:
    """How many centres are nearer to the rows i than these cells' (P,), and by how much the nearest is."""
    ranks, gaps = np.empty(len(i), np.int64), np.empty(len(i), np.float32)
    for start in range(0, len(i), 4096):
        part = slice(start, start + 4096)
        values = rows[i[part]] @ centres.T  # (B,C)
        own = values[np.arange(len(values)), cells[part]]
        ranks[part], gaps[part] = (values > own[:, None]).sum(1), values.max(1) - own
    return ranks, gaps


def near_pairs(
    table: Table, queries: Places, threshold: float, pool: Executor | None = None, *, most: int | None = None
) -> tuple[Places, Places]:
    """All pairs of some rows with all others that reach the threshold.

    Args:
        table: unit rows.
        queries: (Q,) places of some.
        threshold: a cosine.
        pool: threads.
        most: stop before further queries when there are as many pairs.
    """
    everything = list(Side.of(table, np.arange(len(table.rows))).tiles(TILE[1]))
    found, count = [(np.zeros(0, np.int64), np.zeros(0, np.int64))], 0
    for some in Side.of(table, queries).tiles(QUERIES_AT_ONCE):

        def work(columns: Side, rows: Side = some) -> tuple[Places, Places]:
            i, j, _ = likely(rows, columns, threshold)
            i, j = i[i != j], j[i != j]
            near = cosines_of(table.rows, table.rows, i, j) >= threshold
            return i[near], j[near]

        found += (map if pool is None else pool.map)(work, everything)
        count += sum(len(i) for i, _ in found[-len(everything) :])
        if most is not None and count >= most:
            break
    i, j = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, j


def recall_of(probed: NDArray[np.int32], i: Places, j: Places) -> float:
    """The share of near pairs that the cells bring together; 1 where there are none."""
    met = 0
    for start in range(0, len(i), 2**14):
        a, b = probed[i[start : start + 2**14]], probed[j[start : start + 2**14]]
        met += int(((a == b[:, :1]).any(1) | (b == a[:, :1]).any(1)).sum())
    return met / len(i) if len(i) else 1.0


def _screen(sample: Rows, probed: NDArray[np.int32], threshold: float) -> Screen:
    """The bound for pairs of one cell, from a few cells of a sample."""
    sizes = np.bincount(probed[:, 0])
    some = np.argsort(-sizes, kind="stable")[: len(sizes) // 2 + 1]  # not the empty ones
    some = some[:: max(1, len(some) // 6)]
    samples = [(sample[(probed == cell).any(1)][:2000], sample[probed[:, 0] == cell][1::2][:1000]) for cell in some]
    return fit_screen(samples, threshold)

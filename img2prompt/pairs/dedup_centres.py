"""Cells for the approximate way: k-means centres, and how many cells to look into, both learnt from the data."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.cosines import Places, Rows, cosines_of
from img2prompt.pairs.dedup_screen import TILE, Screen, Side, Table, fit_screen, likely

SAMPLE, QUERIES = 2**16, 2**12  # rows that settle the plan; those of them whose near rows are looked up
_ROUNDS, _ROWS_PER_CELL = 8, 64  # of k-means
_FEWEST, _MOST = 4, 64  # cells a row is compared with
_MISSED = 1e-4  # share of a sample's near pairs that the probes may miss before they are increased by half
_TIE = 4e-6  # cosines to centres that lie nearer to each other than this are computed in float64


@dataclass(frozen=True, slots=True)
class Cells:
    """A division of the sphere.

    Attributes:
        centres: (C,D) unit rows.
        probes: P, how many of the nearest cells a row is compared with, its own among them.
        threshold: cosine of near-duplicates.
        screen: the bound for rows of one cell.
    """

    centres: Rows
    probes: int
    threshold: float
    screen: Screen

    def probed(self, rows: Rows) -> NDArray[np.int32]:
        """The nearest cells (N,P) of each row, the nearest first; the same on any machine."""
        return nearest_cells(self.centres, rows, self.probes)


def plan_cells(sample: Rows, count: int, threshold: float, *, probes: int | None = None, seed: int = 0) -> Cells:
    """A division for so many rows: the square root of their number of cells.

    Args:
        sample: (S,D) unit rows of all kinds that there are; some ten thousand suffice.
        count: N, rows of all the data.
        threshold: cosine of near-duplicates.
        probes: None: as few as find the near pairs of the sample, and half as many again.
        seed: of the k-means.
    """
    import faiss

    cells = max(1, min(round(count**0.5), len(sample)))
    kmeans = faiss.Kmeans(
        sample.shape[1], cells, niter=_ROUNDS, spherical=True, seed=seed, min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_PER_CELL,
    )  # fmt: skip
    kmeans.train(np.ascontiguousarray(sample))
    centres = np.ascontiguousarray(kmeans.centroids)
    if probes is None:
        probes = _enough_probes(sample, centres, threshold)
    probes = min(probes, cells)
    return Cells(centres, probes, threshold, _screen(sample, nearest_cells(centres, sample, probes), threshold))


def nearest_cells(centres: Rows, rows: Rows, probes: int) -> NDArray[np.int32]:
    """The cells (N,P) whose centres are nearest to each row, the nearest first.

    Where float32 cannot tell which, float64 does, so that blocks, threads and processors do not matter.
    """
    import faiss

    result = np.empty((len(rows), probes), np.int32)
    for start in range(0, len(rows), 2**14):
        some = np.ascontiguousarray(rows[start : start + 2**14])
        values, found = faiss.knn(some, centres, min(probes + 1, len(centres)), metric=faiss.METRIC_INNER_PRODUCT)
        gaps = values[:, :-1] - values[:, 1:]  # (B,P)
        unsure = np.flatnonzero((gaps < _TIE).any(1))
        for part in np.array_split(unsure, max(1, len(unsure) // 1024)):
            found[part] = _settled(centres, some[part], found[part], values[part])
        result[start : start + 2**14] = found[:, :probes]
    return result


def _settled(centres: Rows, rows: Rows, found: Places, values: Rows) -> Places:
    """The nearest cells (B,K), in float64; all that float32 could have meant are compared."""
    wanted = found.shape[1]
    close = rows @ centres.T >= values[:, -1:] - 2 * _TIE  # (B,C)
    i, j = np.nonzero(close)
    cosines = cosines_of(rows, centres, i, j)
    order = np.lexsort((j, -cosines, i))
    i, j = i[order], j[order]
    starts = np.searchsorted(i, np.arange(len(rows)))
    return j[starts[:, None] + np.arange(wanted)]


def _enough_probes(sample: Rows, centres: Rows, threshold: float) -> int:
    """As many cells as find all but a few of the near pairs of a sample, and half as many again."""
    queries = np.arange(0, len(sample), max(1, len(sample) // QUERIES))
    screen = fit_screen([(sample[::64], sample[1::64])], threshold)
    i, j = near_pairs(screen.table(sample), queries, threshold)
    if not len(i):
        return 2 * _FEWEST
    home = nearest_cells(centres, sample, 1)[:, 0]
    needed = np.minimum(_rank(sample, centres, i, home[j]), _rank(sample, centres, j, home[i])) + 1
    enough = int(np.sort(needed)[min(len(needed) - 1, int(len(needed) * (1 - _MISSED)))])
    return int(np.clip(enough + (enough + 1) // 2, _FEWEST, _MOST))


def _rank(rows: Rows, centres: Rows, i: Places, cells: NDArray[np.int32]) -> Places:
    """How many centres are nearer to the rows i than these cells' (P,)."""
    ranks = np.empty(len(i), np.int64)
    for start in range(0, len(i), 4096):
        part = slice(start, start + 4096)
        values = rows[i[part]] @ centres.T  # (B,C)
        ranks[part] = (values > values[np.arange(len(values)), cells[part]][:, None]).sum(1)
    return ranks


def near_pairs(table: Table, queries: Places, threshold: float, pool: Executor | None = None) -> tuple[Places, Places]:
    """All pairs of some rows with all others that reach the threshold."""
    everything = Side.of(table, np.arange(len(table.rows)))
    tiles = [(q, c) for q in Side.of(table, queries).tiles(TILE[0]) for c in everything.tiles(TILE[1])]
    done = (pool.map if pool is not None else map)(lambda tile: likely(*tile, threshold), tiles)
    nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    i, j, _ = (np.concatenate(column) for column in zip(nothing, *done, strict=True))
    i, j = i[i != j], j[i != j]
    near = cosines_of(table.rows, table.rows, i, j) >= threshold
    return i[near], j[near]


def recall_of(probed: NDArray[np.int32], i: Places, j: Places) -> float:
    """The share of near pairs that the cells bring together; 1 where there are none."""
    met = (probed[i] == probed[j, :1]).any(1) | (probed[j] == probed[i, :1]).any(1)
    return float(met.mean()) if len(i) else 1.0


def _screen(sample: Rows, probed: NDArray[np.int32], threshold: float) -> Screen:
    """The bound for pairs of one cell, from a few cells of a sample."""
    sizes = np.bincount(probed[:, 0])
    some = np.argsort(-sizes, kind="stable")[: len(sizes) // 2 + 1]  # not the empty ones
    some = some[:: max(1, len(some) // 6)]
    samples = [(sample[(probed == cell).any(1)][:2000], sample[probed[:, 0] == cell][1::2][:1000]) for cell in some]
    return fit_screen(samples, threshold)

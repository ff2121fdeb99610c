"""The approximate way on one machine: plan, cells on all threads, merge, and a measurement of what it misses."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from img2prompt.pairs.near.cells import CellPairs, Members, merged, pairs_of_cell
from img2prompt.pairs.near.centres import MOST_PAIRS, SAMPLE, Cells, near_pairs, plan_cells, recall_of
from img2prompt.pairs.near.cosines import Places, Rows
from img2prompt.pairs.near.exact import Found, workers
from img2prompt.progress import track

MEASURED = 2048  # rows whose near rows are all looked up, to say how many of them were compared


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the approximate way found, and how sure it is.

    Attributes:
        found: survivors and cosines.
        cells: the division.
        recall: share of the near pairs of a sample that were compared.
        recall_pairs: as many pairs the sample had.
    """

    found: Found
    cells: Cells
    recall: float
    recall_pairs: int


def cell_sweep(rows: Rows, threshold: float, *, threads: int, probes: int | None = None, seed: int = 0) -> Sweep:
    """Every row's nearest survivor among the rows before it that share a neighbourhood of cells with it.

    Args:
        rows: (N,D) unit rows, none twice, in order of rank.
        threshold: cosine from which a row goes.
        threads: to use.
        probes, seed: for `plan_cells`.
    """
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False))
    cells = plan_cells(rows[some], len(rows), threshold, probes=probes, seed=seed, threads=threads)
    queries = rng.choice(len(rows), min(MEASURED, len(rows)), replace=False)
    with workers(threads) as pool:
        return _swept(rows, cells, queries, pool)


def _swept(rows: Rows, cells: Cells, queries: Places, pool: Executor) -> Sweep:
    threshold, probed, table = cells.threshold, cells.probed(rows, pool), cells.screen.table(rows, pool)
    members = Members(rows, probed, len(cells.centres), threshold)
    places = np.arange(len(rows))

    def work(cell: int) -> CellPairs:
        own, at_home = members.of(cell)
        return pairs_of_cell(table, own, at_home, places, threshold)

    numbers = range(len(cells.centres))
    parts = list(track(pool.map(work, numbers), total=len(numbers), unit="cell", label="near-duplicates"))
    i, j = near_pairs(table, queries, threshold, pool, most=MOST_PAIRS)
    return Sweep(merged(len(rows), parts, members), cells, recall_of(probed, i, j), len(i))

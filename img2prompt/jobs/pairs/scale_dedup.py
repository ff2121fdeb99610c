"""Near-duplicates among more embeddings than fit in memory, in tasks that any machine may do.

The same as `find_duplicates` by the approximate way, row for row: its cells are independent of each other. Rows stay
in one file that every machine reads; each task leaves one file.

    rows.npy           (U,D) unit rows, none twice, in order of rank
    plan.npz           centres, probes, threshold and screen
    look-00000.npz     of a range of rows: the nearest cells of each, and the near rows of a sample
    members.npy        (U*P,) the rows that have a cell among their nearest, cell by cell
    cells-00000.npz    of some cells: the near pairs
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.errors import OutputError
from img2prompt.jobs.pairs.scale import Run, in_turn
from img2prompt.jobs.pairs.scale_cells import (
    AgainstTask,
    CellTask,
    LookTask,
    look,
    look_against,
    pair_cells,
    read_plan,
    write_plan,
)
from img2prompt.jobs.pairs.scale_embedding import read_parts
from img2prompt.jobs.pairs.scale_rows import gather_rows, npy_bytes, open_rows
from img2prompt.jobs.parts import Arrays, claim_parts, read_part, split_rows
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.dedup import Duplicates
from img2prompt.pairs.near.cells import CellPairs, Members, merged
from img2prompt.pairs.near.centres import MOST_PAIRS, QUERIES_AT_ONCE, SAMPLE, plan_cells, recall_of
from img2prompt.pairs.near.exact import Found
from img2prompt.pairs.near.sweep import MEASURED
from img2prompt.progress import track

ROWS_PER_LOOK = 1 << 17
MEMBERS_PER_TASK = 1 << 18  # rows that a task over cells reads: 400 MB at 384 dimensions


def find_duplicates_in_parts(
    parts: Sequence[Path],
    threshold: float,
    rank: ArrayLike | None = None,
    *,
    folder: Path,
    among: NDArray[np.int64] | None = None,
    run: Run = in_turn,
    seed: int = 0,
) -> Duplicates:
    """Finds the rows that are to go, as `find_duplicates` by the approximate way does.

    Args:
        parts: .npy files of unit rows (n,D).
        threshold: smallest cosine of near-duplicates.
        rank: (N,) of near rows the one of the lowest rank stays; None: the first.
        among: (N,) which of the parts' rows are meant, in rising order; None: all.
        folder: for the files of the work, which a killed run goes on from; made when it does not exist.
        run: hands out tasks, perhaps to machines that share the folder.
        seed: of the division and samples.

    Raises:
        DataError: a part is damaged, or its rows have not unit length.
        OutputError: the folder cannot be written.
    """
    opened = read_parts(parts)
    among = np.arange(sum(map(len, opened))) if among is None else among  # (N,)
    if not len(among):
        return Duplicates(np.zeros(0, bool), among, np.zeros(0, np.float32), "nothing compared")
    order = np.arange(len(among)) if rank is None else np.argsort(np.asarray(rank), kind="stable")  # (N,)
    claim_parts(folder, _config(parts, threshold, among[order], seed))
    heads = gather_rows(opened, among[order], folder)  # (N,)
    rows = open_rows(folder)  # (U,D)
    rng = np.random.default_rng(seed)  # drawn from as in `cell_sweep`
    some = np.sort(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False))
    queries = rng.choice(len(rows), min(MEASURED, len(rows)), replace=False)
    if not (folder / "plan.npz").exists():
        write_plan(folder, plan_cells(rows[some], len(rows), threshold, seed=seed, threads=os.cpu_count() or 1))
    cells = read_plan(folder)
    probed, i, j = _looked_up(folder, len(rows), queries, run)
    members = Members(rows, probed, len(cells.centres), threshold)
    pairs = _done(run, pair_cells, _cell_tasks(folder, members, len(cells.centres)), "near-duplicates")
    found = merged(len(rows), (CellPairs(**one) for one in pairs), members)  # type: ignore[arg-type]
    method = f"approximate: {len(cells.centres)} cells, at most {cells.probes} of them looked into"
    return _named(order, heads, found, method, (recall_of(probed, i, j), len(i)))


def _looked_up(
    folder: Path, rows: int, queries: NDArray[np.int64], run: Run
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """The cells (U,P) that each row is looked for in, and the true pairs i, j of some rows, to measure recall on."""
    tasks = [
        LookTask(folder, span, tuple(queries.tolist()), folder / f"look-{number:05d}.npz")
        for number, span in enumerate(split_rows(rows, ROWS_PER_LOOK))
    ]
    seen = _done(run, look, tasks, "looking up cells")
    probed = np.concatenate([one["probed"] for one in seen]).astype(np.int32)  # (U,P)
    i, j = _enough(queries, *(np.concatenate([one[name] for one in seen]).astype(np.int64) for name in "ij"))
    return probed, i, j


def against_in_parts(
    parts: Sequence[Path], others: Sequence[Path], threshold: float, *, folder: Path, run: Run = in_turn
) -> Duplicates:
    """Finds the rows of the parts that are near a row of other parts, as `against` does.

    Args:
        parts, others: .npy files of unit rows.
        threshold: smallest cosine of near-duplicates.
        folder, run: likewise `find_duplicates_in_parts`.

    Raises:
        DataError, OutputError: likewise.
    """
    claim_parts(folder, _config([*parts, *others], threshold, np.array([len(parts)]), 0))
    tasks = [
        AgainstTask(part, tuple(others), threshold, folder / f"against-{number:05d}.npz")
        for number, part in enumerate(parts)
    ]
    done = _done(run, look_against, tasks, "near others")
    keep, survivor, cosine = (np.concatenate([one[name] for one in done]) for name in ("keep", "survivor", "cosine"))
    return Duplicates(keep.astype(bool), survivor.astype(np.int64), cosine.astype(np.float32), "exact")


def _cell_tasks(folder: Path, members: Members, count: int) -> list[CellTask]:
    """Tasks of about as many members each; what they are goes to members.npy."""
    lists = [members.of(cell) for cell in range(count)]
    ends = np.cumsum([0, *(len(places) for places, _ in lists)])
    flat = np.concatenate([2 * places + at_home for places, at_home in lists])
    write_atomically(folder / "members.npy", npy_bytes(flat))
    cuts = np.unique(np.searchsorted(ends, np.arange(0, ends[-1], MEMBERS_PER_TASK)))
    return [
        CellTask(folder, range(first, last), tuple(ends[first : last + 1].tolist()), folder / f"cells-{number:05d}.npz")
        for number, (first, last) in enumerate(itertools.pairwise([*cuts.tolist(), count]))
    ]


def _enough(
    queries: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of the first of the sample's rows: as many as `near_pairs` would have stopped at."""
    order = np.argsort(queries)
    block = order[np.searchsorted(queries, i, sorter=order)] // QUERIES_AT_ONCE
    pairs = np.cumsum(np.bincount(block, minlength=1))
    asked = block <= np.searchsorted(pairs, MOST_PAIRS)
    return i[asked], j[asked]


def _done(run: Run, work: Callable[[Any], Path], tasks: Sequence[Any], label: str) -> list[Arrays]:
    """What the tasks leave, made now where it does not stand."""
    missing = [task for task in tasks if not task.out.exists()]
    for _ in track(run(work, missing), total=len(missing), unit="task", label=label):
        pass
    arrays = [read_part(task.out) for task in tasks]
    for task, found in zip(tasks, arrays, strict=True):
        if found is None:
            task.out.unlink(missing_ok=True)
            raise OutputError(f"{task.out}: damaged or gone; run the same command again")
    return [found for found in arrays if found is not None]


def _named(
    order: NDArray[np.int64], heads: NDArray[np.int64], found: Found, method: str, recall: tuple[float, int]
) -> Duplicates:
    """The result by row, from survivors of the unique rows by place in order of rank."""
    survivor, cosine = found  # (U,)
    is_head = heads == np.arange(len(heads))
    unique, number = np.flatnonzero(is_head), np.cumsum(is_head) - 1
    of_head = np.where(survivor < 0, unique, unique[survivor])[number[heads]]  # (N,)
    result_survivor, result_cosine = np.empty(len(order), np.int64), np.empty(len(order), np.float32)
    result_survivor[order] = order[of_head]
    result_cosine[order] = np.where(survivor < 0, 1.0, cosine)[number[heads]]
    keep = result_survivor == np.arange(len(order))
    return Duplicates(keep, result_survivor, result_cosine, method, *recall)


def _config(parts: Sequence[Path], threshold: float, order: NDArray[np.int64], seed: int) -> dict[str, Any]:
    """What settles the files of the work."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in parts]
    return {
        "parts": hashlib.sha256(repr(stats).encode()).hexdigest(),
        "order": hashlib.sha256(order.tobytes()).hexdigest(),
        "threshold": threshold,
        "seed": seed,
    }

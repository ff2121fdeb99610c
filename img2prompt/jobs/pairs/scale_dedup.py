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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.errors import OutputError
from img2prompt.jobs.pairs.scale import Run, in_turn
from img2prompt.jobs.pairs.scale_embedding import read_parts
from img2prompt.jobs.pairs.scale_rows import gather_rows, npy_bytes, open_rows
from img2prompt.jobs.parts import Arrays, claim_parts, read_part, split_rows, write_part
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.dedup import DedupSettings, Duplicates, against
from img2prompt.pairs.dedup_cells import CellPairs, Members, joined_pairs, merged, pairs_of_cell
from img2prompt.pairs.dedup_centres import MOST_PAIRS, QUERIES_AT_ONCE, SAMPLE, Cells, near_pairs, plan_cells, recall_of
from img2prompt.pairs.dedup_exact import Found
from img2prompt.pairs.dedup_screen import Screen
from img2prompt.pairs.dedup_sweep import MEASURED
from img2prompt.progress import track

ROWS_PER_LOOK = 1 << 17
MEMBERS_PER_TASK = 1 << 18  # rows that a task over cells reads: 400 MB at 384 dimensions
_COPIED_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class LookTask:
    """A range of rows whose nearest cells are looked up."""

    folder: Path
    rows: range
    queries: tuple[int, ...]  # the sample whose near rows among these tell the recall
    out: Path


@dataclass(frozen=True, slots=True)
class CellTask:
    """Some cells whose near pairs are looked for."""

    folder: Path
    cells: range
    bounds: tuple[int, ...]  # where in members.npy the cells begin, and the last one ends
    out: Path


def look(task: LookTask) -> Path:
    """Does the task, unless its file stands; returns that."""
    if read_part(task.out) is None:
        cells, rows = read_plan(task.folder), open_rows(task.folder)
        some = np.ascontiguousarray(rows[task.rows.start : task.rows.stop])
        queries = np.array(task.queries, np.int64)
        stacked = np.concatenate([rows[queries], some])
        i, j = near_pairs(cells.screen.table(stacked), np.arange(len(queries)), cells.threshold)
        i, j = queries[i[j >= len(queries)]], j[j >= len(queries)] - len(queries) + task.rows.start
        write_part(task.out, {"probed": cells.probed(some), "i": i[i != j], "j": j[i != j]})
    return task.out


def pair_cells(task: CellTask) -> Path:
    """Does the task, unless its file stands; returns that."""
    if read_part(task.out) is None:
        cells = read_plan(task.folder)
        starts = np.array(task.bounds)
        flat = np.load(task.folder / "members.npy", mmap_mode="r")[starts[0] : starts[-1]]
        members, at_home = np.divmod(np.asarray(flat), 2)
        places, local = np.unique(members, return_inverse=True)  # a row is read once, whatever cells it visits
        table = cells.screen.table(open_rows(task.folder)[places])
        spans = [slice(a, b) for a, b in zip(starts[:-1] - starts[0], starts[1:] - starts[0], strict=True)]
        found = joined_pairs(
            pairs_of_cell(table, local.reshape(-1)[span], at_home[span] == 1, places, cells.threshold) for span in spans
        )
        write_part(
            task.out,
            {"later": found.later, "earlier": found.earlier, "cosine": found.cosine, "cut": found.cut},
        )
    return task.out


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
        _write_plan(folder, plan_cells(rows[some], len(rows), threshold, seed=seed))
    cells = read_plan(folder)
    looks = [
        LookTask(folder, span, tuple(queries.tolist()), folder / f"look-{number:05d}.npz")
        for number, span in enumerate(split_rows(len(rows), ROWS_PER_LOOK))
    ]
    seen = _done(run, look, looks, "looking up cells")
    probed = np.concatenate([one["probed"] for one in seen]).astype(np.int32)  # (U,P)
    i, j = _enough(queries, *(np.concatenate([one[name] for one in seen]).astype(np.int64) for name in "ij"))
    members = Members(rows, probed, len(cells.centres), threshold)
    pairs = _done(run, pair_cells, _cell_tasks(folder, members, len(cells.centres)), "near-duplicates")
    found = merged(len(rows), (CellPairs(**one) for one in pairs), members)  # type: ignore[arg-type]
    method = f"approximate: {len(cells.centres)} cells, at most {cells.probes} of them looked into"
    return _named(order, heads, found, method, (recall_of(probed, i, j), len(i)))


@dataclass(frozen=True, slots=True)
class AgainstTask:
    """A part whose rows near other ones are looked for."""

    part: Path
    others: tuple[Path, ...]
    threshold: float
    out: Path


def look_against(task: AgainstTask) -> Path:
    """Does the task, unless its file stands; returns that."""
    if read_part(task.out) is None:
        others = np.concatenate(read_parts(task.others))
        (rows,) = read_parts([task.part])
        found = against(np.array(rows), others, task.threshold, settings=DedupSettings(threads=1))
        write_part(task.out, {"keep": found.keep, "survivor": found.survivor, "cosine": found.cosine})
    return task.out


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


def read_plan(folder: Path) -> Cells:
    """The division that the tasks share."""
    with np.load(folder / "plan.npz", allow_pickle=False) as file:
        basis = file["basis"] if file["basis"].size else None
        screen = Screen(basis, int(file["narrow"]))
        return Cells(file["centres"], int(file["probes"]), float(file["reach"]), float(file["threshold"]), screen)


def _write_plan(folder: Path, cells: Cells) -> None:
    basis = np.zeros((0, 0)) if cells.screen.basis is None else cells.screen.basis
    write_part(
        folder / "plan.npz",
        {
            "centres": cells.centres,
            "probes": np.array(cells.probes),
            "reach": np.array(cells.reach),
            "threshold": np.array(cells.threshold),
            "basis": basis,
            "narrow": np.array(cells.screen.narrow),
        },
    )


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

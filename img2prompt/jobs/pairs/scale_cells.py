"""What a worker does for `scale_dedup`: a task in, a file out; each does nothing where its file stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from img2prompt.jobs.pairs.scale_embedding import read_parts
from img2prompt.jobs.pairs.scale_rows import open_rows
from img2prompt.jobs.parts import read_part, write_part
from img2prompt.pairs.dedup import DedupSettings, against
from img2prompt.pairs.near.cells import joined_pairs, pairs_of_cell
from img2prompt.pairs.near.centres import Cells, near_pairs
from img2prompt.pairs.near.screen import Screen


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


def read_plan(folder: Path) -> Cells:
    """The division that the tasks share."""
    with np.load(folder / "plan.npz", allow_pickle=False) as file:
        basis = file["basis"] if file["basis"].size else None
        screen = Screen(basis, int(file["narrow"]))
        return Cells(file["centres"], int(file["probes"]), float(file["reach"]), float(file["threshold"]), screen)


def write_plan(folder: Path, cells: Cells) -> None:
    """Writes the division.

    Raises:
        OutputError: it cannot be written.
    """
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

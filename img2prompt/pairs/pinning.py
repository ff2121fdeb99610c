"""Rows that keep the side they had: earlier divisions, and what becomes of new rows between their sides."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.errors import DataError
from img2prompt.pairs.atomic import fresh_file
from img2prompt.pairs.clustering import BLOCK, MARGIN, clusters, joined
from img2prompt.pairs.near.cosines import cosines_of, unit_rows
from img2prompt.pairs.prompts import PromptRow, read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.split import NO_SIDE, SIDES

ASSIGNMENT = "assignment.csv"
COLUMNS = ("id", "side", "cluster", "source", "file", "row", "prompt")
LEFT_OUT = "left_out"  # the name of no side


@dataclass(frozen=True, slots=True)
class Pins:
    """An earlier division.

    Attributes:
        sides: (id, prompt) -> place in `SIDES`; only rows that had one.
        of_id: (source, id) -> the same, where all rows of that id had one side: prompts may have changed since.
    """

    sides: dict[tuple[str, str], int]
    of_id: dict[tuple[str, str], int]

    def side(self, name: str, row: PromptRow) -> int:
        """The side that a row had; `NO_SIDE` of a row that is new."""
        return self.sides.get((name, row.prompt), self.of_id.get((row.source, name), NO_SIDE))


def read_pins(path: Path, skips: Skips) -> Pins:
    """Reads an assignment, or another table with the columns id, prompt and side.

    Args:
        path: the table, or the folder with an assignment.
        skips: counts rows without prompt or with an unknown side.

    Raises:
        DataError: it is no such table, or gives a row two sides.
    """
    sides: dict[tuple[str, str], int] = {}
    of_id: dict[tuple[str, str], int] = {}
    table = path / ASSIGNMENT if path.is_dir() else path
    for row in read_prompts(table, extra=("side",), skips=skips):
        name, side = row.id or name_of(row.prompt), row.extra["side"] or ""
        if side == LEFT_OUT:
            continue
        if side not in SIDES:
            skips.add("UnknownSide", f"{table}, row {row.number}", f"{side!r} is none of {', '.join(SIDES)}")
            continue
        place = SIDES.index(side)
        if sides.setdefault((name, row.prompt), place) != place:
            raise DataError(f"{table}: row {row.number} ({name}) has two sides; keep one of them")
        own = (row.source, name)
        of_id[own] = place if of_id.get(own, place) == place else NO_SIDE
    if not sides:
        raise DataError(f"{table}: no row with a side ({', '.join(SIDES)}); give what `pairs split` wrote")
    return Pins(sides, {own: place for own, place in of_id.items() if place != NO_SIDE})


def name_of(prompt: str) -> str:
    """What a row without an id is called: 16 hexadecimal digits of its prompt's SHA-256."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def write_assignment(
    path: Path, rows: Iterable[tuple[str, PromptRow]], sides: NDArray[np.int64], labels: NDArray[np.int64]
) -> None:
    """Writes which row is on which side.

    Args:
        path: of the table; it appears whole.
        rows: (N) each with its name.
        sides: (N,) places in `SIDES`, or `NO_SIDE`.
        labels: (N,) the cluster of each row.

    Raises:
        OSError: as the system says.
    """
    with fresh_file(path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (name, row), side, label in zip(rows, sides.tolist(), labels.tolist(), strict=True):
            named = LEFT_OUT if side == NO_SIDE else SIDES[side]
            writer.writerow([name, named, label, row.source, row.file, row.number, row.prompt])


def settled(
    emb: ArrayLike, labels: NDArray[np.int64], pinned: NDArray[np.int64], threshold: float, keys: Sequence[object]
) -> NDArray[np.int64]:
    """Pins the new rows of clusters that hold rows of several sides, as far as they belong to one of them.

    Rows that came between two clusters of an earlier division join them to one. Of its new rows, those that are tied
    to each other stay together, and go to the side whose earlier rows they are tied to; such as are tied to several
    sides stay unpinned, and `divide` leaves them out. Nothing then leaks, and no earlier row moves.

    Args:
        emb: (N,D) embeddings.
        labels: (N,) the clusters of all rows.
        pinned: (N,) sides of earlier rows, `NO_SIDE` elsewhere.
        threshold: smallest cosine that ties two rows.
        keys: (N,) what ties rows, too, where it is equal, e.g. their picture; None ties nothing.

    Returns:
        (N,) `pinned`, with more rows.
    """
    result = pinned.copy()
    rows = unit_rows(emb)
    order = np.argsort(labels, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        sides = set(pinned[own].tolist()) - {NO_SIDE}
        new = own[pinned[own] == NO_SIDE]
        if len(sides) < 2 or not len(new):
            continue
        parts = joined(clusters(rows[new], threshold), [keys[row] for row in new])  # (M,)
        ties = np.zeros((parts.max() + 1, len(SIDES)), bool)
        for side in sides:
            old = own[pinned[own] == side]
            same = {keys[row] for row in old} - {None}
            tied = near(rows[new], rows[old], threshold) | np.array([keys[row] in same for row in new])
            ties[parts[tied], side] = True
        alone = ties.sum(1) == 1  # parts that are tied to one side
        result[new] = np.where(alone, ties.argmax(1), NO_SIDE)[parts]
    return result


def near(a: NDArray[np.float32], b: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which of the unit rows a (N,D) have one of b (M,D) at a cosine of `threshold` or more, decided in float64."""
    found = np.zeros(len(a), bool)
    for top in range(0, len(a), BLOCK):
        for left in range(0, len(b), BLOCK):
            i, j = np.nonzero(a[top : top + BLOCK] @ b[left : left + BLOCK].T >= threshold - MARGIN)
            i, j = i + top, j + left
            found[i[cosines_of(a, b, i, j) >= threshold]] = True
    return found

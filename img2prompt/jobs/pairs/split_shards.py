"""The rows of each side as a data set of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.prompts import PromptRow
from img2prompt.pairs.shards import ShardPlan, read_shards, write_shards
from img2prompt.pairs.split import SIDES

if TYPE_CHECKING:
    import datasets


def write_sides(root: Path, rows: Sequence[PromptRow], sides: NDArray[np.int64], fingerprint: str) -> None:
    """Writes root/train, root/validation and root/test; a killed run goes on where it was.

    Args:
        root: folder of the division.
        rows: (N) of data sets of ours.
        sides: (N,) places in `SIDES`; rows without a side are not written.
        fingerprint: of the rows.

    Raises:
        OutputError: a folder cannot be written.
        DataError: a source is damaged.
    """
    for side, name in enumerate(SIDES):
        places = np.flatnonzero(sides == side)
        if len(places):
            write_rows(root / name, rows, places, {"side": name, "division": fingerprint})


def write_rows(folder: Path, rows: Sequence[PromptRow], places: NDArray[np.int64], config: Mapping[str, Any]) -> None:
    """Writes some rows of data sets of ours as one; a killed run goes on where it was.

    Args:
        folder: of the new data set.
        rows: (N) of data sets of ours.
        places: (M,) which of them.
        config: what the choice depends on.

    Raises:
        OutputError: the folder cannot be written.
        DataError: a source is damaged.
    """
    opened = {file: read_shards(file, verify=False) for file in dict.fromkeys(row.file for row in rows)}
    columns = tuple(dict.fromkeys(name for data in opened.values() for name in data.column_names))
    chosen = [(rows[row].file, rows[row].number) for row in places.tolist()]
    write_shards(folder, ShardPlan(len(chosen), columns, dict(config)), _Rows(opened, columns, chosen))


@dataclass(frozen=True)
class _Rows:
    """Copies rows of data sets."""

    opened: Mapping[str, datasets.Dataset]
    columns: tuple[str, ...]
    places: list[tuple[str, int]]

    def __call__(self, wanted: range) -> Iterator[dict[str, Any]]:
        for file, number in self.places[wanted.start : wanted.stop]:
            row = self.opened[file][number]
            yield {name: row["image"]["bytes"] if name == "image" else row.get(name) for name in self.columns}

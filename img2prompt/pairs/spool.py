"""Rows of an unfinished shard, kept as they come: what a killed run had made of it is not made again.

Each run appends batches to a file of its own in Arrow's streaming format. A batch that was cut by the end of its run is
not read; every one before it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow as pa

Row = Mapping[str, Any]


class Spool:
    """The rows of one shard that stand so far, by their numbers.

    Args:
        folder: of this shard alone; it appears with the first row and goes with `remove`.
        columns: names of the columns; `image` holds bytes or None, every other column text or None.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._folder = folder
        self._schema = pa.schema(
            [("number", pa.int64()), *((name, pa.binary() if name == "image" else pa.string()) for name in columns)]
        )
        self._file: IO[bytes] | None = None
        self._writer: Any = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The stream gets no end mark: on a full disk that would fail too, and readers do without it.
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None

    def read(self) -> dict[int, Row]:
        """The rows that stand, by number."""
        rows: dict[int, Row] = {}
        for path in sorted(self._folder.glob("*.arrows")):
            for batch in _batches(path, self._schema):
                rows |= {row["number"]: row for row in batch.to_pylist()}
        return rows

    def add(self, rows: Sequence[Row]) -> None:
        """Keeps rows; when this returns they are on the disk.

        Raises:
            OSError: as the system says.
        """
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = len(list(self._folder.glob("*.arrows")))
            self._file = (self._folder / f"{number:05d}.arrows").open("xb")
            self._writer = pa.ipc.new_stream(self._file, self._schema)
        self._writer.write_batch(pa.RecordBatch.from_pylist([dict(row) for row in rows], schema=self._schema))
        self._file.flush()
        os.fsync(self._file.fileno())

    def remove(self) -> None:
        """Forgets the rows; the shard stands."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _batches(path: Path, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The whole batches of a file whose end may be cut."""
    batches: list[pa.RecordBatch] = []
    try:
        with path.open("rb") as file, pa.ipc.open_stream(file) as stream:
            if stream.schema != schema:
                return []
            for batch in stream:
                batch.validate(full=True)
                batches.append(batch)
    except (pa.ArrowException, OSError):  # cut within its last batch, or before its first
        pass
    return batches

"""Shards whose number of rows is only known when they are written: a row group at a time, so memory stays flat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from img2prompt.errors import DataError
from img2prompt.pairs.atomic import fresh_file
from img2prompt.pairs.shards import table_of

GROUP_ROWS = 100
GROUP_BYTES = 8 << 20  # of pictures; a group ends with the row that reaches it

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A shard that stands."""

    rows: int
    bytes: int
    sha256: str


def write_rows(path: Path, rows: Iterable[Row], columns: tuple[str, ...]) -> Written:
    """Writes a shard atomically while its rows are made; the same rows always give the same bytes.

    Args:
        path: of the parquet file.
        rows: with every column; `image` is encoded bytes, every other column text or None.
        columns: their order.

    Raises:
        OSError: as the system says; no half file is left.
    """
    count = 0
    with fresh_file(path) as fresh, fresh.open("wb") as file:
        hashed = _Hashed(file)
        schema = table_of([], columns).schema
        with pq.ParquetWriter(
            hashed,
            schema,
            compression={name: "none" if name == "image" else "zstd" for name in columns},
            use_dictionary=False,
            write_statistics=[name for name in ("id",) if name in columns],
        ) as writer:
            for group in _groups(rows):
                writer.write_table(table_of(group, columns))
                count += len(group)
    return Written(count, hashed.size, hashed.digest.hexdigest())


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The rows of a shard as `write_rows` takes them.

    Raises:
        DataError: the shard is cut or damaged.
        OSError: as the system says.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(GROUP_ROWS, columns=list(columns), use_threads=False):
                for row in batch.to_pylist():
                    yield row | {"image": row["image"]["bytes"]} if "image" in row else row
    except pa.ArrowException as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); run the same command again") from None


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row["image"])
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Hashed:
    """A file that knows the SHA-256 of what was written to it; parquet files are written from front to back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    closed = False

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        self.closed = True  # the file itself belongs to whoever opened it

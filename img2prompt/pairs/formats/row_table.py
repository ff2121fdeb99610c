"""A stream of pairs as a data set with access in any order: in memory while it is small, else on a temporary file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columns import COLUMN_NAMES, Row, is_url
from img2prompt.pairs.shards import IN_MEMORY_BYTES

if TYPE_CHECKING:
    import datasets

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20  # of pictures
_SCHEMA = pa.schema(
    [
        (name, pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if name == "image" else pa.string())
        for name in COLUMN_NAMES
    ]
)


def as_dataset(rows: Iterable[Row], source: str) -> datasets.Dataset:
    """Rows of `stream_rows` as a data set of our columns; those that are empty throughout are left away.

    Raises:
        DataError: none of the pictures, which are files, is there.
    """
    import datasets

    table = _table(_batches(rows), IN_MEMORY_BYTES)
    table = table.select([name for name in table.column_names if table[name].null_count < len(table)])
    _check_files(table, source)
    features = {
        name: datasets.Image(decode=False) if name == "image" else datasets.Value("string")
        for name in table.column_names
    }
    return datasets.Dataset(
        table.replace_schema_metadata(datasets.Features(features).arrow_schema.metadata), fingerprint=None
    )


def _batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """The rows in batches of bounded size, other columns dropped."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append({name: _cell(name, row.get(name)) for name in COLUMN_NAMES})
        size += len(row["image"]["bytes"] or b"")
        if len(batch) == BATCH_ROWS or size > BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(batch, schema=_SCHEMA)
            batch, size = [], 0
    if batch:
        yield pa.RecordBatch.from_pylist(batch, schema=_SCHEMA)


def _cell(name: str, value: Any) -> Any:
    return value if name == "image" or value is None else str(value)


def _table(batches: Iterator[pa.RecordBatch], limit: int) -> pa.Table:
    """All batches as one table; on a temporary file, mapped, when they are larger than `limit` bytes."""
    kept: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        kept.append(batch)
        size += batch.nbytes
        if size > limit:
            return _mapped(chain(iter(kept), batches))
    return pa.Table.from_batches(kept, _SCHEMA)


def _mapped(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    with tempfile.NamedTemporaryFile(prefix="img2prompt-pairs-", suffix=".arrow", delete=False) as file:
        path = Path(file.name)
        try:
            with pa.ipc.new_file(file, _SCHEMA) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            file.flush()
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        finally:
            # The mapping keeps the bytes while the table lives. Windows refuses; its own cleaning takes the file.
            with contextlib.suppress(PermissionError):
                path.unlink()


def _check_files(table: pa.Table, source: str) -> None:
    """Stops when not one of the pictures exists: then the folder is wrong, not a row."""
    first = None
    for batch in table.select(["image"]).to_batches():
        image = batch.column("image")
        if image.field("bytes").null_count < len(image):
            return
        for path in image.field("path").to_pylist():
            first = first or path
            if is_url(path) or Path(path).exists():
                return
    raise DataError(f"{source}: none of the images exists; the first would be {first}")

"""Parquet files of pairs: pictures inside them, or their paths; a row group at a time, so memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columns import COLUMN_NAMES, Row, is_plain, is_url, match_columns, refuse_twins, renamed
from img2prompt.pairs.skips import Skips

BATCH_ROWS = 64  # rows that are in memory together: pictures of a megabyte stay below 100 MB
_PICTURE_NAMES = ("image", "jpg", "png", "webp", "jpeg", "img", "image_bytes", "bytes", "picture")


def parquet_rows(paths: Sequence[Path], columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of one parquet file after the other, under our names; columns as in the first one.

    A picture is bytes, a struct of bytes and path (as `datasets` writes it), or a path from the file's folder. Rows
    that img2dataset could not download are counted.

    Raises:
        DataError: a file is cut, damaged or of other columns; all files are looked at before the first row.
    """
    schemas = {path: schema_of(path) for path in paths}
    for path, schema in schemas.items():
        names = picture_columns(schema, columns, path)
        for row in _cells(path, schema):
            if row.get("status", "success") in ("failed_to_download", "failed_to_resize"):
                skips.add("NotDownloaded", row.get("url") or path, row.get("error_message") or row["status"])
                continue
            pair = renamed(row, names)
            pair["image"] = _picture(pair["image"], path)
            yield pair


def picture_columns(schema: pa.Schema, columns: Mapping[str, str], source: object) -> dict[str, str]:
    """Like `match_columns`, but columns that hold pictures come before those that may name them.

    Raises:
        DataError: a column is not there.
    """
    if "image" not in columns:
        types = {name.lower(): (name, schema.field(name).type) for name in schema.names}
        held = [n for n in _PICTURE_NAMES if n in types and holds_picture(types[n][1])]
        held += [name for name in types if holds_picture(types[name][1])]
        if held:
            columns = {**columns, "image": types[held[0]][0]}
    return match_columns(list(schema.names), columns, source)


def holds_picture(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold the bytes of pictures."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def schema_of(path: Path) -> pa.Schema:
    """The columns of a parquet file, from its footer.

    Raises:
        DataError: it is cut or no parquet file, or two columns have one name.
        OSError: as the system says.
    """
    try:
        schema = pq.read_schema(path)
        refuse_twins(schema.names, path)
        return schema
    except (pa.ArrowException, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: cut or no parquet file ({one_line(error)}); get it again, or delete it to go on without its rows"
        ) from None


def url_column(schema: pa.Schema) -> str | None:
    """The column of URLs in a table without pictures (as LAION's), if that is what it is."""
    if any(holds_picture(schema.field(name).type) for name in schema.names):
        return None
    names = {name.lower(): name for name in schema.names}
    first = next((name for name in COLUMN_NAMES["image"] if name in names), None)
    return names[first] if first is not None and first.endswith("url") else None


def _cells(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Rows as plain data, without columns that are neither pictures nor plain values nor lists of texts."""
    wanted = [name for name in schema.names if _is_wanted(schema.field(name).type)]
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged ({one_line(error)}); get it again") from None


def _is_wanted(kind: pa.DataType) -> bool:
    # Times are no plain values, and reading those outside of Python's years would end the run.
    plain = not (pa.types.is_nested(kind) or pa.types.is_temporal(kind))
    return plain or holds_picture(kind) or holds_texts(kind)


def holds_texts(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists of texts: several prompts a picture."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    return False


def _picture(cell: object, path: Path) -> object:
    """The picture of a cell as {"bytes", "path"}, a path or URL, or None."""
    if isinstance(cell, bytes):
        return {"bytes": cell, "path": None} if cell else None
    if isinstance(cell, dict):
        if cell.get("bytes"):
            return {"bytes": cell["bytes"], "path": cell.get("path")}
        cell = cell.get("path")
    if isinstance(cell, str) and cell.strip() and is_plain(cell):
        return cell.strip() if is_url(cell) else str(path.parent / cell.strip())
    return None


def one_line(error: BaseException) -> str:
    """What an error says, on one line of bounded length."""
    return " ".join(str(error).split())[:200]

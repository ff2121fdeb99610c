"""Tables of predictions: CSV, JSON lines and parquet, written whole and read back without loss."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from img2prompt.errors import OutputError
from img2prompt.pairs.atomic import fresh_file

Row = dict[str, Any]  # of Prediction.to_dict() or Failed.to_dict()

# Column -> how its text in a CSV becomes the value. Nested values are JSON in CSV and parquet.
COLUMNS: dict[str, Callable[[str], Any]] = {
    "source": str,
    "prompt": str,
    "negative_prompt": str,
    "origin": str,
    "confidence": float,
    "in_domain": lambda text: text == "true",
    "preset": str,
    "candidates": json.loads,
    "embedded": json.loads,
    "nearest": json.loads,
    "seconds": float,
    "error": str,
    "kind": str,
}
NESTED = frozenset({"candidates", "embedded", "nearest"})


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows in the format of the suffix; the name holds the old table or all of the new one.

    Raises:
        OSError: as the system says; no half table is left.
    """
    with fresh_file(path) as fresh:
        TABLES[path.suffix.lower()][0](fresh, rows)


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table that `write_table` wrote.

    Raises:
        OutputError: it is another kind of table, or cannot be read.
    """
    try:
        for row in TABLES[path.suffix.lower()][1](path):
            if not isinstance(row, dict) or not isinstance(row.get("source"), str):
                raise ValueError("no column source")
            yield row
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"{path}: is no table of predictions ({reason}); choose another name, or --overwrite replace"
        ) from error


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _write_csv(path: Path, rows: Iterable[Row]) -> None:
    # Prompts may hold commas, quotes, tabs and newlines: the csv module quotes them, and every CSV reader undoes it.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow([_text(name, row.get(name)) for name in COLUMNS])


def _text(name: str, value: Any) -> str:
    if value is None or (name in NESTED and not value):
        return ""
    if name in NESTED:
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**27)  # a workflow that a generator embedded can be long
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            # A table of an earlier version may lack a column.
            yield _full({name: read(line[name]) for name, read in COLUMNS.items() if line.get(name) not in (None, "")})


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"confidence": pa.float64(), "in_domain": pa.bool_(), "seconds": pa.float64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    rest = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rest, 1000)):
            flat = [{n: _text(n, r.get(n)) or None if n in NESTED else r.get(n) for n in COLUMNS} for r in group]
            writer.write_table(pa.Table.from_pylist(flat, schema=schema))


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    known = {name: value for name, value in row.items() if value is not None}
                    yield _full({name: json.loads(v) if name in NESTED else v for name, v in known.items()})
    except pa.ArrowException as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _full(row: Row) -> Row:
    """The row as `to_dict` gives it: absent facts are None there, and no candidates an empty list."""
    if "error" in row:
        return row
    return {"negative_prompt": None, "confidence": None, "in_domain": None, "preset": None, "embedded": None} | {
        "candidates": [],
        "nearest": [],
        "prompt": "",
        **row,
    }


# Suffix -> writer, reader.
TABLES: dict[str, tuple[Callable[[Path, Iterable[Row]], None], Callable[[Path], Iterator[Row]]]] = {
    ".csv": (_write_csv, _read_csv),
    ".jsonl": (_write_jsonl, _read_jsonl),
    ".parquet": (_write_parquet, _read_parquet),
}

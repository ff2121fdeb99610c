"""Tables of results: CSV, JSON lines and parquet, written whole and read back without loss."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from img2prompt.errors import OutputError
from img2prompt.pairs.atomic import fresh_file

Row = dict[str, Any]  # of Prediction.to_dict() or Failed.to_dict()

Reader = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a table.

    Attributes:
        what: the rows are, for messages.
        columns: name -> how its text in a CSV becomes the value. Nested values (`json.loads`) are JSON in CSV and
            parquet. Every table has `source`; rows that failed have `error` and `kind`.
        empty: what absent facts are in a row that did not fail.
    """

    what: str
    columns: Mapping[str, Reader]
    empty: Mapping[str, Any]

    def is_nested(self, name: str) -> bool:
        """Whether values of a column are JSON."""
        return self.columns[name] is json.loads

    def full(self, row: Row) -> Row:
        """The row as `to_dict` gives it."""
        return row if "error" in row else {**json.loads(json.dumps(dict(self.empty))), **row}


def truth(text: str) -> bool:
    """The reader of a column of true and false."""
    return text == "true"


PREDICTIONS = Layout(
    "predictions",
    {
        "source": str,
        "prompt": str,
        "negative_prompt": str,
        "origin": str,
        "confidence": float,
        "in_domain": truth,
        "preset": str,
        "candidates": json.loads,
        "embedded": json.loads,
        "nearest": json.loads,
        "seconds": float,
        "error": str,
        "kind": str,
    },
    {"negative_prompt": None, "confidence": None, "in_domain": None, "preset": None, "embedded": None}
    | {"candidates": [], "nearest": [], "prompt": ""},
)


def write_table(path: Path, rows: Iterable[Row], layout: Layout = PREDICTIONS) -> None:
    """Writes rows in the format of the suffix; the name holds the old table or all of the new one.

    Raises:
        OSError: as the system says; no half table is left.
    """
    with fresh_file(path) as fresh:
        TABLES[path.suffix.lower()][0](fresh, rows, layout)


def read_table(path: Path, layout: Layout = PREDICTIONS) -> Iterator[Row]:
    """The rows of a table that `write_table` wrote.

    Raises:
        OutputError: it is another kind of table, or cannot be read.
    """
    try:
        for row in TABLES[path.suffix.lower()][1](path, layout):
            if not isinstance(row, dict) or not isinstance(row.get("source"), str):
                raise ValueError("no column source")
            yield row
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(
            f"{path}: is no table of {layout.what} ({reason}); choose another name, or --overwrite replace"
        ) from error


def _write_jsonl(path: Path, rows: Iterable[Row], layout: Layout) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_jsonl(path: Path, layout: Layout) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _write_csv(path: Path, rows: Iterable[Row], layout: Layout) -> None:
    # Prompts may hold commas, quotes, tabs and newlines: the csv module quotes them, and every CSV reader undoes it.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(layout.columns)
        for row in rows:
            writer.writerow([_text(row.get(name), nested=layout.is_nested(name)) for name in layout.columns])


def _text(value: Any, *, nested: bool) -> str:
    if value is None or (nested and not value):
        return ""
    if nested:
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_csv(path: Path, layout: Layout) -> Iterator[Row]:
    csv.field_size_limit(2**27)  # a workflow that a generator embedded can be long
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            # A table of an earlier version may lack a column.
            told = {name: read(line[name]) for name, read in layout.columns.items() if line.get(name) not in (None, "")}
            yield layout.full(told)


def _write_parquet(path: Path, rows: Iterable[Row], layout: Layout) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {float: pa.float64(), int: pa.int64(), truth: pa.bool_()}
    nested = {name for name in layout.columns if layout.is_nested(name)}
    schema = pa.schema([(name, kinds.get(read, pa.string())) for name, read in layout.columns.items()])
    rest = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rest, 1000)):
            flat = [{n: _cell(r.get(n), nested=n in nested) for n in layout.columns} for r in group]
            writer.write_table(pa.Table.from_pylist(flat, schema=schema))


def _cell(value: Any, *, nested: bool) -> Any:
    return (_text(value, nested=True) or None) if nested else value


def _read_parquet(path: Path, layout: Layout) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    known = {name: value for name, value in row.items() if value is not None and name in layout.columns}
                    yield layout.full({n: json.loads(v) if layout.is_nested(n) else v for n, v in known.items()})
    except pa.ArrowException as error:
        raise ValueError(str(error).splitlines()[0]) from error


# Suffix -> writer, reader.
TABLES: dict[str, tuple[Callable[[Path, Iterable[Row], Layout], None], Callable[[Path, Layout], Iterator[Row]]]] = {
    ".csv": (_write_csv, _read_csv),
    ".jsonl": (_write_jsonl, _read_jsonl),
    ".parquet": (_write_parquet, _read_parquet),
}

"""The prompts of any source, without its pictures: all that dividing and comparing prompts needs.

| what is given                               | how its prompts are read                                        |
| ------------------------------------------- | --------------------------------------------------------------- |
| .txt                                        | one a line                                                      |
| .csv, .tsv, .jsonl, .json, .parquet         | a column, found by its name; no column of images is needed      |
| .txt.gz, .csv.gz, ...                       | likewise, unpacked                                              |
| folder with manifest.json                   | our shards, their text columns only                             |
| folder with metadata.jsonl, metadata.csv... | that table                                                      |
| any other source of pairs                   | as `stream_rows` reads it                                       |
"""

from __future__ import annotations

import hashlib
import itertools
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columnar import holds_texts, schema_of
from img2prompt.pairs.formats.columns import COLUMN_NAMES, peek, texts_of
from img2prompt.pairs.formats.hub_sets import hub_name
from img2prompt.pairs.formats.tables import READERS, TABLES_OF_FOLDERS, TableReader
from img2prompt.pairs.formats.texts import is_text, read_lines
from img2prompt.pairs.manifest import check_shard, read_manifest
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sources import stream_rows

Row = dict[str, Any]

HASHED = "blake2b:"  # begins the name of a picture that lies inside a shard
_BATCH_ROWS = 4096  # of a parquet file
_BATCH_PICTURES = 64
_KNOWN = ("prompt", "id", "image", "source")


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt and where it comes from.

    Attributes:
        prompt: not empty.
        file: the file or folder that was read.
        number: of the row there, from 0.
        id: the row's own, or None.
        image: path or URL of its picture as the source writes it, `HASHED` and a hash of its bytes, or None.
        source: what our shards say of the row's origin; of other files, `file`.
        extra: the columns that were asked for; None where the row has no value.
    """

    prompt: str
    file: str
    number: int
    id: str | None
    image: str | None
    source: str
    extra: Mapping[str, str | None] = field(default_factory=dict)


def read_prompts(
    source: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    *,
    extra: Sequence[str] = (),
    pictures: bool = False,
    skips: Skips,
) -> Iterator[PromptRow]:
    """The prompts of a source, row by row; memory does not grow with it.

    Args:
        source: a file or folder, see the table above.
        columns: the source's names of `prompt`, `id`, `image` and `source`, where they are not found by themselves.
        extra: other columns that are wanted, by the source's names.
        pictures: name the pictures inside our shards by their bytes, which have to be read for it.
        skips: counts the rows that have no prompt or cannot be read.

    Raises:
        DataError: nothing that can be read, or a column is missing; the message says what was found.
    """
    place = os.fspath(source)
    try:
        unnamed, ours = _rows(source, columns or {}, skips, pictures)
        found, rows = peek(unnamed)
        if not found:
            raise DataError(f"{place}: no rows")
        names = _names(found, columns or {}, extra, place, ours=ours)
        for number, row in enumerate(rows):
            cells = {name: _text(row.get(theirs)) for name, theirs in names.items()}
            more = {name: cells[name] for name in extra}
            for cell in texts_of(row.get(names["prompt"])):
                prompt = _text(cell) if isinstance(cell, str) else None  # as for pairs: a number is no prompt
                if prompt is None or not is_text(prompt):
                    kind, reason = ("NoPrompt", "has no prompt") if prompt is None else ("NotText", "is in no encoding")
                    skips.add(kind, f"{place}, row {number}", reason)
                    continue
                yield PromptRow(
                    prompt, place, number, cells.get("id"), cells.get("image"), cells.get("source") or place, more
                )
    except (EOFError, zlib.error):
        raise DataError(f"{place}: the packed file is cut or damaged; get it again") from None
    except OSError as error:
        raise DataError(f"{error.filename or place}: {error.strerror or error}") from error


def _rows(
    source: str | os.PathLike[str], given: Mapping[str, str], skips: Skips, pictures: bool
) -> tuple[Iterator[Row], frozenset[str]]:
    """The rows of a source, and which of their columns have our names whatever the source calls them."""
    path = Path(source)
    if hub_name(source) is None and not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if is_shards(path):
        return _read_shards(path, skips, pictures), frozenset({"source"} - given.keys())
    tables = (path / name for name in TABLES_OF_FOLDERS) if path.is_dir() else [path]
    table = next((table for table in tables if table.exists()), path)
    reader = READERS_OF_TEXT.get(Path(table.name.removesuffix(".gz")).suffix.lower())
    if reader is not None and not _is_object(table):
        return reader(table, skips), frozenset()
    pairs = stream_rows(source, given, skips=skips)
    return ({**row, "image": row["image"]["path"]} for row in pairs), frozenset(_KNOWN)


def _is_object(table: Path) -> bool:
    """Whether a JSON file is one object: a format of pairs, not a table."""
    return table.suffix.lower() == ".json" and next(read_lines(table), "").lstrip().startswith("{")


def is_shards(path: Path) -> bool:
    """Whether a folder is a data set of ours, finished or not."""
    return (path / "manifest.json").exists() or (path / "config.json").exists()


def _names(
    found: list[str], given: Mapping[str, str], extra: Sequence[str], place: str, *, ours: frozenset[str]
) -> dict[str, str]:
    """Our column names, and the wanted ones, with the source's names for them."""
    if "side" in found and "source" not in given:
        ours |= {"source"}  # an assignment of ours; other tables mean other things by it
    folded = {str(name).strip().lower(): name for name in reversed(found)}
    names: dict[str, str] = {}
    for name in (*_KNOWN, *extra):
        asked = name in extra or (name in given and name not in ours)
        likely = (name,) if name in ours or name in extra else (given[name],) if asked else COLUMN_NAMES[name]
        match = next((folded[word.strip().lower()] for word in likely if word.strip().lower() in folded), None)
        if match is not None:
            names[name] = match
        elif asked or name == "prompt":
            missing = repr(likely[0]) if asked else "for prompts"
            raise DataError(f"{place}: no column {missing}; found: {', '.join(map(str, found)) or 'none'}")
    return names


def folded(text: str) -> str:
    """The text without what no reader would call another prompt: letter case, and how wide white space is."""
    return " ".join(text.split()).casefold()


def _text(value: Any) -> str | None:
    """A value of a cell as text; None where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    return str(value).strip() or None


def _read_txt(path: Path, skips: Skips) -> Iterator[Row]:
    for line in read_lines(path):
        if line.strip():
            yield {"prompt": line}


def _read_shards(folder: Path, skips: Skips, pictures: bool) -> Iterator[Row]:
    for shard in read_manifest(folder)["shards"]:
        path = folder / shard["file"]
        check_shard(path, shard, verify=False)
        rows = _read_parquet(path, skips)
        yield from (row | {"image": key} for row, key in zip(rows, _hashes(path), strict=True)) if pictures else rows


def _hashes(path: Path) -> Iterator[str | None]:
    """What tells the pictures of a shard from others."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if "image" not in file.schema_arrow.names:
            yield from itertools.repeat(None, file.metadata.num_rows)
            return
        for batch in file.iter_batches(_BATCH_PICTURES, columns=["image.bytes"]):
            for picture in batch.column(0).field("bytes"):
                data = picture.as_buffer()
                yield None if data is None else HASHED + hashlib.blake2b(data, digest_size=16).hexdigest()


def _read_parquet(path: Path, skips: Skips) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [column.name for column in schema_of(path) if _is_cell(column.type)]
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=texts):
                yield from batch.to_pylist()
    except (pa.ArrowException, OverflowError, ValueError) as error:  # a year beyond 9999 is an OverflowError
        raise DataError(f"{path}: {' '.join(str(error).split())}; get or make it again") from error


def _is_cell(kind: Any) -> bool:
    """Whether an Arrow type is text, a list of texts or a number, not a picture."""
    import pyarrow.types as types

    return holds_texts(kind) or not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


READERS_OF_TEXT: dict[str, TableReader] = {**READERS, ".txt": _read_txt, ".parquet": _read_parquet}

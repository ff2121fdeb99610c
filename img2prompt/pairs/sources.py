"""Prompt-image pairs in the formats people have, opened as one kind of data set.

| what is given                                         | how its pairs are read                          |
| ----------------------------------------------------- | ----------------------------------------------- |
| folder with manifest.json                             | our shards                                      |
| .csv, .tsv, .jsonl                                    | a column of images (paths from the table's      |
|                                                       | folder, or URLs), a column of prompts           |
| folder with metadata.jsonl, metadata.csv or pairs.csv | that table                                      |
| folder of images                                      | a .txt beside each image                        |
"""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import DataError
from img2prompt.pairs.shards import read_shards
from img2prompt.pairs.sniffing import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

COLUMN_NAMES: dict[str, tuple[str, ...]] = {  # our column -> what tables call it, the likelier first
    "image": ("image", "image_path", "filepath", "file_path", "path", "file_name", "filename", "file", "img", "url"),
    "prompt": ("prompt", "caption", "text", "title", "description"),
    "scene": ("scene",),
    "id": ("id", "imgid"),
}
OPTIONAL = frozenset({"scene", "id"})
TABLES_OF_FOLDERS = ("metadata.jsonl", "metadata.csv", "pairs.csv")
CELL_LIMIT = 1 << 24  # characters of one CSV cell; a missing closing quote reads the rest of the file as one

Row = Mapping[str, Any]


def open_pairs(
    source: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    *,
    on_left_out: Callable[[int], None] | None = None,
) -> datasets.Dataset:
    """Opens prompt-image pairs.

    Args:
        source: a file or folder, see the table above.
        columns: the names that the source uses where they are not found by themselves, e.g.
            `{"image": "jpg_file", "prompt": "caption_en"}`.
        on_left_out: called with the number of rows of a table or folder that were left out, if any.

    Returns:
        A data set with `image` ({"bytes", "path"}, one of them None; for `open_image`), `prompt`, and `scene` and `id`
        where they are. Shards keep their other columns. Rows without image or prompt are left out and counted in the
        log.

    Raises:
        DataError: nothing that can be read as pairs, or a column is missing; the message says what was found.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    try:
        if path.is_dir() and ((path / "manifest.json").exists() or (path / "config.json").exists()):
            return _renamed(read_shards(path), columns or {}, path)
        table = path if path.is_file() else next((path / t for t in TABLES_OF_FOLDERS if (path / t).exists()), None)
        if table is None:
            return _dataset(_sidecars(path), path, on_left_out)
        reader = READERS.get(table.suffix.lower())
        if reader is None:
            raise DataError(f"{path}: not a table of pairs; give a folder or one of {', '.join(READERS)}")
        return _dataset(_from_table(reader(table), table, columns or {}), table, on_left_out)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}") from error


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(CELL_LIMIT)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        # Tables called .csv with tabs or semicolons are common; the header tells.
        delimiter = max(",\t;|", key=header.count)
        reader = csv.DictReader(file, delimiter=delimiter, restkey="", strict=True)
        try:
            yield from reader
        except csv.Error as error:
            raise DataError(f"{path}: after line {reader.line_num}: {error}; repair or drop this line") from error


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number}: not JSON ({error}); repair or drop this line") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number}: a JSON object is needed, e.g. {{'image': ..., 'prompt': ...}}")
            yield row


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
}


def _from_table(rows: Iterator[Row], table: Path, given: Mapping[str, str]) -> Iterator[Row]:
    """The rows under our names, with image paths that hold from anywhere."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"{table}: no rows")
    names = match_columns(list(first), given, table)
    for row in itertools.chain([first], rows):
        pair = {ours: row.get(theirs) for ours, theirs in names.items()}
        image = pair["image"]
        if isinstance(image, str) and image.strip() and not image.startswith(("http://", "https://")):
            pair["image"] = str(table.parent / image.strip())
        yield pair


def match_columns(found: list[str], given: Mapping[str, str], source: Path) -> dict[str, str]:
    """Our column names and the source's names for them.

    Raises:
        DataError: a column is not there; the message lists those that are.
    """
    unknown = sorted(set(given) - set(COLUMN_NAMES))
    if unknown:
        raise DataError(f"{source}: there is no column {unknown[0]!r} to name; choose from {', '.join(COLUMN_NAMES)}")
    folded = {str(name).strip().lower(): name for name in reversed(found)}
    names: dict[str, str] = {}
    for ours, likely in COLUMN_NAMES.items():
        wanted = [given[ours]] if ours in given else list(likely)
        match = next((folded[name.strip().lower()] for name in wanted if name.strip().lower() in folded), None)
        if match is not None:
            names[ours] = match
        elif ours in given or ours not in OPTIONAL:
            missing = repr(given[ours]) if ours in given else f"for {ours}s"
            raise DataError(f"{source}: no column {missing}; found: {', '.join(map(str, found)) or 'none'}")
    return names


def _sidecars(folder: Path) -> Iterator[Row]:
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"{folder}: no images, and none of {', '.join(('manifest.json', *TABLES_OF_FOLDERS))}")
    for image in images:
        text = image.with_suffix(".txt")
        yield {"image": str(image), "prompt": text.read_text(encoding="utf-8-sig") if text.is_file() else None}


def _dataset(rows: Iterable[Row], source: Path, on_left_out: Callable[[int], None] | None) -> datasets.Dataset:
    """Complete rows as a data set; the others are counted."""
    import datasets

    columns: dict[str, list[Any]] = {"image": [], "prompt": []}
    left_out = 0
    for row in rows:
        image, prompt = row["image"], row["prompt"]
        if not (isinstance(image, str) and image.strip() and isinstance(prompt, str) and prompt.strip()):
            left_out += 1
            continue
        columns["image"].append({"bytes": None, "path": image})
        columns["prompt"].append(prompt.strip())
        for name in OPTIONAL & row.keys():
            columns.setdefault(name, []).append(None if row[name] is None else str(row[name]))
    images = [image["path"] for image in columns["image"]]
    if not images:
        raise DataError(f"{source}: none of {left_out} rows has an image and a prompt (a .txt beside it, or a column)")
    if not any(path.startswith("http") or Path(path).exists() for path in images):
        raise DataError(f"{source}: none of the images exists; the first would be {images[0]}")
    if left_out:
        logger.warning("%s: %d of %d rows left out, without image or prompt", source, left_out, left_out + len(images))
        if on_left_out is not None:
            on_left_out(left_out)
    features = {name: datasets.Image(decode=False) if name == "image" else datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def _renamed(data: datasets.Dataset, given: Mapping[str, str], source: Path) -> datasets.Dataset:
    """Shards with other columns in the places of ours, e.g. the long prompts as `prompt`."""
    names = match_columns(list(data.column_names), given, source)
    for ours, theirs in names.items():
        if ours != theirs:
            column, feature = data[theirs], data.features[theirs]
            data = data.remove_columns([ours] if ours in data.column_names else [])
            data = data.add_column(ours, list(column), feature=feature)
    return data

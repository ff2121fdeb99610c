"""Tables of pairs in text files: CSV with any delimiter, JSON lines, a JSON array of objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columns import COLUMN_NAMES, Row, is_url, match_columns, peek, refuse_twins, renamed
from img2prompt.pairs.formats.json_stream import json_items
from img2prompt.pairs.formats.texts import read_lines
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sniffing import IMAGE_SUFFIXES

CELL_LIMIT = 1 << 24  # characters of one CSV cell; a missing closing quote reads the rest of the file as one
TABLES_OF_FOLDERS = ("metadata.jsonl", "metadata.csv", "pairs.csv", "prompts.csv")
_ID_NAMES = ("imgid", "image_id", "imageid", "id")  # columns of file names without their ending
_ID_FOLDERS = ("", "images", "image", "imgs", "train", "train_images")
_ID_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def table_rows(table: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of a table under our names, with image paths that hold from anywhere.

    Images are paths from the table's folder, URLs, or, where there is no such column, ids: the names of files beside
    the table or in its folder `images`, without their endings (as in Kaggle's competitions).

    Raises:
        DataError: no rows, a column is missing, or the file cannot be read as a table.
    """
    found, rows = peek(READERS[table.suffix.lower()](table, skips))
    if not found:
        first = next((row for kind in skips.examples.values() for row in kind), None)
        raise DataError(f"{table}: no rows" + (f"; {first.source}: {first.error}" if first else ""))
    names, ids = _names(found, columns, table)
    pictures = _Named(table.parent)
    for row in rows:
        pair = renamed(row, names)
        image = pair["image"]
        if isinstance(image, str) and image.strip() and not is_url(image):
            image = image.strip()
            pair["image"] = pictures.path(image) if ids else str(table.parent / image)
            if ids:
                pair.setdefault("id", image)
        yield pair


def _names(found: list[str], given: Mapping[str, str], table: Path) -> tuple[dict[str, str], bool]:
    """The names of the columns, and whether that of the images holds ids."""
    try:
        return match_columns(found, given, table), False
    except DataError:
        ids = next((name for known in _ID_NAMES for name in found if str(name).strip().lower() == known), None)
        if "image" in given or ids is None:
            raise
    names = match_columns(found, {**given, "image": ids}, table)
    return {ours: theirs for ours, theirs in names.items() if ours == "image" or theirs != ids}, True


class _Named:
    """Finds pictures by names without endings; where the last one was comes first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = [(place, suffix) for place in _ID_FOLDERS for suffix in _ID_SUFFIXES]

    def path(self, name: str) -> str:
        """The path of the picture; of a picture that is not there, where the last one was."""
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return str(self._folder / name)
        for at, (place, suffix) in enumerate(self._places):
            path = self._folder / place / f"{name}{suffix}"
            if path.exists():
                self._places.insert(0, self._places.pop(at))
                return str(path)
        place, suffix = self._places[0]
        return str(self._folder / place / f"{name}{suffix}")


def read_csv(path: Path, skips: Skips) -> Iterator[Row]:
    """The rows of a CSV file by the names in its first line; damaged ones are counted.

    Raises:
        DataError: a quote is never closed, which would swallow all that follows, or two columns have one name.
    """
    csv.field_size_limit(CELL_LIMIT)
    # Tables called .csv with tabs or semicolons are common; the header tells.
    delimiter = max(",\t;|", key=first_line(path).count)
    last = [""]
    reader = csv.reader(_noted(read_lines(path), last), delimiter=delimiter, strict=True)
    names: list[str] = []
    while True:
        before = reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise DataError(
                    f"{path}: after line {before}: {error}: a quote is never closed; repair this line"
                ) from error
            # A line whose cells only begin with a quoted word is whole all the same: tab-separated tables do not quote.
            cells = last[0].rstrip("\r\n").split(delimiter)
            if reader.line_num != before + 1 or len(cells) != len(names):
                skips.add("BadRow", f"{path}, after line {before}", f"{error}; repair this line")
                continue
        if cells is None:
            return
        if not names:
            names = cells
            refuse_twins([name for name in names if name.strip()], path)
        elif any(cell.strip() for cell in cells[len(names) :]):  # most often a prompt with commas, which would be cut
            reason = f"has {len(cells)} cells under {len(names)} names; put quotes around what holds {delimiter!r}"
            skips.add("BadRow", f"{path}, after line {before}", reason)
        elif cells:
            yield dict(zip_longest(names, cells[: len(names)]))


def _noted(lines: Iterator[str], last: list[str]) -> Iterator[str]:
    """The lines; the one that was given last stands in `last`."""
    for line in lines:
        last[0] = line
        yield line


def first_line(path: Path) -> str:
    """The first line of a text file without its end; "" of an empty one."""
    return next(read_lines(path), "").strip("\r\n")


def _read_jsonl(path: Path, skips: Skips) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            skips.add("BadRow", f"{path}, line {number}", f"not JSON ({error}); repair or drop this line")
            continue
        if isinstance(row, dict):
            yield row
        else:
            skips.add("BadRow", f"{path}, line {number}", "a JSON object is needed, e.g. {'image': ..., 'prompt': ...}")


def _read_json(path: Path, skips: Skips) -> Iterator[Row]:
    for number, (key, item) in enumerate(json_items(path), 1):
        if key is not None:
            raise DataError(f"{path}: a JSON array of objects is needed, or the captions of COCO; found: {key!r}")
        if isinstance(item, dict):
            yield item
        else:
            skips.add("BadRow", f"{path}, item {number}", "a JSON object is needed, e.g. {'image': ..., 'prompt': ...}")


TableReader = Callable[[Path, Skips], Iterator[dict[str, Any]]]

READERS: dict[str, TableReader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
}


def is_headless(path: Path) -> bool:
    """Whether a table's first line is a row with a URL already, as in CC3M and CC12M."""
    cells = [cell.strip() for cell in first_line(path).split("\t")]
    known = {name for names in COLUMN_NAMES.values() for name in names}
    return len(cells) == 2 and any(map(is_url, cells)) and not known & {cell.lower() for cell in cells}

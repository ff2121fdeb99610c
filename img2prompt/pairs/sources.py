"""Prompt-image pairs in any of FORMATS, opened as one kind of data set or read as one kind of stream."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columns import COLUMN_NAMES, OPTIONAL, Row, is_url, match_columns, texts_of
from img2prompt.pairs.formats.folders import is_shards
from img2prompt.pairs.formats.hub_sets import hub_name, hub_rows
from img2prompt.pairs.formats.row_table import as_dataset
from img2prompt.pairs.formats.rows import FORMATS, Format, find_format
from img2prompt.pairs.formats.tables import TABLES_OF_FOLDERS
from img2prompt.pairs.formats.texts import is_text
from img2prompt.pairs.formats.url_tables import advice
from img2prompt.pairs.shards import read_shards
from img2prompt.pairs.skips import Skips

if TYPE_CHECKING:
    import datasets

__all__ = ["COLUMN_NAMES", "FORMATS", "OPTIONAL", "Format", "find_format", "match_columns", "open_pairs", "stream_rows"]

logger = logging.getLogger(__name__)

Source: TypeAlias = "str | os.PathLike[str]"
_COMMON_FOLDERS = frozenset({"images", "image", "imgs", "data", "train", "output", "outputs"})  # names that say little


def stream_rows(source: Source, columns: Mapping[str, str] | None = None, *, skips: Skips) -> Iterator[Row]:
    """Reads the pairs of a source one by one, always in the same order; memory does not grow with them.

    Args:
        source: a file or folder in one of FORMATS, or a data set of the Hugging Face hub as `hf:owner/name`,
            `hf:owner/name:config@split`, or `owner/name` where no such path exists (in text, never in a Path).
        columns: the names that the source uses where they are not found by themselves, e.g.
            `{"image": "jpg_file", "prompt": "caption_en"}`.
        skips: counts what is left out.

    Yields:
        `image` ({"bytes", "path"}: bytes where they lie inside something, else None and a path or URL), `prompt`,
        `source` (the data set's name), `id` and `scene` where the source has them, and its other columns of plain
        values. A picture with a list of prompts gives a row for each. Pictures have not been looked at.

    Raises:
        DataError: nothing that can be read as pairs, or a column is missing; the message says what was found.
    """
    hub, place = hub_name(source), os.fspath(source)
    given, before, count = columns or {}, skips.total, 0
    try:
        label = label_of(source)
        if hub is not None:
            rows = hub_rows(hub, given, skips)
        else:
            rows = find_format(Path(source)).rows(Path(source), given, skips)
        for number, row in enumerate(rows, 1):
            for pair in _pairs(row, label, f"{place}, row {number}", skips):
                if count == 0 and hub is None and is_url(pair["image"]["path"]):
                    logger.warning(advice(Path(source), given))
                count += 1
                yield pair
    except UnicodeDecodeError:
        raise DataError(f"{place}: not text in a known encoding; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{error.filename or place}: {error.strerror or error}") from error
    if count == 0:
        raise DataError(_nothing(place, skips.total - before, skips))


def open_pairs(
    source: Source,
    columns: Mapping[str, str] | None = None,
    *,
    on_left_out: Callable[[int], None] | None = None,
) -> datasets.Dataset:
    """Opens prompt-image pairs for access in any order.

    Args:
        source: as for `stream_rows`.
        columns: likewise.
        on_left_out: called with the number of rows that were left out, if any.

    Returns:
        A data set with `image` ({"bytes", "path"}, one of them None where the picture is a file; for `open_image`),
        `prompt`, `source`, and `scene` and `id` where they are. Shards keep their other columns. Up to 1 GB it is in
        memory, beyond that in a temporary file. What was left out is counted in the log.

    Raises:
        DataError: nothing that can be read as pairs, or a column is missing; the message says what was found.
    """
    path = Path(source)
    try:
        ours = hub_name(source) is None and is_shards(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    if ours:
        return _with_source(_renamed(read_shards(path), columns or {}, path), label_of(source))
    skips = Skips()
    data = as_dataset(stream_rows(source, columns, skips=skips), os.fspath(source))
    if skips:
        logger.warning(
            "%s: %d of %d rows left out: %s", source, skips.total, skips.total + len(data), " | ".join(skips.lines())
        )
        if on_left_out is not None:
            on_left_out(skips.total)
    return data


def label_of(source: Source) -> str:
    """What the rows of a source name as their `source`: the data set on the hub, the folder, or the table."""
    hub = hub_name(source)
    if hub is not None:
        return hub.name
    path = Path(source).absolute()
    if path.is_file() and path.name not in TABLES_OF_FOLDERS and path.stem != "metadata":
        return path.stem
    folder = path if path.is_dir() else path.parent
    return f"{folder.parent.name}/{folder.name}" if folder.name in _COMMON_FOLDERS else folder.name


def _pairs(row: Row, label: str, place: str, skips: Skips) -> Iterator[Row]:
    """The complete pairs of a row, in text that can be written; others are counted."""
    image = _image(row["image"])
    if image is None:
        skips.add("NoImage", place, "has no picture")
        return
    name = image["path"] or place
    if not is_text(name):
        skips.add("NotText", place, "the name of its picture is in an unknown encoding; save the table as UTF-8")
        return
    rest = {key: _plain(value) for key, value in row.items() if key not in ("image", "prompt", "source", "id")}
    for number, prompt in enumerate(texts_of(row["prompt"])):
        if not isinstance(prompt, str) or not prompt.strip():
            skips.add("NoPrompt", name, "has no prompt")
        elif not is_text(prompt):
            skips.add("NotText", name, "its prompt is in an unknown encoding or holds half a character; use UTF-8")
        else:
            pair: Row = {"image": image, "prompt": prompt.strip(), "source": str(_plain(row.get("source")) or label)}
            if row.get("id") is not None:
                pair["id"] = f"{_plain(row['id'])}#{number}" if number else str(_plain(row["id"]))
            yield pair | rest


def _image(cell: Any) -> dict[str, Any] | None:
    if isinstance(cell, str) and cell.strip():
        return {"bytes": None, "path": cell.strip() if is_url(cell) else cell}
    if isinstance(cell, dict):  # whatever JSON holds may stand in it
        data, path = cell.get("bytes") or None, cell.get("path") or None
        if (data or path) and isinstance(data, bytes | None) and isinstance(path, str | None):
            return {"bytes": data, "path": path}
    return None


def _plain(value: Any) -> Any:
    """A value that can be written: half characters become question marks."""
    return value if not isinstance(value, str) or is_text(value) else value.encode("utf-8", "replace").decode()


def _nothing(place: str, left_out: int, skips: Skips) -> str:
    """Why a source gave no pair."""
    if not left_out:
        return f"{place}: no rows"
    first = next(skips.lines(), "")
    return f"{place}: none of {left_out} rows has an image and a prompt (a .txt beside it, or a column): {first}"


def _renamed(data: datasets.Dataset, given: Mapping[str, str], source: Path) -> datasets.Dataset:
    """Shards with other columns in the places of ours, e.g. the long prompts as `prompt`."""
    names = match_columns(list(data.column_names), given, source)
    for ours, theirs in names.items():
        if ours != theirs:
            column, feature = data[theirs], data.features[theirs]
            data = data.remove_columns([ours] if ours in data.column_names else [])
            data = data.add_column(ours, list(column), feature=feature)
    return data


def _with_source(data: datasets.Dataset, label: str) -> datasets.Dataset:
    if "source" in data.column_names:
        return data
    return data.add_column("source", [label] * len(data))

"""What tables call the columns that we need, and how a row of theirs becomes a row of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.skips import Skips

COLUMN_NAMES: dict[str, tuple[str, ...]] = {  # our column -> what tables call it, the likelier first
    "image": (
        *("image", "image_path", "filepath", "file_path", "path", "file_name", "filename", "file", "img"),
        *("url", "image_url", "img_url"),
    ),
    "prompt": ("prompt", "caption", "text", "title", "description"),
    "scene": ("scene",),
    "id": ("id", "imgid"),
    "source": (),  # only when it is given: tables use this name for a page, a licence, or another picture
}
OPTIONAL = frozenset({"scene", "id", "source"})
PEEKED_ROWS = 100  # rows whose columns are looked at together: JSON leaves out what is empty

Row = dict[str, Any]
RowReader = Callable[[Path, Mapping[str, str], Skips], Iterator[Row]]


def match_columns(found: list[str], given: Mapping[str, str], source: object) -> dict[str, str]:
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


def refuse_twins(found: list[str], source: object) -> None:
    """Two columns of one name cannot both be read: which one is meant must not be guessed.

    Raises:
        DataError: there are such.
    """
    twin = next((name for name in found if found.count(name) > 1), None)
    if twin is not None:
        raise DataError(f"{source}: two columns are called {twin!r}; rename one of them")


def peek(rows: Iterator[Row], count: int = PEEKED_ROWS) -> tuple[list[str], Iterator[Row]]:
    """The columns of the first rows, in their order, and all rows."""
    first = list(islice(rows, count))
    return list(dict.fromkeys(name for row in first for name in row)), chain(first, rows)


def is_url(value: object) -> bool:
    """Whether a cell names a picture on the web."""
    return isinstance(value, str) and value.lstrip()[:8].lower().startswith(("http://", "https://"))


def renamed(row: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """A row under our names; its other columns stay when they are plain values.

    A column that is in the way of one of ours is kept as `table_<name>`: tables call many things "source".
    """
    used = set(names.values())
    ours = {our: row.get(their) for our, their in names.items()}
    for name, value in row.items():
        if name in used or not name or not is_plain(value):
            continue
        ours[f"table_{name}" if name in COLUMN_NAMES else str(name)] = value
    return ours


def is_plain(value: object) -> bool:
    """Whether a value is text, a number or nothing, which is all that our rows hold beside the picture."""
    return value is None or isinstance(value, str | int | float)


def texts_of(prompt: object) -> Iterable[object]:
    """The prompts of one cell: data sets with several captions a picture hold lists of them."""
    return prompt if isinstance(prompt, list) and prompt else [prompt]

"""Folders of pictures whose prompts lie beside them or inside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from img2prompt.errors import DataError, Img2PromptError
from img2prompt.pairs.embedded.values import parse_object
from img2prompt.pairs.formats.columns import COLUMN_NAMES, Row, is_plain
from img2prompt.pairs.formats.texts import read_text
from img2prompt.pairs.metadata import read_prompt
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sniffing import IMAGE_SUFFIXES

TEXT_SUFFIXES = (".txt", ".caption")


def picture_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """A row a picture, in the order of their paths, folders below included.

    The prompt is the .txt (or .caption) beside it, else a value of the .json beside it (as img2dataset writes), else
    what its generator left inside. `columns` may name keys of the JSON.
    """
    for path in walk(folder, skips, lambda name: suffix_of(name) in IMAGE_SUFFIXES):
        row: Row = {"image": path, "prompt": None}
        try:
            beside = _beside(Path(path), columns)
            row |= beside if beside.get("prompt") else {**beside, **_inside(path)}
        except FileNotFoundError:
            skips.add("Vanished", path, "was there when its folder was listed, and is not any more")
            continue
        except (Img2PromptError, OSError) as error:
            skips.add(type(error).__name__, path, _reason(error, path))
            continue
        yield row


def walk(folder: Path, skips: Skips, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Paths of the files below a folder whose names are wanted, sorted by the names of folders and files.

    Folders are listed one at a time as they are reached, so memory holds the names of a few. Hidden ones are passed
    over, links to folders are not followed. A folder that cannot be listed (any more) is counted.

    Raises:
        DataError: the first folder cannot be listed.
    """
    yield from _walk(str(folder), skips, wanted, first=True)


def _walk(folder: str, skips: Skips, wanted: Callable[[str], bool], first: bool = False) -> Iterator[str]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in listing if not e.name.startswith("."))
    except OSError as error:
        if first:
            raise DataError(f"{folder}: {error.strerror or error}") from error
        skips.add("FolderUnreadable", folder, f"{error.strerror or error}; its pictures are left out")
        return
    for name, is_folder in entries:
        path = f"{folder.rstrip(os.sep)}{os.sep}{name}"
        if is_folder:
            yield from _walk(path, skips, wanted)
        elif wanted(name):
            yield path


def suffix_of(name: str) -> str:
    """The ending of a file's name in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # a hundred thousand names a second matter here


def _beside(image: Path, columns: Mapping[str, str]) -> Row:
    """What lies beside a picture; empty when nothing does."""
    row: Row = {}
    values = _json_beside(image)
    if values:
        likely = [columns["prompt"]] if "prompt" in columns else COLUMN_NAMES["prompt"]
        row["prompt"] = next((values[name] for name in likely if name in values), None)
        plain = {name: value for name, value in values.items() if is_plain(value) and name not in likely}
        row |= {f"table_{name}" if name in COLUMN_NAMES else name: value for name, value in plain.items()}
    for suffix in TEXT_SUFFIXES if "prompt" not in columns else ():
        try:
            return {**row, "prompt": read_text(image.with_suffix(suffix))}
        except (FileNotFoundError, IsADirectoryError):
            continue
    return row


def _json_beside(image: Path) -> Row | None:
    try:
        return parse_object(read_text(image.with_suffix(".json")))
    except (FileNotFoundError, IsADirectoryError):
        return None


def _inside(path: str) -> Row:
    """What the generator left inside a picture; empty when nothing."""
    found = read_prompt(Path(path))
    return {name: value for name, value in asdict(found).items() if value is not None} if found is not None else {}


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).removeprefix(f"{path}: ")

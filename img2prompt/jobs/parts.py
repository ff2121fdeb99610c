"""Long work in parts: arrays that are written as they are made, so that a killed run loses one part at most."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import OutputError
from img2prompt.pairs.atomic import fresh_file, write_atomically
from img2prompt.progress import track

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.generic]]  # no objects: nothing is unpickled when a part is read again


def in_parts(
    folder: Path, ranges: Sequence[range], make: Callable[[range], Arrays], *, unit: str = "part"
) -> Iterator[Arrays]:
    """Yields the arrays of every range, made now or read from an earlier run of the same work.

    Args:
        folder: one a piece of work; the caller makes sure that it holds no other work's parts.
        ranges: what each part covers.
        make: gives the arrays of a range.
        unit: what progress counts.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder.mkdir(exist_ok=True)
    for rest in folder.glob(".*.tmp"):  # of a killed run
        rest.unlink(missing_ok=True)
    for number, rows in enumerate(track(ranges, unit=unit)):
        path = folder / f"part-{number:05d}.npz"
        arrays = read_part(path)
        if arrays is None:
            arrays = make(rows)
            write_part(path, arrays)
        yield arrays


def claim_parts(folder: Path, config: Mapping[str, Any]) -> None:
    """Makes a folder that holds nothing but the parts of this work; those of other work are thrown away.

    Args:
        folder: of parts alone.
        config: plain data that settles the parts.

    Raises:
        OutputError: the folder cannot be written, or holds something else.
    """
    wanted, path = json.dumps(config, sort_keys=True).encode(), folder / "config.json"
    try:
        folder.mkdir(exist_ok=True)
        if not path.is_file() and any(folder.iterdir()):
            raise OutputError(f"{folder}: holds other files, and is needed for unfinished work; move it away")
        if path.is_file() and path.read_bytes() != wanted:
            shutil.rmtree(folder)
            folder.mkdir()
        if not path.is_file():
            write_atomically(path, wanted)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}; choose a place that can be written") from error


def split_rows(count: int, rows_per_part: int) -> list[range]:
    """Ranges that cover `count` rows."""
    return [range(first, min(first + rows_per_part, count)) for first in range(0, count, rows_per_part)]


def read_part(path: Path) -> Arrays | None:
    """A part, or None where there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        logger.warning("%s: damaged; made again", path)
        return None


def write_part(path: Path, arrays: Arrays) -> None:
    """Writes a part whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with fresh_file(path) as fresh, fresh.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror or error}; finished parts stay, run the same command again to go on"
        ) from error

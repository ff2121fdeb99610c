"""All rows of a large work in one file, in order of rank and none twice, of which every machine maps what it needs."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import fresh_file, write_atomically
from img2prompt.pairs.near.cosines import Rows, copies, unit_rows

_COPIED_AT_ONCE = 1 << 14


def gather_rows(parts: Sequence[NDArray[np.float32]], order: NDArray[np.int64], folder: Path) -> NDArray[np.int64]:
    """Writes rows.npy; returns for each row (N,), in order of rank, the first one that is equal to it.

    Args:
        parts: (n,D) unit rows each, N in all.
        order: (N,) rows in order of rank.
        folder: of the work; what stands there is of the same parts and order.

    Raises:
        DataError: rows have not unit length.
        OutputError: there is no room.
    """
    if (folder / "rows.npy").exists():
        heads: NDArray[np.int64] = np.load(folder / "heads.npy")
        return heads
    starts = np.cumsum([0, *map(len, parts)])

    def ordered(places: NDArray[np.int64]) -> Rows:
        """Rows of the parts; most stand one after the other, and a part is then read in one piece."""
        wanted, rows = order[places], np.empty((len(places), parts[0].shape[1]), np.float32)
        of_part = np.searchsorted(starts, wanted, side="right") - 1
        for number in np.unique(of_part).tolist():
            mine = of_part == number
            rows[mine] = parts[number][wanted[mine] - starts[number]]
        if unit_rows(rows) is not rows:
            raise DataError(f"{folder}: embeddings that have not unit length cannot be compared; compute them again")
        return rows

    everything = _written(folder / "all.npy", np.arange(len(order)), parts[0].shape[1], ordered)
    heads = copies(everything)
    write_atomically(folder / "heads.npy", npy_bytes(heads))
    unique = np.flatnonzero(heads == np.arange(len(heads)))  # (U,)
    _written(folder / "rows.npy", unique, everything.shape[1], lambda places: everything[places])
    (folder / "all.npy").unlink()
    return heads


def _written(
    path: Path, places: NDArray[np.int64], width: int, rows_of: Callable[[NDArray[np.int64]], Rows]
) -> NDArray[np.float32]:
    """Writes rows to a file a block at a time; returns it, memory-mapped."""
    try:
        with fresh_file(path) as fresh:
            made = open_memmap(fresh, mode="w+", dtype=np.float32, shape=(len(places), width))
            for start in range(0, len(places), _COPIED_AT_ONCE):
                made[start : start + _COPIED_AT_ONCE] = rows_of(places[start : start + _COPIED_AT_ONCE])
            made.flush()
            del made
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; make room and run the same command again") from error
    written: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return written


def open_rows(folder: Path) -> NDArray[np.float32]:
    """rows.npy (U,D), of which only what is looked at is read."""
    rows: NDArray[np.float32] = np.load(folder / "rows.npy", mmap_mode="r")
    return rows


def npy_bytes(array: NDArray[Any]) -> bytes:
    """An array as the bytes of a file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()

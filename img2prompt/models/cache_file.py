"""A cache's file on disk: one SQLite table of rows by key, which several processes may read and write."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

WAIT_S = 60.0  # for another writer; a write of ours takes milliseconds
_AT_ONCE = 500  # keys of one query: SQLite takes at least 999 values in any version


def open_for_writing(path: Path, create: str) -> sqlite3.Connection:
    """A connection to a file in write-ahead mode; the caller closes it.

    Args:
        path: the file, made where there is none; its folder is there.
        create: the statement that makes the table unless it is there.

    Raises:
        sqlite3.Error: the file cannot be opened or written, or is no database.
    """
    database = sqlite3.connect(path, timeout=WAIT_S)
    try:
        database.execute("PRAGMA journal_mode = WAL")  # stays with the file; where it cannot be, the default is safe
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last rows, never the file
        database.execute(create)
    except BaseException:
        database.close()
        raise
    return database


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there, which needs no right to write it; the caller closes it."""
    address = path.absolute().as_uri()
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    # WAL keeps two files beside the first. Where they cannot be made nobody writes: the file is read as it is.
    return sqlite3.connect(f"{address}?mode=ro{'' if writable else '&immutable=1'}", uri=True, timeout=WAIT_S)


def repaired(path: Path, what: str, write: Callable[[], None]) -> None:
    """Writes; a file that is no database any more is put aside first, for all it held can be had again.

    Args:
        path: the file.
        what: it is, for the warning.
        write: opens it, and writes all or nothing.

    Raises:
        sqlite3.Error, OSError: of the writing, where the file is not at fault.
    """
    try:
        write()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # busy, full, read-only: the file is not at fault
            raise
        aside = path.with_name(f"{path.name}.damaged")
        _log.warning("%s: the %s is damaged (%s); it is now %s", path, what, error, aside)
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        write()


def rows_of(database: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    """The stored rows of these keys, in no particular order; keys without a row give none.

    Args:
        database: an open connection.
        table: our own name of it, never a user's text; its keys are in the column "key".
        keys: any number of them.

    Raises:
        sqlite3.Error: the table cannot be read.
    """
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        yield from database.execute(f"SELECT * FROM {table} WHERE key IN ({marks})", some)

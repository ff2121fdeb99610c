"""A cache's file on disk: one SQLite table of rows by key, which several processes may read and write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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

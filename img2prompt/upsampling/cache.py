"""Answers on disk: one SQLite file, looked up by everything that settles an answer.

SQLite in write-ahead mode: several processes may read and write the file, and a write is there whole or not at all
after a crash. Every row carries its checksum, because nothing else would notice a disk that changed some bits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from img2prompt.models.cache_file import open_for_writing, rows_of
from img2prompt.models.sentence_cache import default_cache_file

_log = logging.getLogger(__name__)

_CREATE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, checksum INTEGER, row TEXT) WITHOUT ROWID"

Row = dict[str, Any]


class AnswerCache:
    """Plain data by what settled it, in a file that other processes share.

    A file that cannot be read or written costs a warning and the time saved, never the work.

    Args:
        path: the file; made, with its folder, when something is first stored.

    Attributes:
        hits: rows that were found so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.hits = path, 0
        self._usable = True

    def get_many(self, keys: Sequence[Mapping[str, Any]]) -> list[Row | None]:
        """What is stored for each key; None: nothing, or what is there is damaged."""
        digests = [_digest(key) for key in keys]
        found: dict[bytes, Row] = {}
        if self.path.exists() and self._usable:
            try:
                with closing(open_for_writing(self.path, _CREATE)) as database:
                    rows = rows_of(database, "answers", digests)
                    found.update((key, row) for key, checksum, text in rows if (row := _checked(checksum, text)))
            except sqlite3.Error as error:
                self._give_up("read", error)
        self.hits += sum(digest in found for digest in digests)
        return [found.get(digest) for digest in digests]

    def put_many(self, keys: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> None:
        """Stores rows, all or none, in the place of what was stored for their keys."""
        if not keys or not self._usable:
            return
        texts = [json.dumps(row, ensure_ascii=True) for row in rows]
        values = [(_digest(key), zlib.crc32(text.encode("ascii")), text) for key, text in zip(keys, texts, strict=True)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(open_for_writing(self.path, _CREATE)) as database, database:
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", values)
        except (sqlite3.Error, OSError) as error:
            self._give_up("written", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._usable = False
        _log.warning("%s: the cache of answers cannot be %s (%s); going on without it", self.path, what, error)


def open_cache(named: str | Path | None) -> AnswerCache | None:
    """The cache in a file, in the user's folder for caches ("default"), or none."""
    if named is None:
        return None
    return AnswerCache(default_cache_file().with_name("upsampled.sqlite") if named == "default" else Path(named))


def _digest(key: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(json.dumps(key, sort_keys=True, ensure_ascii=True, default=str).encode("ascii")).digest()


def _checked(checksum: int, text: object) -> Row | None:
    """The stored row; None where it is damaged."""
    if not isinstance(text, str) or zlib.crc32(text.encode("utf-8", "replace")) != checksum:
        return None
    row = json.loads(text)
    return row if isinstance(row, dict) else None

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

from img2prompt.models.cache_file import open_for_reading, open_for_writing, repaired, rows_of
from img2prompt.models.sentence_cache import default_cache_file

_log = logging.getLogger(__name__)

_CREATE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, checksum INTEGER, row TEXT) WITHOUT ROWID"

Row = dict[str, Any]


class AnswerCache:
    """Plain data by what settled it, in a file that other processes share.

    A file that cannot be read or written costs a warning and the time saved, never the work; a damaged one is put aside
    when something is stored. A folder that can only be read gives what it holds.

    Args:
        path: the file; made, with its folder, when something is first stored.

    Attributes:
        hits: rows that were found so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.hits = path, 0
        self._readable = self._writable = True  # as far as is known; either is warned of once

    def get_many(self, keys: Sequence[Mapping[str, Any]]) -> list[Row | None]:
        """What is stored for each key; None: nothing, or what is there is damaged."""
        digests = [_digest(key) for key in keys]
        found: dict[bytes, Row] = {}
        if self.path.exists():
            try:
                with closing(open_for_reading(self.path)) as database:
                    rows = rows_of(database, "answers", digests)
                    found.update((key, row) for key, checksum, text in rows if (row := _checked(checksum, text)))
            except sqlite3.Error as error:
                if self._readable:
                    _log.warning("%s: the cache of answers cannot be read (%s); they are asked again", self.path, error)
                self._readable = False
        self.hits += sum(digest in found for digest in digests)
        return [found.get(digest) for digest in digests]

    def put_many(self, keys: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> None:
        """Stores rows, all or none, in the place of what was stored for their keys."""
        if not keys or not self._writable:
            return
        texts = [json.dumps(row, ensure_ascii=True) for row in rows]
        values = [(_digest(key), zlib.crc32(text.encode("ascii")), text) for key, text in zip(keys, texts, strict=True)]

        def write() -> None:
            with closing(open_for_writing(self.path, _CREATE)) as database, database:
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", values)

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            repaired(self.path, "cache of answers", write)
        except (sqlite3.Error, OSError) as error:
            self._writable = False
            _log.warning("%s: the cache of answers cannot be written (%s); going on without", self.path, error)


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

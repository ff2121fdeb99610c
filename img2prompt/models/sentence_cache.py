"""Sentence embeddings on disk: one SQLite file, looked up by what determines an embedding.

SQLite in write-ahead mode, rather than files of our own: it lets several processes read and write one file, a write is
there whole or not at all after a crash, and it is part of Python. Every row carries its checksum all the same, because
nothing else would notice a disk that changed some bits.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import OutputError
from img2prompt.models.cache_file import open_for_reading, open_for_writing, repaired, rows_of

_log = logging.getLogger(__name__)

_CREATE = "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, checksum INTEGER, emb BLOB) WITHOUT ROWID"


class SentenceCache:
    """Embeddings of one kind (model and precision) in a file that other kinds and processes share.

    Args:
        path: the file; made, with its folder, when something is first stored.
        kind: what besides the text determines an embedding: the fingerprint of the model and the precision.
        dimensions: of an embedding; a stored row of another size is damaged.

    Attributes:
        hits: rows that were found so far.
        damaged: rows that were found and not used, because they hold NaN, are no unit vectors, have another size or
            the wrong checksum; they count as missing, so that the caller computes and replaces them.
    """

    def __init__(self, path: Path, kind: str, dimensions: int) -> None:
        self.path, self.kind, self.dimensions = path, kind, dimensions
        self.hits = self.damaged = 0

    def get_many(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What is stored of the texts: embeddings (N,D), zero where there is none, and found (N,).

        A file that cannot be read counts as an empty one, with a warning.
        """
        emb = np.zeros((len(texts), self.dimensions), np.float32)  # (N,D)
        found = np.zeros(len(texts), bool)  # (N,)
        if not self.path.exists() or not texts:
            return emb, found
        places: dict[bytes, list[int]] = {}
        for place, text in enumerate(texts):
            places.setdefault(self._key(text), []).append(place)
        damaged = 0
        try:
            for key, checksum, stored in self._rows(list(places)):
                row = self._checked(checksum, stored)
                if row is None:
                    damaged += 1
                else:
                    emb[places[key]], found[places[key]] = row, True
        except sqlite3.Error as error:
            _log.warning("%s: the cache of embeddings cannot be read (%s); they are computed", self.path, error)
        self.hits += int(found.sum())
        if damaged:
            self.damaged += damaged
            _log.warning("%s: %d damaged embeddings in the cache are computed again", self.path, damaged)
        return emb, found

    def put_many(self, texts: Sequence[str], emb: NDArray[np.float32]) -> None:
        """Stores the embeddings (N,D) of the texts, all or none, in the place of what was stored for them.

        Raises:
            OutputError: the file cannot be written; a damaged one is replaced instead.
        """
        rows = []
        for text, row in zip(texts, np.ascontiguousarray(emb, "<f4"), strict=True):
            stored = row.tobytes()
            rows.append((self._key(text), zlib.crc32(stored), stored))

        def write() -> None:
            with closing(open_for_writing(self.path, _CREATE)) as database, database:
                database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            repaired(self.path, "cache of embeddings", write)
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"{self.path}: the cache of embeddings cannot be written ({error}); name another file or no cache"
            ) from error

    def _key(self, text: str) -> bytes:
        # The length of the kind keeps two pairs of kind and text apart that read the same when joined.
        return hashlib.sha256(f"{len(self.kind)}:{self.kind}{text}".encode("utf-8", "surrogatepass")).digest()

    def _rows(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int, bytes]]:
        """The stored rows of these keys; the connection is for reading, so a read-only folder will do."""
        with closing(open_for_reading(self.path)) as database:
            yield from rows_of(database, "embeddings", keys)

    def _checked(self, checksum: int, stored: bytes) -> NDArray[np.float32] | None:
        """The embedding (D,) of a stored row; None when it is damaged."""
        if not isinstance(stored, bytes) or len(stored) != 4 * self.dimensions or zlib.crc32(stored) != checksum:
            return None
        row = np.frombuffer(stored, "<f4")
        return row if abs(float(np.linalg.norm(row)) - 1) < 1e-3 else None  # false for NaN too


def default_cache_file() -> Path:
    """Where embeddings are kept when nobody names a file: in the user's folder for caches."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "img2prompt" / "sentences.sqlite"

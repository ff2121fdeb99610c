"""Submissions of the Kaggle task "Stable Diffusion - Image to Prompts": 384 rows a picture, `imgId_eId,val`.

While a run lasts its embeddings go to one file beside the submission (NAME.partial): a line that says what is being
made, then for each picture a checksum and its 384 numbers, at the place that its number in the order gives. The
submission itself appears whole, at the end. A run that was killed leaves the partial file, and the same command goes
on from it. Nothing here grows with the pictures but their names.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.outputs import lock
from img2prompt.pairs.atomic import fresh_file

Row = NDArray[np.float32]  # (384,)

DIMENSIONS = 384
HEADER = ("imgId_eId", "val")
_MARK = "img2prompt submission"
_RECORD_BYTES = 4 + 4 * DIMENSIONS  # CRC-32 of the numbers, then they


class Partial:
    """The embeddings of a submission that is being made; use as a context.

    Attributes:
        done: whether each picture has its embedding, (N,) bool.
    """

    def __init__(self, output: Path, ids: Sequence[str], settings: dict[str, str]) -> None:
        """
        Args:
            output: the submission; the partial file lies beside it.
            ids: of the pictures, in order.
            settings: what decides the numbers; a partial file that was begun with others is refused.
        """
        self.path = output.with_name(output.name + ".partial")
        self.done = np.zeros(len(ids), bool)
        digest = hashlib.sha256("\n".join(ids).encode(errors="surrogateescape")).hexdigest()
        begun = {_MARK: 1, "settings": settings, "pictures": len(ids), "ids": digest}
        self._head = json.dumps(begun, sort_keys=True).encode() + b"\n"

    def __enter__(self) -> Partial:
        """Takes the lock and finds what earlier runs finished.

        Raises:
            OutputError: another run writes there, the folder cannot be written, or the file was begun for something
                else.
        """
        try:
            self.path.touch()
            self._file: IO[bytes] = self.path.open("r+b")
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}; choose a place that can be written") from error
        try:
            lock(self._file, self.path)
            self._begin()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Closes the file; it stays where a later run can go on from it: with embeddings, and no submission yet."""
        if kind is None or not self.done.any():
            self.path.unlink(missing_ok=True)
        self._file.close()

    def put(self, index: int, row: Row) -> None:
        """Keeps the embedding (384,) of one picture."""
        data = row.astype("<f4").tobytes()
        try:
            self._file.seek(self._place(index))
            self._file.write(zlib.crc32(data).to_bytes(4, "little") + data)
            self._file.flush()  # to the system, which outlives us; a record that the disk lost fails its checksum
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}; make room and run the same again") from error
        self.done[index] = True

    def rows(self) -> Iterator[Row | None]:
        """The embedding of each picture in order; None where there is none."""
        self._file.seek(self._place(0))
        for _ in range(len(self.done)):
            record = self._file.read(_RECORD_BYTES)
            data = record[4:]
            known = len(record) == _RECORD_BYTES and zlib.crc32(data) == int.from_bytes(record[:4], "little")
            # Zeros are what a sparse file holds where nothing was written, and their checksum is not zero.
            yield np.frombuffer(data, "<f4") if known else None

    def mean(self) -> Row | None:
        """The mean embedding, made unit length; None when there is none."""
        total, count = np.zeros(DIMENSIONS), 0
        for row in self.rows():
            if row is not None:
                total += row
                count += 1
        length = float(np.linalg.norm(total))
        return (total / length).astype(np.float32) if count and length > 0 else None

    def _place(self, index: int) -> int:
        return len(self._head) + index * _RECORD_BYTES

    def _begin(self) -> None:
        head = self._file.readline(1 << 16)
        if head and head != self._head:
            raise OutputError(
                f"{self.path}: belongs to an unfinished run with another model or other pictures;"
                " finish that one, or remove this file to start afresh"
            )
        if not head:
            self._file.write(self._head)
        self._file.truncate(self._place(len(self.done)))
        self._file.flush()
        self.done[:] = [row is not None for row in self.rows()]


def write_submission(path: Path, ids: Sequence[str], rows: Iterable[Row], sample: Path | None = None) -> None:
    """Writes and verifies a submission; its name holds the old file or all of the new one.

    Args:
        path: of the file.
        ids: of the pictures, in order.
        rows: their embeddings, (384,) each.
        sample: the sample submission, whose keys in their order the file must have; None: the keys of `ids`.

    Raises:
        OutputError: it cannot be written.
        DataError: it is not what the sample asks for.
    """
    try:
        with fresh_file(path) as fresh:
            with fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                file.write(",".join(HEADER) + "\n")
                for name, row in zip(ids, rows, strict=True):
                    file.write("".join(_lines(name, row)))
            verify(fresh, _keys_of(ids) if sample is None else (key for key, _, _ in read_submission(sample)))
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; choose a place that can be written") from error


def _lines(name: str, row: Row) -> Iterator[str]:
    quote = '"' if any(c in name for c in ',"\r\n') else ""
    start = quote + name.replace('"', '""') + "_"
    for i, value in enumerate(row.tolist()):
        yield f"{start}{i}{quote},{value:.9g}\n"  # nine digits give every float32 back


def _keys_of(ids: Iterable[str]) -> Iterator[str]:
    return (f"{name}_{i}" for name in ids for i in range(DIMENSIONS))


def read_submission(path: Path) -> Iterator[tuple[str, float, int]]:
    """Streams key, value and line number of a submission.

    Raises:
        DataError: it cannot be read, or a row is none.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != HEADER:
                raise DataError(f"{path}: the first line must be {','.join(HEADER)}")
            for fields in reader:
                if len(fields) != 2:
                    raise DataError(f"{path}: line {reader.line_num}: {len(fields)} fields, not 2")
                yield fields[0], _number(path, reader.line_num, fields[1]), reader.line_num
    except (OSError, csv.Error) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}: line {line}: {text!r} is no finite number")
    return value


def verify(path: Path, keys: Iterable[str]) -> None:
    """Compares a submission with the keys it must have, in their order; streams both.

    Raises:
        DataError: a key is missing, too many or out of place, or a value is no finite number.
    """
    line = 1
    for found, wanted in itertools.zip_longest(read_submission(path), keys):
        line = found[2] if found is not None else line + 1
        key = None if found is None else found[0]
        if key != wanted:
            raise DataError(f"{path}: line {line}: {key or 'nothing'} where {wanted or 'nothing'} is asked for")


def sample_ids(path: Path) -> list[str]:
    """The pictures that a sample submission asks for, in its order.

    Raises:
        DataError: it is no sample submission, or its keys are not 0 to 383 for each picture in turn.
    """
    ids: list[str] = []
    expected = 0
    for key, _, line in read_submission(path):
        name, _, number = key.rpartition("_")
        if expected == 0:
            ids.append(name)
        if not ids[-1] or number != str(expected) or name != ids[-1]:
            raise DataError(f"{path}: line {line}: {key} where {ids[-1]}_{expected} is expected")
        expected = (expected + 1) % DIMENSIONS
    if expected:
        raise DataError(f"{path}: ends after {ids[-1]}_{expected - 1}; a picture has {DIMENSIONS} rows")
    if len(set(ids)) < len(ids):
        twice = next(name for name, later in zip(sorted(ids), sorted(ids)[1:], strict=False) if name == later)
        raise DataError(f"{path}: {twice} stands twice")
    if not ids:
        raise DataError(f"{path}: no rows")
    return ids


def stamp(path: Path) -> str:
    """What tells a model from a later one at the same place: names, sizes and times of its files."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    known = [(file.name, status.st_size, status.st_mtime_ns) for file in files if (status := file.stat())]
    return f"{os.path.realpath(path)} {hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]}"

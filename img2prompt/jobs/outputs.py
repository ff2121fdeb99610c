"""Where predictions are written: one table that survives `kill -9`, and text files beside the pictures.

While a run lasts its rows go to a journal beside the table (NAME.journal: JSON lines, only ever appended to); the table
itself appears whole, at the end. A run that was killed leaves the journal, and the same command goes on from it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from img2prompt.errors import ConfigError, OutputError
from img2prompt.jobs.tables import PREDICTIONS, Layout, read_table, write_table
from img2prompt.pairs.atomic import write_atomically

OVERWRITE = ("skip", "replace", "append")
GROUP_ROWS, GROUP_S = 32, 2.0  # rows are forced to the disk in groups of this size or age
_HEADER, _KEPT = "img2prompt journal", "kept"


class Output:
    """A table that is being written; use as a context.

    Attributes:
        done: names of the pictures that have their prompt already, from an earlier run.
    """

    def __init__(self, path: Path, settings: dict[str, Any], overwrite: str, layout: Layout = PREDICTIONS) -> None:
        """
        Args:
            path: its suffix, one of TABLES, says the format.
            settings: what decides the rows; a journal that was begun with others is refused.
            overwrite: "replace" starts afresh; otherwise the rows of an existing table are kept.
            layout: its columns.
        """
        self._layout = layout
        self.path, self.settings, self.overwrite = path, settings, overwrite
        self.done: set[str] = set()
        self._journal_path = path.with_name(path.name + ".journal")
        self._unsynced, self._synced_at = 0, time.monotonic()

    def __enter__(self) -> Output:
        """Takes the lock and reads what earlier runs finished.

        Raises:
            OutputError: another run writes this table, the folder cannot be written, or an existing table is not ours.
            ConfigError: the journal was begun with other settings.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_place(self.path)
            self._journal: IO[bytes] = self._journal_path.open("a+b")
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}; choose a place that can be written") from error
        try:
            lock(self._journal, self.path)
            self._begin()
        except BaseException:
            self._journal.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Closes the journal, which stays unless `finish` was called."""
        if not self._journal.closed:
            self._sync()
            self._journal.close()

    def add(self, row: dict[str, Any]) -> None:
        """Appends one row of `to_dict()`."""
        self._write(row)
        self._unsynced += 1
        if self._unsynced >= GROUP_ROWS or time.monotonic() - self._synced_at > GROUP_S:
            self._sync()

    def finish(self, order: Iterable[str]) -> None:
        """Writes the table: rows kept from before first, then those of `order`; then removes the journal.

        Raises:
            OutputError: the table cannot be written; the journal stays.
        """
        self._sync()
        places: dict[str, int] = {}  # name -> where its last row stands; rows themselves stay on the disk
        for place, row in self._read():
            places[row["source"]] = place
        wanted = [name for name in order if name in places]
        now = set(wanted)
        rows = self._rows_at([places[name] for name in (*(n for n in places if n not in now), *wanted)])
        try:
            write_table(self.path, rows, self._layout)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}; the rows are safe in {self._journal_path}") from error
        self._journal_path.unlink(missing_ok=True)
        self._journal.close()

    def _begin(self) -> None:
        if self.overwrite == "replace":
            self._journal.truncate(0)
        self._journal.seek(0)
        content_end, lines = _whole_lines(self._journal)
        self._journal.truncate(content_end)  # a line that was cut by the kill
        begun, kept = self._head() if lines else ({}, 0)
        if lines - 1 <= kept:  # nothing was made yet, or the kill fell while the table was copied: begin anew
            self._copy_table()
        else:
            self._check_settings(begun)
        for _, row in self._read():
            (self.done.discard if "error" in row else self.done.add)(row["source"])

    def _head(self) -> tuple[dict[str, Any], int]:
        """The journal's first line: the settings, and how many rows of the table follow."""
        self._journal.seek(0)
        try:
            head = json.loads(self._journal.readline())
            return dict(head["settings"]), int(head.get(_KEPT, 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(f"{self._journal_path}: is no journal of ours; move it away") from error

    def _copy_table(self) -> None:
        """Begins the journal with the rows of the existing table.

        They are read once before anything is written: a table that is damaged or not ours must leave no journal behind,
        from which the next run would go on and put its own table in that one's place.
        """
        keeps = self.overwrite != "replace" and self.path.exists()
        kept = sum(1 for _ in read_table(self.path, self._layout)) if keeps else 0
        self._journal.truncate(0)
        self._write({_HEADER: 1, "settings": self.settings, _KEPT: kept})
        for row in read_table(self.path, self._layout) if keeps else ():
            self._write(row)
        self._sync()

    def _check_settings(self, begun: dict[str, Any]) -> None:
        changed = [f"{k} {begun.get(k)!r}, now {v!r}" for k, v in self.settings.items() if begun.get(k) != v]
        if changed:
            raise ConfigError(
                f"{self.path}: an unfinished run had other settings ({'; '.join(changed)});"
                " finish it with those, or start afresh with --overwrite replace"
            )

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row with the place where its line begins."""
        with self._journal_path.open("rb") as file:
            place = len(file.readline())
            for line in file:
                yield place, self._parsed(line)
                place += len(line)

    def _rows_at(self, places: Iterable[int]) -> Iterator[dict[str, Any]]:
        with self._journal_path.open("rb") as file:
            for place in places:
                file.seek(place)
                yield self._parsed(file.readline())

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            row: dict[str, Any] = json.loads(line)
            return row
        except ValueError as error:
            raise OutputError(f"{self._journal_path}: damaged; start afresh with --overwrite replace") from error

    def _write(self, row: dict[str, Any]) -> None:
        try:
            # A lone surrogate is no UTF-8, but its escape is JSON. The file was opened to append: this goes to its end.
            self._journal.write(json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
        except OSError as error:
            raise OutputError(f"{self._journal_path}: {error.strerror}; make room and run the same again") from error

    def _sync(self) -> None:
        try:
            self._journal.flush()
            os.fsync(self._journal.fileno())
        except OSError as error:
            raise OutputError(f"{self._journal_path}: {error.strerror}; make room and run the same again") from error
        self._unsynced, self._synced_at = 0, time.monotonic()


def lock(file: IO[bytes], path: Path) -> None:
    """Keeps other runs from a file while this process has it open, however it ends.

    Raises:
        OutputError: another run has it, or has just finished and removed it; the message names `path`.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The other run may have finished and removed its file after we opened it.
        free = os.fstat(file.fileno()).st_nlink > 0
    except BlockingIOError:
        free = False
    if not free:
        raise OutputError(f"{path}: another run is writing it; wait for it, or choose another name")


def check_place(path: Path) -> None:
    """Finds before the work what would keep its file from being written at the end.

    Raises:
        OutputError: the file's folder is not there, or the file is a folder.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")


def _whole_lines(file: IO[bytes]) -> tuple[int, int]:
    """Bytes up to the end of the last line that is complete, and the number of such lines."""
    end = count = 0
    for line in file:
        if line.endswith(b"\n"):
            end += len(line)
            count += 1
    return end, count


class Sidecars:
    """Text files beside the pictures: picture.png -> picture.txt, one line, the form that training tools read."""

    def __init__(self, overwrite: str) -> None:
        """`overwrite`: what happens where a text file exists: "skip", "replace" or "append" a line."""
        self.overwrite = overwrite
        self._owners: dict[Path, Path] = {}

    def wants(self, picture: Path) -> bool:
        """Whether the picture still needs its text file; one that another picture of this run has is not its own."""
        owner = self._owners.setdefault(beside(picture), picture)
        return owner != picture or self.overwrite != "skip" or not beside(picture).exists()

    def write(self, picture: Path, prompt: str) -> None:
        """Writes or appends the prompt; a file holds its old text or all of the new, whenever the machine stops.

        Raises:
            OutputError: it cannot be written, or two pictures share the text file's name.
        """
        path, line = beside(picture), " ".join(prompt.split())
        owner = self._owners.setdefault(path, picture)
        if owner != picture:
            raise OutputError(f"{path} already holds the prompt of {owner.name}; rename one of the pictures")
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if self._appends(path) else []
            if line not in lines:  # so that a run which is repeated after a kill adds nothing twice
                lines.append(line)
            write_atomically(path, ("\n".join(lines) + "\n").encode())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
            raise OutputError(f"{path}: {reason}; no text file was written") from error

    def _appends(self, path: Path) -> bool:
        return self.overwrite == "append" and path.exists()


def beside(picture: Path) -> Path:
    """The text file of a picture."""
    return picture.with_suffix(".txt")

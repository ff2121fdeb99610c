"""The folder of a run: its configuration, and a journal of what is finished, so that a killed run goes on.

config.json      what was asked for, the models as they were opened, versions and machine
journal.jsonl    a line for every finished step of a picture, only ever appended to
images/ID/       original.png and the regenerated pictures
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from img2prompt.errors import ConfigError, OutputError
from img2prompt.jobs.outputs import lock
from img2prompt.pairs.atomic import write_atomically

Row = dict[str, Any]
SYNC_S = 2.0  # the journal is forced to the disk this often; a kill alone loses nothing of it


class RunFolder:
    """A run's folder with one writer; use as a context.

    Args:
        root: the folder; made where it is missing.
        settings: plain data that decides the results; a folder that was begun with others is refused.
        made_by: plain data about the machine, kept and never compared.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], made_by: Mapping[str, Any] | None = None) -> None:
        self.root = root
        self._settings: Row = json.loads(json.dumps(settings))
        self._made_by = dict(made_by or {})
        self._models: Row = {}
        self._rows: dict[tuple[str, str], Any] = {}
        self._synced_at = time.monotonic()

    def __enter__(self) -> RunFolder:
        """Takes the lock, compares the configuration and reads what stands.

        Raises:
            OutputError: another run writes here, the folder cannot be written, or holds something else.
            ConfigError: the folder belongs to a run with another configuration.
        """
        path = self.root / "journal.jsonl"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not (self.root / "config.json").exists() and any(_strangers(self.root)):
                raise OutputError(f"{self.root}: holds other files; give --output a new or empty folder")
            self._journal: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            lock(self._journal, self.root)
            for rest in (*self.root.glob(".*.tmp"), *self.root.glob("images/*/.*.tmp")):  # of a killed run
                rest.unlink(missing_ok=True)
            self._claim()
            self._read(path)
        except OSError as error:
            self._journal.close()
            raise self._unwritable(error) from error
        except BaseException:
            self._journal.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Closes the journal, which stays."""
        self._journal.close()

    def get(self, step: str, key: str) -> Any:
        """The row of a finished step, or None."""
        return self._rows.get((step, key))

    def put(self, step: str, key: str, row: Any) -> None:
        """Keeps the row of a finished step.

        Raises:
            OutputError: it cannot be written; all rows before it stay.
        """
        self._append({"step": step, "key": key, "row": row})
        self._rows[(step, key)] = row

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the run, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        except OSError as error:
            raise self._unwritable(error, path) from error

    def open_model(self, role: str, settings: Mapping[str, Any]) -> None:
        """Notes what a model of the run is; call it when the model was opened.

        Raises:
            ConfigError: earlier parts of the run were made by another one.
        """
        now = json.loads(json.dumps(settings))
        known = self._models.get(role)
        if known is not None and known != now:
            raise ConfigError(f"{self.root}: the {role} is not the one that began this run ({_changes(known, now)})")
        if known is None:
            self._models[role] = now
            self._write_config()

    @property
    def config(self) -> Row:
        """What config.json holds: `run`, what was asked for; `models`, as they were opened; `made_by`, the machine."""
        return {"run": self._settings, "models": dict(sorted(self._models.items())), "made_by": self._made_by}

    def _claim(self) -> None:
        path = self.root / "config.json"
        if not path.exists():
            self._write_config()
            return
        try:
            begun = json.loads(path.read_bytes())
            settings, self._models = dict(begun["run"]), dict(begun["models"])
            self._made_by = begun["made_by"]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: is no configuration of ours; give --output another folder") from error
        changes = _changes(settings, self._settings)
        if changes:
            raise ConfigError(
                f"{self.root}: holds a run with another configuration ({changes}); repeat it with that, or give"
                " --output another folder"
            )

    def _write_config(self) -> None:
        self.write("config.json", (json.dumps(self.config, indent=1, ensure_ascii=False) + "\n").encode())

    def _read(self, path: Path) -> None:
        end = 0
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                entry: Any = json.loads(line) if line.endswith(b"\n") else None
                self._rows[(entry["step"], entry["key"])] = entry["row"]
            except (ValueError, KeyError, TypeError):  # cut by a kill or a full disk: what follows is not trusted
                break
            end += len(line)
        self._journal.truncate(end)

    def _append(self, entry: Row) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        end = os.fstat(self._journal.fileno()).st_size
        try:
            written = self._journal.write(line)
            if written != len(line):  # room for a part of it
                self._journal.write(line[written:])
            if time.monotonic() - self._synced_at > SYNC_S:
                os.fsync(self._journal.fileno())
                self._synced_at = time.monotonic()
        except OSError as error:
            self._journal.truncate(end)
            raise self._unwritable(error, self.root / "journal.jsonl") from error

    def _unwritable(self, error: OSError, path: Path | None = None) -> OutputError:
        what = error.strerror or str(error)
        return OutputError(f"{path or self.root}: {what}; finished work stays, run the same command again to go on")


def _strangers(root: Path) -> Iterable[Path]:
    ours = ("journal.jsonl", ".*.tmp")  # what a run leaves that was killed before it had a configuration
    return (path for path in root.iterdir() if not any(path.match(name) for name in ours))


def _changes(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; empty when nothing does."""
    names = [*begun, *(name for name in now if name not in begun)]
    return "; ".join(
        f"{name.replace('_', ' ')} {_short(begun.get(name))}, now {_short(now.get(name))}"
        for name in names
        if begun.get(name) != now.get(name)
    )


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."

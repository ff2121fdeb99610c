"""The shard worker: a range of rows of a source in, one parquet shard and its completion mark out.

Tasks know all they need, so any process on any machine that sees the same folders may run them, in any order and more
than once: the same task always leaves the same bytes.

    shard-00000-00003.parquet   what is left of rows 3000-3999 of the first input
    shard-00000-00003.json      written after it: the task, rows, size, SHA-256, and what was dropped and why
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.formats.hub_sets import hub_name
from img2prompt.pairs.making.formatting import FormatSettings, Formatter
from img2prompt.pairs.shard_files import Written, read_rows, write_rows
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sources import label_of, stream_rows

MARK_FORMAT = "img2prompt-shard-1"
_SKIPS = ("unusable", "filtered", "repeats")


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to be made.

    Attributes:
        source: what `stream_rows` opens.
        label: what rows name as their source when `source` is one file of several.
        rows: which of its rows.
        settings: what becomes of a row.
        out: the parquet file; its mark stands beside it as .json.
    """

    source: str
    label: str
    rows: range
    settings: FormatSettings
    out: Path

    @property
    def mark(self) -> Path:
        """The completion mark."""
        return self.out.with_suffix(".json")

    @property
    def fingerprint(self) -> str:
        """What tells this task from others; the folder it writes to is no part of it."""
        facts = [self.source, self.label, self.rows.start, self.rows.stop, self.settings.to_dict()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What became of a task; the mark holds the same.

    Attributes:
        task: its fingerprint.
        file: name of the shard.
        rows_in: rows that were read.
        rows: rows of the shard.
        bytes: size of the shard.
        sha256: of the shard.
        unusable: rows without a picture or prompt that can be used, by kind.
        filtered: rows that a text filter dropped, by the filter's name.
        repeats: rows dropped because an earlier one has the same picture and prompt.
    """

    task: str
    file: str
    rows_in: int
    rows: int
    bytes: int
    sha256: str
    unusable: Skips = field(default_factory=Skips)
    filtered: Skips = field(default_factory=Skips)
    repeats: Skips = field(default_factory=Skips)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {part.name: getattr(self, part.name) for part in fields(self) if part.name not in _SKIPS}
        return plain | {name: getattr(self, name).to_dict() for name in _SKIPS}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> TaskReport:
        """What `to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return cls(**{**facts, **{name: Skips.from_dict(facts[name]) for name in _SKIPS}})


def run_task(task: ShardTask) -> TaskReport:
    """Makes a shard and its mark, unless they stand; a process that runs several tasks reads their source once.

    Raises:
        DataError: the source vanished, shrank or is damaged.
        OutputError: the shard cannot be written.
    """
    return _worker_of_this_process()(task)


def standing(task: ShardTask) -> TaskReport | None:
    """The report of a task whose shard and mark are there; None: it is to be made."""
    try:
        facts = json.loads(task.mark.read_text(encoding="utf-8"))
        if facts.pop("format") != MARK_FORMAT or facts["task"] != task.fingerprint:
            return None
        report = TaskReport.from_dict(facts)
        return report if task.out.stat().st_size == report.bytes else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def drop_repeats(task: ShardTask, report: TaskReport, positions: frozenset[int]) -> TaskReport:
    """Writes a shard again without some of its rows, and then its mark.

    Between the two the mark does not fit the shard, so that `standing` lets a killed run make the shard anew.

    Args:
        task: which stands.
        report: of it.
        positions: of the rows in the shard.

    Raises:
        DataError: the shard is damaged.
        OutputError: it cannot be written.
    """
    repeats = Skips()
    repeats.merge(report.repeats)

    def kept() -> Iterator[dict[str, Any]]:
        for position, row in enumerate(read_rows(task.out, task.settings.columns)):
            if position in positions:
                repeats.add("Repeat", f"{row['source']}: {row['source_id'] or row['id']}", row["prompt"])
            else:
                yield row

    written = _write(task, kept())
    return _finish(task, replace(report, **asdict(written), repeats=repeats))


class ShardWorker:
    """Runs tasks one after the other.

    The source of a task stays open, so that tasks of rising ranges read it once.
    """

    def __init__(self) -> None:
        self._open: tuple[str, dict[str, str]] | None = None  # what `_rows` reads
        self._rows: Iterator[dict[str, Any]] = iter(())
        self._at = 0  # the number of the row that comes next
        self._folders: set[Path] = set()  # in which pictures were found

    def __call__(self, task: ShardTask) -> TaskReport:
        """Likewise `run_task`."""
        if (report := standing(task)) is not None:
            return report
        formatter = Formatter(task.settings)
        written = _write(task, self._formatted(task, formatter))
        report = TaskReport(
            task=task.fingerprint,
            file=task.out.name,
            rows_in=len(task.rows),
            **asdict(written),
            unusable=formatter.unusable,
            filtered=formatter.filtered,
        )
        return _finish(task, report)

    def _formatted(self, task: ShardTask, formatter: Formatter) -> Iterator[dict[str, Any]]:
        own_label = label_of(task.source)
        count = 0
        for number, row in enumerate(self._read(task), task.rows.start):
            count += 1
            if row["source"] == own_label:
                row["source"] = task.label
            missing = formatter.unusable.counts["ImageNotFound"]
            made = formatter(row, f"{task.source}, row {number + 1}")
            path = row["image"]["path"]
            if made is not None:
                if row["image"]["bytes"] is None and not is_url(path):
                    self._folders.add(Path(path).parent)
                yield made
            elif formatter.unusable.counts["ImageNotFound"] > missing:
                self._look_around(task, Path(path).parent)
        if count < len(task.rows):
            raise DataError(
                f"{task.source}: ends at row {task.rows.start + count}, where row {task.rows.stop} was counted before; "
                "it changed: restore it, or choose another folder"
            )

    def _read(self, task: ShardTask) -> Iterator[dict[str, Any]]:
        """The rows of the task's range, from where the source stands if it can."""
        wanted = task.source, dict(task.settings.names)
        if self._open != wanted or self._at > task.rows.start:
            self._rows, self._at = stream_rows(task.source, wanted[1], skips=Skips()), 0  # counted in the survey
        self._open = None  # should this range not come to its end
        next(islice(self._rows, task.rows.start - self._at, task.rows.start - self._at), None)
        yield from islice(self._rows, len(task.rows))
        self._open, self._at = wanted, task.rows.stop

    def _look_around(self, task: ShardTask, folder: Path) -> None:
        """Tells a picture that is not there from a folder that went away, say with its disk.

        Raises:
            DataError: it went away; the rows are not lost, the next run finds them.
        """
        source_gone = hub_name(task.source) is None and not Path(task.source).exists()
        if source_gone or (folder in self._folders and not folder.is_dir()):
            gone = task.source if source_gone else folder
            raise DataError(f"{gone}: vanished; finished shards stay, bring it back and run the same command again")


@cache
def _worker_of_this_process() -> ShardWorker:
    return ShardWorker()


def _write(task: ShardTask, rows: Iterator[dict[str, Any]]) -> Written:
    try:
        return write_rows(task.out, rows, task.settings.columns)
    except OSError as error:
        raise _output_error(task.out, error) from error


def _finish(task: ShardTask, report: TaskReport) -> TaskReport:
    text = json.dumps({"format": MARK_FORMAT, **report.to_dict()}, indent=1, ensure_ascii=False) + "\n"
    try:
        write_atomically(task.mark, text.encode())
    except OSError as error:
        raise _output_error(task.mark, error) from error
    return report


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: {error.strerror or error}; finished shards stay, run the same command again to go on")

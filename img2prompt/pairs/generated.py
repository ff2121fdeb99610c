"""Data sets of generated pictures: shards that grow picture by picture, and the prompts that gave none.

Beside what every folder of shards holds (see shards.py):

    shard-00000.json   written after its shard: how many pictures it holds, and which failed; the shard is finished
    failures.jsonl     written before the manifest: a row for every picture that failed
    unfinished/        rows of the shard that is being made (see spool.py); gone at the end
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import sole_writer, write_atomically
from img2prompt.pairs.manifest import check_shard, claim, read_manifest, write_manifest
from img2prompt.pairs.shards import ShardPlan, write_shard
from img2prompt.pairs.spool import Spool

Row = Mapping[str, Any]
MakeBatches = Callable[[Sequence[int]], Iterator[Sequence[Row]]]
COLUMNS = ("id", "image", "prompt", "source", "prompt_source", "seed", "read", "safety", "parameters")
FAILURE_COLUMNS = ("error", "kind")


@dataclass(slots=True)
class Outcome:
    """What a run left in a folder.

    Attributes:
        tried: pictures of this run, failed ones included.
        stood: those of earlier runs, failed ones included.
        cut: pictures of the data set whose prompt the text encoder had no room for.
        failures: all failed pictures of the data set, each a row of failures.jsonl.
    """

    tried: int = 0
    stood: int = 0
    cut: int = 0
    failures: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """A folder that is to hold the generated pictures of a plan.

    Attributes:
        root: the folder.
        plan: of COLUMNS; `rows` counts the pictures that are asked for.
        make: makes the pictures of some numbers, in any batches, each row with `number`, every column, and `error` and
            `kind`; a failed picture has an `error` and no `image`.
        on_row: is shown every picture that stands, whether it was made now or before; None: nobody looks.
    """

    root: Path
    plan: ShardPlan
    make: MakeBatches
    on_row: Callable[[Row], None] | None = None

    def missing(self) -> int:
        """Pictures that are still to be made, for a progress bar; claims nothing."""
        stood = sum(
            len(numbers) if self._mark(name) is not None else len(self._spool(name).read())
            for name, numbers in self.plan.shards().items()
        )
        return self.plan.rows - stood

    def write(self, made_by: Mapping[str, Any], track: Callable[[Iterator[Row]], Iterator[Row]] = iter) -> Outcome:
        """Makes what is missing, and the manifest.

        Args:
            made_by: facts of this run for the manifest that do not settle the pictures: device, batch size, versions.
            track: shows progress over the pictures that are made.

        Raises:
            OutputError: the folder is in use, holds something else or another configuration, or cannot be written.
        """
        outcome = Outcome(stood=self.plan.rows)
        try:
            with sole_writer(self.root):
                claim(self.root, self.plan.to_dict())
                for _ in track(self._made()):
                    outcome.tried += 1
                outcome.stood -= outcome.tried
                self._finish(made_by, outcome)
        except OSError as error:
            raise OutputError(
                f"{self.root}: {error.strerror or error}; finished pictures stay, run it again to go on"
            ) from error
        return outcome

    def _made(self) -> Iterator[Row]:
        """Makes the missing pictures, yielding each when it is on the disk."""
        self._drop_damaged()
        for name, numbers in self.plan.shards().items():
            if self._mark(name) is None:
                (self.root / "manifest.json").unlink(missing_ok=True)  # it promises shards that do not stand
                yield from self._make_shard(name, numbers)
            elif self.on_row is not None:
                self._show_shard(name, numbers)

    def _make_shard(self, name: str, numbers: range) -> Iterator[Row]:
        with self._spool(name) as spool:
            rows = spool.read()
            for row in rows.values():
                self._show(row)
            missing = [number for number in numbers if number not in rows]
            for batch in self.make(missing) if missing else ():
                spool.add(batch)
                for row in batch:
                    rows[row["number"]] = row
                    self._show(row)
                    yield row
        ordered = [rows[number] for number in numbers]
        good = [row for row in ordered if row["error"] is None]
        failures = [_said(row) for row in ordered if row["error"] is not None]
        write_shard(self.root / name, good, self.plan.columns)
        cut = sum(row["read"] is not None for row in good)
        _write_json(_mark_of(self.root / name), {"rows": len(good), "cut": cut, "failures": failures})
        spool.remove()

    def _show_shard(self, name: str, numbers: range) -> None:
        """Shows the pictures of a shard that stands; those that failed have left gaps in their numbers."""
        failed = {row["number"] for row in (self._mark(name) or {})["failures"]}
        good = (number for number in numbers if number not in failed)
        for number, row in zip(good, pq.read_table(self.root / name).to_pylist(), strict=True):
            self._show({**row, "image": row["image"]["bytes"], "number": number, "error": None})

    def _show(self, row: Row) -> None:
        if self.on_row is not None and row["error"] is None:
            self.on_row(row)

    def _finish(self, made_by: Mapping[str, Any], outcome: Outcome) -> None:
        marks = {name: self._mark(name) or {} for name in self.plan.shards()}
        rows = {name: mark["rows"] for name, mark in marks.items()}
        outcome.failures = [row for mark in marks.values() for row in mark["failures"]]
        outcome.cut = sum(mark["cut"] for mark in marks.values())
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in outcome.failures)
        write_atomically(self.root / "failures.jsonl", text.encode())
        if not (self.root / "manifest.json").exists():
            facts = {"asked": self.plan.rows, "failed": len(outcome.failures), "made_by": dict(made_by)}
            write_manifest(self.root, {**self.plan.to_dict(), "rows": sum(rows.values()), **facts}, rows)
        shutil.rmtree(self.root / "unfinished", ignore_errors=True)

    def _drop_damaged(self) -> None:
        """Takes away the marks of shards that are no longer what the manifest says of them."""
        try:
            shards = read_manifest(self.root)["shards"]
        except DataError:
            return
        for shard in shards:
            try:
                check_shard(self.root / shard["file"], shard, verify=True)
            except DataError:
                _mark_of(self.root / shard["file"]).unlink(missing_ok=True)

    def _mark(self, name: str) -> dict[str, Any] | None:
        """What the mark of a finished shard says, or None: the shard is still to be made."""
        try:
            mark = json.loads(_mark_of(self.root / name).read_text(encoding="utf-8"))
            stands = pq.read_metadata(self.root / name).num_rows == mark["rows"]
        except (OSError, ValueError, KeyError, TypeError):  # ArrowInvalid is a ValueError
            return None
        return dict(mark) if stands else None

    def _spool(self, name: str) -> Spool:
        folder = self.root / "unfinished" / name.removesuffix(".parquet")
        return Spool(folder, (*self.plan.columns, *FAILURE_COLUMNS))


def _said(row: Row) -> Row:
    """What a row holds, without the columns that it leaves empty."""
    return {key: value for key, value in row.items() if value is not None}


def _mark_of(shard: Path) -> Path:
    return shard.with_suffix(".json")


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(data, ensure_ascii=False) + "\n").encode())

"""Sources of pairs -> one folder of shards: counting, shard tasks, exact repeats, manifest.

    config.json                 written first: sources, settings, versions; a run of another configuration is refused
    survey.json                 rows and columns of every input, counted once
    shard-00000-00000.parquet   rows of the first input, and beside it .json, its completion mark
    manifest.json               written last: counts of what was dropped and why, and every shard's rows, size, SHA-256
    .lock                       held by the running writer

A run that was killed at any moment is continued by running it again, to the same bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from img2prompt.errors import ConfigError, DataError, Img2PromptError, OutputError
from img2prompt.pairs.atomic import sole_writer, write_atomically
from img2prompt.pairs.formats.hub_sets import hub_name
from img2prompt.pairs.making.formatting import OWN_COLUMNS, FormatSettings
from img2prompt.pairs.making.inputs import Input, Survey, inputs_of, survey
from img2prompt.pairs.making.repeats import find_repeats
from img2prompt.pairs.making.worker import ShardTask, TaskReport, drop_repeats, run_task, standing
from img2prompt.pairs.manifest import FORMAT, check_shard, claim, close_manifest, read_manifest
from img2prompt.pairs.pool import in_processes
from img2prompt.pairs.skips import Skips
from img2prompt.progress import track

Run = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]  # work, items -> results as they are finished


@dataclass(frozen=True, slots=True)
class FormatPlan:
    """What is to be made of which sources.

    Attributes:
        sources: for `stream_rows`; the rows of the first come first.
        settings: what becomes of every row; its columns are settled by the survey.
        keep: columns of the sources that are kept; None keeps all.
        rows_per_shard: rows that are read for a shard; it holds those of them that stay.
    """

    sources: tuple[str, ...]
    settings: FormatSettings
    keep: tuple[str, ...] | None = None
    rows_per_shard: int = 1000

    def to_dict(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """The plan, its inputs and the versions that its bytes depend on, as plain data."""
        import pyarrow
        from PIL import __version__ as pillow_version

        from img2prompt._version import __version__

        settings = {name: value for name, value in self.settings.to_dict().items() if name != "columns"}
        keep = "all" if self.keep is None else list(self.keep)
        config = {"inputs": {made.source: made.fingerprint for made in inputs}, **settings, "keep": keep}
        return {
            "format": FORMAT,
            "config": {**config, "rows_per_shard": self.rows_per_shard},
            "versions": {"img2prompt": __version__, "pillow": pillow_version, "pyarrow": pyarrow.__version__},
        }


@dataclass(slots=True)
class FormatReport:
    """What became of the rows.

    Attributes:
        rows_in: rows of the sources, without those that were left out.
        rows: of the data set.
        shards: of the data set.
        shards_made: of which this run made so many.
        left_out: what could not be read as a pair, by kind.
        unusable: rows without a picture or prompt that can be used, by kind.
        filtered: rows that a text filter dropped, by its name.
        repeats: rows dropped because an earlier one has the same picture and prompt.
    """

    rows_in: int = 0
    rows: int = 0
    shards: int = 0
    shards_made: int = 0
    left_out: Skips = field(default_factory=Skips)
    unusable: Skips = field(default_factory=Skips)
    filtered: Skips = field(default_factory=Skips)
    repeats: Skips = field(default_factory=Skips)

    def count(self, shard: TaskReport) -> None:
        """Takes a shard of the data set into account."""
        self.rows_in += shard.rows_in
        self.rows += shard.rows
        self.unusable.merge(shard.unusable)
        self.filtered.merge(shard.filtered)
        self.repeats.merge(shard.repeats)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, the same for every run that ends with these shards."""
        counts = {"rows_in": self.rows_in, "rows": self.rows, "shards": self.shards}
        return counts | {n: getattr(self, n).to_dict() for n in ("left_out", "unusable", "filtered", "repeats")}


def format_pairs(out: Path, plan: FormatPlan, run: Run | None = None) -> FormatReport:
    """Makes the data set, or what is missing of it.

    Args:
        out: folder, made when it does not exist.
        plan: what it is to hold.
        run: how work is handed out; None does it in this process, `partial(in_processes, workers=N)` in several.

    Raises:
        ConfigError, DataError, MissingExtra, OutputError: see those; finished shards stay.
    """
    run = run or partial(in_processes, workers=1)
    _keep_apart(out, plan.sources)
    inputs = inputs_of(plan.sources)
    try:
        with sole_writer(out):
            config = plan.to_dict(inputs)
            claim(out, config)
            with _free_again(out):
                surveys = _surveyed(out, inputs, plan.settings.names, run)
                tasks = plan_tasks(out, plan, inputs, surveys)
            return _finished(out, config, surveys, tasks, run)
    except OSError as error:
        raise OutputError(
            f"{error.filename or out}: {error.strerror or error}; finished shards stay, run it again to go on"
        ) from error
    except BrokenProcessPool as error:
        raise OutputError(
            f"{out}: a worker process was killed (out of memory?); finished shards stay, run it again to go on"
        ) from error


@contextlib.contextmanager
def _free_again(out: Path) -> Iterator[None]:
    """A command that turns out to be wrong before anything is made leaves the folder to the next one."""
    try:
        yield
    except Img2PromptError:
        if not any(out.glob("shard-*")):
            for name in ("survey.json", "config.json"):
                (out / name).unlink(missing_ok=True)
        raise


def plan_tasks(out: Path, plan: FormatPlan, inputs: Sequence[Input], surveys: Sequence[Survey]) -> list[ShardTask]:
    """The shards of a data set: `shard-<input>-<part>.parquet`, which sort in the order of their rows."""
    found = dict.fromkeys(name for one in surveys for name in one.columns)
    missing = [name for name in plan.keep or () if name not in found]
    if missing:
        raise ConfigError(f"--keep {missing[0]}: no source has such a column; they have {', '.join(found) or 'none'}")
    kept = tuple(name for name in found if plan.keep is None or name in plan.keep)
    settings = replace(plan.settings, columns=(*OWN_COLUMNS, *kept))
    return [
        ShardTask(
            made.source,
            made.label,
            range(start, min(start + plan.rows_per_shard, one.rows)),
            settings,
            out.absolute() / f"shard-{number:05d}-{part:05d}.parquet",  # workers may stand in other folders
        )
        for number, (made, one) in enumerate(zip(inputs, surveys, strict=True))
        for part, start in enumerate(range(0, one.rows, plan.rows_per_shard))
    ]


def _surveyed(out: Path, inputs: Sequence[Input], names: Mapping[str, str], run: Run) -> list[Survey]:
    path = out / "survey.json"
    if path.exists():  # config.json says that the inputs are the same
        return [Survey.from_dict(facts) for facts in json.loads(path.read_text(encoding="utf-8"))]
    done: dict[str, Survey] = {}
    items = [(made, names) for made in inputs]
    for one in track(run(survey, items), total=len(items), unit="input", label="counting"):
        done[one.source] = one
    surveys = [done[made.source] for made in inputs]
    if not any(one.rows for one in surveys):
        left_out = _sum(one.left_out for one in surveys)
        raise DataError(
            f"{inputs[0].source}: no pairs in {len(inputs)} inputs; {next(left_out.lines(), 'all are empty')}"
        )
    text = json.dumps([one.to_dict() for one in surveys], indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())
    return surveys


def _finished(
    out: Path, config: Mapping[str, Any], surveys: Sequence[Survey], tasks: Sequence[ShardTask], run: Run
) -> FormatReport:
    """Makes what is missing and writes the manifest."""
    _distrust(out)
    missing = [task for task in tasks if standing(task) is None]
    if missing:
        (out / "manifest.json").unlink(missing_ok=True)  # it promises shards that do not stand
    for _ in track(run(run_task, missing), total=len(missing), unit="shard", label="formatting"):
        pass
    if not (out / "manifest.json").exists():
        _without_repeats(tasks, run)
    report = FormatReport(shards=len(tasks), shards_made=len(missing), left_out=_sum(one.left_out for one in surveys))
    shards = []
    for one in map(_report, tasks):  # one at a time: the examples of very many shards would fill the memory
        report.count(one)
        shards.append({name: getattr(one, name) for name in ("file", "rows", "bytes", "sha256")})
    facts = {"rows": report.rows, "columns": list(tasks[0].settings.columns), "report": report.to_dict()}
    close_manifest(out, {**config, **facts, "shards": shards})
    return report


def _distrust(out: Path) -> None:
    """Takes the marks of damaged shards away from a finished data set, so that they are made again."""
    try:
        shards = read_manifest(out)["shards"]
    except DataError:
        return
    for shard in shards:
        try:
            check_shard(out / shard["file"], shard, verify=True)
        except DataError:
            (out / shard["file"]).with_suffix(".json").unlink(missing_ok=True)


def _without_repeats(tasks: Sequence[ShardTask], run: Run) -> None:
    found = find_repeats([task.out for task in tasks])
    items = [(tasks[number], _report(tasks[number]), positions) for number, positions in found.items()]
    for _ in track(run(_drop, items), total=len(items), unit="shard", label="dropping repeats"):
        pass


def _drop(item: tuple[ShardTask, TaskReport, frozenset[int]]) -> TaskReport:
    return drop_repeats(*item)


def _report(task: ShardTask) -> TaskReport:
    report = standing(task)
    if report is None:
        raise OutputError(f"{task.out}: vanished while the data set was written; run the same command again")
    return report


def _sum(parts: Iterator[Skips]) -> Skips:
    whole = Skips()
    for part in parts:
        whole.merge(part)
    return whole


def _keep_apart(out: Path, sources: Sequence[str]) -> None:
    """What is written must not be read again as a source.

    Raises:
        ConfigError: OUT lies in a source, or is one.
    """
    place = out.resolve()
    for source in sources:
        if hub_name(source) is None and place.is_relative_to(Path(source).resolve()):
            raise ConfigError(f"{out}: lies in the source {source}; choose a folder outside of it")

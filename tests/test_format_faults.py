"""`pairs format` when it is killed, when another run is there, when folders vanish and disks are full or read-only."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_formats import finished, hashes, plan, write_table

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.making.format_run import format_pairs
from img2prompt.pairs.shards import read_shards

ROWS = 700  # enough that a run lasts longer than the moments at which it is killed


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("source"), count=ROWS)


@pytest.fixture(scope="module")
def undisturbed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    format_pairs(folder, plan(table))
    return folder


@pytest.fixture(scope="module")
def duration_s(table: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Of a run on this machine as it is now, from its go."""
    process = started(table, tmp_path_factory.mktemp("timed") / "out", 1)
    before = time.monotonic()
    go(process)
    assert process.wait(60) == 0
    return time.monotonic() - before


def started(table: Path, folder: Path, workers: int) -> subprocess.Popen[str]:
    """A run in a process group of its own, which waits for its go when everything is imported."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    program = Path(__file__).with_name("tiny_formats.py")
    process = subprocess.Popen(
        [sys.executable, str(program), str(table), str(folder), str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_for(condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_and_run_to_the_end(
    table: Path, undisturbed: Path, duration_s: float, tmp_path: Path, seed: int
) -> None:
    folder, rng = tmp_path / "killed", random.Random(seed)
    interrupted = 0
    for _ in range(3):
        process = started(table, folder, 1)
        go(process)
        time.sleep(rng.uniform(0, duration_s / 2))
        kill(process)
        interrupted += not (folder / "manifest.json").exists()
    assert interrupted, "every run ended before it was killed; raise ROWS"
    format_pairs(folder, plan(table))
    assert hashes(folder) == hashes(undisturbed)


@pytest.mark.parametrize("stage", ["shards", "repeats"])
def test_a_killed_group_of_processes_leaves_nobody_behind(
    table: Path, undisturbed: Path, tmp_path: Path, stage: str
) -> None:
    """Killed with two workers while shards are made, and while repeats are dropped."""
    folder = tmp_path / "killed"
    process = started(table, folder, 2)
    go(process)
    last = folder / f"shard-00000-{ROWS // 10 - 1:05d}.json"
    wait_for(lambda: any(folder.glob("*.parquet")) if stage == "shards" else last.exists())
    time.sleep(random.Random(stage).uniform(0, 0.1))
    kill(process)
    format_pairs(folder, plan(table))  # refused if a worker still held the folder
    assert hashes(folder) == hashes(undisturbed)


class Killed(BaseException):
    """The end of a process, for tests of moments that a signal would hardly meet."""


@pytest.mark.parametrize("before", [True, False])
def test_a_stop_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """Every file that is written takes its name by `Path.replace`; the run ends there, before it or after it."""
    source = write_table(tmp_path / "source")
    format_pairs(tmp_path / "undisturbed", plan(source))
    replace, stopped = Path.replace, 0
    for moment in range(before, 100, 2):
        count = iter(range(100))

        def deadly(self: Path, target: Path, moment: int = moment, count: Iterator[int] = count) -> Path:
            number = next(count)
            if number == moment and before:
                raise Killed
            result = replace(self, target)
            if number == moment:
                raise Killed
            return result

        out = tmp_path / f"out-{moment}"
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", deadly)
            try:
                format_pairs(out, plan(source))
                break
            except Killed:
                stopped += 1
        format_pairs(out, plan(source))
        assert hashes(out) == hashes(tmp_path / "undisturbed"), f"stopped at write {moment}"
    assert stopped >= 9  # config, survey, shards and marks, those again that lose repeats, manifest


def test_a_second_run_is_refused(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    process = started(table, folder, 1)
    go(process)
    try:
        wait_for(lambda: (folder / "config.json").exists())
        os.killpg(process.pid, signal.SIGSTOP)  # it stays in the middle of its work
        with pytest.raises(OutputError, match="another process is writing"):
            format_pairs(folder, plan(table))
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(60) == 0
    finally:
        kill(process)
    assert hashes(folder) == hashes(undisturbed)


def after(count: int, act: Callable[[], object]) -> Callable[..., Iterator[Any]]:
    """Hands out work in this process, and does something after so many shards."""

    def run(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == count and work.__name__ == "run_task":
                act()
            yield work(item)

    return run


@pytest.mark.parametrize("gone", ["pictures", "."])
def test_a_folder_that_vanishes_stops_the_run_and_loses_nothing(tmp_path: Path, gone: str) -> None:
    source = write_table(tmp_path / "source")
    format_pairs(tmp_path / "undisturbed", plan(source))
    folder, away = source.parent / gone, tmp_path / "away"
    with pytest.raises(DataError, match=r"vanished; finished shards stay, bring it back"):
        format_pairs(tmp_path / "out", plan(source), after(2, lambda: shutil.move(folder, away)))
    assert len(list((tmp_path / "out").glob("shard-*.parquet"))) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()
    shutil.move(away, folder)
    format_pairs(tmp_path / "out", plan(source))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "undisturbed")


def test_an_output_folder_that_vanishes_is_one_line(table: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        format_pairs(tmp_path / "out", plan(table), after(2, lambda: shutil.rmtree(tmp_path / "out")))


def test_a_picture_that_was_never_there_is_counted(tmp_path: Path) -> None:
    source = write_table(tmp_path / "source")
    with source.open("a", encoding="utf-8") as file:
        file.write(f"elsewhere/0.jpg,{'long ' * 13},own-98,5\nelsewhere/1.jpg,one more,own-99,5\n")
    report = format_pairs(tmp_path / "out", plan(source))
    assert report.unusable.counts["ImageNotFound"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("no file system can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_more_space_ends_the_work(table: Path, undisturbed: Path, small_disk: Path) -> None:
    folder = small_disk / "out"
    with pytest.raises(OutputError, match="No space left on device; finished shards stay"):
        format_pairs(folder, plan(table))
    assert any(folder.glob("*.parquet")), "the disk was too small for a shard"
    assert not list(folder.glob(".*.tmp"))
    with pytest.raises(DataError, match="unfinished; run the command"):
        read_shards(folder)
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    format_pairs(folder, plan(table))
    assert hashes(folder) == hashes(undisturbed)
    assert finished(folder)["rows"] == len(read_shards(folder))


def test_a_read_only_disk_is_one_line(table: Path, small_disk: Path) -> None:
    (small_disk / "made").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for folder in (small_disk / "made", small_disk / "new"):
        with pytest.raises(OutputError, match="Read-only file system"):
            format_pairs(folder, plan(table))

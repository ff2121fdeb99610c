"""Shards: whole or absent, continued after any kill to the same bytes, damaged ones refused with one line."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_rows import COLUMNS, Noise, TooFew, plan

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.manifest import read_manifest
from img2prompt.pairs.shards import ShardPlan, read_shards, write_shards


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != ".lock"
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "undisturbed"
    assert write_shards(folder, plan(), Noise()) == 7
    return folder


def test_what_was_written_is_read(undisturbed: Path) -> None:
    data = read_shards(undisturbed)
    assert data.column_names == list(COLUMNS)
    assert data["id"] == [f"row-{i}" for i in range(25)]
    assert data[24]["prompt"] == "noise 24 “ü”"
    assert data[3]["image"]["bytes"] == next(iter(Noise()(range(3, 4))))["image"]


def test_images_decode_when_asked(undisturbed: Path) -> None:
    image = read_shards(undisturbed, decode=True)[5]["image"]
    assert image.tobytes() == random.Random(5).randbytes(192)


def test_other_programs_see_an_image_column(undisturbed: Path, tmp_path: Path) -> None:
    files = sorted(str(path) for path in undisturbed.glob("*.parquet"))
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert isinstance(data.features["image"], datasets.Image)


def test_large_sets_are_mapped_with_the_same_rows(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("img2prompt.pairs.shards.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert read_shards(undisturbed).to_list() == [
        {**row, "image": {"bytes": row["image"], "path": None}} for row in Noise()(range(25))
    ]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 200), size=st.integers(1, 50))
def test_shards_cover_every_row_once(rows: int, size: int) -> None:
    shards = ShardPlan(rows, COLUMNS, rows_per_shard=size).shards()
    assert [row for shard in shards.values() for row in shard] == list(range(rows))
    assert list(shards) == sorted(shards)


def test_processes_write_the_same_bytes_as_one(undisturbed: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / "pool", plan(), Noise(), workers=2)
    assert hashes(tmp_path / "pool") == hashes(undisturbed)


def test_a_finished_folder_is_left_alone(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("*.parquet")}
    assert write_shards(undisturbed, plan(), Noise()) == 0
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.glob("*.parquet")}


def test_rows_that_do_not_come_are_a_bug_of_the_maker(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 rows made, 4 planned"):
        write_shards(tmp_path / "few", plan(), TooFew())


RUN = """
import sys
sys.path.insert(0, {tests!r})
from noise_rows import Noise, plan
from img2prompt.pairs.shards import write_shards
if __name__ == "__main__":
    print("ready", flush=True)
    write_shards(sys.argv[1], plan(), Noise(float(sys.argv[2])), workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "run.py"
    path.write_text(RUN.format(tests=str(Path(__file__).parent)))
    return path


def start(program: Path, folder: Path, delay_s: float, workers: int = 1) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(program), str(folder), str(delay_s), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)


def wait_for(condition: Any, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.mark.parametrize(("seed", "workers"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_killed_at_any_moment_and_run_again(
    program: Path, undisturbed: Path, tmp_path: Path, seed: int, workers: int
) -> None:
    folder, rng = tmp_path / "killed", random.Random(seed)
    process = start(program, folder, 0.02, workers)
    wait_for(lambda: (folder / "config.json").exists())
    if workers > 1:
        wait_for(lambda: any(folder.glob("*.parquet")))
    time.sleep(rng.uniform(0.0, 0.45))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "manifest.json").exists(), "the run ended before it was killed; make it slower"
    with pytest.raises(DataError, match=r"unfinished; run the command"):
        read_shards(folder)
    made = write_shards(folder, plan(), Noise())
    assert hashes(folder) == hashes(undisturbed)
    assert made <= 7


def test_a_second_writer_is_refused_and_the_lock_dies_with_the_first(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    process = start(program, folder, 0.5)
    try:
        wait_for(lambda: (folder / "config.json").exists())
        with pytest.raises(OutputError, match="another process is writing"):
            write_shards(folder, plan(), Noise())
    finally:
        process.kill()
        process.wait()
    assert write_shards(folder, plan(), Noise()) >= 1


def test_workers_end_with_their_parent(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "orphans"
    process = start(program, folder, 0.1, workers=2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no /proc here to list processes")
    try:
        wait_for(lambda: any(folder.glob("*.parquet")))
        pids = children.read_text().split()
    finally:
        process.kill()
        process.wait()
    assert len(pids) >= 2

    def gone(pid: str) -> bool:
        try:
            return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True

    wait_for(lambda: all(gone(pid) for pid in pids), timeout_s=5)


@pytest.mark.parametrize(
    ("other", "message"),
    [(plan(rows=26), "rows 25 there, 26 asked for"), (plan(seed=2), "seed None there, 2 asked for")],
)
def test_another_configuration_is_refused(undisturbed: Path, other: ShardPlan, message: str) -> None:
    before = hashes(undisturbed)
    with pytest.raises(OutputError, match=message):
        write_shards(undisturbed, other, Noise())
    assert hashes(undisturbed) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(OutputError, match=r"holds other files \(thesis.docx"):
        write_shards(tmp_path, plan(), Noise())


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: File exists; choose a folder"):
        write_shards(tmp_path / "file", plan(), Noise())


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names")
def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="device or pipe"):
        write_atomically(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from noise_rows import Noise, plan
from img2prompt.errors import OutputError
from img2prompt.pairs.shards import write_shards
resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
try:
    write_shards(sys.argv[1], plan(), Noise())
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_disk_that_takes_no_more(undisturbed: Path, tmp_path: Path) -> None:
    """The limit stands between the size of the last shard (one row) and the others, so one write must fail."""
    folder = tmp_path / "full"
    small = min(path.stat().st_size for path in undisturbed.glob("*.parquet"))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    script = FULL.format(tests=str(Path(__file__).parent)).replace("2500", str(small + 1))
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, env=environment
    )
    assert "File too large; finished shards stay" in result.stdout, result.stderr
    assert not list(folder.glob(".*.tmp"))
    assert write_shards(folder, plan(), Noise()) == 7
    assert hashes(folder) == hashes(undisturbed)


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in undisturbed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "bytes where the manifest says"),
        (flip, "damaged"),
        (Path.unlink, "No such file"),
        (lambda p: p.write_bytes(b""), "0 bytes"),
    ],
)
def test_a_damaged_shard_is_refused_then_made_again(copy: Path, undisturbed: Path, damage: Any, message: str) -> None:
    damage(copy / "shard-00002.parquet")
    with pytest.raises(DataError, match=f"shard-00002.parquet: .*{message}"):
        read_shards(copy)
    assert write_shards(copy, plan(), Noise()) == 1
    assert hashes(copy) == hashes(undisturbed)


@pytest.mark.parametrize("damage", [cut, lambda p: p.write_bytes(b"")])
def test_an_unfinished_folder_with_a_cut_shard_is_mended(copy: Path, undisturbed: Path, damage: Any) -> None:
    (copy / "manifest.json").unlink()
    damage(copy / "shard-00002.parquet")
    assert write_shards(copy, plan(), Noise()) == 1
    assert hashes(copy) == hashes(undisturbed)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "other", "rows": 0, "shards": []}', "\x00\xff"])
def test_a_damaged_manifest(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: (damaged|not a manifest)"):
        read_manifest(copy)


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json: no data set of ours"):
        read_shards(tmp_path)


def test_bytes_that_only_the_hash_notices_are_still_an_error_of_ours(copy: Path) -> None:
    """Without verification a damaged shard may be read or refused, but never breaks out of the error tree."""
    for seed in range(30):
        path = copy / "shard-00001.parquet"
        whole, rng = path.read_bytes(), random.Random(seed)
        data = bytearray(whole)
        for _ in range(20):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            read_shards(copy, verify=False).to_list()
        path.write_bytes(whole)

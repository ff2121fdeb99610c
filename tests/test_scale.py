"""Tests of running shard workers on Ray (the real one): reports, errors, killed workers, silence."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scale_tasks import Writer, WriteTask, write

from img2prompt.errors import ClusterError, ConfigError
from img2prompt.jobs.pairs.scale import Cluster, run_many
from img2prompt.jobs.pairs.scale_ray import Actor, Ground, answer

ray = pytest.importorskip("ray", reason="the extra scale is not installed")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """What `scale_tasks.drive` saw, its folder, and its stderr."""
    root = tmp_path_factory.mktemp("scale")
    command = [sys.executable, str(HERE / "scale_tasks.py"), str(root)]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path, "HOME": str(root)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), root, done.stderr


def test_every_task_is_done_once_and_reported(told):
    seen, root, _ = told
    assert seen["first"]["error"] == ""
    assert [(r["out"], r["made"]) for r in seen["first"]["reports"]] == [(f"{i}.txt", True) for i in range(4)]
    assert [(root / "a" / f"{i}.txt").read_text() for i in range(4)] == [f"{i}.txt" for i in range(4)]


def test_a_killed_worker_loses_its_own_shard_which_is_redone(told):
    _, root, _ = told
    attempts = [len((root / "a" / f"{i}.attempts").read_text().split()) for i in range(4)]
    assert attempts == [2, 3, 2, 2]  # the run again looked at each once more


def test_shards_that_stand_are_not_made_again(told):
    assert [r["made"] for r in told[0]["again"]["reports"]] == [False] * 4


def test_a_class_is_made_once_and_serves_many_tasks(told):
    assert sorted(r["calls"] for r in told[0]["actors"]["reports"]) == [1, 2, 3]


def test_a_users_error_comes_as_itself_in_one_line(told):
    seen, _, _ = told
    assert seen["data"]["error"] == "DataError: 0.txt: cut in the middle; make it again"


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # workers go where the command was given; here they are this process


def test_a_model_that_is_missing_is_said_by_the_task_not_by_the_actor(tmp_path):
    actor = Actor(Ground(tmp_path, tmp_path), Writer, ("missing",))
    told = actor({"number": 3, "task": pickle.dumps(WriteTask(tmp_path / "0.txt"))})
    assert told["number"] == 3 and "hf download it" in str(pickle.loads(told["answer"]))


def test_a_machine_that_does_not_share_the_folder_says_so(tmp_path):
    row = {"number": 0, "task": pickle.dumps(WriteTask(tmp_path / "0.txt"))}
    for ground in (Ground(tmp_path, tmp_path / "no" / "mark"), Ground(tmp_path / "no", tmp_path)):
        error = pickle.loads(answer(row, ground, write)["answer"])
        assert isinstance(error, ClusterError) and f"does not see {tmp_path / 'no'}" in str(error)
    assert not (tmp_path / "0.txt").exists()


def test_all_sockets_of_a_local_cluster_are_on_this_machine_alone(told):
    assert {line.split()[0].removeprefix("::ffff:") for line in told[0]["sockets"]} == {"127.0.0.1"}, told[0]["sockets"]


def test_a_programming_error_keeps_its_traceback(told):
    assert told[0]["bug"]["error"].startswith("bug ")
    assert "a programming error" in told[0]["bug"]["error"] and "scale_tasks.py" in told[0]["bug"]["error"]


def test_a_task_that_always_kills_its_worker_ends_the_run(told):
    seen, root, _ = told
    assert seen["poison"]["error"].startswith("ClusterError: local: the worker of a shard was killed 2 times")
    assert len((root / "e" / "1.attempts").read_text().split()) == 2
    assert (root / "e" / "0.txt").exists()


def test_silence_ends_after_the_time_limit_and_says_what_to_do(told):
    silence = told[0]["silence"]
    assert silence["error"].startswith("ClusterError: local: no shard was finished in 2 s (0 of 1 stand); ")
    assert "--ray-timeout" in silence["error"] and silence["seconds"] < 20


def test_no_tasks_give_no_reports(told):
    assert told[0]["nothing"]["reports"] == [] and told[0]["nothing"]["error"] == ""


def test_nothing_of_rays_own_talk_reaches_the_user(told):
    lines = [line for line in told[2].splitlines() if line.strip()]
    # Of every pool of actors Ray's C++ says that it could not restart them if the driver were gone.
    assert [line for line in lines if "constructor arguments in the object store" not in line] == []


def test_marks_of_the_shared_folder_are_taken_away(told):
    assert not list(told[1].rglob(".*.tmp"))


@pytest.mark.parametrize("address", ["127.0.0.1", "ray://127.0.0.1:10001", "here:", ":6379", "head:port"])
def test_what_is_no_address_is_refused(address, tmp_path):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        list(run_many(print, [1], cluster=Cluster(address), folder=tmp_path))


def test_an_address_where_nobody_listens_is_said_at_once(tmp_path):
    with pytest.raises(ClusterError, match=r"127.0.0.1:1: no Ray head node answers .*ray start --head"):
        list(run_many(print, [1], cluster=Cluster("127.0.0.1:1"), folder=tmp_path))


def test_an_end_that_never_comes_does_not_keep_the_process(tmp_path):
    program = (
        "import atexit, time; from img2prompt.jobs.pairs.scale_ray import _Session;"
        "atexit.register(time.sleep, 60); s = _Session(lambda: None, lambda: time.sleep(60));"
        "s.begin(5); s.end(0.2); print('said')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "said\n")

"""`pairs split` through the command line, on real sentence embeddings: who keeps which side, and what is said of it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_pairs import SUBJECTS, png, write_csv, write_parquet

from img2prompt.cli import main
from img2prompt.errors import MissingExtra
from img2prompt.models import sentence
from img2prompt.pairs.shards import ShardPlan, read_shards, write_shards

WAYS = ("{}", "{}.", "A photo of {}", "{}, highly detailed", "{}, oil painting", "{} at night")


@pytest.fixture(scope="module")
def encoder() -> sentence.SentenceEncoder:
    """MiniLM, loaded once."""
    try:
        return sentence.SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _shared(encoder: sentence.SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    from img2prompt.jobs.pairs import dividing

    monkeypatch.setattr(dividing, "SentenceEncoder", lambda *_, **__: encoder)


def prompts(subjects: int, ways: int = len(WAYS)) -> list[str]:
    """Near-duplicates and others, a subject after the other."""
    return [way.format(subject) for subject in SUBJECTS[:subjects] for way in WAYS[:ways]]


def write_texts(path: Path, texts: list[str]) -> Path:
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def run(*words: object) -> int:
    return main(["pairs", "split", *(str(word) for word in words)])


def assigned(folder: Path) -> list[dict[str, str]]:
    with (folder / "assignment.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sides(folder: Path) -> dict[str, str]:
    return {row["prompt"]: row["side"] for row in assigned(folder)}


def report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def test_every_row_gets_a_side_and_none_gives_another_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_texts(tmp_path / "one.txt", prompts(12))
    two = write_csv(tmp_path / "two", prompts(20)[72:])
    benchmark = tmp_path / "bench.csv"
    benchmark.write_text("Prompt,Category\na wooden rowing boat,x\nthe quarterly report of a bank,y\n")
    assert run(one, two, tmp_path / "out", "--validation", 0.2, "--test", 0.2, "--benchmark", benchmark) == 0
    out, err = capsys.readouterr()
    rows = assigned(tmp_path / "out")
    assert [row["prompt"] for row in rows] == prompts(20), "all rows, in their order"
    assert len({row["id"] for row in rows}) == 120
    clusters: dict[str, set[str]] = {}
    for row in rows:
        clusters.setdefault(row["cluster"], set()).add(row["side"])
    assert all(len(own) == 1 for own in clusters.values())
    facts = report(tmp_path / "out")
    assert Counter(row["side"] for row in rows) == {
        name: side["rows"] for name, side in facts["sides"].items() if side["rows"]
    }
    assert [(pair["of"], pair["near"]) for pair in facts["leakage"]] == [
        ("validation", "train"), ("test", "train"), ("test", "validation"),
    ]  # fmt: skip
    assert all(pair["counts"]["0.9"] == pair["same_text"] == 0 for pair in facts["leakage"])
    assert any(pair["counts"]["0.8"] for pair in facts["leakage"]), "the counts do count"
    boat = sides(tmp_path / "out")["a wooden rowing boat"]
    for pair in facts["benchmarks"]:
        assert pair["rows"] == 2
        assert pair["same_text"] == pair["counts"]["0.99"] == int(pair["near"] == boat)
    for said in (
        "120 rows in",
        f"--only-against --against {benchmark}",
        "one.txt",
        "two",
        "test near validation",
        "bench.csv near train",
    ):
        assert said in out
    assert "written: " in err
    assert not list((tmp_path / "out").glob("clusters*"))


def test_a_finished_run_is_read_again_and_another_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "a.txt", prompts(10))
    assert run(texts, tmp_path / "out") == 0
    first = capsys.readouterr().out
    stamp = (tmp_path / "out" / "assignment.csv").stat().st_mtime_ns
    assert run(texts, tmp_path / "out") == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "out" / "assignment.csv").stat().st_mtime_ns == stamp
    assert run(texts, tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == report(tmp_path / "out")
    assert run(texts, tmp_path / "out", "--seed", 1) == 2
    assert "seed 0 there, 1 asked for" in capsys.readouterr().err
    write_texts(texts, prompts(11))
    assert run(texts, tmp_path / "out") == 2
    assert "another configuration" in capsys.readouterr().err


def test_rows_of_an_earlier_division_keep_their_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write_texts(tmp_path / "old.txt", prompts(20, ways=2))
    assert run(old, tmp_path / "first", "--validation", 0.3, "--test", 0.3, "--tolerance", "inf") == 0
    before = sides(tmp_path / "first")
    new = write_texts(tmp_path / "new.txt", ["a completely new thing", *prompts(20)])
    more = (new, tmp_path / "second", "--seed", 7, "--previous", tmp_path / "first")
    assert run(*more, "--validation", 0.05, "--test", 0, "--benchmark", old) == 0
    after = sides(tmp_path / "second")
    assert {prompt: after[prompt] for prompt in before} == before, "with other shares and another seed"
    facts = report(tmp_path / "second")
    assert facts["previous"] == {"rows": 40, "new": 81, "gone": 0}
    assert all(pair["counts"]["0.9"] == 0 for pair in facts["leakage"])
    assert "40 rows kept the sides they had, 81 are new" in capsys.readouterr().out


def test_rows_that_are_gone_still_count(tmp_path: Path) -> None:
    run(write_texts(tmp_path / "old.txt", prompts(20, ways=1)), tmp_path / "first", "--validation", 0.4, "--test", 0.2)
    before = sides(tmp_path / "first")
    new = write_texts(tmp_path / "new.txt", [f"{subject}." for subject in SUBJECTS])
    assert run(new, tmp_path / "second", "--previous", tmp_path / "first" / "assignment.csv", "--seed", 5) == 0
    assert sides(tmp_path / "second") == {f"{prompt}.": side for prompt, side in before.items()}
    assert report(tmp_path / "second")["previous"] == {"rows": 0, "new": 20, "gone": 20}


def test_a_column_of_groups(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    lines = [f"{text},artist {place % 7}" for place, text in enumerate(prompts(10, ways=2))]
    table.write_text("\n".join(["prompt,artist", *lines, "a lonely prompt,"]))
    command = (table, "--group", "artist", "--validation", 0.2, "--test", 0.2)
    assert run(*command[:1], tmp_path / "out", *command[1:]) == 0
    owners: dict[str, set[str]] = {}
    for place, row in enumerate(assigned(tmp_path / "out")[:-1]):
        owners.setdefault(f"{place % 7}", set()).add(row["side"])
    assert all(len(own) == 1 for own in owners.values())
    assert {side for own in owners.values() for side in own} == {"train", "validation", "test"}
    assert any(pair["counts"]["0.9"] for pair in report(tmp_path / "out")["leakage"]), "prompts leak, and it is said"
    assert run(*command[:1], tmp_path / "quick", *command[1:], "--no-leakage") == 0
    assert sides(tmp_path / "quick") == sides(tmp_path / "out")
    assert "leakage" not in report(tmp_path / "quick")
    # With clusters, too, one artist's prompt ties all of it to another's.
    assert run(*command[:1], tmp_path / "both", *command[1:], "--clusters") == 0
    assert all(pair["counts"]["0.9"] == 0 for pair in report(tmp_path / "both")["leakage"])


def test_captions_of_one_picture_share_a_side(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("\n".join(["image,caption", *(f"{place // 5}.jpg,{text}" for place, text in enumerate(SUBJECTS))]))
    assert run(table, tmp_path / "out", "--validation", 0.3, "--test", 0.3, "--tolerance", 0) == 0
    got = [row["side"] for row in assigned(tmp_path / "out")]
    assert all(len(set(got[first : first + 5])) == 1 for first in range(0, 20, 5))
    assert len(set(got)) == 3


def test_captions_of_one_picture_inside_shards_share_a_side(tmp_path: Path) -> None:
    def rows(wanted: range) -> list[dict[str, Any]]:
        return [{"id": f"row-{i}", "image": png(i // 5), "prompt": SUBJECTS[i]} for i in wanted]

    write_shards(tmp_path / "one", ShardPlan(20, ("id", "image", "prompt"), rows_per_shard=7), rows)
    assert run(tmp_path / "one", tmp_path / "out", "--validation", 0.3, "--test", 0.3, "--tolerance", 0) == 0
    got = [row["side"] for row in assigned(tmp_path / "out")]
    assert all(len(set(got[first : first + 5])) == 1 for first in range(0, 20, 5))
    assert len(set(got)) == 3


def test_sides_as_shards(tmp_path: Path) -> None:
    one = write_parquet(tmp_path / "one", prompts(4))
    two = write_parquet(tmp_path / "two", prompts(8)[24:], first=24)
    assert run(one, two, tmp_path / "out", "--validation", 0.2, "--test", 0.2, "--shards") == 0
    wanted = {(row["prompt"], row["image"]["bytes"]) for folder in (one, two) for row in read_shards(folder)}
    got = []
    for side in ("train", "validation", "test"):
        data = read_shards(tmp_path / "out" / side)
        assert {sides(tmp_path / "out")[prompt] for prompt in data["prompt"]} == {side}
        got += [(row["prompt"], row["image"]["bytes"]) for row in data]
    assert len(got) == 48
    assert set(got) == wanted


HARD = ["two\nlines", 'a "quoted, one"', "猫の絵 🐈‍⬛", "عَرَبِيّ", "tab\there", "=1+1", "a" * 5000, "Ü" * 40]


def test_prompts_in_all_scripts_survive(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in [*HARD, ""]), "utf-8")
    assert run(tmp_path / "a.jsonl", tmp_path / "out") == 0
    assert [row["prompt"] for row in assigned(tmp_path / "out")] == HARD
    assert report(tmp_path / "out")["skipped"] == {"NoPrompt": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.csv", "out"], "absent.csv: no such file or folder"),
        (["a.txt", "out", "--prompt-column", "caption"], "no column 'caption'; found: prompt"),
        (["a.txt", "out", "--group", "artist"], "no column 'artist'; found: prompt"),
        (["a.txt", "out", "--validation", "0.6", "--test", "0.5"], "--validation and --test: shares of 0.6 and 0.5"),
        (["a.txt", "out", "--validation", "0", "--test", "0"], "--validation and --test"),
        (["a.txt", "out", "--validation", "2"], "2: from 0 to 0.99 is possible"),
        (["a.txt", "out", "--no-leakage"], "--no-leakage goes with --group alone"),
        (["a.txt", "out", "--shards"], "--shards: a.txt is no data set of ours; make one first"),
        (["a.txt", "out", "--previous", "a.txt"], "no column 'side'; found: prompt"),
        (["a.txt", "out", "--benchmark", "absent.csv"], "absent.csv: no such file or folder"),
        (["one.txt", "out"], "one.txt: rows with a prompt: 1; nothing to divide"),
        (["same.txt", "out"], "all rows are one cluster; raise --threshold"),
        (["a.txt", "full"], "full: holds other files (stranger, ...)"),
        (["a.txt", "a.txt/out"], "a.txt/out"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "a.txt", prompts(3))
    write_texts(tmp_path / "one.txt", ["a"])
    write_texts(tmp_path / "same.txt", ["a cat", "A cat", "a cat."])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "stranger").touch()
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_killed_run_goes_on_to_the_same_files_and_two_at_once_are_refused(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "a.txt", prompts(20))
    shards = write_parquet(tmp_path / "shards", prompts(20))
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "img2prompt", "pairs", "split", shards, tmp_path / "killed", "--shards"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "config.json").exists():
        time.sleep(0.01)
        assert process.poll() is None
    assert run(texts, tmp_path / "killed") == 2, "another run is writing there"
    while not (tmp_path / "killed" / "assignment.csv").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(shards, tmp_path / "killed", "--shards") == 0
    assert run(shards, tmp_path / "whole", "--shards") == 0
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes(), path

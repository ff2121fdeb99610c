"""`img2prompt pairs dedup` as a user runs it: real prompts, the real sentence model, files of all kinds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img2prompt.cli import main
from img2prompt.errors import MissingExtra
from img2prompt.models.sentence import SentenceEncoder, find_model
from img2prompt.pairs.shards import ShardPlan, read_shards, write_shards

PROMPTS = [
    "a red cat on a mat",
    "a portrait of an old sailor, oil painting",
    "A red cat on a mat.",
    "castle above the clouds, concept art",
    "a red cat on a mat",
    "a portrait of an old sailor, oil painting, highly detailed",
    "two bicycles against a brick wall",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        find_model()
    except MissingExtra as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_table(path: Path, prompts: list[str], **columns: list[Any]) -> Path:
    rows = [{"prompt": prompt, **{k: v[i] for k, v in columns.items()}} for i, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_table_of_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "prompts.jsonl", [*PROMPTS, "  "], score=[0, 1, 5, 2, "x", None, 3, 4])
    out = tmp_path / "out"
    assert main(["pairs", "dedup", str(table), str(out), "--threshold", "0.85", "--keep", "best:score", "--curve"]) == 0
    assert "7 prompts: 4 stay, 3 go" in capsys.readouterr().out
    kept = [row["prompt"] for row in lines(out / "survivors.jsonl")]
    assert kept == [
        PROMPTS[1],
        PROMPTS[2],
        PROMPTS[3],
        PROMPTS[6],
    ]  # those of most points
    gone = {row["row"]: row for row in lines(out / "removed.jsonl")}
    assert {row: found["survivor"]["row"] for row, found in gone.items()} == {0: 2, 4: 2, 5: 1}
    emb = SentenceEncoder().encode_many(PROMPTS)
    for row, found in gone.items():
        assert abs(found["cosine"] - float(emb[row] @ emb[found["survivor"]["row"]])) < 1e-5
    report = json.loads((out / "report.json").read_text())
    assert report["facts"]["left_out"] == {"NoPrompt": 1, "NoNumber": 1} and report["facts"]["method"] == "exact"
    counts = dict(map(tuple, report["curve"]))
    assert counts[0.98] >= counts[0.9] >= counts[0.7] and (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "oil painting" in (out / "report.html").read_text()
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".jsonl"}
    assert main(["pairs", "dedup", str(table), str(out), "--threshold", "0.85", "--keep", "best:score", "--curve"]) == 0
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".jsonl"}
    assert main(["pairs", "dedup", str(table), str(out), "--threshold", "0.8"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_data_set_of_ours_stays_one(tmp_path: Path) -> None:
    def make(rows: range) -> Any:
        return ({"image": bytes([i]) * 9, "prompt": PROMPTS[i], "id": f"row{i}"} for i in rows)

    write_shards(tmp_path / "in", ShardPlan(7, ("image", "prompt", "id"), rows_per_shard=3), make)
    out = tmp_path / "out"
    other = tmp_path / "val.txt"
    other.write_text("castle above clouds, concept art\n", encoding="utf-8")
    arguments = ["pairs", "dedup", str(tmp_path / "in"), str(out), "--threshold", "0.85", "--keep", "longest"]
    assert main([*arguments, "--against", str(other)]) == 0
    data = read_shards(out / "survivors")
    assert list(data["id"]) == ["row2", "row5", "row6"]
    assert [image["bytes"] for image in data["image"]] == [bytes([i]) * 9 for i in (2, 5, 6)]
    gone = lines(out / "removed.jsonl")
    castle = next(row for row in gone if row["id"] == "row3")
    assert castle["survivor"]["file"] == str(other) and castle["survivor"]["prompt"].startswith("castle")
    assert len(gone) == 4


def test_only_against_others(tmp_path: Path) -> None:
    table, other = write_table(tmp_path / "a.jsonl", PROMPTS), tmp_path / "b.txt"
    other.write_text("bicycles against a brick wall\n", encoding="utf-8")
    out = tmp_path / "out"
    arguments = ["pairs", "dedup", str(table), str(out), "--against", str(other), "--only-against"]
    assert main([*arguments, "--threshold", "0.85"]) == 0
    assert [row["prompt"] for row in lines(out / "survivors.jsonl")] == PROMPTS[:6]


def test_pictures_of_a_table_are_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"x")
    table = write_table(tmp_path / "t.jsonl", PROMPTS[:2], image=["pictures/a.png", "https://example.org/b.png"])
    assert main(["pairs", "dedup", str(table), str(tmp_path / "out"), "--approximate"]) == 0
    images = [row["image"] for row in lines(tmp_path / "out" / "survivors.jsonl")]
    assert images == [str(tmp_path / "pictures" / "a.png"), "https://example.org/b.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--keep", "best:score"], "no column 'score'"),
        (["--keep", "dearest"], "first, longest, shortest or best:COLUMN"),
        (["--only-against"], "goes with --against"),
        (["--threshold", "1.2"], "from 0.3 to 1"),
        (["--against", "nowhere.txt"], "no such file"),
        (["--exact", "--approximate"], "not allowed with"),
    ],
)
def test_what_a_user_gets_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    table = write_table(tmp_path / "a.jsonl", PROMPTS)
    assert main(["pairs", "dedup", str(table), str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_real_prompts_lose_only_near_ones(tmp_path: Path) -> None:
    packed = Path(__file__).parents[2] / "shared" / "data" / "prompts" / "prompts_176k.jsonl.gz"
    if not packed.exists():
        pytest.skip("the real prompts are not beside this clone")
    with gzip.open(packed, "rt", encoding="utf-8") as file:
        some = [json.loads(line)["prompt"] for number, line in enumerate(file) if number < 400]
    table = write_table(tmp_path / "real.jsonl", some)
    assert main(["pairs", "dedup", str(table), str(tmp_path / "out")]) == 0
    kept = [row["row"] for row in lines(tmp_path / "out" / "survivors.jsonl")]
    emb = SentenceEncoder(cache="default").encode_many(some).astype(np.float64)
    cosines = emb @ emb.T
    assert (cosines[np.ix_(kept, kept)] - np.eye(len(kept))).max() < 0.9
    assert cosines[:, kept].max(1).min() >= 0.9 - 1e-6

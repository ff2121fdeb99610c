"""Prompts of every source without its pictures: the same rows whatever file they lie in."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_pairs import write_csv, write_parquet, write_sidecars

from img2prompt.errors import DataError
from img2prompt.pairs.prompts import PromptRow, read_prompts
from img2prompt.pairs.skips import Skips

TEXTS = ["a cat", "ein Käfer, Öl", '"G I G" in red paint', "猫とキツネ 🐈‍⬛", "عربي", "x, y; z"]
SHARED = Path(__file__).parents[2] / "shared" / "data" / "prompts"


def read(path: Path | str, **options: object) -> tuple[list[PromptRow], Skips]:
    skips = Skips()
    return list(read_prompts(path, skips=skips, **options)), skips  # type: ignore[arg-type]


def _table(path: Path, delimiter: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["Prompt", "style"], *([text, str(i)] for i, text in enumerate(TEXTS))])


def _lines(path: Path, lines: list[str]) -> None:
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _json_lines() -> list[str]:
    return [json.dumps({"caption": text, "style": i}) for i, text in enumerate(TEXTS)]


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.csv": lambda path: _table(path, ","),
    "semicolons.csv": lambda path: _table(path, ";"),
    "a.tsv": lambda path: _table(path, "\t"),
    "bare.tsv": lambda path: _lines(path, ["prompt\tstyle", *(f"{text}\t{i}" for i, text in enumerate(TEXTS))]),
    "a.jsonl": lambda path: _lines(path, _json_lines()),
    "a.jsonl.gz": lambda path: _lines(path, _json_lines()),
    "a.json": lambda path: _lines(path, [f"[{','.join(_json_lines())}]"]),
    "a.txt": lambda path: _lines(path, TEXTS),
    "a.txt.gz": lambda path: _lines(path, TEXTS),
    "utf16.txt": lambda path: path.write_text("\n".join(TEXTS), encoding="utf-16"),
    "a.parquet": lambda path: pq.write_table(
        pa.table({"text": TEXTS, "style": range(6), "jpg": [b"\xff\xd8"] * 6}), path
    ),
    "table": lambda path: write_csv(path, TEXTS),
    "sidecars": lambda path: write_sidecars(path, TEXTS),
    "shards": lambda path: write_parquet(path, TEXTS),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_prompts(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    rows, skips = read(tmp_path / name)
    assert [row.prompt for row in rows] == TEXTS
    assert [row.number for row in rows] == list(range(6))
    assert {row.file for row in rows} == {str(tmp_path / name)}
    assert not skips


def test_other_columns_come_along(tmp_path: Path) -> None:
    _table(tmp_path / "a.csv", ",")
    rows, _ = read(tmp_path / "a.csv", extra=("Style",))
    assert [row.extra["Style"] for row in rows] == list("012345")
    rows, _ = read(tmp_path / "a.csv", columns={"prompt": "style", "id": "prompt"})
    assert (rows[1].prompt, rows[1].id) == ("1", "ein Käfer, Öl")
    write_csv(tmp_path / "pictures", ["x"])
    (row,) = read(tmp_path / "pictures" / "pairs.csv")[0]
    assert row.image == "images/0.jpg"


def test_the_origin_of_a_row_is_what_our_shards_say(tmp_path: Path) -> None:
    from img2prompt.pairs.shards import ShardPlan, write_shards

    rows = [{"prompt": "a", "source": "one"}, {"prompt": "b", "source": "two"}]
    write_shards(tmp_path / "s", ShardPlan(2, ("prompt", "source")), lambda wanted: [rows[i] for i in wanted])
    assert [row.source for row in read(tmp_path / "s")[0]] == ["one", "two"]
    (tmp_path / "a.csv").write_text("prompt,source\na,http://a/page\n")
    assert [row.source for row in read(tmp_path / "a.csv")[0]] == [str(tmp_path / "a.csv")]


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"prompt": "a"}\n{"prompt": " "}\n{"pro\n{"prompt": "\\ud83d"}\n{"prompt": "b"}\n'
    )
    rows, skips = read(tmp_path / "a.jsonl")
    assert [row.prompt for row in rows] == ["a", "b"]
    assert dict(skips.counts) == {"NoPrompt": 1, "BadRow": 1, "NotText": 1}


def test_lists_of_prompts_are_several_rows_and_other_values_none(tmp_path: Path) -> None:
    cells = [["a", "b"], "c", {"en": "d"}, 5, True, ["e", 6]]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"image": "x", "prompt": cell}) for cell in cells))
    rows, skips = read(tmp_path / "a.jsonl")
    assert [(row.prompt, row.number) for row in rows] == [("a", 0), ("b", 0), ("c", 1), ("e", 5)]
    assert dict(skips.counts) == {"NoPrompt": 4}
    pq.write_table(pa.table({"prompt": [["a", "b"], ["c"]]}), tmp_path / "a.parquet")
    assert [row.prompt for row in read(tmp_path / "a.parquet")[0]] == ["a", "b", "c"]


def test_old_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("prompt\ncafé au lait\n".encode("cp1252") + "Käfer\n".encode())
    assert [row.prompt for row in read(tmp_path / "a.csv")[0]] == ["café au lait", "Käfer"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"picture,words\n1,2\n", "no column for prompts; found: picture, words"),
        ("a.csv", b"", "no rows"),
        ("a.txt", b"\n\n", "no rows"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n' * 9999, mtime=0)[:60], "the packed file is cut"),
        ("a.jsonl.gz", b"no gzip", "gzip"),
        ("a.parquet", b"PAR1 cut in the middle", "cut or no parquet file"),
        ("a.docx", b"PK", "a.docx"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_times_beyond_the_years_of_python_are_one_line(tmp_path: Path) -> None:
    times = pa.array([10**12], pa.timestamp("s"))
    pq.write_table(pa.table({"prompt": ["a"], "taken": times}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: .*out of range"):
        read(tmp_path / "a.parquet")


def test_missing_and_unfinished_sources(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "absent.csv")
    write_parquet(tmp_path / "shards", TEXTS)
    shard = tmp_path / "shards" / "shard-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(DataError, match="make the data set again"):
        read(tmp_path / "shards")
    (tmp_path / "shards" / "manifest.json").unlink()
    with pytest.raises(DataError, match="unfinished"):
        read(tmp_path / "shards")


@pytest.mark.skipif(not SHARED.exists(), reason="the sibling folder of data is not there")
@pytest.mark.parametrize(
    ("name", "count"),
    [("drawbench.csv", 200), ("PartiPrompts.tsv", 1632), ("dpg_bench.jsonl", 1065),
     ("geneval_evaluation_metadata.jsonl", 553), ("prompts_176k.jsonl.gz", 175_580)],
)  # fmt: skip
def test_benchmarks_as_they_are_published(name: str, count: int) -> None:
    skips = Skips()
    assert sum(1 for _ in read_prompts(SHARED / name, skips=skips)) == count
    assert not skips

"""`pairs format`: what is written, what is dropped and said, and the same bytes however the work was done."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_formats import COUNT, finished, hashes, picture_file, plan, write_table

from img2prompt.cli import main
from img2prompt.errors import ConfigError, DataError, ImageError, OutputError
from img2prompt.pairs.filters import settings_of
from img2prompt.pairs.images import Limits, open_image
from img2prompt.pairs.making.format_run import FormatPlan, format_pairs
from img2prompt.pairs.making.formatting import FormatSettings, Formatter, content_id, encode, shrink
from img2prompt.pairs.making.repeats import find_repeats
from img2prompt.pairs.making.worker import ShardTask, ShardWorker, TaskReport, run_task, standing
from img2prompt.pairs.manifest import read_manifest
from img2prompt.pairs.pool import in_processes
from img2prompt.pairs.shards import read_shards
from img2prompt.pairs.skips import Skips


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_shards(folder).to_list()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def undisturbed(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    format_pairs(folder, plan(table))
    return folder


def test_pictures_come_through_as_they_were(table: Path, undisturbed: Path) -> None:
    for row in rows_of(undisturbed):
        number = row["source_id"].removeprefix("own-")
        assert row["image"]["bytes"] == (table.parent / "pictures" / f"{number}.jpg").read_bytes()
        assert row["id"] == content_id(row["image"]["bytes"], row["prompt"])
        assert row["source"] == "table"
    first = rows_of(undisturbed)[0]
    assert first["prompt"] == "caf\u00e9 number 0, a “fox”"
    assert first["source_id"] == "own-0"
    assert first["stars"] == "0"


def test_every_row_is_kept_or_counted_once(undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed)
    report = manifest["report"]
    dropped = {name: report[name]["skipped"] for name in ("left_out", "unusable", "filtered", "repeats")}
    assert dropped == {
        "left_out": {"NoPrompt": 1},
        "unusable": {"ImageTruncated": 1, "NotAnImage": 1, "ImageEmpty": 1, "ImageNotFound": 1},
        "filtered": {"words": 1, "tokens": 1},
        "repeats": {"Repeat": 3},
    }
    assert report["rows_in"] == COUNT - 1
    assert report["rows"] == report["rows_in"] - 9 == len(rows_of(undisturbed))
    examples = {row["kind"]: row for name in dropped for row in reversed(report[name]["skipped_first"])}
    assert examples["tokens"]["error"].startswith("82 tokens: fox fox")
    assert examples["ImageTruncated"]["source"].endswith("7.jpg")
    assert examples["Repeat"]["source"] == "table: own-30"
    assert {name: sum(counts.values()) for name, counts in dropped.items()} == {
        name: len(report[name]["skipped_first"]) for name in dropped
    }


def test_the_manifest_says_what_made_the_data_set(table: Path, undisturbed: Path) -> None:
    manifest = read_manifest(undisturbed)
    assert list(manifest["config"]["inputs"]) == [str(table)]
    assert manifest["config"]["filters"]["words"] == [0, 12]
    assert {"img2prompt", "pillow", "pyarrow"} <= manifest["versions"].keys()
    for shard in manifest["shards"]:
        data = (undisturbed / shard["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
        assert pq.read_metadata(undisturbed / shard["file"]).num_rows == shard["rows"]


def test_others_see_an_image_column(undisturbed: Path, tmp_path: Path) -> None:
    files = sorted(str(path) for path in undisturbed.glob("*.parquet"))
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert data[0]["image"].size == (48, 40)


def test_processes_leave_the_same_bytes_as_one(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    format_pairs(tmp_path / "pool", plan(table), partial(in_processes, workers=2))
    assert hashes(tmp_path / "pool") == hashes(undisturbed)


def test_any_order_of_tasks_leaves_the_same_bytes(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    format_pairs(tmp_path / "backwards", plan(table), lambda work, items: map(work, reversed(items)))
    assert hashes(tmp_path / "backwards") == hashes(undisturbed)


def test_the_size_of_shards_changes_no_row(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    format_pairs(tmp_path / "large", plan(table, rows_per_shard=1000))
    assert rows_of(tmp_path / "large") == rows_of(undisturbed)


def test_a_finished_folder_is_left_alone(table: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.glob("shard-*")}
    assert format_pairs(undisturbed, plan(table)).shards_made == 0
    assert before == {path: path.stat().st_mtime_ns for path in undisturbed.glob("shard-*")}


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "mark"])
def test_damaged_shards_are_made_again(table: Path, undisturbed: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    for shard in (folder / "shard-00000-00000.parquet", folder / "shard-00000-00003.parquet"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 255
        if damage == "mark":
            shard.with_suffix(".json").write_text('{"format": "img2prompt-shard-1", "task": "')
        elif damage == "delete":
            shard.unlink()
        else:
            shard.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    assert format_pairs(folder, plan(table)).shards_made == 2
    assert hashes(folder) == hashes(undisturbed)


def test_other_settings_or_sources_are_refused(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed, folder)
    with pytest.raises(OutputError, match=r"another configuration \(encoding None there, .*32.* asked for\)"):
        format_pairs(folder, plan(table, image_px=32))
    source = write_table(tmp_path / "moved")
    with pytest.raises(OutputError, match="another configuration"):
        format_pairs(folder, plan(source))
    format_pairs(tmp_path / "out", plan(source))
    with source.open("a", encoding="utf-8") as file:
        file.write("pictures/0.jpg,one more,own-99,5\n")
    with pytest.raises(OutputError, match="another configuration"):
        format_pairs(tmp_path / "out", plan(source))
    with pytest.raises(OutputError, match="holds other files"):
        format_pairs(source.parent / "pictures" / "..", FormatPlan((str(undisturbed),), FormatSettings()))


def test_what_is_written_is_no_source(table: Path, tmp_path: Path) -> None:
    for out in (table.parent, table.parent / "pictures" / "out"):
        with pytest.raises(ConfigError, match="lies in the source"):
            format_pairs(out, FormatPlan((str(table.parent),), FormatSettings()))
    with pytest.raises(ConfigError, match="given twice"):
        format_pairs(tmp_path / "out", FormatPlan((str(table), str(table)), FormatSettings()))
    with pytest.raises(ConfigError, match="--keep size: no source has such a column"):
        format_pairs(tmp_path / "out", plan(table, keep=("size",)))


# Pictures


@pytest.mark.parametrize(("image_format", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_pictures_are_re_encoded_to_a_size(
    table: Path, undisturbed: Path, tmp_path: Path, image_format: str, kind: str
) -> None:
    format_pairs(tmp_path / "small", plan(table, image_px=20, image_format=image_format))
    small, whole = rows_of(tmp_path / "small"), rows_of(undisturbed)
    assert [row["id"] for row in small] == [row["id"] for row in whole]  # ids are those of the files as they came
    for row in small:
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        assert (image.format, image.size) == (kind, (24, 20))


def test_pictures_are_never_enlarged() -> None:
    assert shrink(Image.new("RGB", (30, 50)), 32).size == (30, 50)
    assert shrink(Image.new("RGB", (1000, 64)), 32).size == (500, 32)
    with Image.open(io.BytesIO(encode(Image.new("RGB", (3, 5)), "jpeg", 50))) as image:
        assert image.size == (3, 5)


def test_reduced_decoding_keeps_the_picture() -> None:
    """A picture that was decoded at a reduced size and one that was not are the same to the eye."""
    import numpy as np

    big = Image.linear_gradient("L").resize((1024, 1024)).convert("RGB")
    file = encode(big, "jpeg", 95)
    fast = np.asarray(shrink(open_image(file, least_px=256), 128), np.int16)
    slow = np.asarray(shrink(open_image(file), 128), np.int16)
    assert fast.shape == slow.shape and abs(fast - slow).max() <= 3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.floats(0, 1))
def test_the_fast_check_finds_the_same_cuts_as_a_whole_decode(seed: int, progressive: bool, part: float) -> None:
    file = io.BytesIO()
    noise = Image.frombytes("RGB", (48, 40), random.Random(seed).randbytes(48 * 40 * 3))
    noise.save(file, "JPEG", quality=85, progressive=progressive)
    cut = file.getvalue()[: round(part * len(file.getvalue()))]
    assert _verdict(cut, 1) == _verdict(cut, 0)


def _verdict(data: bytes, least_px: int) -> str:
    try:
        open_image(data, least_px=least_px)
    except ImageError as error:
        return type(error).__name__
    return "fine"


def test_limits_hold(tmp_path: Path) -> None:
    row = {"image": {"bytes": None, "path": str(tmp_path / "a.png")}, "prompt": "a", "source": "s"}
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    for limits in (Limits(max_pixels=1199), Limits(max_bytes=50)):
        formatter = Formatter(FormatSettings(limits=limits))
        assert formatter(row, "row 1") is None
        assert formatter.unusable.counts == {"ImageTooLarge": 1}
    assert Formatter(FormatSettings(limits=Limits(max_pixels=1200)))(row, "row 1") is not None


def test_a_prompt_that_vanishes_when_normalised_is_counted() -> None:
    formatter = Formatter(FormatSettings())
    row = {"image": {"bytes": picture_file(0), "path": None}, "prompt": "\u200b\ufeff", "source": "s"}
    assert formatter(row, "tar, row 7") is None
    assert next(formatter.unusable.lines()) == "1 NoPrompt: tar, row 7: has no prompt"


@given(st.binary(), st.text(), st.binary(), st.text())
def test_ids_are_those_of_the_content(a: bytes, b: str, c: bytes, d: str) -> None:
    assert (content_id(a, b) == content_id(c, d)) == ((a, b) == (c, d))
    assert len(content_id(a, b)) == 32


def test_no_byte_moves_from_picture_to_prompt() -> None:
    assert content_id(b"ab", "c") != content_id(b"a", "bc")


# Repeats


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), min_size=1, max_size=6))
def test_repeats_are_all_but_the_first(tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    paths = []
    for number, keys in enumerate(shards):
        paths.append(folder / f"{number}.parquet")
        pq.write_table(pa.table({"id": pa.array([content_id(b"", str(key)) for key in keys], pa.string())}), paths[-1])
    seen: set[int] = set()
    expected: dict[int, set[int]] = {}
    for number, keys in enumerate(shards):
        for position, key in enumerate(keys):
            if key in seen:
                expected.setdefault(number, set()).add(position)
            seen.add(key)
    assert find_repeats(paths) == expected


def test_repeats_across_sources_stay_in_the_first(tmp_path: Path) -> None:
    first, second = write_table(tmp_path / "a", "first"), write_table(tmp_path / "b", "second")
    report = format_pairs(tmp_path / "out", FormatPlan((str(first), str(second)), plan(first).settings, None, 10))
    assert {row["source"] for row in rows_of(tmp_path / "out")} == {"first"}
    assert report.repeats.total == 3 + report.rows + 3
    assert len({row["id"] for row in rows_of(tmp_path / "out")}) == report.rows


# The worker


def test_a_task_is_done_once_and_by_anyone(table: Path, tmp_path: Path) -> None:
    task = ShardTask(str(table), "table", range(8, 19), FormatSettings(), tmp_path / "shard.parquet")
    report = run_task(task)
    before = task.out.stat().st_mtime_ns
    assert ShardWorker()(task) == report == standing(task)
    assert task.out.stat().st_mtime_ns == before
    assert TaskReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    whole = ShardTask(str(table), "table", range(8, 20), FormatSettings(), task.out)
    assert standing(whole) is None
    assert ShardWorker()(whole).rows_in == 12


def test_a_worker_reads_a_source_once(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from img2prompt.pairs.making import worker as module

    opened: list[str] = []
    stream = module.stream_rows

    def counted(source: str, names: dict[str, str], *, skips: Skips) -> Iterator[dict[str, Any]]:
        opened.append(source)
        return stream(source, names, skips=skips)

    monkeypatch.setattr(module, "stream_rows", counted)
    worker = ShardWorker()
    for start in (0, 10, 30):
        worker(ShardTask(str(table), "t", range(start, start + 5), FormatSettings(), tmp_path / f"{start}.parquet"))
    assert len(opened) == 1
    worker(ShardTask(str(table), "t", range(20, 25), FormatSettings(), tmp_path / "20.parquet"))
    assert len(opened) == 2
    fresh = ShardWorker()(ShardTask(str(table), "t", range(20, 25), FormatSettings(), tmp_path / "fresh.parquet"))
    assert fresh.sha256 == hashlib.sha256((tmp_path / "20.parquet").read_bytes()).hexdigest()


def test_a_source_that_shrank_is_said(table: Path, tmp_path: Path) -> None:
    task = ShardTask(str(table), "t", range(30, 500), FormatSettings(), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=f"ends at row {COUNT - 1}, where row 500 was counted before"):
        run_task(task)
    assert list(tmp_path.iterdir()) == []


# Sources


def test_tars_and_parquet_give_the_same_rows_as_files(table: Path, undisturbed: Path, tmp_path: Path) -> None:
    pairs = [(row["image"]["bytes"], row["prompt"]) for row in rows_of(undisturbed)]
    (tmp_path / "tars").mkdir()
    (tmp_path / "parquet").mkdir()
    for number, start in enumerate(range(0, len(pairs), 12)):
        part = pairs[start : start + 12]
        with tarfile.open(tmp_path / "tars" / f"{number:05d}.tar", "w") as tar:
            for i, (image, prompt) in enumerate(part):
                for suffix, data in (("jpg", image), ("txt", prompt.encode())):
                    member = tarfile.TarInfo(f"{i:04d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        columns = {"image": [image for image, _ in part], "caption": [prompt for _, prompt in part]}
        pq.write_table(pa.table(columns), tmp_path / "parquet" / f"{number}.parquet")
    (tmp_path / "tars" / "99999.tar").write_bytes(bytes(10240))  # an empty archive
    for kind in ("tars", "parquet"):
        format_pairs(tmp_path / f"{kind}-out", plan(tmp_path / kind, rows_per_shard=5))
        made = rows_of(tmp_path / f"{kind}-out")
        assert [row["id"] for row in made] == [row["id"] for row in rows_of(undisturbed)]
        assert {row["source"] for row in made} == {kind}


def test_our_own_shards_are_a_source_again(undisturbed: Path, tmp_path: Path) -> None:
    format_pairs(tmp_path / "again", plan(undisturbed))
    assert rows_of(tmp_path / "again") == rows_of(undisturbed)


def test_a_cut_parquet_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    pq.write_table(pa.table({"image": [picture_file(0)] * 9, "text": ["a"] * 9}), tmp_path / "cut" / "a.parquet")
    data = (tmp_path / "cut" / "a.parquet").read_bytes()
    (tmp_path / "cut" / "b.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"b\.parquet"):
        format_pairs(tmp_path / "out", plan(tmp_path / "cut"))


def test_a_csv_of_all_scripts_quotes_and_newlines_loses_nothing(tmp_path: Path) -> None:
    prompts = ['a "quoted", fox', "two\nlines", "лиса; 狐\t🦊", "=1+1", "'", "\\", "x" * 300]
    (tmp_path / "0.png").write_bytes(picture_file(0, "PNG"))
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["image", "prompt"], *(["0.png", prompt] for prompt in prompts)])
    report = format_pairs(tmp_path / "out", FormatPlan((str(tmp_path / "table.csv"),), FormatSettings()))
    assert [row["prompt"] for row in rows_of(tmp_path / "out")] == [" ".join(prompt.split()) for prompt in prompts]
    assert not report.left_out and not report.repeats


# The verb


def test_the_verb(table: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    arguments = ["pairs", "format", str(table), out, "--words", "0-12", "--rows-per-shard", "10", "--workers", "1"]
    assert main(arguments) == 1  # some pictures are broken
    assert hashes(tmp_path / "out") == hashes(undisturbed)
    said = capsys.readouterr()
    assert said.out.strip() == out
    assert f"{finished(undisturbed)['rows']} of {COUNT - 1} rows kept" in said.err
    assert "4 not usable:\n" in said.err and "  1 ImageTruncated: " in said.err and "7.jpg" in said.err
    assert "2 dropped by filters:\n" in said.err and "3 dropped as repeats:\n" in said.err
    assert main([*arguments, "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == finished(undisturbed)["report"]
    assert f"0 shards made, {finished(undisturbed)['report']['shards']} stood already" in said.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["/no/such/folder", "OUT"], "no such file or folder"),
        (["TABLE", "OUT", "--words", "9-1"], "--words 9-1: the first number is the smaller one"),
        (["TABLE", "OUT", "--prompt-column", "text"], "no column 'text'"),
        (["TABLE", "OUT", "--image-px", "2"], "from 8 to 16384"),
    ],
)
def test_errors_of_users_are_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    places = {"TABLE": str(table), "OUT": str(tmp_path / "out")}
    assert main(["pairs", "format", *(places.get(word, word) for word in arguments)]) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1


def test_filters_report_examples_under_their_names(table: Path, tmp_path: Path) -> None:
    wanted = settings_of({"words": "0-12", "nsfw": "on", "script": "latin", "letters": "0.2"})
    report = format_pairs(tmp_path / "out", FormatPlan((str(table),), FormatSettings(filters=wanted)))
    assert report.filtered.counts == {"words": 1, "letters": 1, "nsfw": 1, "script": 1}
    lines = "\n".join(report.filtered.lines())
    assert "has the word naked: a naked fox" in lines and "mostly cjk letters: 雪地里的狐狸" in lines

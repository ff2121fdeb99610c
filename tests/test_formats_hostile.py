"""Pairs that are damaged, mixed up or hostile: counted or refused in one line; nothing is written, run or lost."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_samples import BUILDERS, PROMPTS, jpg, save, write_table, write_tar
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from img2prompt.cli import main
from img2prompt.errors import DataError, MissingExtra, OutputError
from img2prompt.pairs.formats.json_stream import WINDOW, json_items
from img2prompt.pairs.formats.texts import decode_text, is_text
from img2prompt.pairs.formats.url_tables import download, shell_line, url_table
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sources import open_pairs, stream_rows

SCRIPTS = [
    "plain",
    "naïve café",
    "“quoted” – 20 €",
    "日本の城",
    "Москва",
    "مدينة قديمة",
    "שלום",
    "हिन्दी",
    "👩‍🚀🏽‍♂️ 🏳️‍🌈",
    "ไทย",
    "𝔘𝔫𝔦",
]


def stream(source: Path | str, columns: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], Skips]:
    skips = Skips()
    return list(stream_rows(source, columns, skips=skips)), skips


def prompts_of(source: Path) -> list[str]:
    return [row["prompt"] for row in stream(source)[0]]


# --- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "txt"])
def test_encodings_of_whole_files(tmp_path: Path, encoding: str, kind: str) -> None:
    texts = {
        "csv": "image,prompt\r\n" + "".join(f'"{n}.png","{text}"\r\n' for n, text in enumerate(SCRIPTS)),
        "jsonl": "".join(json.dumps({"image": "0.png", "prompt": t}, ensure_ascii=False) + "\n" for t in SCRIPTS),
        "json": json.dumps([{"image": "0.png", "prompt": t} for t in SCRIPTS], ensure_ascii=False),
        "txt": "a long enough prompt, " + SCRIPTS[1],
    }
    save(tmp_path, ["0.png"])
    path = tmp_path / f"0.{kind}"
    path.write_bytes(texts[kind].encode(encoding))
    if kind == "txt":
        assert prompts_of(tmp_path) == [texts["txt"]]
    else:
        assert prompts_of(path) == SCRIPTS


def test_lines_of_cp1252_among_utf_8(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    western = "“Größe” – naïve, 20 €"
    rows = [text.encode() for text in SCRIPTS] + [western.encode("cp1252"), "Кошка".encode("cp1251"), b"\x81\x8d"]
    (tmp_path / "p.csv").write_bytes(b"image;prompt\n" + b"".join(b'a.png;"%s"\n' % row for row in rows))
    found, skips = stream(tmp_path / "p.csv")
    assert [row["prompt"] for row in found] == [*SCRIPTS, western]
    assert skips.counts == {"NotText": 2}
    assert "use UTF-8" in skips.examples["NotText"][0].error
    assert "1 lines are not UTF-8 and were read as cp1252, the first is line 13" in caplog.text
    (tmp_path / "one.txt").write_bytes(western.encode("cp1252"))
    save(tmp_path, ["one.png"])
    (tmp_path / "p.csv").unlink()
    assert prompts_of(tmp_path) == [western]


@given(st.text())
@example("ÿþ")
@example("\ufeff")
def test_utf_8_is_never_taken_for_anything_else(text: str) -> None:
    if "\x00" not in text:
        assert decode_text(text.encode()) == text.removeprefix("\ufeff")


@given(st.lists(st.sampled_from(["a", "naïve", "café", "“x”", "20 €", "Größe", "…"]), max_size=8))
def test_western_text_survives_cp1252(words: list[str]) -> None:
    text = " ".join(words)
    assert decode_text(text.encode("cp1252")) == text


def test_halves_of_an_emoji_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        '{"image": "a.png", "prompt": "\\ud83d"}\n{"image": "a.png", "prompt": "\\ud83d\\ude00"}\n'
    )
    rows, skips = stream(tmp_path / "p.jsonl")
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["😀"], {"NotText": 1})


# --- text tables


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30),
        min_size=1,
        max_size=6,
    )
)
@example(['"', "a\nb", "a\r\nb", ",", "a\rb", "\u2028", "''", "\\"])
def test_any_prompt_survives_csv_and_jsonl(tmp_path: Path, texts: list[str]) -> None:
    with (tmp_path / "p.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("image", "prompt"), *(("a.png", f"x{text}x") for text in texts)])
    assert prompts_of(tmp_path / "p.csv") == [f"x{text}x" for text in texts]
    lines = [json.dumps({"image": "a.png", "prompt": f"x{text}x"}, ensure_ascii=False) for text in texts]
    (tmp_path / "p.jsonl").write_bytes("\n".join(lines).encode())
    assert prompts_of(tmp_path / "p.jsonl") == [f"x{text}x" for text in texts]


def test_a_bad_row_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('image,prompt\na.png,one\nb.png,"two"x,y\nc.png,"th""ree"\n')
    rows, skips = stream(tmp_path / "p.csv")
    assert [row["prompt"] for row in rows] == ["one", 'th"ree']
    assert next(skips.lines()).startswith("1 BadRow: ")
    assert "after line 2" in skips.examples["BadRow"][0].source
    (tmp_path / "p.jsonl").write_text(
        '{"image": "a.png", "prompt": "one"}\n{"image": "b.p\n\n[1]\n{"image": "c.png", "prompt": "two"}'
    )
    rows, skips = stream(tmp_path / "p.jsonl")
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["one", "two"], {"BadRow": 2})
    assert skips.examples["BadRow"][0].source.endswith("p.jsonl, line 2")


def test_tabs_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text('image\tprompt\na.png\t"GIGGLE" painted on a wall\nb.png\tsay "hi"\nc.png\tlast\n')
    assert prompts_of(tmp_path / "p.tsv") == ['"GIGGLE" painted on a wall', 'say "hi"', "last"]


def test_a_prompt_with_bare_commas_is_counted_not_cut(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,prompt\na.png,a dog, oil, by someone\nb.png,one,,\n")
    rows, skips = stream(tmp_path / "p.csv")
    assert [row["prompt"] for row in rows] == ["one"], "empty cells behind the last are what spreadsheets leave"
    assert dict(skips.counts) == {"BadRow": 1}
    assert "4 cells under 2 names" in skips.examples["BadRow"][0].error


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,prompt,,prompt,\na.png,one,,two,\n")
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, ["image", "prompt", "prompt"]), tmp_path / "p.parquet")
    for name in ("p.csv", "p.parquet"):
        with pytest.raises(DataError, match=f"{name}: two columns are called 'prompt'"):
            stream(tmp_path / name)


def test_a_quote_that_never_closes_stops(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('image,prompt\na.png,one\nb.png,"two\n' + "c.png,three\n" * 1000)
    with pytest.raises(DataError, match=r"after line 2: .* a quote is never closed; repair this line"):
        stream(tmp_path / "p.csv")


def test_json_keys_may_be_missing_in_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"image": "a.png"}\n{"image": "b.png", "caption": "x"}\n')
    rows, skips = stream(tmp_path / "p.jsonl")
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["x"], {"NoPrompt": 1})


def test_pictures_of_json_may_be_anything(tmp_path: Path) -> None:
    odd = [{"path": 5}, {"bytes": "AAAA"}, {"bytes": [1], "path": "a.png"}, {"path": ["a.png"]}, float("nan"), True, []]
    cells = [*odd, {"path": "a.png"}]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"image": cell, "prompt": "x"}) for cell in cells))
    rows, skips = stream(tmp_path / "p.jsonl")
    assert ([row["image"]["path"] for row in rows], dict(skips.counts)) == (["a.png"], {"NoImage": len(odd)})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    ).filter(lambda v: isinstance(v, dict | list)),
    st.booleans(),
    st.data(),
)
def test_json_in_a_stream_is_json(tmp_path: Path, value: Any, spaced: bool, data: st.DataObject) -> None:
    path = tmp_path / "v.json"
    text = json.dumps(value, indent=1 if spaced else None, ensure_ascii=spaced)
    if "\ud800" <= max(text, default="") <= "\udfff":
        return
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    expected: list[Any] = []
    for key, item in value.items() if isinstance(value, dict) else [(None, value)]:
        expected += [(key, part) for part in item] if isinstance(item, list) else [(key, item)]
    if all(is_text(text) for text in [text]):
        assert list(json_items(path)) == expected
    cut = data.draw(st.integers(0, len(text) - 1))
    path.write_text(text[:cut], encoding="utf-8", errors="surrogatepass", newline="")
    with pytest.raises(DataError, match="not JSON at character"):
        list(json_items(path))


def test_json_items_across_the_window(tmp_path: Path) -> None:
    items = [{"id": n, "text": "é" * (n * 97 % 5000)} for n in range(200)]
    (tmp_path / "v.json").write_text(json.dumps({"a": 12345, "list": items, "z": [1.5] * 30_000}, ensure_ascii=False))
    found = list(json_items(tmp_path / "v.json"))
    assert found[0] == ("a", 12345)
    assert [item for key, item in found if key == "list"] == items
    assert sum(item for key, item in found if key == "z") == 45_000


@pytest.mark.parametrize("before", range(4))
def test_a_number_may_go_on_in_the_next_window(tmp_path: Path, before: int) -> None:
    text = f"[{' ' * (WINDOW - 1 - before)}1234]"
    (tmp_path / "v.json").write_text(text)
    assert list(json_items(tmp_path / "v.json")) == [(None, 1234)]


def test_coco_that_is_none_or_cut(tmp_path: Path) -> None:
    folder = BUILDERS["coco"](tmp_path)
    path = folder / "annotations" / "captions_val2017.json"
    whole = path.read_text()
    path.write_text(whole[:-40])
    with pytest.raises(DataError, match=r"captions_val2017\.json: not JSON at character"):
        stream(folder)
    path.write_text(whole.replace('"caption"', '"bbox"'))
    with pytest.raises(DataError, match="have no captions"):
        stream(path)
    path.write_text(whole.replace('"image_id": 91', '"image_id": 4'))
    rows, skips = stream(folder)
    assert (len(rows), dict(skips.counts)) == (2, {"NoImage": 1})


def test_ids_of_coco_may_be_anything(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.png"}, {"id": [2], "file_name": "b.png"}, {"id": 3, "file_name": ""}]
    numbers = (1, [2], 3, {}, None)
    annotations = [{"id": n, "image_id": number, "caption": f"x {n}"} for n, number in enumerate(numbers)]
    path = tmp_path / "captions_x.json"
    path.write_text(json.dumps({"images": [*images, 5, {"file_name": 5}], "annotations": annotations}))
    rows, skips = stream(path)
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["x 0", "x 1"], {"NoImage": 3})


def test_pictures_of_coco_with_one_id_are_not_taken_for_each_other(tmp_path: Path) -> None:
    images = [{"id": n % 2, "file_name": f"{n}.png"} for n in range(3)]  # the last is the first of another file
    annotations = [{"id": n, "image_id": n % 2, "caption": f"x {n}"} for n in range(3)]
    (tmp_path / "captions_x.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    rows, skips = stream(tmp_path)
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["x 1"], {"NoImage": 2})


def test_the_first_picture_of_coco_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "annotations" / "captions_val2017.json"
    save(tmp_path / "images", ["b.png"])
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate("ab")]
    annotations = [{"id": n, "image_id": n, "caption": "x"} for n in range(2)]
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert [Path(row["image"]["path"]).exists() for row in stream(tmp_path)[0]] == [False, True]


# --- folders


def test_a_folder_that_vanishes_while_it_is_read(tmp_path: Path) -> None:
    save(tmp_path, [f"{n}/{m}.png" for n in range(3) for m in range(2)])
    for path in tmp_path.rglob("*.png"):
        path.with_suffix(".txt").write_text(f"prompt of {path.parent.name}")
    skips = Skips()
    rows = stream_rows(tmp_path, skips=skips)
    first = next(rows)
    shutil.rmtree(tmp_path / "1")
    (tmp_path / "0" / "1.txt").unlink()
    (tmp_path / "0" / "1.png").unlink()
    assert [row["prompt"] for row in (first, *rows)] == ["prompt of 0", "prompt of 2", "prompt of 2"]
    assert skips.counts == {"FolderUnreadable": 1, "ImageNotFound": 1}
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        stream(tmp_path)


def test_pictures_that_are_none_are_counted(tmp_path: Path) -> None:
    save(tmp_path, ["a.png", "b.png"])
    (tmp_path / "a.txt").write_text("fine")
    (tmp_path / "c.png").write_bytes(b"<html>")
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.txt.png").mkdir()
    (tmp_path / "._f.png").write_bytes(b"left by a Mac")
    (tmp_path / "g.png").write_bytes(jpg(1))
    (tmp_path / "g.json").write_text("[" * 1000)
    rows, skips = stream(tmp_path)
    assert [row["prompt"] for row in rows] == ["fine"]
    assert skips.counts == {"NoPrompt": 1, "NotAnImage": 1, "ImageEmpty": 1, "MetadataError": 1}
    assert all(not row.error.startswith(str(tmp_path)) for kept in skips.examples.values() for row in kept)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_in_another_encoding_are_counted(tmp_path: Path) -> None:
    save(tmp_path, ["a.png"])
    (tmp_path / "a.txt").write_text("fine")
    for ending in ("png", "txt"):
        (tmp_path / f"a.{ending}").rename(tmp_path / os.fsdecode(b"\xe9." + ending.encode()))
    with pytest.raises(DataError, match=r"1 NotText: .*name of its picture is in an unknown encoding"):
        stream(tmp_path)


def test_files_that_file_managers_leave_are_passed_over(tmp_path: Path) -> None:
    for name in ("a.parquet", "below/data/a.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_table(tmp_path / name, {"image": [jpg(0)], "text": ["x"]})
        (tmp_path / name).with_name("._a.parquet").write_bytes(b"left by a Mac")
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "a.tar", {"a.jpg": jpg(0), "a.txt": b"x"})
    (tmp_path / "tars" / "._a.tar").write_bytes(b"left by a Mac")
    for source in (tmp_path, tmp_path / "below", tmp_path / "tars"):
        rows, skips = stream(source)
        assert (len(rows), skips.total) == (1, 0), source


def test_a_link_that_leads_in_a_circle_costs_only_itself(tmp_path: Path) -> None:
    save(tmp_path / "in", ["a.png"])
    (tmp_path / "in" / "a.txt").write_text("fine")
    (tmp_path / "in" / "b.png").symlink_to("b.png")
    assert main(["pairs", "format", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "1"]) == 0
    assert [row["prompt"] for row in stream(tmp_path / "out")[0]] == ["fine"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_must_not_be_looked_into_costs_only_itself(tmp_path: Path) -> None:
    save(tmp_path / "in", ["a.png"])
    (tmp_path / "in" / "a.txt").write_text("fine")
    (tmp_path / "in" / "lost+found").mkdir(0)
    assert stream(tmp_path / "in")[1].counts == {"FolderUnreadable": 1}
    assert main(["pairs", "format", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "1"]) == 0


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    for read in (stream, open_pairs):
        with pytest.raises(DataError, match="too long"):
            read("a prompt where a source was asked for " * 9)


def test_what_datasets_saves_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="to_parquet"):
        stream(tmp_path / "saved")


# --- archives


def hostile_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("../../evil.jpg", "/abs/evil.jpg", "c:\\evil.jpg", "a/../../../evil.jpg", "..\\evil.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "good.txt"), (tarfile.FIFOTYPE, "")):
            info = tarfile.TarInfo("good.json")
            info.type, info.linkname = kind, target
            tar.addfile(info)
        for name, data in (
            ("good.jpg", jpg(0)),
            ("good.txt", b"fine"),
            ("good.pkl", b"cos\nsystem\n(S'touch evil.jpg'\ntR."),
            ("b\x1b[31m.jpg", jpg(1)),
            ("b\x1b[31m.txt", b"also"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_tars_write_nothing_follow_nothing_and_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    hostile_tar(tmp_path / "in" / "t.tar")
    monkeypatch.chdir(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    rows, skips = stream(tmp_path / "in" / "t.tar")
    assert [row["prompt"] for row in rows] == ["fine", "also"]
    assert skips.counts == {"UnsafeMember": 8}
    assert rows[1]["id"].isprintable()
    assert rows[1]["image"]["path"].isprintable()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_is_cut_gives_its_whole_samples(tmp_path: Path, mode: str) -> None:
    members = {f"{n}.{k}": data for n in range(20) for k, data in (("jpg", os.urandom(3000)), ("txt", b"x %d" % n))}
    whole = write_tar(tmp_path / ("t.tar" if mode == "w" else "t.tar.gz"), members, mode).read_bytes()
    seen = set()
    for cut in (len(whole) // 2, 512 * 72, 512 * 73 + 100, len(whole) - 12_000):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        rows, skips = stream(tmp_path / "cut.tar")
        assert 0 < len(rows) < 20, cut
        assert [row["prompt"] for row in rows] == [f"x {n}" for n in range(len(rows))]
        assert skips.counts == {"CutArchive": 1}
        seen.add(len(rows))
    assert len(seen) > 1
    write_tar(tmp_path / "d.tar", {"z.jpg": jpg(0), "z.txt": b"after"})
    (tmp_path / ("t.tar" if mode == "w" else "t.tar.gz")).unlink()
    assert prompts_of(tmp_path)[-1] == "after"


def test_a_tar_with_several_pictures_a_sample(tmp_path: Path) -> None:
    members = {
        "a.mask.png": jpg(1),
        "a.jpg": jpg(0),
        "a.txt": b"x",
        "b.1.png": jpg(2),
        "b.2.png": jpg(3),
        "b.txt": b"y",
    }
    rows, skips = stream(write_tar(tmp_path / "t.tar", members))
    assert [row["image"]["bytes"] for row in rows] == [jpg(0), jpg(2)]
    assert [row.source.rpartition("/")[2] for row in skips.examples["MorePictures"]] == ["a.mask.png", "b.2.png"]


def test_samples_of_one_name_that_follow_each_other_stay_two(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for n in range(2):
            for name, data in (("a.jpg", jpg(n)), ("a.txt", b"x %d" % n)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows, _ = stream(tmp_path / "t.tar")
    assert [(row["image"]["bytes"], row["prompt"]) for row in rows] == [(jpg(0), "x 0"), (jpg(1), "x 1")]


def test_a_member_beyond_the_limits_is_not_read(tmp_path: Path) -> None:
    members = {"a.jpg": jpg(0), "a.txt": b"x" * (1 << 21), "b.jpg": jpg(1), "b.txt": b"fine"}
    rows, skips = stream(write_tar(tmp_path / "t.tar", members))
    assert ([row["prompt"] for row in rows], dict(skips.counts)) == (["fine"], {"TooLarge": 1, "NoPrompt": 1})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600), st.sampled_from(["p.tar", "p.tar.gz", "p.parquet", "p.json", "part-000001.zip"]))
def test_any_bytes_give_pairs_or_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / name).write_bytes(content)
    for source in (folder, folder / name):
        with pytest.raises(DataError) as caught:
            stream(source)
        assert "\n" not in str(caught.value)


# --- parquet and pickles


def test_parquet_that_is_cut_or_damaged(tmp_path: Path) -> None:
    images = [os.urandom(5000) for _ in range(100)]
    write_table(tmp_path / "a.parquet", {"image": images, "text": ["x"] * 100})
    whole = write_table(tmp_path / "b.parquet", {"image": images, "text": ["x"] * 100}).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.parquet: cut or no parquet file .*; get it again, or delete it") as caught:
        next(stream_rows(tmp_path, skips=Skips()))  # before the first row of the other
    assert "\n" not in str(caught.value)
    (tmp_path / "b.parquet").write_bytes(whole[:1000] + bytes(200_000) + whole[201_000:])
    with pytest.raises(DataError, match=r"b\.parquet: damaged|none of the|b\.parquet: .*") as caught:
        stream(tmp_path / "b.parquet")
    assert "\n" not in str(caught.value)


def test_parquet_with_times_beyond_the_years_of_python(tmp_path: Path) -> None:
    times = pa.array([10**12], pa.timestamp("s"))
    pq.write_table(pa.table({"image": ["a.png"], "text": ["x"], "taken": times}), tmp_path / "p.parquet")
    assert prompts_of(tmp_path / "p.parquet") == ["x"]


def test_parquet_with_lists_of_a_fixed_length(tmp_path: Path) -> None:
    captions = pa.array([["x", "y"]], pa.list_(pa.string(), 2))
    pq.write_table(pa.table({"image": ["a.png"], "caption": captions}), tmp_path / "p.parquet")
    assert prompts_of(tmp_path / "p.parquet") == ["x", "y"]


@pytest.mark.parametrize("name", ["p.pkl", "p.pickle", "p.pt", "p.npy"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    with pytest.raises(DataError, match="pickles can run code and are never opened"):
        open_pairs(tmp_path / name)


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"p\.zip: a zip; unpack it"):
        open_pairs(tmp_path / "p.zip")


# --- tables of URLs


def url_tables(folder: Path) -> dict[str, Path]:
    """CC3M, SBU (both forms) and LAION as they are published, of pictures that cannot be fetched."""
    url = "https://127.0.0.1:9/a b.jpg"
    (folder / "Train_GCC-training.tsv").write_text(f'a "very\t{url}\n{PROMPTS[2]}\t{url}\n', encoding="utf-8")
    (folder / "cc12m.tsv").write_text(f"{url}\ta cat\n", encoding="utf-8")
    (folder / "sbu-captions-all.json").write_text(
        json.dumps({"image_urls": [url], "user_names": ["u"], "captions": ["a cat"]})
    )
    sbu = folder / "dataset"
    sbu.mkdir()
    (sbu / "SBU_captioned_photo_dataset_urls.txt").write_text(f"{url}\n{url}\n")
    (sbu / "SBU_captioned_photo_dataset_captions.txt").write_text("a cat\na dog\n")
    laion = folder / "laion"
    laion.mkdir()
    write_table(
        laion / "part-00000.snappy.parquet",
        {"URL": [url], "TEXT": ["a cat"], "similarity": [0.3], "NSFW": ["UNLIKELY"]},
    )
    return {
        "cc3m": folder / "Train_GCC-training.tsv",
        **{"cc12m": folder / "cc12m.tsv", "sbu": folder / "sbu-captions-all.json", "sbu lines": sbu, "laion": laion},
    }


@pytest.mark.parametrize("name", ["cc3m", "cc12m", "sbu", "sbu lines", "laion"])
def test_tables_of_urls_say_the_command(tmp_path: Path, name: str) -> None:
    path = url_tables(tmp_path)[name]
    wanted = {
        "cc3m": "(printf 'caption\\turl\\n'; cat ",
        "cc12m": "(printf 'url\\tcaption\\n'; cat ",
        "sbu": "--input_format json --url_col image_urls --caption_col captions",
        "sbu lines": "(printf 'url\\tcaption\\n'; paste ",
        "laion": """--url_col URL --caption_col TEXT --save_additional_columns '["NSFW","similarity"]'""",
    }[name]
    with pytest.raises(DataError) as caught:
        open_pairs(path)
    assert wanted in str(caught.value)
    assert "img2dataset --url_list" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(shutil.which("paste") is None, reason="a shell with paste is needed")
def test_the_command_is_one_that_a_shell_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = url_tables(tmp_path)
    seen = fake_program(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name, header in (("cc3m", "caption\turl"), ("sbu lines", "url\tcaption")):
        table = url_table(tables[name])
        assert table is not None
        subprocess.run(["sh", "-c", shell_line(table, "my pictures")], check=True)
        told = json.loads(seen.read_text())
        assert told[told.index("--output_folder") + 1] == "my pictures"
        listed = Path(told[told.index("--url_list") + 1]).read_text(encoding="utf-8").split("\n")
        assert listed[0] == header
        assert len(listed) == 4


def fake_program(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> Path:
    """A program named img2dataset that notes its arguments; what the real one writes is read in test_formats.py."""
    (folder / "bin").mkdir(exist_ok=True)
    program, seen = folder / "bin" / "img2dataset", folder / "seen.json"
    lines = ("import json, sys", f"json.dump(sys.argv[1:], open({str(seen)!r}, 'w'))", "print('total - success')")
    program.write_text("\n".join((f"#!{sys.executable}", *lines, f"sys.exit({code})")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return seen


def test_download_runs_img2dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tables = url_tables(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="pipx install img2dataset"):
        download(tables["laion"], tmp_path / "out")
    seen = fake_program(tmp_path, monkeypatch)
    assert download(tables["cc3m"], tmp_path / "out", image_px=256) == tmp_path / "out"
    told = json.loads(seen.read_text())
    listed = Path(told[told.index("--url_list") + 1])
    assert pq.read_table(listed).to_pydict()["caption"] == ['a "very', PROMPTS[2]]
    assert told[told.index("--image_size") + 1] == "256"
    assert capfd.readouterr().err.count("total - success") == 1
    fake_program(tmp_path, monkeypatch, code=3)
    with pytest.raises(OutputError, match="exit code 3; run it again"):
        download(tables["laion"], tmp_path / "out2")
    with pytest.raises(DataError, match="no table of URLs"):
        download(save(tmp_path / "p", ["a.jpg"]), tmp_path / "out3")


def test_format_fetches_tables_of_urls_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, real = url_tables(tmp_path)["laion"], tmp_path / "real"
    real.mkdir()
    BUILDERS["img2dataset"](real)
    fake_program(tmp_path, monkeypatch)
    script = tmp_path / "bin" / "img2dataset"
    copy = f"import shutil; shutil.copytree({str(real)!r}, sys.argv[sys.argv.index('--output_folder') + 1])"
    script.write_text(script.read_text().replace("sys.exit(0)", f"{copy}\nsys.exit(0)"))
    command = ["pairs", "format", str(table), str(tmp_path / "out"), "--workers", "1"]
    assert main(command) == 2, "nothing is fetched unasked"
    assert "--download FOLDER" in capsys.readouterr().err
    assert main([*command, "--download", str(tmp_path / "fetched")]) == 0
    assert open_pairs(tmp_path / "out")["prompt"][:] == [" ".join(text.split()) for text in PROMPTS]
    assert (tmp_path / "fetched" / table.stem / "00000.tar").exists()


def test_a_table_with_a_header_may_hold_urls_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "p.tsv").write_text("url\tcaption\nhttps://example.org/a.png\ta cat\n")
    assert stream(tmp_path / "p.tsv")[0][0]["image"] == {"bytes": None, "path": "https://example.org/a.png"}
    assert "fetched one by one" in caplog.text
    assert "--input_format tsv --url_col url --caption_col caption" in caplog.text


def test_marks_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    save(tmp_path, ["a.png"])
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "Bär\n".encode())
    assert prompts_of(tmp_path) == ["Bär"]

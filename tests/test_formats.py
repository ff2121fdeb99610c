"""Each row of FORMATS recognises its format by looking, and reads the same pairs from it."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from format_samples import BUILDERS, PROMPTS, jpg, save, write_table, write_tar
from hypothesis import given
from hypothesis import strategies as st
from tiny_pairs import is_picture, png

from img2prompt.errors import DataError
from img2prompt.pairs.formats import hub_sets
from img2prompt.pairs.formats.hub_sets import HubName, hub_name
from img2prompt.pairs.images import open_image
from img2prompt.pairs.skips import LISTED, Skips
from img2prompt.pairs.sources import FORMATS, find_format, open_pairs, stream_rows

COMFYUI = Path(__file__).parents[2] / "shared" / "data" / "embedded_prompts" / "comfyui"
FACTS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {  # format -> columns of the last row, what was left out
    "shards": ({"id": "row-2", "source": "ours"}, {}),
    "img2dataset": ({"id": "000010002", "url": "https://example.org/2", "width": 40}, {"NotDownloaded": 1}),
    "diffusiondb": ({"id": "02-uuid.png", "seed": 9, "guidance_scale": 7.5, "steps": 50, "sampler": "k_lms"}, {}),
    "diffusiondb-table": ({"id": "02-uuid.png", "seed": 3, "guidance_scale": 7.0, "steps": 50}, {"PartMissing": 1}),
    "coco": ({"id": "502"}, {}),
    "table": ({"source": "train"}, {}),
    "table folder": ({}, {}),
    "webdataset": ({"id": "a-000001/2"}, {}),
    "parquet": ({"score": 0.5}, {}),
    "pictures": ({"negative_prompt": "fog", "steps": 20, "seed": 5}, {}),
}


def stream(source: Path | str, columns: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], Skips]:
    skips = Skips()
    return list(stream_rows(source, columns, skips=skips)), skips


def pixels(image: dict[str, Any]) -> np.ndarray:
    return np.asarray(open_image(image["bytes"] or Path(image["path"]))).transpose(2, 0, 1)


def test_every_format_is_tested() -> None:
    assert set(BUILDERS) == set(FACTS) == set(FORMATS) - {"urls"}  # whose tests follow below


@pytest.mark.parametrize("name", BUILDERS)
def test_formats(tmp_path: Path, name: str) -> None:
    source = BUILDERS[name](tmp_path)
    assert find_format(source) is FORMATS[name]
    rows, skips = stream(source)
    assert [row["prompt"] for row in rows] == PROMPTS
    assert all(is_picture(pixels(row["image"]), number) for number, row in enumerate(rows))
    facts, left_out = FACTS[name]
    assert facts.items() <= rows[-1].items()
    assert dict(skips.counts) == left_out
    assert all(isinstance(row["source"], str) and row["source"] for row in rows)
    assert not {"user_name", "key", "status", "exif", "__key__"} & rows[-1].keys()

    lost: list[int] = []
    data = open_pairs(source, on_left_out=lost.append)
    assert (data["prompt"][:], data["source"][:]) == (PROMPTS, [row["source"] for row in rows])
    assert sum(lost) == skips.total
    assert all(is_picture(pixels(image), number) for number, image in enumerate(data["image"]))
    assert open_pairs(str(source)).column_names == data.column_names


@pytest.mark.parametrize("name", BUILDERS)
def test_given_names_that_are_not_there(tmp_path: Path, name: str) -> None:
    source = BUILDERS[name](tmp_path)
    if name == "pictures":  # their .json need not have the same keys
        assert stream(source, {"prompt": "caption"})[0][0]["prompt"] == PROMPTS[1]
        return
    with pytest.raises(DataError, match=r"no column 'nonsense'; found: .*\w|has no columns to choose from"):
        stream(source, {"prompt": "nonsense"})


def test_the_other_forms_of_img2dataset(tmp_path: Path) -> None:
    told = {"key": ["0", "1"], "status": ["success", "failed_to_download"], "error_message": [None, "HTTP Error 404"]}
    columns = {"url": ["https://e.org/0", "https://e.org/1"], "caption": ["a cat", "a dog"], "jpg": [jpg(0), None]}
    folder = tmp_path / "parquet"
    folder.mkdir()
    write_table(folder / "00000.parquet", {**columns, **told})
    (folder / "00000_stats.json").write_text('{"status_dict": {"success": 1, "HTTP Error 404": 1}}')
    rows, skips = stream(folder)
    assert [(row["prompt"], row["id"], row["image"]["bytes"]) for row in rows] == [("a cat", "0", jpg(0))]
    assert skips.to_dict()["skipped_first"] == [
        {"source": "https://e.org/1", "error": "HTTP Error 404", "kind": "NotDownloaded"}
    ]
    files = save(tmp_path / "files", ["00000/000.jpg", "00000/001.jpg"])
    for n in range(2):
        (files / "00000" / f"00{n}.txt").write_text(PROMPTS[n])
        (files / "00000" / f"00{n}.json").write_text(json.dumps({"caption": PROMPTS[n], "key": f"00{n}", "url": "u"}))
    write_table(files / "00000.parquet", {"url": ["u"], "caption": ["c"]})
    (files / "00000_stats.json").write_text('{"status_dict": {"success": 2, "HTTP Error 403": 7}}')
    rows, skips = stream(files)
    assert [(row["prompt"], row["id"]) for row in rows] == [(PROMPTS[0], "000"), (PROMPTS[1], "001")]
    assert skips.counts == {"NotDownloaded": 7}


def test_an_unfinished_shard_of_img2dataset_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    BUILDERS["img2dataset"](tmp_path)
    (tmp_path / "00001_stats.json").unlink()
    rows, _ = stream(tmp_path)
    assert len(rows) == 3
    assert "did not finish 1 of 2 shards (00001, ...)" in caplog.text


def test_tars_with_prompts_in_their_json_and_chosen_members(tmp_path: Path) -> None:
    told = json.dumps({"caption": "short", "caption_long": "a long one", "aesthetic": 6.1, "faces": [1, 2]}).encode()
    members = {"d/x.seg.png": png(3), "d/x.jpg": jpg(0), "d/x.json": told}
    tar = write_tar(tmp_path / "t.tar", members)
    row = stream(tar)[0][0]
    assert (row["prompt"], row["id"], row["aesthetic"]) == ("short", "t/d/x", 6.1)
    assert "faces" not in row
    chosen = stream(tar, {"prompt": "caption_long", "image": "seg.png"})[0][0]
    assert chosen["prompt"] == "a long one"
    assert is_picture(pixels(chosen["image"]), 3)
    with pytest.raises(DataError, match=r"no column 'png'; found: .*caption, caption_long, .*seg\.png, jpg"):
        stream(tar, {"image": "png"})


def test_kaggle_names_pictures_by_ids(tmp_path: Path) -> None:
    save(tmp_path, [f"images/20057f34{n}.png" for n in range(3)])
    lines = [f'20057f34{n},"{text.replace(chr(34), chr(34) * 2)}"' for n, text in enumerate(PROMPTS)]
    (tmp_path / "prompts.csv").write_text("imgId,prompt\n" + "\n".join(lines) + "\nabsent,lost\n", encoding="utf-8")
    rows, _ = stream(tmp_path)
    assert [row["prompt"] for row in rows] == [*PROMPTS, "lost"]
    assert [Path(row["image"]["path"]).is_file() for row in rows] == [True, True, True, False]
    assert rows[1]["id"] == "20057f341"


def test_a_json_array_and_lists_of_captions(tmp_path: Path) -> None:
    save(tmp_path, ["0.jpg"])
    rows = [{"image": "0.jpg", "caption": ["a cat", "a tabby"], "id": 7, "conversations": [{"from": "human"}]}]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    assert [(r["prompt"], r["id"]) for r in stream(tmp_path / "p.json")[0]] == [("a cat", "7"), ("a tabby", "7#1")]


def test_other_columns_come_along_and_ours_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        json.dumps({"image": "0.jpg", "prompt": "x", "source": "flickr", "score": 0.3, "nsfw": False, "tags": ["a"]})
    )
    row = stream(tmp_path / "p.jsonl")[0][0]
    assert row == {
        "image": {"bytes": None, "path": str(tmp_path / "0.jpg")},
        **{"prompt": "x", "source": "p", "table_source": "flickr", "score": 0.3, "nsfw": False},
    }
    assert stream(tmp_path / "p.jsonl", {"source": "source"})[0][0]["source"] == "flickr"


def test_comfyui_pictures_give_what_is_in_them() -> None:
    if not COMFYUI.exists():
        pytest.skip("../shared/data/embedded_prompts is not there")
    truth: dict[str, set[str]] = {}
    for row in stream(COMFYUI / "pairs.csv")[0]:
        truth.setdefault(row["image"]["path"], set()).add(row["prompt"])
    rows, skips = stream(COMFYUI / "images")
    assert {row["image"]["path"] for row in rows} == truth.keys()
    assert all(row["prompt"] in truth[row["image"]["path"]] for row in rows)
    assert not skips
    assert {row["generator"] for row in rows} == {"ComfyUI"}


# --- the hub


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert hub_name("hf:owner/name:config@test") == HubName("owner/name", "config", "test")
    assert hub_name("owner/name") == hub_name("hf://datasets/owner/name") == HubName("owner/name")
    assert hub_name("owner/name@validation") == HubName("owner/name", None, "validation")
    assert hub_name(f"hf:{tmp_path}@test") == HubName(str(tmp_path), None, "test")
    for path in ("data/absent", "owner/pairs.csv", "/a/b", "./a/b", "a/b/c", "name", Path("owner/name")):
        assert hub_name(path) is None


def test_a_folder_in_the_layout_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "repo"
    BUILDERS["parquet"](repository)
    other = {"image": [{"bytes": jpg(4), "path": "4.jpg"}], "caption": ["other"], "score": [0.1]}
    write_table(repository / "data" / "test-00000-of-00001.parquet", other)
    (repository / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - {name: image, dtype: image}\n  - {name: caption, dtype: string}\n"
        "  - {name: score, dtype: float64}\n---\n"
    )
    rows, _ = stream(f"hf:{repository}")
    assert [row["prompt"] for row in rows] == PROMPTS
    assert all(is_picture(pixels(row["image"]), number) for number, row in enumerate(rows))
    assert rows[0]["score"] == 0.5
    assert open_pairs(f"hf:{repository}@test")["prompt"][:] == ["other"]
    with pytest.raises(DataError, match=r"no split 'dev'; choose one: .*@train, .*@test"):
        stream(f"hf:{repository}@dev")


def test_pictures_that_are_files_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows, _ = stream(f"hf:{BUILDERS['table folder'](tmp_path / 'repo')}")
    assert [row["prompt"] for row in rows] == PROMPTS
    assert all(is_picture(pixels(row["image"]), number) for number, row in enumerate(rows))


def test_offline_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"^owner/name-absent: no such file or folder here, .* HF_HUB_OFFLINE"
    ) as caught:
        stream("owner/name-absent")
    assert "\n" not in str(caught.value)
    assert hub_sets.hub_name("owner/name-absent") is not None


# --- skips and memory


def test_skips_are_small_equal_and_come_back() -> None:
    one, two = Skips(), Skips()
    for number in range(50):
        (one if number < 30 else two).add("A", f"row {number}", "bad\x1b[31m\nline " + "x" * 1000)
    two.add("B", "row", "other")
    whole = Skips()
    whole.merge(one)
    whole.merge(two)
    assert (whole.total, dict(whole.counts), len(whole.examples["A"])) == (51, {"A": 50, "B": 1}, LISTED)
    assert Skips.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole == pickle.loads(pickle.dumps(whole))
    lines = list(whole.lines())
    assert lines[0].startswith("50 A: row 0: bad\\x1b[31m\\nline ")
    assert lines[0].endswith("; and 47 more")
    assert lines[1] == "1 B: row: other"
    assert all("\n" not in line and len(line) < 1000 for line in lines)


@given(st.lists(st.sampled_from("ABC"), max_size=60), st.integers(0, 60))
def test_skips_of_parts_are_those_of_the_whole(kinds: list[str], cut: int) -> None:
    whole, first, rest = Skips(), Skips(), Skips()
    for number, kind in enumerate(kinds):
        for skips in (whole, first if number < cut else rest):
            skips.add(kind, number, kind)
    first.merge(rest)
    assert first == whole


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    noise = os.urandom(200_000)
    members = {f"{n:05d}.{kind}": data for n in range(150) for kind, data in (("jpg", noise), ("txt", b"x"))}
    tar = write_tar(tmp_path / "t.tar", members)
    (tmp_path / "t.csv").write_text("image,prompt\n" + "".join(f"{n}.jpg,prompt {n}\n" for n in range(20_000)))
    images = pa.array([noise] * 512, pa.binary())
    write_table(tmp_path / "t.parquet", {"image": images, "text": ["x"] * 512})
    for source, rows in ((tar, 150), (tmp_path / "t.csv", 20_000), (tmp_path / "t.parquet", 512)):
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        assert sum(1 for _ in stream_rows(source, skips=Skips())) == rows
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000 + 64 * 200_000, source  # a batch of parquet rows, no more
        assert pa.total_allocated_bytes() - arrow < 10_000_000


def test_memory_does_not_grow_with_the_members_of_a_tar(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "t.tar", {f"{n:06d}.{kind}": b"x" for n in range(2000) for kind in ("jpg", "txt")})

    def peak(count: int) -> int:
        tracemalloc.start()
        rows = stream_rows(tar, skips=Skips())
        assert sum(1 for _ in islice(rows, count)) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # tarfile would keep more than a kilobyte of each member. Threads that earlier tests left may allocate meanwhile:
    # what grows by itself grows twice.
    assert min(peak(2000), peak(2000)) < peak(100) + 1_000_000

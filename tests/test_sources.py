"""Pairs are read from every format, and what cannot be read says what was found."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from noise_rows import Noise, plan
from PIL import Image

from img2prompt.errors import DataError
from img2prompt.pairs.shards import write_shards
from img2prompt.pairs.sources import COLUMN_NAMES, open_pairs

DATA = Path(__file__).parents[2] / "shared" / "data" / "pairs"
PAIRS = [("pictures/a.png", "a red cat"), ("pictures/b.jpg", 'two "dogs",\non a beach'), ("pictures/c.webp", "ein Bär")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for name, _ in PAIRS:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def write(path: Path, image: str = "image", prompt: str = "prompt", delimiter: str = ",", pairs: Any = PAIRS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps({"n": 1, image: i, prompt: p}) + "\n" for i, p in pairs)
        else:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([("n", image, prompt), *((1, i, p) for i, p in pairs)])
    return path


def pairs_of(data: Any, folder: Path) -> list[tuple[str, str]]:
    assert all(image["bytes"] is None for image in data["image"])
    return [(str(Path(row["image"]["path"]).relative_to(folder)), row["prompt"]) for row in data]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.jsonl", "metadata.csv", "metadata.jsonl", "pairs.csv"])
def test_tables(folder: Path, name: str) -> None:
    table = write(folder / name, delimiter="\t" if name.endswith("tsv") else ",")
    source = folder if name in ("metadata.csv", "metadata.jsonl", "pairs.csv") else table
    assert pairs_of(open_pairs(source), folder) == PAIRS


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiters_of_csv(folder: Path, delimiter: str) -> None:
    assert pairs_of(open_pairs(write(folder / "p.csv", delimiter=delimiter)), folder) == PAIRS


@pytest.mark.parametrize("image", COLUMN_NAMES["image"])
@pytest.mark.parametrize("prompt", [COLUMN_NAMES["prompt"][1], "Title", " TEXT "])
def test_usual_column_names_are_found(folder: Path, image: str, prompt: str) -> None:
    assert pairs_of(open_pairs(write(folder / "p.csv", image, prompt)), folder) == PAIRS


def test_given_column_names(folder: Path) -> None:
    table = write(folder / "p.csv", "jpg", "de")
    assert pairs_of(open_pairs(table, {"image": "jpg", "prompt": "de"}), folder) == PAIRS
    with pytest.raises(DataError, match=r"p\.csv: no column for images; found: n, jpg, de"):
        open_pairs(table)
    with pytest.raises(DataError, match=r"no column 'fr'; found: n, jpg, de"):
        open_pairs(table, {"image": "jpg", "prompt": "fr"})
    with pytest.raises(DataError, match="no column 'imgae' to name"):
        open_pairs(table, {"imgae": "jpg"})


def test_a_byte_order_mark_is_no_part_of_a_name(folder: Path) -> None:
    (folder / "p.csv").write_text("\ufeffimage,prompt\npictures/a.png,a cat\n", encoding="utf-8")
    assert pairs_of(open_pairs(folder / "p.csv"), folder) == [("pictures/a.png", "a cat")]


def test_sidecars(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "pictures" / "a.txt").write_text("a red cat\n")
    (folder / "pictures" / "c.txt").write_text("\ufeffein Bär", encoding="utf-8")
    (folder / "pictures" / "notes.txt").write_text("not a prompt of a picture")
    assert pairs_of(open_pairs(folder), folder) == [PAIRS[0], PAIRS[2]]
    assert "1 of 3 rows left out" in caplog.text


def test_rows_without_prompt_or_image_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = write(folder / "p.csv", pairs=[*PAIRS, ("pictures/a.png", "  "), ("", "a cow")])
    with table.open("a") as file:
        file.write("1\n")
    assert pairs_of(open_pairs(table), folder) == PAIRS
    assert "3 of 6 rows left out" in caplog.text


def test_urls_stay(folder: Path) -> None:
    table = write(folder / "p.csv", pairs=[("https://example.org/a.png", "a cat")])
    assert open_pairs(table)[0]["image"]["path"] == "https://example.org/a.png"


def test_scenes_are_kept(folder: Path) -> None:
    (folder / "p.jsonl").write_text(json.dumps({"image": "pictures/a.png", "prompt": "a cat", "scene": "{}"}))
    assert open_pairs(folder / "p.jsonl")[0]["scene"] == "{}"


def test_shards_and_their_other_columns(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", plan(), Noise())
    data = open_pairs(tmp_path / "shards")
    assert data["prompt"][7] == "noise 7 “ü”"
    assert data["image"][7]["bytes"].startswith(b"\x89PNG")
    assert open_pairs(tmp_path / "shards", {"prompt": "id"})["prompt"][7] == "row-7"
    (tmp_path / "shards" / "manifest.json").unlink()
    with pytest.raises(DataError, match="unfinished"):
        open_pairs(tmp_path / "shards")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", b"", "no rows"),
        ("p.csv", b"image,prompt\n", "no rows"),
        ("p.csv", b'image,prompt\na.png,"never closed\n', "after line 1: unexpected end of data"),
        (
            "p.csv",
            "image,prompt\na.png,Кошка\n".encode("cp1251"),
            "1 NotText: .*a.png: its prompt is in an unknown enc",
        ),
        ("p.jsonl", b'{"image"\n\n{"image"', "no rows; .*line 1: not JSON"),
        ("p.jsonl", b"[1]\n", "line 1: a JSON object is needed"),
        ("p.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("p.jsonl", b'{"image": 3, "prompt": ["x"]}\n', "none of 1 rows has an image and a prompt"),
        ("p.csv", b"image,prompt\nno/a.png,a cat\n", "none of the images exists; the first would be .*no/a.png"),
        ("p.xlsx", b"PK", "not a table of pairs; give a folder or one of .csv"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_pairs(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_pairs(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no images, and none of manifest\.json, metadata\.jsonl"):
        open_pairs(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"none of 1 rows .* \(a \.txt beside it"):
        open_pairs(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200) | st.text(alphabet='image,prompt\n"\r\t{}[]:\x00é', max_size=120).map(str.encode)
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_any_bytes_give_pairs_or_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    table = tmp_path / f"p{suffix}"
    table.write_bytes(content)
    try:
        open_pairs(table)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "rows", "images"), [("coco_cc_by", 255, 51), ("flickr8k_1k", 5000, 1000), ("kaggle_sd2_7", 7, 7)]
)
def test_real_pairs(name: str, rows: int, images: int) -> None:
    if not DATA.exists():
        pytest.skip("../shared/data/pairs is not there")
    data = open_pairs(DATA / name / "pairs.csv")
    paths = {row["path"] for row in data["image"]}
    assert (len(data), len(paths)) == (rows, images)
    assert all(Path(path).is_file() for path in paths)

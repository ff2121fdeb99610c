"""`img2prompt storybook`: the rows are what the world's own functions give, whatever writes them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from img2prompt.cli import main
from img2prompt.pairs.manifest import read_manifest
from img2prompt.pairs.shards import read_shards, write_shards
from img2prompt.pairs.storybook.dataset import COLUMNS, StorybookRows
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import SPLITS, Scene, novelty


def shard_hashes(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))]


def test_the_verb_writes_what_the_world_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    arguments = ["storybook", str(out), "--count", "12", "--seed", "3", "--split", "validation", "--image-px", "64"]
    assert main([*arguments, "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    data = read_shards(out)
    assert tuple(data.column_names) == COLUMNS
    assert len(set(data["id"])) == len(set(data["scene"])) == 12
    for row in data:
        scene = Scene.from_json(row["scene"])
        assert row["prompt"] == row["short"] == describe(scene, "short")
        assert [row[manner] for manner in ("long", "tags", "alt")] == [
            describe(scene, m) for m in ("long", "tags", "alt")
        ]
        picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])), float)
        assert np.abs(picture - np.asarray(render(scene, 64), float)).mean() < 6  # JPEG
        boxes = json.loads(row["scene"])["boxes"]
        kinds = [group.kind for group in scene.groups for _ in range(group.count)]
        assert sorted(box["kind"] for box in boxes) == sorted(kinds)
        assert all(scene.groups[box["group"]].kind == box["kind"] for box in boxes)
        assert all(0 <= box["x0"] < box["x1"] <= 1 and 0 <= box["y0"] < box["y1"] <= 1 for box in boxes)
        assert row["split"] == "validation"
    config = read_manifest(out)["config"]
    assert config == {"world": "storybook", "seed": 3, "split": "validation", "image_px": 64, "image_format": "jpeg"}
    # A second run finds everything done; another seed is another data set.
    before = shard_hashes(out)
    assert main([*arguments, "--workers", "1"]) == 0
    assert main([*arguments, "--seed", "4"]) == 2
    assert "seed 3 there, 4 asked for" in capsys.readouterr().err
    assert shard_hashes(out) == before


def test_bytes_do_not_depend_on_the_processes(tmp_path: Path) -> None:
    rows = StorybookRows(seed=1, image_px=32)
    plan = dataclasses.replace(rows.plan(10), rows_per_shard=3)
    write_shards(tmp_path / "one", plan, rows, workers=1)
    write_shards(tmp_path / "two", plan, rows, workers=2)
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")
    assert len(shard_hashes(tmp_path / "one")) == 4


def test_rows_do_not_depend_on_the_count_but_on_seed_and_split() -> None:
    def scenes(seed: int, split: str, rows: range) -> list[str]:
        return [row["scene"] for row in StorybookRows(seed, split, image_px=32)(rows)]

    first = scenes(5, "train", range(3))
    assert scenes(5, "train", range(1, 3)) == first[1:]
    others = [*scenes(6, "train", range(3)), *scenes(-5, "train", range(3)), *scenes(5, "test", range(3))]
    assert not set(first) & set(others)


@pytest.mark.parametrize("split", SPLITS)
def test_splits_show_what_they_promise(split: str) -> None:
    expected = {"test_pairs": "pairs", "test_styles": "styles"}.get(split, "none")
    rows = list(StorybookRows(0, split, image_px=32)(range(4)))
    assert {novelty(Scene.from_json(row["scene"])) for row in rows} == {expected}
    assert all(row["id"].startswith(f"storybook-{split}-0-") for row in rows)


@pytest.mark.parametrize(("image_format", "lossless"), [("jpeg", False), ("png", True), ("webp", True)])
def test_image_formats(image_format: str, lossless: bool) -> None:
    row = next(iter(StorybookRows(0, image_px=48, image_format=image_format)(range(1))))
    image = Image.open(io.BytesIO(row["image"]))
    assert image.format == image_format.upper()
    truth = render(Scene.from_json(row["scene"]), 48)
    if lossless:
        assert image.convert("RGB").tobytes() == truth.tobytes()
    else:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--split", "testing", "--split testing: choose from train, validation"),
        ("--count", "0", "--count 0: choose 1 or more"),
        ("--image-px", "5", "--image-px 5: choose 32 to 1024"),
        ("--image-format", "tiff", "--image-format tiff: choose from jpeg, png, webp"),
    ],
)
def test_wrong_values_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    assert main(["storybook", str(tmp_path / "out"), option, value]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()

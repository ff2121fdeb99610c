"""Evaluation: perfect prompts score 1, wrong ones lose what they got wrong, failures are counted."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_model import save_model
from tiny_towers import TIMM

from img2prompt.cli import main
from img2prompt.errors import DataError, MissingExtra
from img2prompt.jobs.evaluate import label_of
from img2prompt.jobs.judging import Example, examples_of, judge, judge_embeddings, sources_of
from img2prompt.jobs.plots import draw_evaluation
from img2prompt.jobs.reports import LENGTHS, ROWS, Report, length_name, table
from img2prompt.pairs.shards import read_shards, write_shards
from img2prompt.pairs.sources import open_pairs
from img2prompt.pairs.storybook.dataset import StorybookRows
from img2prompt.results import Failed, Prediction

FACTS = [name for name in ROWS if name.startswith("object_") or name.endswith(("_accuracy", "_binding"))]


class Words:
    """Bags of words as embeddings: cosines that can be worked out by hand."""

    def encode_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.zeros((len(texts), 4096), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                counts[row, sum(ord(c) * 31**i for i, c in enumerate(word)) % 4096] += 1
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def said(*prompts: str, confidence: float | None = None) -> list[Prediction | Failed]:
    return [Prediction(source="x", prompt=p, origin="captioner", confidence=confidence) for p in prompts]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rows = tmp_path_factory.mktemp("evaluate") / "set", StorybookRows(seed=7, split="test", image_px=32)
    write_shards(folder, rows.plan(40), rows)
    return folder


@pytest.fixture(scope="module")
def scenes(shards: Path) -> datasets.Dataset:
    return read_shards(shards)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        for name, texts in {"b.png": ["a red cat", "one cat"], "a.png": ["two dogs", "dogs"]}.items():
            Image.new("RGB", (9, 9), "teal").save(tmp_path / name)
            writer.writerows((name, text) for text in texts)
    return tmp_path / "pairs.csv"


@pytest.mark.parametrize("style", ["short", "long"])
def test_the_true_prompts_score_one(scenes: datasets.Dataset, style: str) -> None:
    examples = examples_of(scenes, style)
    report = judge("test", examples, said(*scenes[style]), Words())
    assert report.metrics["mean_cosine"] == pytest.approx(1)
    assert report.metrics["bleu"] == pytest.approx(1)
    assert report.metrics["identical_share"] == 0
    for name in FACTS:
        assert report.metrics[name] >= 0.95, name


def test_prompts_of_other_pictures_score_low(scenes: datasets.Dataset) -> None:
    examples = examples_of(scenes, "short")
    report = judge("test", examples, said(*scenes["short"][1:], scenes["short"][0]), Words())
    assert report.metrics["object_f1"] < 0.3
    assert report.metrics["style_accuracy"] < 0.5
    assert report.metrics["mean_cosine"] < 0.7


def test_a_collapsed_captioner_is_seen(scenes: datasets.Dataset) -> None:
    report = judge("test", examples_of(scenes, "short"), said(*["a cat"] * len(scenes)), Words())
    assert report.metrics["identical_share"] == 1


def test_failed_pictures_are_named_and_enter_no_score(scenes: datasets.Dataset) -> None:
    results = said(*scenes["short"])
    results[3] = Failed(source="<bytes>", error="the file ends before the picture does", kind="ImageTruncated")
    report = judge("test", examples_of(scenes, "short"), results, Words())
    assert report.images == 39
    assert [(f.source, f.kind) for f in report.failed] == [(scenes["id"][3], "ImageTruncated")]
    assert report.metrics["object_f1"] >= 0.95
    assert any(line.split() == ["failed", "1"] for line in table([report]))


def test_nothing_but_failures_is_still_a_report(scenes: datasets.Dataset) -> None:
    failed: list[Prediction | Failed] = [Failed("x", "broken", "NotAnImage")] * 40
    report = judge("test", examples_of(scenes, "short"), failed, Words())
    assert (report.images, report.metrics, report.cosine_interval) == (0, {}, None)
    assert "".join(table([report]))
    json.dumps(report.to_dict(), allow_nan=False)


def test_cosines_by_hand_and_the_worst_first(photos: Path) -> None:
    examples = examples_of(open_pairs(photos), "short")
    assert [(Path(e.name).name, e.prompts) for e in examples] == [
        ("b.png", ("a red cat", "one cat")),
        ("a.png", ("two dogs", "dogs")),
    ]
    report = judge("photos", examples, said("a cat", "dogs", confidence=0.25), Words())
    expected = [(2 / math.sqrt(6) + 1 / 2) / 2, (1 / math.sqrt(2) + 1) / 2]
    assert [row["cosine"] for row in report.rows] == pytest.approx(expected, abs=1e-6)
    assert report.metrics["mean_cosine"] == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert report.metrics["mean_confidence"] == 0.25
    assert "object_f1" not in report.metrics
    assert [row["prompt"] for row in report.worst] == ["a cat", "dogs"]
    low, high = report.cosine_interval or (0, 0)
    assert expected[0] - 1e-6 <= low <= report.metrics["mean_cosine"] <= high <= expected[1] + 1e-6


def test_every_picture_is_predicted_once_in_order(photos: Path, scenes: datasets.Dataset) -> None:
    data = open_pairs(photos)
    assert list(sources_of(data, examples_of(data, "short"))) == [photos.parent / "b.png", photos.parent / "a.png"]
    examples = examples_of(scenes, "short", limit=3)
    assert list(sources_of(scenes, examples)) == [scenes[i]["image"]["bytes"] for i in range(3)]


def test_a_scene_that_is_none_is_an_error_of_the_data() -> None:
    data = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "a.png"}], "prompt": ["a"], "scene": ["{}"]})
    with pytest.raises(DataError, match="scene JSON"):
        examples_of(data, "short")


def test_columns_are_named_by_split_or_by_place(photos: Path, scenes: datasets.Dataset) -> None:
    assert label_of("whatever", scenes) == "test"
    assert label_of(str(photos), open_pairs(photos)) == photos.parent.name


def test_the_table_has_a_column_a_source_and_a_dash_for_what_was_not_asked() -> None:
    scores = {"mean_cosine": 0.51234, "object_f1": 0.9, "size_accuracy": math.nan, "ms_per_image": 42.4}
    scenes = Report("test", 10, (), scores, (0.4, 0.6), [])
    photos = Report("photos", 5, (), {"mean_cosine": 0.25}, (0.2, 0.3), [])
    lines = [line.split() for line in table([scenes, photos])]
    assert lines[0] == ["test", "photos"]
    assert ["MiniLM", "cosine,", "mean", "0.512", "0.250"] in lines
    assert ["95", "%", "interval", "0.400-0.600", "0.200-0.300"] in lines
    assert ["object", "F1", "0.900", "-"] in lines
    assert ["size", "accuracy", "-", "-"] in lines
    assert ["ms", "an", "image,", "warm", "42", "-"] in lines


def test_embeddings_by_hand(photos: Path) -> None:
    """An estimate's cosine is that with the true embedding itself, and the nearest known prompt is shown."""
    examples = examples_of(open_pairs(photos), "short")
    emb = Words().encode_many(["a cat", "two dogs"]) * np.float32(3)  # length does not count
    report = judge_embeddings("photos", examples, list(emb), Words())
    expected = [(2 / math.sqrt(6) + 1 / 2) / 2, (1 + 1 / math.sqrt(2)) / 2]
    assert [row["cosine"] for row in report.rows] == pytest.approx(expected, abs=1e-6)
    assert report.metrics == {"mean_cosine": pytest.approx(sum(expected) / 2, abs=1e-6)}
    assert [row["nearest"] for row in report.rows] == ["a red cat", "two dogs"]
    assert "         near: a red cat" in list(table([report]))


def test_embeddings_that_failed_are_named_and_enter_no_score(photos: Path) -> None:
    examples = examples_of(open_pairs(photos), "short")
    one = Words().encode_many(["two dogs"])[0]
    report = judge_embeddings("photos", examples, [Failed("x", "is empty", "ImageEmpty"), one], Words())
    assert [(f.source, f.error) for f in report.failed] == [(examples[0].name, "is empty")]
    assert report.images == len(report.rows) == 1
    nothing = judge_embeddings("photos", examples, [Failed("x", "is empty", "ImageEmpty")] * 2, Words())
    assert (nothing.images, nothing.metrics, nothing.by_length) == (0, {}, {})


def test_groups_are_means_of_their_own_pictures_only() -> None:
    lengths = {"a b c": "x", "a b c d e": "y", "a b c d e f": "y", " ".join("a" * 41): "x"}
    examples = [Example(text, i, (text,), origin=origin) for i, (text, origin) in enumerate(lengths.items())]
    words = ["a b c", "nothing", "a b c d e f", "nothing"]
    report = judge("mixed", examples, said(*words), Words())
    groups = {name: (group.images, round(group.mean_cosine, 6)) for name, group in report.by_length.items()}
    assert groups == {"0-5 words": (2, 0.5), "6-10 words": (1, 1.0), "41 or more words": (1, 0.0)}
    assert {name: group.mean_cosine for name, group in report.by_origin.items()} == pytest.approx({"x": 0.5, "y": 0.5})
    lines = [" ".join(line.split()) for line in table([report, Report("other", 0, (), {}, None, [])])]
    first = lines.index("prompts of 0-5 words 0.500 -")
    assert lines[first : first + 5] == [
        "prompts of 0-5 words 0.500 -",
        "prompts of 6-10 words 1.000 -",
        "prompts of 41 or more words 0.000 -",
        "from x 0.500 -",
        "from y 0.500 -",
    ]
    assert report.to_dict()["by_length"]["6-10 words"] == {"images": 1, "mean_cosine": pytest.approx(1)}


@given(st.integers(0, 500), st.integers(0, 500))
def test_every_length_has_one_group_and_longer_ones_come_later(fewer: int, more: int) -> None:
    order = [length_name(most) for most in (*LENGTHS, LENGTHS[-1] + 1)]
    fewer, more = sorted((fewer, more))
    assert order.index(length_name(fewer)) <= order.index(length_name(more))


def test_rows_of_a_mixed_data_set_say_where_they_came_from() -> None:
    data = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": "b.png"}],
            "prompt": ["a cat", "a dog"],
            "source": ["diffusiondb", "coco"],
        }
    )
    assert [example.origin for example in examples_of(data, "short")] == ["diffusiondb", "coco"]


def test_the_picture_is_drawn_whatever_the_prompts_hold(tmp_path: Path) -> None:
    """Formulas, markup, nothing, thousands of characters: text under a picture, never a reason to stop."""
    texts = ["$x^2$ and $\\frac{", "\n\t\x00", "<b> " * 4000, "日本語", "a cat"]
    examples = [Example(f"{i}", i, (text or "a",)) for i, text in enumerate(texts)]
    reports = [judge(label, examples, said(*reversed(texts)), Words()) for label in ("one", "other $")]
    pictures = [[Image.new("RGB", (9 + i, 30), "teal") for i in range(len(r.worst))] for r in reports]
    draw_evaluation(tmp_path / "e.png", [*reports, Report("none", 0, (), {}, None, [])], [*pictures, []])
    with Image.open(tmp_path / "e.png") as drawn:
        assert drawn.format == "PNG" and drawn.width == 1300 and drawn.height > 1000
        assert len(set(drawn.convert("L").resize((64, 64)).tobytes())) > 20


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random regressor of the real class in the real format."""
    from img2prompt.models.regressor import RegressorConfig, new_regressor, save_regressor
    from img2prompt.models.towers import TowerSpec

    name, size = TIMM["vit"]
    tower = TowerSpec("timm", name, config={"model_args": size})
    return save_regressor(new_regressor(RegressorConfig(tower)), tmp_path_factory.mktemp("regressor") / "tiny")


def test_a_regressor_is_scored_by_its_embeddings(
    shards: Path, model: Path, regressor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    json_file, png = tmp_path / "scores.json", tmp_path / "scores.png"
    words = ["evaluate", str(shards), "--regressor", str(regressor), "--limit", "6", "--json", str(json_file)]
    assert main([*words, "--png", str(png)]) == 0
    out = capsys.readouterr().out
    assert "embeddings against those of the short prompts" in out and "near: " in out and "BLEU" not in out
    (source,) = json.loads(json_file.read_text())["sources"]
    assert source["images"] == 6 and -1 <= source["metrics"]["mean_cosine"] < 0.9
    assert sum(group["images"] for group in source["by_length"].values()) == 6
    with Image.open(png) as drawn:
        assert drawn.format == "PNG"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from img2prompt.models.sentence import find_model

    try:
        find_model()
    except MissingExtra as error:
        pytest.skip(str(error))
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


class Closed(io.TextIOBase):
    """Standard output whose reader went away."""

    def __init__(self) -> None:
        self._file = os.open(os.devnull, os.O_WRONLY)

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        return self._file


def test_files_are_written_though_nobody_reads_the_table(
    shards: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json_file, png = tmp_path / "scores.json", tmp_path / "scores.png"
    words = ["evaluate", str(shards), "--preset", str(model), "--limit", "2", "--json", str(json_file)]
    monkeypatch.setattr(sys, "stdout", Closed())
    assert main([*words, "--png", str(png)]) == 0
    assert len(json.loads(json_file.read_text())["sources"][0]["rows"]) == 2 and png.stat().st_size > 1000


def test_the_table_is_printed_though_a_file_cannot_be_written(
    shards: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("img2prompt.pairs.atomic.write_atomically", full)
    words = ["evaluate", str(shards), "--preset", str(model), "--limit", "2", "--json", str(tmp_path / "scores.json")]
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert "MiniLM cosine, mean" in out and "choose a place that can be written" in err


def test_the_verb_from_end_to_end(
    shards: Path, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A random model: its scores are worthless, but all of them are there."""
    with photos.open("a") as file:
        file.write("broken.png,a cow\n")
    (photos.parent / "broken.png").write_bytes(b"\x89PNG nothing more")
    file = tmp_path / "scores.json"
    arguments = ["evaluate", str(shards), str(photos), "--preset", str(model), "--limit", "3", "--json", str(file)]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert ["test", photos.parent.name] in lines
    assert ["images", "3", "2"] in lines
    assert ["failed", "0", "1"] in lines
    assert "broken.png" in err
    result = json.loads(file.read_text())
    scenes, pictures = result["sources"]
    assert result["settings"]["limit"] == 3
    assert "torch" in result["machine"]["packages"]
    assert set(FACTS) <= set(scenes["metrics"])
    assert not set(FACTS) & set(pictures["metrics"])
    assert [row["name"] for row in scenes["rows"]] == read_shards(shards)["id"][:3]
    assert pictures["failed"][0]["source"].endswith("broken.png")
    low, high = scenes["mean_cosine_interval"]
    assert low <= scenes["metrics"]["mean_cosine"] <= high
    assert scenes["metrics"]["ms_per_image"] > 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--limit", "0"], "--limit: 0: at least 1"),
        (["--json", "no/such/folder/scores.json"], "no/such/folder"),
        (["--prompt-column", "title"], "no column 'title'; found: "),
        (["--preset", "storybok"], "did you mean storybook"),
        (["--png", "no/such/folder/scores.png"], "no/such/folder"),
        (["--json", "/"], "is a folder; name a file"),
        (["--regressor", "no/such/model", "--ensemble", "e.yaml"], "are two models; give one"),
    ],
)
def test_wrong_options_are_one_line(
    shards: Path, model: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(["evaluate", str(shards), "--preset", str(model), *extra]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)

"""The report of a removal of near-duplicates: every group as JSON lines, a summary, a curve and a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from img2prompt.errors import OutputError
from img2prompt.jobs.pairs import dedup_report
from img2prompt.jobs.pairs.dedup_report import Rows, groups_of, write_report


@dataclass
class Found:
    """As `find_duplicates` gives it."""

    keep: np.ndarray
    survivor: np.ndarray
    cosine: np.ndarray


PROMPTS = ["a cat", "a dog on <b>ice</b>", "A cat", "a cat sits", "two dogs", "a dog on ice", "alone"]
FOUND = Found(
    keep=np.array([True, True, False, False, True, False, True]),
    survivor=np.array([0, 1, 0, 0, 4, 1, 6]),
    cosine=np.array([1, 1, 1.0, 0.93, 1, 0.97, 1], np.float32),
)
FACTS = {"rows": 7, "survivors": 4, "threshold": 0.9, "keep": "first", "method": "exact", "recall": None, "odd": "kept"}
CURVE = [(0.9, 4), (0.7, 2), (0.98, 6)]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "groups.jsonl").read_text("utf-8").splitlines()]


def test_groups_name_the_survivor_and_its_rows_the_nearest_first() -> None:
    groups = list(groups_of(FOUND, Rows(PROMPTS, ids=list("abcdefg"), sources=["s"] * 7)))
    assert [(g.survivor.row, [m.row for m in g.removed]) for g in groups] == [(0, [2, 3]), (1, [5])]
    assert groups[0].survivor.prompt == "a cat" and groups[0].survivor.cosine == 1 and groups[0].survivor.id == "a"
    assert groups[0].lowest == pytest.approx(0.93) and groups[0].removed[1].source == "s"


def test_survivors_of_another_data_set_are_looked_up_there() -> None:
    found = Found(np.array([True, False]), np.array([-1, 2]), np.array([1, 0.95], np.float32))
    (group,) = groups_of(found, Rows(["mine", "near theirs"]), Rows(["x", "y", "theirs"]))
    assert (group.survivor.prompt, group.removed[0].prompt) == ("theirs", "near theirs")


@settings(max_examples=60)
@given(st.data())
def test_every_row_that_went_is_in_one_group(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    keep = np.array([True, *data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1))])
    survivors = np.flatnonzero(keep)
    survivor = np.array([i if keep[i] else survivors[i % len(survivors)] for i in range(n)])
    cosine = np.where(keep, 1, np.linspace(0.9, 1, n)).astype(np.float32)
    groups = list(groups_of(Found(keep, survivor, cosine), Rows([str(i) for i in range(n)])))
    assert sorted(m.row for g in groups for m in g.removed) == np.flatnonzero(~keep).tolist()
    assert all(survivor[m.row] == g.survivor.row for g in groups for m in g.removed)
    sizes = [len(g.removed) for g in groups]
    assert sizes == sorted(sizes, reverse=True) and all(keep[g.survivor.row] for g in groups)
    assert all([m.cosine for m in g.removed] == sorted((m.cosine for m in g.removed), reverse=True) for g in groups)


def test_the_four_files_agree(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report", groups_of(FOUND, Rows(PROMPTS)), CURVE, FACTS)
    folder = path.parent
    assert sorted(p.name for p in folder.iterdir()) == ["curve.png", "groups.jsonl", "report.html", "report.json"]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    assert report["facts"] == FACTS and report["curve"] == [[0.7, 2], [0.9, 4], [0.98, 6]]
    assert (report["groups"], report["removed"]) == (2, 3)
    assert report["group_sizes"] == {"2": 1, "3": 1} and report["cosines"] == {"0.93": 1, "0.97": 1, "1.00": 1}
    assert [(g["size"], g["survivor"]["row"]) for g in lines(folder)] == [(3, 0), (2, 1)]
    html = path.read_text("utf-8")
    assert "4 of 7 prompts stay" in html and "odd" in html and "All 2 groups." in html
    assert "&lt;b&gt;ice&lt;/b&gt;" in html and "<b>ice" not in html
    with Image.open(folder / "curve.png") as image:
        assert image.width > 500


def test_the_same_removal_gives_the_same_files(tmp_path: Path) -> None:
    a, b = (write_report(tmp_path / name, groups_of(FOUND, Rows(PROMPTS)), CURVE, FACTS).parent for name in "ab")
    for name in ("curve.png", "groups.jsonl", "report.html", "report.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_words_that_the_survivor_lacks_are_marked(tmp_path: Path) -> None:
    html = write_report(tmp_path, groups_of(FOUND, Rows(PROMPTS)), [], FACTS).read_text("utf-8")
    assert "a cat <mark>sits</mark>" in html and "<mark>A</mark>" not in html


def test_many_groups_make_no_endless_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup_report, "SHOWN", 10)
    n = 400  # pairs 2i, 2i+1; the last rows are one large group
    keep = np.arange(n) % 2 == 0
    keep[300:] = False
    keep[300] = True
    survivor = np.where(np.arange(n) < 300, np.arange(n) // 2 * 2, 300)
    cosine = np.where(keep, 1, 0.99 - np.arange(n) / 10_000).astype(np.float32)
    found = Found(keep, survivor, cosine)
    prompts = [f"prompt number {i}" for i in range(n)]
    facts = {"rows": n, "survivors": int(keep.sum()), "threshold": 0.9}
    html = write_report(tmp_path, groups_of(found, Rows(prompts)), [], facts).read_text("utf-8")
    assert len(lines(tmp_path)) == 151  # all of them in JSON lines
    assert html.count('<li class="item"') == 19  # 10 largest, 10 lowest, one of them both
    assert "19 of 151 groups" in html and "59 more between these" in html
    assert "<mark>299</mark>" in html and "<mark>101</mark>" not in html  # the lowest cosine of the pairs
    assert not (tmp_path / "curve.png").exists()  # no curve, no picture of one


def test_nothing_removed_is_a_report_too(tmp_path: Path) -> None:
    found = Found(np.ones(3, bool), np.arange(3), np.ones(3, np.float32))
    facts = {"rows": 3, "survivors": 3, "threshold": 0.9}
    html = write_report(tmp_path, groups_of(found, Rows(["a", "b", "c"])), [], facts).read_text("utf-8")
    assert "3 of 3 prompts stay" in html and lines(tmp_path) == []


def test_half_characters_and_controls_are_written(tmp_path: Path) -> None:
    found = Found(np.array([True, False]), np.array([0, 0]), np.array([1, 0.95], np.float32))
    prompts = ["half \ud83d", "\x1b[31m \u202eright to left"]
    facts = {"rows": 2, "survivors": 1, "threshold": 0.9}
    html = write_report(tmp_path, groups_of(found, Rows(prompts)), [], facts).read_text("utf-8")
    assert [lines(tmp_path)[0]["survivor"]["prompt"], lines(tmp_path)[0]["removed"][0]["prompt"]] == prompts
    assert "⟨U+202E⟩" in html and "\x1b" not in html


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        write_report(tmp_path / "file" / "report", groups_of(FOUND, Rows(PROMPTS)), [], FACTS)

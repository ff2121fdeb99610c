"""Batches are a pure function of the seed and their number."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2prompt.errors import ConfigError
from img2prompt.training.data import repeated
from img2prompt.training.plan import Phase, Plan


def plan(rows: int = 100, batch: int = 8, seed: int = 0, total: int = 1000, phases: list[Phase] | None = None) -> Plan:
    rng = np.random.default_rng(5)
    lengths = {"short": rng.integers(5, 25, rows), "long": rng.integers(30, 80, rows)}
    phases = phases or [Phase(1.0, {"short": 0.7, "long": 0.3})]
    return Plan(lengths, np.arange(rows), batch, phases=phases, total=total, seed=seed)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 200), st.integers(1, 8), st.integers(0, 5))
def test_an_epoch_shows_each_row_once(rows: int, batch: int, seed: int) -> None:
    p = plan(rows, batch, seed)
    for epoch in range(2):
        first = epoch * p.batches_per_epoch
        batches = [p[number] for number in range(first, first + p.batches_per_epoch)]
        assert all(len(planned.rows) == batch for planned in batches)
        seen = Counter(int(row) for planned in batches for row in planned.rows)
        assert max(seen.values()) == 1
        assert len(seen) == p.batches_per_epoch * batch > rows - batch


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 3))
def test_going_on_gives_the_same_batches(start: int, seed: int) -> None:
    whole = list(itertools.islice(plan(seed=seed).since(0), start + 5))[start:]
    resumed = list(itertools.islice(plan(seed=seed).since(start), 5))
    for a, b in zip(whole, resumed, strict=True):
        assert (a.number, a.manner) == (b.number, b.manner)
        np.testing.assert_array_equal(a.rows, b.rows)


def test_seeds_and_epochs_differ() -> None:
    p = plan()
    orders = [tuple(p[i].rows) for i in range(p.batches_per_epoch)]
    again = [tuple(p[p.batches_per_epoch + i].rows) for i in range(p.batches_per_epoch)]
    other = plan(seed=1)
    assert orders != again
    assert orders != [tuple(other[i].rows) for i in range(p.batches_per_epoch)]


def test_phases_follow_each_other_and_weights_hold() -> None:
    phases = [Phase(0.5, {"short": 1.0}), Phase(1.0, {"short": 0.25, "long": 0.75})]
    p = plan(total=2000, phases=phases)
    manners = [p[i].manner for i in range(2000)]
    assert set(manners[:1000]) == {"short"}
    assert Counter(manners[1000:])["long"] / 1000 == pytest.approx(0.75, abs=0.05)


def test_texts_of_like_length_share_a_batch() -> None:
    p = plan(rows=800)

    def padded(numbers: range) -> float:
        kept = [p.lengths[p[i].manner][p[i].rows] for i in numbers]
        return sum(len(x) * x.max() for x in kept) / sum(x.sum() for x in kept)

    assert padded(range(p.batches_per_epoch)) < 1.15


def test_too_few_rows_is_a_users_error() -> None:
    with pytest.raises(ConfigError, match="batch_size 8"):
        plan(rows=5)


def test_hard_scenes_come_more_often() -> None:
    scenes = [
        json.dumps({"style": style, "groups": [{}] * kinds})
        for style, kinds in (("blueprint", 1), ("blueprint", 3), ("comic book", 3), ("comic book", 2))
    ]
    rows = np.arange(4)
    assert repeated(rows, scenes, {"blueprint": 3, "3 kinds": 2}).tolist() == [0] * 3 + [1] * 6 + [2] * 2 + [3]
    assert repeated(rows[1:3], scenes, {"blueprint": 2}).tolist() == [1, 1, 2]
    assert repeated(rows, None, {}).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("times", "scenes", "named"),
    [
        ({"blue print": 2}, ["{}"], "'blue print' is neither a style"),
        ({"blueprint": 0}, ["{}"], "1 or more"),
        ({"blueprint": 2}, None, "needs data with scenes"),
    ],
)
def test_mistakes_in_repeat_are_named(times: dict[str, int], scenes: list[str] | None, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        repeated(np.arange(1), scenes, times)

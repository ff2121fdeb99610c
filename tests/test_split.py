"""Clusters and splits: compared with brute force, and the rules they promise."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.errors import DataError
from img2prompt.pairs import clustering
from img2prompt.pairs import leakage as module
from img2prompt.pairs.clustering import joined
from img2prompt.pairs.split import NO_SIDE, SplitSettings, clusters, divide, leakage, split


def grouped(seed: int, rows: int, dimensions: int, noise: float) -> NDArray[np.float32]:
    """Unit rows (N,D) in bunches around a few centres, with copies, so that there are clusters of all sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, rows // 4), dimensions)) + 0.5
    emb = centres[rng.integers(0, len(centres), rows)] + noise * rng.normal(size=(rows, dimensions))
    emb[rng.random(rows) < 0.2] = emb[0]
    return (emb / np.linalg.norm(emb, axis=1, keepdims=True)).astype(np.float32)


def brute_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = (m.astype(np.float64) / np.linalg.norm(m.astype(np.float64), axis=1, keepdims=True) for m in (a, b))
    return x @ y.T


def brute_components(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Labels by walking the graph, numbered in the order of first rows."""
    labels = np.full(len(near), -1)
    for start in range(len(near)):
        if labels[start] >= 0:
            continue
        label, open_rows = labels.max() + 1, [start]
        while open_rows:
            row = open_rows.pop()
            if labels[row] < 0:
                labels[row] = label
                open_rows += np.flatnonzero(near[row]).tolist()
    return labels


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 90),
    dimensions=st.sampled_from([2, 8, 96]),
    noise=st.sampled_from([0.05, 0.3, 0.8]),
    threshold=st.sampled_from([0.3, 0.8, 0.9, 0.97]),
    sizes=st.sampled_from([(7, 5), (32, 2**15), (4096, 2**15), (16, 1)]),
)
def test_clusters_are_the_components_that_brute_force_finds(
    seed: int, rows: int, dimensions: int, noise: float, threshold: float, sizes: tuple[int, int]
) -> None:
    emb = grouped(seed, rows, dimensions, noise)
    cosines = brute_cosines(emb, emb)
    if (np.abs(cosines - threshold) < 1e-6).any():
        return  # rounding decides
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clustering, "BLOCK", sizes[0])
        patch.setattr(clustering, "_PAIRS_AT_ONCE", sizes[1])
        np.testing.assert_array_equal(clusters(emb, threshold), brute_components(cosines >= threshold))


def test_a_chain_is_one_cluster_and_copies_are_free() -> None:
    angles = np.deg2rad(np.arange(0, 90, 20))  # neighbours at cosine 0.94, others at 0.77 and less
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).repeat(4000, 0)
    assert clusters(chain, 0.9).max() == 0
    assert clusters(chain, 0.95).tolist() == np.arange(5).repeat(4000).tolist()


def test_a_threshold_of_one_joins_copies_only() -> None:
    emb = grouped(3, 60, 16, 0.3)
    same = (emb[:, None] == emb[None]).all(2)
    np.testing.assert_array_equal(clusters(emb, 1.0), brute_components(same))


def test_rows_of_other_lengths_and_zeros() -> None:
    assert clusters([[1, 0], [5, 0.1], [0, 0], [0, 0], [0, 1]]).tolist() == [0, 0, 1, 1, 2]
    assert clusters(np.zeros((0, 4))).tolist() == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite(bad: float) -> None:
    emb = np.ones((4, 3))
    emb[2, 1] = bad
    with pytest.raises(DataError, match="row 2 and 0 more of the embeddings are not finite"):
        clusters(emb)
    with pytest.raises(DataError, match="row 2"):
        leakage(np.ones((2, 3)), emb)


LABELS = st.lists(st.integers(0, 30), min_size=1, max_size=120)


@given(labels=LABELS, share=st.floats(0.01, 0.99), seed=st.integers(0, 5), stratified=st.booleans())
def test_a_split_keeps_clusters_whole_and_both_sides_filled(
    labels: list[int], share: float, seed: int, stratified: bool
) -> None:
    strata = [label % 3 for label in labels] if stratified else None
    val = split(labels, share, seed, strata)
    for label in set(labels):
        assert len({bool(v) for v, own in zip(val, labels, strict=True) if own == label}) == 1
    assert val.any() == (len(set(labels)) > 1)
    assert not val.all()
    np.testing.assert_array_equal(val, split([f"other {label}" for label in labels], share, seed, strata))


@given(labels=LABELS, more=LABELS, seed=st.integers(0, 5), shuffle=st.randoms())
def test_a_row_keeps_its_side_when_rows_are_added_and_moved(
    labels: list[int], more: list[int], seed: int, shuffle: object
) -> None:
    base = list(range(1000, 1400))  # single rows, so that neither exception applies
    old = [*base, *(label for label in labels if labels.count(label) <= 8)]
    new = [label for label in more if (old + more).count(label) <= 8]
    before = split(old, 0.2, seed, contents=[f"{label:05d} {place:05d}" for place, label in enumerate(old)])
    rows = list(enumerate(old + new))
    shuffle.shuffle(rows)  # type: ignore[attr-defined]
    after = split(
        [label for _, label in rows], 0.2, seed, contents=[f"{label:05d} {place:05d}" for place, label in rows]
    )
    now = {place: bool(side) for (place, _), side in zip(rows, after, strict=True)}
    assert [now[place] for place in range(len(old))] == before.tolist()


def test_the_share_is_met_and_the_seed_matters() -> None:
    labels = np.random.default_rng(0).integers(0, 8000, 20_000)
    first, second = (split(labels, 0.1, seed) for seed in (0, 1))
    assert first.mean() == pytest.approx(0.1, abs=0.012)
    assert (first != second).mean() == pytest.approx(0.18, abs=0.02)
    np.testing.assert_array_equal(first, split(labels, 0.1, 0))


def test_a_giant_cluster_stays_in_training() -> None:
    labels = [0] * 400 + list(range(1, 601))
    for seed in range(20):
        val = split(labels, 0.3, seed)
        assert not val[0]
        assert 0.1 < val.mean() < 0.3


@given(seed=st.integers(0, 100), share=st.sampled_from([0.1, 0.5, 0.8]))
def test_every_stratum_gives_its_share(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 60, 400)
    strata = [("a", "b", "c")[label % 3] for label in labels]  # no cluster spans two
    val = split(labels, share, seed, strata)
    for kind in "abc":
        own = np.array([stratum == kind for stratum in strata])
        largest = np.bincount(labels[own]).max()
        assert abs(val[own].sum() - share * own.sum()) <= largest / 2 + 1e-9


@given(labels=LABELS, keys=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=120, max_size=120))
def test_joined_groups_are_the_components_that_brute_force_finds(labels: list[int], keys: list[str | None]) -> None:
    own = keys[: len(labels)]
    rows = list(zip(labels, own, strict=True))
    tied = np.array([[a == b or (k is not None and k == m) for b, m in rows] for a, k in rows])
    np.testing.assert_array_equal(joined(np.array(labels), own), brute_components(tied))


@given(
    labels=LABELS,
    shares=st.tuples(st.floats(0, 0.5), st.floats(0, 0.45)).filter(lambda s: sum(s) > 0),
    seed=st.integers(0, 5),
    tolerance=st.sampled_from([0, 0.1, math.inf]),
)
def test_three_sides_keep_clusters_whole(
    labels: list[int], shares: tuple[float, float], seed: int, tolerance: float
) -> None:
    settings_ = SplitSettings(*shares, seed=seed, tolerance=tolerance)
    sides = divide(labels, settings_, strata=[label % 2 for label in labels])
    for label in set(labels):
        assert len({int(s) for s, own in zip(sides, labels, strict=True) if own == label}) == 1
    asked = 1 + sum(share > 0 for share in shares)
    assert len(set(sides.tolist())) >= min(asked, len(set(labels))), "no side is empty"
    assert set(sides.tolist()) <= {0, *(side for side, share in settings_.held_out)}


@given(seed=st.integers(0, 100), tolerance=st.sampled_from([0.0, 0.1, 0.5]))
def test_every_stratum_gives_its_shares_within_the_tolerance(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 90, 600)
    strata = [("a", "b", "c")[label % 3] for label in labels]  # no cluster spans two
    shares = {1: 0.2, 2: 0.1}
    sides = divide(labels, SplitSettings(*shares.values(), seed=seed, tolerance=tolerance), strata=strata)
    for kind in "abc":
        own = np.array([stratum == kind for stratum in strata])
        largest = np.bincount(labels[own]).max()
        for side, share in shares.items():
            wanted = share * own.sum()
            assert abs((sides[own] == side).sum() - wanted) <= tolerance * wanted + largest / 2 + 1e-9


@given(seed=st.integers(0, 50), tolerance=st.sampled_from([0.0, 0.1, math.inf]))
def test_another_source_moves_no_row(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 60, 300).tolist()
    contents = [f"{label} {place}" for place, label in enumerate(labels)]
    given_ = SplitSettings(0.2, 0.1, seed, tolerance, largest=30)
    before = divide(labels, given_, contents=contents, strata=["a"] * 300)
    after = divide(
        labels + rng.integers(60, 90, 200).tolist(), given_,
        contents=contents + [f"new {place}" for place in range(200)], strata=["a"] * 300 + ["b"] * 200,
    )  # fmt: skip
    np.testing.assert_array_equal(before, after[:300])


@given(seed=st.integers(0, 50), share=st.sampled_from([0.1, 0.4]))
def test_with_draws_alone_only_clusters_that_get_a_smaller_row_move(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = [*range(1000, 1200), *rng.integers(0, 60, 200).tolist()]
    contents = [f"{rng.integers(10**9)}" for _ in range(800)]
    given_ = SplitSettings(share, 0.1, seed, largest=500)
    before = divide(labels, given_, contents=contents[:400])
    more = rng.integers(0, 120, 400).tolist()
    after = divide(labels + more, given_, contents=contents)
    for label in set(labels):
        own = [place for place, other in enumerate(labels) if other == label]
        head = min(contents[place] for place in own)
        entered = any(contents[400 + place] < head for place, other in enumerate(more) if other == label)
        assert entered or before[own].tolist() == after[own].tolist()


@given(
    labels=LABELS,
    seed=st.integers(0, 5),
    shares=st.sampled_from([(0.1, 0.1), (0.5, 0), (0, 0.3)]),
    tolerance=st.sampled_from([0.0, 0.1, math.inf]),
    pinned=st.lists(st.integers(NO_SIDE, 2), min_size=120, max_size=120),
)
def test_a_pinned_row_never_moves_and_a_cluster_follows_its_pins(
    labels: list[int], seed: int, shares: tuple[float, float], tolerance: float, pinned: list[int]
) -> None:
    kept = np.array(pinned[: len(labels)])
    sides = divide(labels, SplitSettings(*shares, seed=seed, tolerance=tolerance), strata=labels, pinned=kept)
    np.testing.assert_array_equal(sides[kept != NO_SIDE], kept[kept != NO_SIDE])
    for label in set(labels):
        own = np.array(labels) == label
        pins = set(kept[own].tolist()) - {NO_SIDE}
        others = set(sides[own & (kept == NO_SIDE)].tolist())
        if len(pins) > 1:
            assert others <= {NO_SIDE}
        elif pins:
            assert others <= pins
        else:
            assert len(others) == 1
            assert others != {NO_SIDE}


@pytest.mark.parametrize(
    ("shares", "said"), [((0, 0), "0 and 0"), ((0.6, 0.4), "0.6 and 0.4"), ((-0.1, 0.3), "-0.1"), ((0.2, 1.0), "1:")]
)
def test_shares_that_leave_a_side_nothing(shares: tuple[float, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SplitSettings(*shares)


def test_columns_of_other_lengths_are_a_mistake() -> None:
    for wrong in ({"contents": ["a"]}, {"strata": ["a"]}, {"pinned": [0]}):
        with pytest.raises(ValueError, match="one entry a row"):
            divide([1, 2, 3], SplitSettings(0.5), **wrong)


def test_a_split_is_the_same_in_another_process() -> None:
    code = (
        "from img2prompt.pairs.split import split; import json;"
        "print(json.dumps(split(list(range(50)), 0.3, 7, contents=[f'p{i}' for i in range(50)]).tolist()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == split(list(range(50)), 0.3, 7, contents=[f"p{i}" for i in range(50)]).tolist()


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    train_rows=st.integers(1, 60),
    val_rows=st.integers(1, 60),
    noise=st.sampled_from([0.05, 0.3]),
    block=st.sampled_from([5, 4096]),
)
def test_leakage_is_what_brute_force_counts(
    seed: int, train_rows: int, val_rows: int, noise: float, block: int
) -> None:
    emb = grouped(seed, train_rows + val_rows, 12, noise)
    train, val = emb[:train_rows], emb[train_rows:]
    nearest = brute_cosines(val, train).max(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        report = leakage(train, val, (0.7, 0.9, 0.99))
    assert report.counts == tuple(int((nearest >= t).sum()) for t in (0.7, 0.9, 0.99))
    assert report.max_cosine == pytest.approx(nearest.max(), abs=1e-6)
    assert report.mean_cosine == pytest.approx(nearest.mean(), abs=1e-6)
    assert len(report.worst) == min(10, val_rows)
    for (i, j, cosine), expected in zip(report.worst, np.sort(nearest)[::-1], strict=False):
        assert cosine == pytest.approx(expected, abs=1e-6)
        assert cosine == pytest.approx(float(brute_cosines(val[i : i + 1], train[j : j + 1])[0, 0]), abs=1e-6)
    assert json.loads(json.dumps(report.to_dict()))["rows"] == val_rows


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.8, 0.9]))
def test_a_split_by_clusters_leaks_nothing(seed: int, threshold: float) -> None:
    emb = grouped(seed, 120, 24, 0.3)
    val = split(clusters(emb, threshold), 0.2, seed)
    assert leakage(emb[~val], emb[val], (threshold,)).counts == (0,)


def test_an_empty_side_leaks_nothing() -> None:
    report = leakage(np.ones((0, 3)), np.ones((2, 3)))
    assert (report.rows, report.counts, report.worst) == (2, (0, 0, 0, 0), ())
    assert "of 2 validation rows, near a training row: 0 at 0.8" in str(report)

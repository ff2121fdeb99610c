"""Near-duplicates: the four rules against brute force, whatever the blocks, threads and the way of multiplying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.errors import DataError
from img2prompt.pairs import dedup
from img2prompt.pairs.dedup import DedupSettings, Duplicates, against, find_duplicates, ranked, survivor_curve
from img2prompt.pairs.near import cells as dedup_cells
from img2prompt.pairs.near import centres as dedup_centres
from img2prompt.pairs.near import curve as dedup_curve
from img2prompt.pairs.near import exact as dedup_exact
from img2prompt.pairs.near import screen as dedup_screen
from img2prompt.pairs.near import sweep as dedup_sweep
from img2prompt.pairs.near.cells import CellPairs, Members, cell_pairs, merged
from img2prompt.pairs.near.centres import near_pairs, nearest_cells, plan_cells, recall_of
from img2prompt.pairs.near.cosines import copies, cosines_of, margin, unit_rows
from img2prompt.pairs.near.screen import Screen, Side, fit_screen, likely

EXACT = DedupSettings(method="exact", threads=2)
ALL_CELLS = DedupSettings(method="approximate", probes=10**6, threads=2)  # every cell is looked into: nothing is missed


def grouped(seed: int, rows: int, dimensions: int, noise: float) -> NDArray[np.float32]:
    """Unit rows (N,D) in bunches around a few centres, with copies of some."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, rows // 4), dimensions)) + 0.5
    emb = centres[rng.integers(0, len(centres), rows)] + noise * rng.normal(size=(rows, dimensions))
    emb[rng.random(rows) < 0.15] = emb[rng.integers(0, rows)]
    return unit_rows(emb)


def brute_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    x, y = (m.astype(np.float64) / np.linalg.norm(m.astype(np.float64), axis=1, keepdims=True) for m in (a, b))
    return x @ y.T


def brute_survivors(emb: NDArray[np.float32], threshold: float, rank: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Who stays, row by row, as the rule says it."""
    cosines = brute_cosines(emb, emb)
    same = (emb[:, None] == emb[None]).all(2)
    alive: list[int] = []
    for row in np.argsort(rank, kind="stable").tolist():
        if not any(cosines[row, other] >= threshold or same[row, other] for other in alive):
            alive.append(row)
    return np.isin(np.arange(len(emb)), alive)


def unclear(emb: NDArray[np.float32], threshold: float) -> bool:
    """Whether two different rows lie so close to the threshold that brute force itself rounds."""
    apart = ~(emb[:, None] == emb[None]).all(2)
    return bool((np.abs(brute_cosines(emb, emb) - threshold) < 1e-12)[apart].any())


@contextmanager
def sizes(tile: tuple[int, int], many: int, part: int) -> Iterator[None]:
    """Other tiles and other limits between few and many pairs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (dedup_exact, dedup_screen, dedup_cells, dedup_centres, dedup_curve):
            if hasattr(module, "TILE"):
                patch.setattr(module, "TILE", tile)
        patch.setattr(dedup_exact.ScreenFinder, "block", tile[0])
        patch.setattr(dedup_exact, "_PART", part)
        patch.setattr(dedup_curve, "_BLOCK", tile[0])
        for module in (dedup_screen, dedup_cells):
            patch.setattr(module, "_MANY", many)
        yield


def check_rules(
    found: Duplicates, emb: NDArray[np.float32], threshold: float, rank: NDArray[np.int64], *, nearest: bool = True
) -> None:
    """Rules 1 to 3; the names of survivors, too."""
    cosines = brute_cosines(emb, emb)
    same = (emb[:, None] == emb[None]).all(2)
    kept = np.flatnonzero(found.keep)
    between = cosines[np.ix_(kept, kept)] - 2 * np.eye(len(kept))
    assert between.max(initial=-1) < threshold
    np.testing.assert_array_equal(found.survivor[kept], kept)
    assert (found.cosine[kept] == 1).all()
    for row in np.flatnonzero(~found.keep):
        survivor = found.survivor[row]
        assert found.keep[survivor] and rank[survivor] < rank[row]
        assert cosines[row, survivor] >= threshold or same[row, survivor]
        assert abs(found.cosine[row] - cosines[row, survivor]) < 1e-6
        head = rank[same[row]].min()  # a copy names what the first of its equals names
        before = kept[rank[kept] < head]
        if nearest and rank[survivor] < head:
            assert cosines[row, survivor] >= cosines[row, before].max() - 1e-12
    for group in np.unique(same, axis=0):
        assert found.keep[group].sum() <= 1
        if found.keep[group].any():
            assert rank[group][found.keep[group]] == rank[group].min()


CASES = {
    "seed": st.integers(0, 10**6),
    "rows": st.integers(1, 120),
    "dimensions": st.sampled_from([2, 8, 96]),
    "noise": st.sampled_from([0.05, 0.3, 0.8]),
    "threshold": st.sampled_from([0.3, 0.8, 0.9, 0.97, 1.0]),
    "tile": st.sampled_from([(3, 5), (16, 32), (1024, 2048)]),
    "many": st.sampled_from([0, 1, 64]),
    "threads": st.sampled_from([1, 2, 3]),
}


@pytest.mark.parametrize("way", [EXACT, ALL_CELLS], ids=["exact", "every cell"])
@settings(max_examples=60, deadline=None)
@given(**CASES)
def test_the_rules_hold_and_survivors_are_those_of_brute_force(
    way: DedupSettings, seed: int, rows: int, dimensions: int, noise: float, threshold: float, tile: tuple[int, int],
    many: int, threads: int,
) -> None:  # fmt: skip
    emb = grouped(seed, rows, dimensions, noise)
    if unclear(emb, threshold):
        return
    rank = np.random.default_rng(seed).permutation(rows)
    with sizes(tile, many, part=5 if many == 1 else 256):
        found = find_duplicates(emb, threshold, rank, settings=replace(way, threads=threads))
    np.testing.assert_array_equal(found.keep, brute_survivors(emb, threshold, rank))
    check_rules(found, emb, threshold, rank)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.8, 0.9]), decay=st.sampled_from([0.0, 0.5, 1.5]))
def test_blocks_and_threads_change_no_bit(seed: int, threshold: float, decay: float) -> None:
    rng = np.random.default_rng(seed)
    emb = grouped(seed, 300, 96, 0.4) * (1 + np.arange(96)) ** -decay
    rank = rng.permutation(300)
    results = []
    for tile, many, part, threads in (((1024, 2048), 64, 256, 1), ((7, 11), 0, 3, 2), ((64, 33), 64, 16, 3)):
        with sizes(tile, many, part):
            results.append(find_duplicates(emb, threshold, rank, settings=replace(EXACT, threads=threads)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].survivor, other.survivor)
        np.testing.assert_array_equal(results[0].cosine, other.cosine)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.8, 0.95]), decay=st.sampled_from([0.0, 0.5, 2.0]))
def test_the_bound_never_lies_below_a_cosine(seed: int, threshold: float, decay: float) -> None:
    rng = np.random.default_rng(seed)
    emb = rng.normal(size=(200, 128)) * (1 + np.arange(128.0)) ** -decay
    emb = unit_rows(np.concatenate([emb, emb + 1e-3 * rng.normal(size=emb.shape), emb * np.repeat([1, 0], [32, 96])]))
    screen = fit_screen([(emb[::2], emb[1::2])], threshold)
    table = screen.table(emb)
    for bound in (table.narrow, table.wide):
        assert (bound @ bound.T - brute_cosines(emb, emb)).min() > -margin(bound.shape[1])


def test_the_bound_takes_few_directions_where_most_of_the_length_lies() -> None:
    emb = unit_rows(np.random.default_rng(0).normal(size=(1000, 384)) * (1 + np.arange(384.0)) ** -0.7)
    screen = fit_screen([(emb[::2], emb[1::2])], 0.9)
    assert screen.basis is not None and screen.narrow <= 96
    table = screen.table(emb)
    assert (table.narrow[::2] @ table.narrow[1::2].T >= 0.9).mean() < 1e-3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), least=st.sampled_from([0.3, 0.7, 0.95]), many=st.sampled_from([0, 64]))
def test_likely_pairs_hold_all_near_ones_and_each_rows_nearest(seed: int, least: float, many: int) -> None:
    emb = grouped(seed, 150, 96, 0.5)
    screen = fit_screen([(emb[::2], emb[1::2])], least)
    a, b = (Side.of(screen.table(emb), places) for places in (np.arange(90), np.arange(90, 150)))
    near = np.argwhere(brute_cosines(emb[:90], emb[90:]) >= least) + np.array([0, 90])
    with sizes((1024, 2048), many, 256):
        i, j, values = likely(a, b, least)
        assert {tuple(pair) for pair in near.tolist()} <= set(zip(i.tolist(), j.tolist(), strict=True))
        assert np.abs(values - cosines_of(emb, emb, i, j)).max(initial=0) < margin(96)
        i, j, _ = likely(a, b, least, best_only=True)
    told = set(zip(i.tolist(), j.tolist(), strict=True))
    cosines = brute_cosines(emb[:90], emb[90:])
    for row in np.flatnonzero((cosines >= least).any(1)):
        assert (row, 90 + int(cosines[row].argmax())) in told


def test_a_member_of_every_group_stays() -> None:
    emb = grouped(1, 400, 32, 0.05)  # a hundred bunches, in which all are near
    found = find_duplicates(emb, 0.9, settings=EXACT)
    assert found.keep.any() and not found.keep.all()
    cosines = brute_cosines(emb, emb)
    assert (cosines[:, found.keep].max(1) >= 0.9).all()  # nothing is lost: every row has a survivor near it


def test_everything_alike_takes_little_memory() -> None:
    import tracemalloc

    rng = np.random.default_rng(0)
    emb = unit_rows(np.ones(24) + 1e-3 * rng.normal(size=(3000, 24)))
    for way, most_bytes in ((EXACT, 50e6), (ALL_CELLS, 220e6)):
        tracemalloc.start()
        found = find_duplicates(emb, 0.9, settings=way)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.keep.sum() == 1 and found.keep[0]
        assert (found.survivor == 0).all()
        assert peak < most_bytes  # all pairs would take 216 MB each time they are copied


@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.5, 0.8, 0.95]), tile=CASES["tile"])
@settings(max_examples=30, deadline=None)
def test_against_another_collection(seed: int, threshold: float, tile: tuple[int, int]) -> None:
    emb, other = grouped(seed, 70, 48, 0.4), grouped(seed, 50, 48, 0.5)
    with sizes(tile, 64, 256):
        found = against(emb, other, threshold, settings=EXACT)
    cosines = brute_cosines(emb, other)
    np.testing.assert_array_equal(found.keep, cosines.max(1) < threshold)
    gone = np.flatnonzero(~found.keep)
    np.testing.assert_array_equal(found.survivor[gone], cosines[gone].argmax(1))
    assert (found.survivor[found.keep] == -1).all()
    with pytest.raises(ValueError, match="48 and of 3 dimensions"):
        against(emb, other[:, :3])


@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.1, 0.5]), tile=CASES["tile"], many=CASES["many"])
@settings(max_examples=25, deadline=None)
def test_the_curve_is_what_single_thresholds_give(seed: int, noise: float, tile: tuple[int, int], many: int) -> None:
    emb = grouped(seed, 120, 16, noise)
    rank = np.random.default_rng(seed).permutation(120)
    levels = (0.98, 0.7, 0.9, 0.8)
    with sizes(tile, many, 256):
        found = survivor_curve(emb, levels, rank, settings=EXACT)
    assert found.rows == 120 and found.thresholds == (0.7, 0.8, 0.9, 0.98)
    alone = [int(find_duplicates(emb, t, rank, settings=EXACT).keep.sum()) for t in found.thresholds]
    assert list(found.survivors) == alone


def test_which_row_is_kept() -> None:
    prompts = ["a cat", "a black cat", "cat", "one cat"]
    emb = np.ones((4, 3))
    kept = {rule: int(find_duplicates(emb, 0.9, ranked(prompts, rule)).keep.argmax()) for rule in dedup.KEEP}
    assert kept == {"first": 0, "longest": 1, "shortest": 2}
    best = ranked(prompts, "best", [0.1, np.nan, 0.7, 0.7])
    assert find_duplicates(emb, 0.9, best).survivor.tolist() == [2, 2, 2, 2]
    assert best.tolist() == [2, 3, 0, 1]


def test_lengths_zeros_nothing_and_bad_rows() -> None:
    assert find_duplicates([[1, 0], [5, 0.1], [0, 0], [0, 0], [0, 1]]).survivor.tolist() == [0, 0, 2, 2, 4]
    assert find_duplicates(np.zeros((0, 4))).keep.tolist() == []
    assert find_duplicates(np.ones((1, 4)), settings=DedupSettings(method="approximate")).keep.tolist() == [True]
    with pytest.raises(DataError, match="row 1 and 0 more"):
        find_duplicates([[1.0, 0], [np.nan, 0]])
    with pytest.raises(ValueError, match="a threshold lies above 0"):
        find_duplicates(np.ones((2, 2)), 1.5)


def test_copies_are_found_and_a_collision_of_keys_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    emb = grouped(0, 50, 8, 0.3)
    emb = emb[np.random.default_rng(0).integers(0, 50, 400)]
    first = [next(k for k in range(400) if (emb[k] == row).all()) for row in emb]
    np.testing.assert_array_equal(copies(emb), first)

    class Zero:
        def integers(self, *args: object) -> NDArray[np.uint64]:
            return np.full(8, 2**63, np.uint64)  # keys are then the sums of the bits alone

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Zero())
    turned = np.array([[1, 2, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0]], np.float32)
    assert copies(turned).tolist() == [0, 1]


def test_cells_in_any_order_and_apart_give_the_same() -> None:
    emb = unit_rows(grouped(5, 900, 40, 0.25))
    emb = emb[np.sort(np.unique(emb, axis=0, return_index=True)[1])]
    cells = plan_cells(emb[::2], len(emb), 0.9)
    probed = np.concatenate([cells.probed(emb[:333]), cells.probed(emb[333:])])  # shard by shard
    np.testing.assert_array_equal(probed, cells.probed(emb))
    members = Members(emb, probed, len(cells.centres), 0.9)

    def one(cell: int) -> CellPairs:  # as a worker that was sent only the cell's rows
        places, at_home = members.of(cell)
        return cell_pairs(cells, emb[places].copy(), places, at_home)

    parts = [one(cell) for cell in np.random.default_rng(0).permutation(len(cells.centres))]
    survivor, cosine = merged(len(emb), parts, members)
    alone = find_duplicates(emb, 0.9, settings=DedupSettings(method="approximate", probes=cells.probes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup_sweep, "plan_cells", lambda *args, **options: cells)
        alone = find_duplicates(emb, 0.9, settings=DedupSettings(method="approximate"))
    np.testing.assert_array_equal(np.where(survivor < 0, np.arange(len(emb)), survivor), alone.survivor)
    np.testing.assert_array_equal(np.where(survivor < 0, 1, cosine).astype(np.float32), alone.cosine)


def test_recall_is_measured_not_claimed() -> None:
    emb = grouped(2, 3000, 24, 0.35)
    full = find_duplicates(emb, 0.8, settings=DedupSettings(method="approximate"))
    few = find_duplicates(emb, 0.8, settings=DedupSettings(method="approximate", probes=1))
    assert full.recall is not None and full.recall > 0.995 and full.recall_pairs > 1000
    assert few.recall is not None and few.recall < full.recall
    rows = emb[copies(emb) == np.arange(len(emb))]
    cells = plan_cells(rows, len(rows), 0.8, probes=1)
    i, j = near_pairs(Screen().table(rows), np.arange(len(rows)), 0.8)
    assert abs(few.recall - recall_of(cells.probed(rows), i, j)) < 0.05
    assert full.method.startswith("approximate") and find_duplicates(emb, settings=EXACT).recall is None


def test_near_ties_between_centres_are_settled_alike() -> None:
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.normal(size=(40, 16)))
    centres[7], centres[31] = centres[3], centres[3]
    rows = unit_rows(centres[3] + 0.2 * rng.normal(size=(100, 16)))
    found = nearest_cells(centres, rows, 3)
    order = np.argsort(-brute_cosines(rows, centres).round(13), axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found, order)


def test_a_budget_chooses_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    emb = grouped(3, 500, 16, 0.3)
    monkeypatch.setattr(dedup, "ESTIMATED_ROWS", 100)
    assert find_duplicates(emb, settings=DedupSettings(budget_s=1e-9)).method.startswith("approximate")
    assert find_duplicates(emb, settings=DedupSettings(budget_s=60)).method == "exact"

"""Statistics of paired scores: values worked out by hand, rules for any input, and simulations of what they promise."""

from __future__ import annotations

import json
import math
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.metrics import (
    Estimate,
    bootstrap_over,
    estimate,
    fraction_of_way,
    fraction_over,
    holm,
    paired_test,
)

numbers = st.integers(-50, 50).map(lambda n: n / 10)
tables = st.integers(1, 6).flatmap(
    lambda seeds: st.lists(st.lists(numbers, min_size=seeds, max_size=seeds), min_size=1, max_size=6)
)


def simulated(rng: np.random.Generator, images: int, seeds: int, mean: float = 0.0) -> NDArray[np.float64]:
    """Scores (N,S) whose images differ as much as their seeds."""
    return mean + rng.normal(0, 0.2, (images, 1)) + rng.normal(0, 0.2, (images, seeds))


# bootstrap_over, estimate


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        low, high = bootstrap_over(simulated(rng, 25, 4, 0.5), resamples=300, seed=seed)
        covered += low <= 0.5 <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_bootstrap_draws_images_and_seeds() -> None:
    images = np.array([[0.0, 0.0], [1.0, 1.0]])  # seeds agree
    assert bootstrap_over(images) == (0, 1)
    seeds = np.array([[0.0, 1.0], [0.0, 1.0]])  # images agree
    low, high = bootstrap_over(seeds)
    assert 0 <= low < 0.5 < high <= 1
    low, high = bootstrap_over([[0.0, 1.0, 0.0, 1.0]])  # one image has an interval too
    assert low < 0.5 < high
    assert bootstrap_over([[0.7, 0.7], [0.7, 0.7]]) == pytest.approx((0.7, 0.7))
    assert bootstrap_over(seeds) == bootstrap_over(seeds) != bootstrap_over(np.random.default_rng(0).random((9, 2)))


def test_more_seeds_and_more_images_narrow_the_interval() -> None:
    rng = np.random.default_rng(3)
    widths = [np.ptp(bootstrap_over(simulated(rng, *shape))) for shape in ((20, 2), (20, 16), (320, 2))]
    assert widths[1] < widths[0] and widths[2] < widths[0] / 2


@given(tables, st.randoms())
def test_missing_scores_are_left_out(rows: list[list[float]], random: Random) -> None:
    whole = estimate(rows)
    shuffled = [[*random.sample(row, len(row)), None] for row in random.sample(rows, len(rows))]
    holes = estimate([*shuffled, [None] * (len(rows[0]) + 1)])
    assert holes.n == whole.n == len(rows)
    assert holes.mean == pytest.approx(whole.mean, abs=1e-9) == np.mean(rows)
    values = [value for row in rows for value in row]
    assert min(values) - 1e-9 <= holes.low <= holes.high <= max(values) + 1e-9


def test_a_seed_that_is_missing_does_not_weigh_its_image_down() -> None:
    assert estimate([[1.0, None, None], [0.0, 0.0, 0.0]]).mean == 0.5
    nothing = estimate([[None, None]])
    assert nothing.n == 0 and math.isnan(nothing.mean)
    assert json.dumps(nothing.to_dict()) == '{"mean": null, "low": null, "high": null, "n": 0}'
    assert estimate(np.zeros((0, 4))).n == 0
    with pytest.raises(ValueError, match=r"\(N,S\)"):
        estimate([0.1, 0.2])


# fraction_of_way, fraction_over


def test_fraction_by_hand() -> None:
    assert fraction_of_way(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert fraction_of_way(0.1, 0.2, 0.8) == pytest.approx(-1 / 6)
    assert fraction_of_way(1.1, 0.2, 0.8) == pytest.approx(1.5)
    # A distance: near is better, so the ceiling is the smaller number.
    assert fraction_of_way(0.3, 0.9, 0.1, higher_is_better=False) == pytest.approx(0.75)


@pytest.mark.parametrize(("floor", "ceiling", "higher"), [(0.5, 0.5, True), (0.6, 0.5, True), (0.1, 0.9, False)])
def test_there_is_no_way_to_a_ceiling_below_the_floor(floor: float, ceiling: float, higher: bool) -> None:
    assert math.isnan(fraction_of_way(0.7, floor, ceiling, higher_is_better=higher))
    found = fraction_over([[0.7]] * 3, [[floor]] * 3, [[ceiling]] * 3, higher_is_better=higher)
    assert math.isnan(found.mean) and found.n == 3


@given(numbers, numbers, numbers, st.floats(0.01, 100), numbers)
def test_fraction_does_not_know_the_unit(
    score: float, floor: float, ceiling: float, scale: float, shift: float
) -> None:
    assume(abs(ceiling - floor) > 0.05)
    higher = ceiling > floor
    plain = fraction_of_way(score, floor, ceiling, higher_is_better=higher)
    moved = fraction_of_way(*(scale * x + shift for x in (score, floor, ceiling)), higher_is_better=higher)
    turned = fraction_of_way(-score, -floor, -ceiling, higher_is_better=not higher)
    assert moved == pytest.approx(plain, abs=1e-6) and turned == pytest.approx(plain, abs=1e-9)
    assert fraction_of_way(floor, floor, ceiling, higher_is_better=higher) == 0
    assert fraction_of_way(ceiling, floor, ceiling, higher_is_better=higher) == 1


def test_fraction_interval_covers_and_does_not_know_the_unit() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(150):
        image = rng.normal(0, 0.3, (25, 1))  # an image that is easy is so for score, floor and ceiling
        score, floor, ceiling = (image + rng.normal(mean, 0.1, (25, 3)) for mean in (0.6, 0.2, 1.0))
        found = fraction_over(score, floor, ceiling, resamples=200)
        covered += found.low <= 0.5 <= found.high
    assert 0.9 <= covered / 150 <= 0.995
    turned = fraction_over(-3 * score, -3 * floor, -3 * ceiling, resamples=200, higher_is_better=False)
    assert [turned.mean, turned.low, turned.high] == pytest.approx([found.mean, found.low, found.high])


def test_fraction_draws_the_same_images_for_all_three() -> None:
    image = np.random.default_rng(0).normal(0, 10, (20, 1))  # images differ a hundred times more than the way is long
    found = fraction_over(image + 0.05, image, image + 0.1)
    assert [found.mean, found.low, found.high] == pytest.approx([0.5] * 3)
    assert found.n == 20


def test_a_way_lost_in_noise_has_no_bounds() -> None:
    rng = np.random.default_rng(4)
    noise = [rng.normal(0, 1, (10, 2)) for _ in range(3)]
    found = fraction_over(noise[0], noise[1], noise[1] + rng.normal(0.02, 1, (10, 2)))
    if not math.isnan(found.mean):
        assert found.low == -math.inf and found.high == math.inf
        assert found.to_dict()["low"] is None
    lost = Estimate(0.5, -math.inf, math.inf, 3)
    assert json.loads(json.dumps(lost.to_dict(), allow_nan=False)) == {"mean": 0.5, "low": None, "high": None, "n": 3}


def test_fraction_needs_all_three_of_an_image() -> None:
    found = fraction_over([[0.5], [None], [9]], [[0, 0], [0, 0], [None, None]], [[1], [1], [1]])
    assert (found.mean, found.n) == (0.5, 1)
    assert fraction_over([[None]], [[0]], [[1]]).n == 0
    with pytest.raises(ValueError, match="images"):
        fraction_over([[0.5]], [[0], [0]], [[1]])


# paired_test, holm


def test_p_is_the_share_of_sign_patterns_by_hand() -> None:
    assert paired_test([[1.0], [2.0], [3.0]], [[0.0]] * 3).p == pytest.approx(2 / 8)
    assert paired_test([[1.0, 3.0]] * 6, [[1.0, 1.0]] * 6).p == pytest.approx(2 / 64)
    assert paired_test([[0.3, 0.3]] * 4, [[0.3, 0.3]] * 4).p == 1
    assert paired_test([[5.0]], [[1.0]]).p == 1  # one image proves nothing


@given(st.lists(numbers, min_size=1, max_size=7))
def test_p_counts_every_sign_pattern(values: list[float]) -> None:
    signs = np.array(list(product((1, -1), repeat=len(values))))
    means = np.abs(signs @ np.array(values)) / len(values)
    found = paired_test(np.array(values)[:, None], np.zeros((len(values), 1)), resamples=2)
    assert found.p == pytest.approx(float((means >= abs(np.mean(values)) - 1e-9).mean()))


def test_p_does_not_promise_too_much_where_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        image = rng.standard_t(3, (9, 1))  # heavy tails
        a, b = (image + rng.standard_t(3, (9, 2)) for _ in range(2))
        found.append(paired_test(a, b, resamples=2).p)
    for level in (0.05, 0.2, 0.5):
        spread = math.sqrt(level * (1 - level) / len(found))
        assert level - 4 * spread <= np.mean(np.array(found) <= level) <= level + 3 * spread


def test_a_known_difference_is_found_and_its_size_told() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(60):
        image = rng.normal(0, 1, (30, 1))
        noise = rng.normal(0, 0.5, (30, 4))  # shared: the same seeds
        a, b = (image + noise + rng.normal(mean, 0.1, (30, 4)) for mean in (0.1, 0.0))
        found = paired_test(a, b, resamples=200)
        assert found.p < 0.001 and found.n == 30
        covered += found.low <= 0.1 <= found.high
    assert covered >= 52
    assert found.high - found.low < 0.1  # what both share cancels out


@given(tables, st.randoms(), numbers, st.floats(0.1, 10))
def test_a_test_does_not_know_order_shift_or_direction(
    rows: list[list[float]], random: Random, shift: float, scale: float
) -> None:
    a = np.array(rows)
    b = np.roll(a, 1, axis=0) * 0.5
    plain = paired_test(a, b, resamples=20)
    images = random.sample(range(len(a)), len(a))
    seeds = random.sample(range(a.shape[1]), a.shape[1])
    moved = paired_test(scale * a[images][:, seeds] + shift, scale * b[images][:, seeds] + shift, resamples=20)
    turned = paired_test(b, a, resamples=20)
    assert moved.difference == pytest.approx(scale * plain.difference, abs=1e-9)
    assert turned.difference == pytest.approx(-plain.difference, abs=1e-9)
    assert turned.p == pytest.approx(plain.p) and moved.p == pytest.approx(plain.p)


def test_drawn_patterns_never_give_zero() -> None:
    a = np.full((40, 1), 1.0) + np.random.default_rng(0).normal(0, 0.01, (40, 1))
    found = paired_test(a, np.zeros((40, 1)))
    assert 0 < found.p < 1e-3
    assert found == paired_test(a, np.zeros((40, 1)))


def test_pairs_that_are_missing_one_side_are_left_out() -> None:
    found = paired_test([[1.0, None], [None, None], [3.0, 9.0]], [[0.0, 5.0], [0.0, 0.0], [1.0, None]])
    assert (found.difference, found.n) == (1.5, 2)
    nothing = paired_test([[None]], [[1.0]])
    assert (nothing.n, nothing.p) == (0, 1.0) and nothing.to_dict()["difference"] is None
    with pytest.raises(ValueError, match="pair images and seeds"):
        paired_test([[1.0, 2.0]], [[1.0]])


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"]
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_helps(p_values: dict[str, float]) -> None:
    found = holm(p_values)
    ranked = sorted(p_values, key=p_values.__getitem__)
    assert all(p_values[name] <= found[name] <= 1 for name in p_values)
    assert [found[name] for name in ranked] == sorted(found.values())
    assert all(found[name] <= min(1, len(p_values) * p_values[name]) for name in p_values)  # not above Bonferroni

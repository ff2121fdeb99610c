"""Metrics: values worked out by hand, and rules that hold for any input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2prompt.extras import EXTRAS
from img2prompt.metrics import (
    METRICS,
    auroc,
    bleu,
    bootstrap_interval,
    cider_d,
    colour_distance,
    cosines,
    identical_share,
    mean_cosine,
)

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20)
captions = st.lists(st.sampled_from(["a red cat", "two dogs on a beach", "an oil painting of a tree"]), min_size=1)


def test_importing_brings_no_torch() -> None:
    code = "import sys, img2prompt.metrics; print(sorted({'torch', 'sacrebleu', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_cosines_by_hand() -> None:
    assert cosines([[1, 0], [3, 4], [1, 1], [0, 0]], [[0, 2], [6, 8], [-1, -1], [1, 0]]) == pytest.approx([0, 1, -1, 0])
    assert mean_cosine([[1, 0], [3, 4]], [[0, 2], [6, 8]]) == pytest.approx(0.5)


def test_embeddings_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="one shape"):
        cosines([[1, 0]], [[1, 0], [0, 1]])


def test_bleu_by_hand() -> None:
    # Found: 5 of 6 words ("the" counts once), 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; no brevity penalty.
    value = bleu(["the cat sat on the mat"], [["The cat sat on a mat"]])
    assert value == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25, abs=1e-6)
    two = [["a dog on a bed", "the cat sat on the mat"], ["the cat sat on a mat"]]
    assert bleu(["the cat sat on the mat", "the cat sat on a mat"], two) == pytest.approx(1)
    assert bleu(["blue"], [["a red cat on a beach"]]) == 0


def test_bleu_punishes_prompts_that_are_too_short() -> None:
    assert bleu(["the cat sat on"], [["the cat sat on the mat"]]) == pytest.approx(np.exp(1 - 6 / 4), abs=1e-6)


def test_cider_by_hand() -> None:
    # Of two pictures, "a" is in both (worth nothing), all else in one (worth ln 2). Words: found "red", "cat" of "red",
    # "cat", "sat", lengths 2 / sqrt(2 * 3); pairs: "red cat" of "a red", "red cat", "cat sat"; longer phrases: none.
    value = cider_d(["Red cat!", "x"], [["a red cat sat"], ["a dog"]])
    penalty = np.exp(-(2**2) / (2 * 6**2))
    assert value == pytest.approx(10 * penalty * (2 / 6**0.5 + 1 / 3**0.5) / 4 / 2, abs=1e-9)


def test_cider_counts_what_is_said_twice_once() -> None:
    references = [["red"], ["two dogs in the snow"]]
    assert cider_d(["red red", ""], references) == pytest.approx(10 * np.exp(-1 / 72) * 0.5 / 4 / 2)
    assert cider_d(["red"], references[:1]) == 0  # nothing is rarer than anything else
    assert cider_d([], []) == 0


def test_identical_share_by_hand() -> None:
    assert identical_share(["a cat", "A  cat", "a dog", "a cow"]) == 0.5
    assert identical_share(["a cat"] * 5) == 1
    assert identical_share(["a cat", "a dog"]) == 0
    assert identical_share([]) == 0


def test_auroc_by_hand() -> None:
    assert auroc([3, 4], [1, 2]) == 1
    assert auroc([1, 2], [3, 4]) == 0
    assert auroc([1, 3], [2, 3]) == pytest.approx((0 + 0 + 1 + 0.5) / 4)
    with pytest.raises(ValueError, match="NaN"):
        auroc([float("nan")], [1])


@given(scores, scores)
def test_auroc_is_the_share_of_ordered_pairs(high: list[float], low: list[float]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in high for b in low]
    assert auroc(high, low) == pytest.approx(np.mean(pairs))
    assert auroc(high, low) + auroc(low, high) == pytest.approx(1)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(150):
        low, high = bootstrap_interval(rng.normal(0.5, 0.2, 60), resamples=200, seed=seed)
        covered += low <= 0.5 <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_bootstrap_interval_repeats_and_narrows() -> None:
    values = np.linspace(0, 1, 50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval([0.7] * 9) == pytest.approx((0.7, 0.7))
    wide, narrow = bootstrap_interval(values), bootstrap_interval(np.tile(values, 16))
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2
    with pytest.raises(ValueError, match="one or more"):
        bootstrap_interval([])


EXAMPLES = {  # metric -> arguments of perfect and of worthless predictions
    "mean_cosine": (([[1, 2]], [[2, 4]]), ([[1, 2]], [[-1, -2]])),
    "bleu": ((["a red cat on a mat"], [["a red cat on a mat"]]), (["x"], [["a red cat on a mat"]])),
    "cider_d": (
        (["a red cat on mats", "two dogs in snow"], [["a red cat on mats"], ["two dogs in snow"]]),
        (["x", "y"], [["a red cat on mats"], ["two dogs in snow"]]),
    ),
    "identical_share": ((["a", "b"],), (["a", "a"],)),
    "auroc": (([1], [0]), ([0], [1])),
    "colour_distance": (
        (np.full((2, 3, 3), 100, np.uint8), np.full((5, 1, 3), 100, np.uint8)),
        (np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)),
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_every_row_says_what_it_is(name: str) -> None:
    row = METRICS[name]
    low, high = row.range
    assert low < high and row.source
    assert row.kind in ("texts", "images", "image-text", "sets", "statistic")
    assert row.needs is None or row.needs in EXTRAS
    if row.function is None and name != "ssim":  # which is a formula that torchmetrics computes
        assert row.weights


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.function is not None])
def test_every_row_reaches_the_ends_of_its_range(name: str) -> None:
    row, (best, worst) = METRICS[name], EXAMPLES[name]
    assert row.function is not None
    ends = row.range if row.higher_is_better else row.range[::-1]
    assert row.function(*best) == pytest.approx(ends[1])
    assert row.function(*worst) == pytest.approx(ends[0])


def test_colour_distance_by_hand() -> None:
    half = np.zeros((4, 4, 3), np.uint8)
    half[:2] = 255
    black = np.zeros((9, 2, 3), np.uint8)
    assert colour_distance(half, black) == pytest.approx(0.5)  # half of the pixels have no colour in common
    assert colour_distance(half, half[::-1]) == 0  # wherever they are
    assert colour_distance(black, black + 1) == pytest.approx(1 - (1 - 7 / 255) ** 3)  # 7/255 of a bin in each channel
    with pytest.raises(ValueError, match=r"\(H,W,3\)"):
        colour_distance(half[..., 0], half)


@given(st.integers(0, 2**32 - 1))
def test_colour_distance_is_a_distance(seed: int) -> None:
    one, two, three = np.random.default_rng(seed).integers(0, 256, (3, 3, 4, 3), dtype=np.uint8)
    assert 0 <= colour_distance(one, two) <= 1
    assert colour_distance(one, two) == pytest.approx(colour_distance(two, one))
    assert colour_distance(one, three) <= colour_distance(one, two) + colour_distance(two, three) + 1e-9


@settings(max_examples=15, deadline=None)
@given(captions)
def test_text_metrics_stay_in_range(prompts: list[str]) -> None:
    assert 0 <= identical_share(prompts) <= 1
    assert 0 <= bleu(prompts, [[prompts[0]]] * len(prompts)) <= 1 + 1e-6
    assert 0 <= cider_d(prompts, [[prompts[0], "a dog"]] * len(prompts)) <= 10 + 1e-6

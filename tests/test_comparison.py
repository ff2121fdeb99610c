"""`Comparer` on what ships in the package: which measures are usable, and rules that hold for all of them."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_likeness import scenes

from img2prompt.companions import Companions, Models
from img2prompt.comparison import Comparer
from img2prompt.comparison.measures import MEASURES
from img2prompt.comparison.sizes import at_one_size
from img2prompt.errors import ConfigError, MissingExtra
from img2prompt.metrics import METRICS
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.presets import resolve

HERE = ["ssim", "regressor_cosine", "colour_distance", "coca_likelihood", "coca_probability"]
CORPUS = {"mean_cosine", "bleu", "cider_d", "identical_share", "auroc"}  # of many prompts or scores at once


class Predicting:
    """What a comparer needs of a predictor, with a regressor of its own."""

    def __init__(self, regressor: Any = None) -> None:
        self.rater = self
        self.models = Models(resolve("storybook"), "cpu", Companions(regressor=regressor))


@pytest.fixture(scope="module")
def comparer() -> Comparer:
    """All that needs nothing but the package."""
    return Comparer.open(HERE, device="cpu")


def prompt(number: int) -> str:
    return describe(sample_scene(number, "test"))


def test_importing_brings_no_torch() -> None:
    code = "import sys, img2prompt.comparison; print(sorted({'torch', 'lpips', 'torchmetrics'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_metric_of_pictures_has_a_measure_and_the_other_way_round() -> None:
    assert set(MEASURES) == set(METRICS) - CORPUS
    assert all(METRICS[name].function is not None for name in CORPUS)
    assert {METRICS[name].kind for name in MEASURES} == {"images", "image-text", "sets", "texts"}


def test_a_fresh_machine_measures_without_a_network_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    fresh = Comparer.open(device="cpu")
    assert set(HERE) <= set(fresh.rows) <= {*HERE, "prompt_cosine"}
    assert set(fresh.rows) | set(fresh.skipped) == set(MEASURES)
    for name, why in fresh.skipped.items():
        assert "get it with: " in why or "install it with: pip install" in why or name == "coca_cosine"
        assert "\n" not in why
    assert "trained without a contrastive loss" in fresh.skipped["coca_cosine"]
    assert set(fresh.settings()) == set(fresh.rows)
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.parametrize(
    ("name", "hint"), [("lipps", "did you mean lpips"), ("bleu", "choose from"), ("?", "choose from")]
)
def test_a_metric_that_is_none_is_a_users_error(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        Comparer.open([name], device="cpu")
    with pytest.raises(ConfigError, match="device"):
        Comparer.open(["ssim"], device="cuda:77")


@pytest.mark.parametrize("name", [name for name in HERE if METRICS[name].kind == "images"])
def test_the_same_picture_has_the_best_score(comparer: Comparer, name: str) -> None:
    row, images = METRICS[name], scenes(3)
    best = row.range[1] if row.higher_is_better else row.range[0]
    assert comparer.images(images, images)[name] == pytest.approx([best] * 3, abs=1e-5)
    other = comparer.images(images, [*images[1:], images[0]])[name]
    assert (other < best - 0.05).all() if row.higher_is_better else (other > best + 0.05).all()
    assert ((row.range[0] <= other) & (other <= row.range[1])).all()


def test_the_true_prompt_is_likelier_than_another(comparer: Comparer) -> None:
    images = scenes(6, 128)
    own = comparer.texts(images, [prompt(n) for n in range(6)])
    other = comparer.texts(images, [prompt(n + 1) for n in range(6)])
    assert (own["coca_likelihood"] > other["coca_likelihood"] + 1).all()
    assert own["coca_probability"] == pytest.approx(np.exp(own["coca_likelihood"]))
    assert (own["coca_probability"] > 0.5).mean() > 0.5


def test_a_pair_does_not_depend_on_its_batch(comparer: Comparer) -> None:
    sizes = (64, 96, 64, 128)
    firsts = [scenes(1, sizes[n % 4], n)[0] for n in range(18)]  # more than a batch
    seconds = [scenes(1, sizes[n % 3], n + 50)[0] for n in range(18)]
    texts = [prompt(n) + " and more" * (n % 3) for n in range(18)]
    whole = comparer.images(firsts, seconds) | comparer.texts(firsts, texts)
    places = np.random.default_rng(0).permutation(18)[:9].tolist()
    some = comparer.images([firsts[n] for n in places], [seconds[n] for n in places])
    some |= comparer.texts([firsts[n] for n in places], [texts[n] for n in places])
    alone = comparer.images(firsts[4:5], seconds[4:5]) | comparer.texts(firsts[4:5], texts[4:5])
    for name in HERE:
        assert some[name] == pytest.approx(whole[name][places], abs=1e-5)
        assert alone[name] == pytest.approx(whole[name][4:5], abs=1e-5)


def test_a_picture_that_occurs_often_is_seen_once() -> None:
    seen: list[int] = []

    class Regressor:
        def embed_many(self, images: Sequence[Image.Image]) -> np.ndarray:
            seen.append(len(images))
            return np.array([[image.getpixel((0, 0))[0], 1, 0] for image in images], np.float32)

    original, *others = (Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(4))
    comparer = Comparer.open(["regressor_cosine"], device="cpu", predictor=Predicting(Regressor()))
    found = comparer.images([original] * 3, others)["regressor_cosine"]
    assert seen == [4]
    assert found == pytest.approx([1 / math.hypot(n, 1) for n in (1, 2, 3)])


def test_pictures_of_other_modes_and_sizes_are_the_same_pictures(comparer: Comparer) -> None:
    plain = scenes(1, 96)[0]
    clear = plain.convert("RGBA")
    clear.putalpha(Image.new("L", plain.size, 255))
    grey = plain.convert("L")
    originals = [plain, plain, grey, plain, plain]
    others = [clear, plain.quantize(256), grey.convert("RGB"), plain.resize((960, 960)), plain.resize((48, 48))]
    found = comparer.images(originals, others)
    assert found["ssim"][[0, 2]] == pytest.approx([1, 1], abs=1e-5)
    assert (found["ssim"] > 0.9).all() and found["colour_distance"].max() < 0.2
    assert found["regressor_cosine"][[0, 2]] == pytest.approx([1, 1], abs=1e-5)
    assert (found["regressor_cosine"] > 0.7).all()


def test_what_cannot_be_measured_is_nan_and_counted() -> None:
    comparer = Comparer.open(HERE, device="cpu")
    good, tiny, empty = scenes(1)[0], Image.new("RGB", (9, 200)), Image.new("RGB", (0, 0))
    found = comparer.images([good, tiny, empty, good], [good, good, good, empty])
    assert np.isnan(found["ssim"]).tolist() == [False, True, True, True]
    for name in ("regressor_cosine", "colour_distance"):
        assert np.isnan(found[name]).tolist() == [False, False, True, True]
    said = comparer.texts([empty, good], ["a cat", ""])
    assert np.isnan(said["coca_likelihood"]).tolist() == [True, False]
    assert comparer.undefined["ssim: a side has less than 11 px where both pictures have one size"] == 1
    assert comparer.undefined["ssim: a picture without pixels, or with too many"] == 2
    assert comparer.undefined["coca_likelihood: a picture without pixels, or with too many"] == 1


def test_a_model_that_gives_no_number_is_said_so() -> None:
    class Broken:
        def embed_many(self, images: Sequence[Image.Image]) -> np.ndarray:
            return np.full((len(images), 3), np.nan, np.float32)

    comparer = Comparer.open(["regressor_cosine"], device="cpu", predictor=Predicting(Broken()))
    assert np.isnan(comparer.images(scenes(2), scenes(2))["regressor_cosine"]).all()
    assert comparer.undefined == {"regressor_cosine: its model gives no finite number": 2}


def test_nothing_and_pairs_that_do_not_match(comparer: Comparer) -> None:
    found = comparer.images([], []) | comparer.texts([], [])
    assert set(found) == set(HERE) and all(values.shape == (0,) for values in found.values())
    with pytest.raises(ValueError, match="2 and 1"):
        comparer.images(scenes(2), scenes(1))
    assert np.isnan(comparer.prompts(["a", "b"], ["c", "d"])).tolist() == [True, True]  # the row was not asked for
    assert comparer.sets(scenes(2), scenes(2)) == {}


def test_clip_score_by_hand() -> None:
    class Towers:
        name = "by hand"

        def features_many(self, images: Sequence[Image.Image]) -> np.ndarray:
            return np.array([[1, 0]] * len(images), np.float32)

        def embed_many(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([{"same": [1, 0], "near": [3, 4], "against": [-1, 0]}[text] for text in texts], np.float32)

    means: Any = SimpleNamespace(clip_pictures=Towers(), clip_texts=Towers())
    found = MEASURES["clip_score"](means).compute(scenes(1) * 4, ["same", "near", "against", "near"])
    assert found == pytest.approx([2.5, 1.5, 0, 1.5])  # 2.5 times the cosine, and nothing below 0


def test_prompts_by_their_sentences() -> None:
    comparer = Comparer.open(["prompt_cosine"], device="cpu")
    if "prompt_cosine" in comparer.skipped:
        pytest.skip(comparer.skipped["prompt_cosine"])
    found = comparer.prompts(["a red cat", "a red cat", ""], ["a red cat", "two ships at sea", "a red cat"])
    assert found[0] == pytest.approx(1, abs=1e-5) and found[1] < 0.5 and np.isfinite(found).all()
    assert comparer.prompts([], []).shape == (0,)


def test_a_missing_sentence_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise MissingExtra("install it with: pip install 'img2prompt[offline]'")

    monkeypatch.setattr("img2prompt.models.sentence.find_model", absent)
    assert "img2prompt[offline]" in Comparer.open(["prompt_cosine"], device="cpu").skipped["prompt_cosine"]


@settings(max_examples=40, deadline=None)
@given(*(st.tuples(st.integers(1, 700), st.integers(1, 700)) for _ in range(2)))
def test_two_pictures_get_one_size(size: tuple[int, int], other: tuple[int, int]) -> None:
    one, two = at_one_size(Image.new("RGB", size, (9, 8, 7)), Image.new("RGB", other, (9, 8, 7)))
    width, height = min(size[0], other[0]), min(size[1], other[1])
    assert one.shape == two.shape and (one == two).all()
    assert min(one.shape[:2]) == min(width, height, 256)
    if min(width, height) <= 256:
        assert one.shape == (height, width, 3)
    else:
        assert one.shape[1] / one.shape[0] == pytest.approx(width / height, rel=0.02)


def test_a_picture_that_is_not_scaled_keeps_its_pixels() -> None:
    image = scenes(1)[0]
    one, two = at_one_size(image, image.resize((640, 128)))
    assert (one == np.asarray(image)).all() and two.shape == one.shape

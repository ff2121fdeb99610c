"""The library: metadata first, lazy model, streaming in order, confidence."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_model import picture, save_model, save_with_prompt

import img2prompt
from img2prompt.confidence import (
    Array,
    Calibration,
    Gaussian,
    Weighing,
    fit_gaussian,
    fit_logistic,
    load_calibration,
    save_calibration,
)
from img2prompt.errors import ConfigError, ImageNotFound, MetadataError, NotAnImage, PresetError
from img2prompt.metrics import auroc
from img2prompt.pairs.images import Limits
from img2prompt.predictor import Predictor
from img2prompt.results import Failed, Prediction


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor.from_preset(str(model), device="cpu")


def png(seed: int, px: int = 64) -> bytes:
    buffer = io.BytesIO()
    picture(seed, px).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_gets_a_caption(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    found = img2prompt.Predictor.from_preset(predictor.located.source).predict(path)
    assert found.origin == "captioner" and found.source == str(path)
    assert found.prompt == found.candidates[0].prompt and found.preset == predictor.located.name
    assert 0 < found.confidence <= 1 and found.in_domain is None  # no calibration in this folder
    assert found.confidence == pytest.approx(
        np.exp(found.candidates[0].log_likelihood / found.candidates[0].token_count), rel=1e-6
    )


def test_every_kind_of_source_gives_the_same(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(3))
    sources = [path, str(path), png(3), io.BytesIO(png(3)), picture(3)]
    assert len({predictor.predict(source).prompt for source in sources}) == 1


def test_metadata_comes_first_and_can_be_ignored(predictor: Predictor, tmp_path: Path) -> None:
    path = save_with_prompt(tmp_path / "a.png", "a lighthouse at dusk", "blurry")
    found = predictor.predict(path)
    assert (found.origin, found.prompt, found.negative_prompt) == ("metadata", "a lighthouse at dusk", "blurry")
    assert found.confidence is None and found.embedded.seed == 5 and found.candidates == ()
    assert predictor.predict(path, ignore_metadata=True).origin == "captioner"


def test_candidates_and_seed(predictor: Predictor) -> None:
    first = predictor.predict(png(4), candidates=4, seed=1)
    again = predictor.predict(png(4), candidates=4, seed=1)
    other = predictor.predict(png(4), candidates=4, seed=2)
    assert len(first.candidates) == 4 and first.candidates == again.candidates
    assert first.candidates != other.candidates
    scores = [candidate.score for candidate in first.candidates]
    assert scores == sorted(scores, reverse=True) and first.prompt == first.candidates[0].prompt
    assert scores == [c.log_likelihood / c.token_count for c in first.candidates]


def test_a_prompt_does_not_depend_on_its_batch(predictor: Predictor) -> None:
    sources = [png(seed) for seed in range(7)]
    alone = [predictor.predict(source, candidates=2).candidates for source in sources]
    for batch_size in (1, 3, 16):
        rows = list(predictor.predict_many(sources, batch_size=batch_size, candidates=2))
        assert [[c.prompt for c in row.candidates] for row in rows] == [[c.prompt for c in row] for row in alone]


def test_many_keeps_order_and_survives_broken_files(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "ok.png").write_bytes(png(1))
    (tmp_path / "cut.png").write_bytes(png(2)[:300])
    (tmp_path / "text.png").write_text("hello")
    save_with_prompt(tmp_path / "meta.png", "a fox")
    names = ["ok.png", "cut.png", "meta.png", "none.png", "text.png", "ok.png", "meta.png"]
    rows = list(predictor.predict_many([tmp_path / name for name in names], batch_size=2))
    assert [Path(row.source).name for row in rows] == names
    kinds = [row.kind if isinstance(row, Failed) else row.origin for row in rows]
    assert kinds == ["captioner", "ImageTruncated", "metadata", "ImageNotFound", "NotAnImage", "captioner", "metadata"]
    assert all(str(tmp_path) not in row.error for row in rows if isinstance(row, Failed))


def test_many_streams(predictor: Predictor) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for i in itertools.count():
            taken += 1
            yield png(i % 5)

    rows = predictor.predict_many(endless(), batch_size=2)
    assert all(isinstance(row, Prediction) for row in itertools.islice(rows, 6))
    assert taken <= 6 + 4 + 2  # what came out, what was read ahead, a batch
    rows.close()
    assert not any(t.name.startswith("img2prompt-decode") and t.is_alive() for t in _after_a_moment())


def _after_a_moment() -> list[threading.Thread]:
    for thread in threading.enumerate():
        if thread.name.startswith("img2prompt-decode"):
            thread.join(5)
    return threading.enumerate()


def test_large_pictures_wait_reduced(predictor: Predictor) -> None:
    from img2prompt.reading import Reader

    opened = Reader(predictor.limits).open(png(1, px=2050))
    assert opened.image.size == (513, 513)
    assert Reader(predictor.limits).open(png(1, px=900)).image.size == (900, 900)


def test_errors_are_the_users(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        predictor.predict(tmp_path / "none.png")
    with pytest.raises(ConfigError, match="style"):
        predictor.predict(png(1), style="haiku")
    with pytest.raises(ConfigError, match="candidates"):
        predictor.predict(png(1), candidates=0)
    with pytest.raises(ConfigError, match="batch size"):
        list(predictor.predict_many([], batch_size=0))
    with pytest.raises(PresetError, match="did you mean storybook"):
        Predictor.from_preset("storybok")
    with pytest.raises(ConfigError, match="device 'warp'"):
        Predictor.from_preset(predictor.located.source, device="warp").predict(png(1))
    with pytest.raises(ConfigError, match="precision 'int4'"):
        Predictor.from_preset(predictor.located.source, precision="int4").predict(png(1))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_captioner_takes_the_precision_that_is_asked_for(predictor: Predictor, precision: str) -> None:
    other = Predictor.from_preset(predictor.located.source, device="cpu", precision=precision)
    other.predict(png(1))
    weights = next(other.captioner.loaded.model.parameters())
    assert str(weights.dtype) == f"torch.{precision}"


def hostile(path: Path) -> Path:
    """A PNG whose only words are a JSON workflow nested beyond any limit."""
    info = PngInfo()
    info.add_text("prompt", "[" * 200_000)
    picture(2).save(path, pnginfo=info)
    return path


def test_hostile_metadata_does_not_keep_a_picture_from_its_caption(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = hostile(tmp_path / "a.png")
    assert predictor.predict(path).origin == "captioner"
    assert [record.getMessage().count(str(path)) for record in caplog.records] == [1]
    assert "<bytes>" not in caplog.text and caplog.text.count("captioned instead") == 1
    with pytest.raises(MetadataError) as caught:
        Predictor.metadata_only().predict(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_errors_name_the_file_and_limits_hold_for_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    reader = Predictor.metadata_only(limits=Limits(max_pixels=100))
    with pytest.raises(NotAnImage, match=r"text\.png"):
        reader.predict(tmp_path / "text.png")
    large = save_with_prompt(tmp_path / "large.png", "a fox")
    with large.open("ab") as file:
        file.write(bytes(65 * 2**20))
    reader = Predictor.metadata_only(limits=Limits(max_bytes=80 * 2**20))
    assert reader.predict(large).prompt == "a fox"


def test_metadata_only_needs_no_model(tmp_path: Path) -> None:
    path = save_with_prompt(tmp_path / "a.png", "a fox")
    reader = Predictor.metadata_only()
    assert reader.predict(path).prompt == "a fox"
    with pytest.raises(MetadataError, match="holds no prompt"):
        reader.predict(png(1))
    with pytest.raises(ConfigError, match="metadata only"):
        _ = reader.captioner


def test_metadata_does_not_load_torch(model: Path, tmp_path: Path) -> None:
    path = save_with_prompt(tmp_path / "a.png", "a fox")
    code = f"""
import sys
from img2prompt import Predictor
print(Predictor.metadata_only().predict({str(path)!r}).prompt)
print(Predictor.from_preset({str(model)!r}).predict({str(path)!r}).prompt)
assert not {{"torch", "open_clip", "datasets", "transformers"}} & set(sys.modules), "a heavy module was loaded"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == "a fox\na fox\n", done.stderr


def test_control_characters_never_come_out() -> None:
    from img2prompt.rating import _cleaned
    from img2prompt.results import Candidate

    assert _cleaned(Candidate("a \x1b[31mred\ncat", -1.0, 3)).prompt == "a [31mred cat"


def calibrated(folder: Path, inside: Image.Image, outside: Image.Image) -> Predictor:
    """The tiny model with a calibration whose probe runs from one picture's features to the other's."""
    captioner = Predictor.from_preset(str(save_model(folder)), device="cpu").captioner
    features = np.stack([captioner.describe_many([image]).features[0].double().numpy() for image in (inside, outside)])
    between = features[0] - features[1]
    probe = 2 * between / (between @ between)
    bias = -float(features.mean(axis=0) @ probe)  # the probe says 1 for the one, -1 for the other
    world = Gaussian(features.mean(axis=0), np.eye(features.shape[1]))
    weighing = Weighing({"feature_probe": 5.0}, 0.0, 0.5)
    save_calibration(Calibration(world, probe, bias, (weighing,)), folder, {"pictures": 2})
    return Predictor.from_preset(str(folder), device="cpu")


def static(seed: int, px: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (px, px, 3), dtype=np.uint8))


def test_confidence_is_what_the_calibration_makes_of_the_features(tmp_path: Path) -> None:
    predictor = calibrated(tmp_path / "m", picture(1), static(200))
    rows = [predictor.predict(picture(1)), predictor.predict(static(200))]
    assert [row.in_domain for row in rows] == [True, False]
    assert [row.confidence for row in rows] == pytest.approx([1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))], abs=0.002)


def seen(rng: np.random.Generator, count: int, centre: float) -> tuple[Array, Array, None]:
    """Features around a centre, and likelihoods that say nothing."""
    return rng.normal(centre, 1, (count, 16)), rng.normal(-1, 0.2, count), None


def test_a_fitted_calibration_separates_worlds_and_survives_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    from fit_confidence import fit

    rng = np.random.default_rng(0)
    made = fit(seen(rng, 300, 1.0), seen(rng, 200, -1.0))  # eight standard deviations apart
    save_calibration(made, tmp_path, {})
    fitted = load_calibration(tmp_path)
    assert fitted is not None and fitted.weighings == made.weighings and fitted.weighings[0].threshold <= 0.5
    (inside, kept), (outside, let_in) = (fitted.judge(fitted.evidence(*seen(rng, 200, c))) for c in (1.0, -1.0))
    assert auroc(inside, outside) == 1 and kept.mean() > 0.9 and not let_in.any()
    features = rng.normal(0, 1, (5, 16))
    before, after = (each.evidence(features, np.zeros(5)) for each in (made, fitted))
    assert all(after[name] == pytest.approx(before[name], abs=1e-4) for name in before)


def test_agreement_is_evidence_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    from fit_confidence import fit

    rng = np.random.default_rng(0)

    def seen(count: int, agreement: float) -> tuple[Array, Array, Array]:
        return rng.normal(0, 1, (count, 4)), rng.normal(-1, 0.2, count), rng.normal(agreement, 0.02, count)

    made = fit(seen(300, 0.9), seen(300, 0.5))  # nothing but the agreement tells them apart
    assert ["agreement" in weighing.weights for weighing in made.weighings] == [True, False]
    save_calibration(made, tmp_path, {})
    fitted = load_calibration(tmp_path)
    assert fitted is not None and fitted.uses("agreement") and fitted.weighings == made.weighings
    (inside, kept), (outside, let_in) = (fitted.judge(fitted.evidence(*seen(100, mean))) for mean in (0.9, 0.5))
    assert auroc(inside, outside) == 1 and kept.mean() > 0.9 and not let_in.any()
    blind, _ = fitted.judge(fitted.evidence(*seen(100, 0.9)[:2]))  # without a regressor: the other weighing
    assert abs(blind.mean() - 0.5) < 0.1
    alone = replace(fitted, weighings=fitted.weighings[:1])
    with pytest.raises(PresetError, match="fit it again"):
        alone.judge(alone.evidence(*seen(2, 0.9)[:2]))


def test_a_calibration_of_an_earlier_version_still_counts(tmp_path: Path) -> None:
    world = Gaussian(np.zeros(2), np.eye(2))
    weighing = Weighing({"feature_probe": 1.0, "feature_distance": 0.0, "log_likelihood": 2.0}, 0.5, 0.25)
    save_calibration(Calibration(world, np.array([1.0, 0.0]), 0.0, (weighing,)), tmp_path, {})
    settings = json.loads((tmp_path / "confidence.json").read_text())
    assert settings.pop("otherwise") == []
    assert settings["weights"]["log_likelihood"] == 2.0 and settings["threshold"] == 0.25  # where they always stood
    (tmp_path / "confidence.json").write_text(json.dumps(settings))
    fitted = load_calibration(tmp_path)
    assert fitted is not None and fitted.weighings == (weighing,)


def test_damaged_calibration_is_named(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    (folder / "confidence.json").write_text('{"weights": {}}')
    with pytest.raises(PresetError, match=r"confidence\.json: damaged"):
        Predictor.from_preset(str(folder), device="cpu").predict(png(1))


def test_logistic_separates_and_stays_finite() -> None:
    rng = np.random.default_rng(0)
    rows = np.vstack([rng.normal(2, 0.1, (50, 2)), rng.normal(-2, 0.1, (10, 2))])
    weights, bias = fit_logistic(rows, np.repeat([1.0, 0.0], [50, 10]))
    scores = rows @ weights + bias
    assert np.isfinite(weights).all() and (scores[:50] > 0).all() and (scores[50:] < 0).all()


def test_gaussian_measures_in_standard_deviations() -> None:
    rows = np.random.default_rng(0).normal(5, [1, 10, 100], (4000, 3))
    fitted = fit_gaussian(rows, shrinkage=0)
    assert fitted.log_distance(np.array([[5.0, 5.0, 5.0 + 300]]))[0] == pytest.approx(np.log(3 / np.sqrt(3)), abs=0.05)
    assert np.exp(fitted.log_distance(rows)).mean() == pytest.approx(1, abs=0.1)

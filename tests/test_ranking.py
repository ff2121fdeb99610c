"""Ranking: the scores, the fit of their weights, and the choice that a predictor makes with its companions."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_model import picture, save_model
from tiny_towers import random_spec

from img2prompt.errors import ConfigError, ModelError, PresetError
from img2prompt.predictor import Predictor
from img2prompt.ranking import (
    LIKELIHOOD_ONLY,
    UNFITTED,
    Array,
    Evidence,
    Ranking,
    chosen,
    consensus,
    fit_ranking,
    fit_weights,
    load_ranking,
    save_ranking,
    scores_of,
)
from img2prompt.results import Prediction

MANY = st.integers(2, 8)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


def ranked_by(model: Path, folder: Path, *weightings: dict[str, float], sentences: str | None = None) -> Path:
    """The model with a ranking of its own."""
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).symlink_to(path)
    save_ranking(Ranking(weightings, candidates=6, sentence_model=sentences), folder, {"images": 0})
    return folder


def units(rng: np.random.Generator, count: int, width: int = 5) -> Array:
    rows = rng.normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=50, deadline=None)
@given(count=MANY, seed=SEEDS)
def test_consensus_is_the_weighted_mean_of_the_others(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    emb, likelihoods = units(rng, count), rng.normal(-1, 0.5, count)
    found = consensus(Evidence(likelihoods, emb))
    for i in range(count):
        others = [j for j in range(count) if j != i]
        weights = np.exp(likelihoods[others])
        assert found[i] == pytest.approx(float(weights @ (emb[others] @ emb[i]) / weights.sum()), abs=1e-9)
    order = rng.permutation(count)
    assert consensus(Evidence(likelihoods[order], emb[order])) == pytest.approx(found[order], abs=1e-12)


def test_consensus_at_the_edges() -> None:
    rng = np.random.default_rng(0)
    assert consensus(Evidence(np.array([-1.0]), units(rng, 1))).tolist() == [1.0]
    assert consensus(Evidence(np.zeros(3))) is None  # no sentence model
    same = np.tile(units(rng, 1), (3, 1))
    assert consensus(Evidence(np.array([-900.0, -1.0, -2.0]), same)) == pytest.approx(np.ones(3))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, first=st.floats(0.5, 2), second=st.floats(0.5, 2))
def test_the_fit_finds_the_weights_and_leaves_out_what_adds_nothing(seed: int, first: float, second: float) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.normal(rng.normal(0, 5), 1, (8, 4)) for _ in range(200)]  # a picture's level says nothing
    gains = [x @ [first, 0, second, -0.1] + rng.normal(0, 0.05, len(x)) for x in scores]
    found = fit_weights(scores, gains)
    assert found[[1, 3]].tolist() == [0, 0]  # useless, and lower is better: neither may count
    assert found[[0, 2]] == pytest.approx([first, second], abs=0.05)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, truth=st.floats(-1, 1))
def test_a_fitted_choice_is_never_worse_than_the_likeliest(seed: int, truth: float) -> None:
    rng = np.random.default_rng(seed)
    names = ("likelihood", "consensus", "regression")
    scores = [dict(zip(names, rng.normal(size=(3, count)), strict=True)) for count in rng.integers(1, 9, 30)]
    gains = [truth * row["regression"] + rng.normal(size=len(row["regression"])) for row in scores]
    weights = fit_ranking(scores, gains, names)

    def mean(weights: dict[str, float]) -> float:
        return float(np.mean([row[place] for row, place in zip(gains, chosen(scores, weights), strict=True)]))

    assert mean(weights) >= mean(LIKELIHOOD_ONLY)
    assert set(weights) <= set(names) and all(weight > 0 for weight in weights.values())


def test_weightings_fall_back_to_what_can_be_had() -> None:
    ranking = Ranking(({"consensus": 1.0, "regression": 2.0}, {"consensus": 3.0}))
    assert ranking.weights({"likelihood", "consensus", "regression"}) == {"consensus": 1.0, "regression": 2.0}
    assert ranking.weights({"likelihood", "consensus"}) == {"consensus": 3.0}
    assert ranking.weights({"likelihood"}) == LIKELIHOOD_ONLY
    assert set(UNFITTED.weights({"likelihood", "consensus", "regression"})) == {"likelihood", "consensus", "regression"}


def test_a_ranking_survives_its_file(tmp_path: Path) -> None:
    ranking = Ranking(({"likelihood": 0.1, "regression": 0.7}, {"likelihood": 1.0}), 5, "a/b")
    save_ranking(ranking, tmp_path, {"images": 3})
    assert load_ranking(tmp_path) == ranking and load_ranking(tmp_path / "none") is None
    assert json.loads((tmp_path / "ranking.json").read_text())["made_by"] == {"images": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["ranking.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"weightings": [{"likelihood": 1}]}',
        '{"weightings": [{"beauty": 1}], "candidates": 8}',
        '{"weightings": [{}], "candidates": 8}',
        '{"weightings": [{"likelihood": NaN}], "candidates": 8}',
        '{"weightings": [{"likelihood": "much"}], "candidates": 8}',
        '{"weightings": [["likelihood"]], "candidates": 8}',
        '{"weightings": [{"likelihood": 1}], "candidates": 0}',
        '{"weightings": [{"likelihood": 1}], "candidates": 8, "sentence_model": 3}',
    ],
)
def test_a_damaged_ranking_is_named(model: Path, tmp_path: Path, content: str) -> None:
    folder = ranked_by(model, tmp_path / "m", {"likelihood": 1.0})
    (folder / "ranking.json").write_text(content)
    with pytest.raises(PresetError, match=r"ranking\.json: damaged .*; remove it, or fit it again"):
        Predictor.from_preset(str(folder), device="cpu").predict(picture(1))


class Fixed:
    """A regressor that sees the same sentence in every picture."""

    def __init__(self, emb: NDArray[np.float32]) -> None:
        self.emb = emb

    def embed_many(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return np.tile(self.emb, (len(images), 1))


def test_the_prompt_that_the_regressor_sees_is_chosen(model: Path, tmp_path: Path) -> None:
    from img2prompt.models.sentence import SentenceEncoder

    folder = str(ranked_by(model, tmp_path / "m", {"regression": 1.0}, {"consensus": 1.0}))
    proposed = Predictor.from_preset(folder, rank=1).predict(picture(4), candidates=6)
    assert proposed.candidates[0].scores.keys() == {"likelihood"}
    for target in proposed.candidates[1:4]:
        wanted = SentenceEncoder().encode_many([target.prompt])[0]
        found = Predictor.from_preset(folder, regressor=Fixed(wanted)).predict(picture(4), candidates=3)
        assert found.prompt == target.prompt and len(found.candidates) == 3
        assert found.candidates[0].scores["regression"] == pytest.approx(1, abs=1e-4)
        assert found.candidates[0].score == found.candidates[0].scores["regression"]
        assert [c.score for c in found.candidates] == sorted((c.score for c in found.candidates), reverse=True)
    alone = Predictor.from_preset(folder).predict(picture(4))  # no regressor: the weights that need none
    assert len(alone.candidates) == 1 and alone.candidates[0].score == alone.candidates[0].scores["consensus"]


def test_a_wrong_regressor_is_refused(model: Path, tmp_path: Path) -> None:
    folder = str(ranked_by(model, tmp_path / "m", {"regression": 1.0}))
    with pytest.raises(ConfigError, match="gives 7 numbers a picture, the sentence model 384"):
        Predictor.from_preset(folder, regressor=Fixed(np.ones(7, np.float32))).predict(picture(1))
    with pytest.raises(ModelError, match="no regressor"):
        Predictor.from_preset(folder, regressor=tmp_path).predict(picture(1))
    with pytest.raises(PresetError, match="coca-l14"):
        Predictor.from_preset(folder, regressor="coca-l14").predict(picture(1))
    with pytest.raises(ConfigError, match="rank 65"):
        Predictor.from_preset(folder, rank=65)


def test_ranking_does_not_depend_on_the_batch(model: Path, tmp_path: Path) -> None:
    from img2prompt.models.regressor import RegressorConfig, new_regressor, save_regressor

    folder = str(ranked_by(model, tmp_path / "m", {"likelihood": 0.1, "consensus": 1.0, "regression": 1.0}))
    regressor = save_regressor(new_regressor(RegressorConfig(random_spec())), tmp_path / "regressor")
    predictor = Predictor.from_preset(folder, device="cpu", regressor=str(regressor))
    images = [picture(seed) for seed in range(5)]
    alone = [predictor.predict(image, candidates=2) for image in images]
    together = list(predictor.predict_many(images, batch_size=3, candidates=2))
    assert all(isinstance(row, Prediction) and row.candidates[0].scores["regression"] < 1 for row in together)
    for one, other in zip(alone, together, strict=True):
        assert [c.prompt for c in one.candidates] == [c.prompt for c in other.candidates]
        assert one.candidates[0].score == pytest.approx(other.candidates[0].score, abs=1e-4)


def test_without_the_sentence_model_the_likelihood_ranks(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = {"likelihood": 0.1, "consensus": 1.0}
    folder = str(ranked_by(model, tmp_path / "m", weights, sentences="nobody/nothing"))
    predictor = Predictor.from_preset(folder)
    found = [predictor.predict(picture(seed), candidates=2) for seed in (1, 2)]
    assert all(row.candidates[0].scores.keys() == {"likelihood"} for row in found)
    assert found[0].prompt == Predictor.from_preset(folder, rank=1).predict(picture(1), candidates=2).prompt
    assert caplog.text.count("ranked by their likelihood only") == 1 and "nobody/nothing" in caplog.text


def test_the_captioners_own_contrast_counts_where_it_was_fitted(model: Path, tmp_path: Path) -> None:
    import open_clip
    import torch

    folder = ranked_by(model, tmp_path / "m", {"contrastive": 1.0})
    found = Predictor.from_preset(str(folder), device="cpu").predict(picture(4), candidates=4)
    oracle = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    predictor = Predictor.from_preset(str(folder), device="cpu")
    pixels = predictor.captioner.loaded.transform()(picture(4))[None]
    loaded = predictor.captioner.loaded
    with torch.no_grad():
        text = oracle.encode_text(tokenizer([c.prompt for c in found.candidates]), normalize=True)
        expected = (text @ oracle.encode_image(pixels, normalize=True).T)[:, 0].tolist()
    compared = 0
    for candidate, cosine in zip(found.candidates, expected, strict=True):
        assert candidate.score == candidate.scores["contrastive"]
        if len(loaded.tokenizer.encode(candidate.prompt)) <= loaded.context_length - 2:  # else each is cut differently
            assert candidate.score == pytest.approx(cosine, abs=0.02)  # bfloat16
            compared += 1
    assert compared


def test_a_bank_shows_the_nearest_prompts(model: Path, tmp_path: Path) -> None:
    from img2prompt.models.bank import Bank, Entries, Origin
    from img2prompt.models.features import load_features

    encoder = load_features(str(model))
    images = [picture(seed) for seed in range(6)]
    rng = np.random.default_rng(0)
    entries = Entries(
        encoder.features_many(images),
        units(rng, 6).astype(np.float32),
        [f"known {i}" for i in range(6)],
        [f"id{i}" for i in range(6)],
    )
    bank = Bank.build(entries, Origin(encoder.name, encoder.fingerprint, "s", "s")).save(tmp_path / "bank")
    predictor = Predictor.from_preset(str(model), bank=bank)
    rows = list(predictor.predict_many(images[2:4]))
    assert [row.nearest[0].prompt for row in rows] == ["known 2", "known 3"] and len(rows[0].nearest) == 3
    assert rows[0].nearest[0].cosine == pytest.approx(1, abs=1e-3)
    assert rows[0].to_dict()["nearest"][0]["id"] == "id2"
    other = replace(Origin(encoder.name, encoder.fingerprint, "s", "s"), encoder_fingerprint="f" * 64)
    strange = Bank.build(entries, other).save(tmp_path / "strange")
    with pytest.raises(ModelError, match="built with another one"):
        Predictor.from_preset(str(model), bank=strange).predict(images[0])


def test_scores_are_those_that_the_evidence_allows() -> None:
    rng = np.random.default_rng(1)
    full = Evidence(np.array([-1.0, -2.0]), units(rng, 2), units(rng, 1)[0], np.array([0.1, 0.2]))
    assert list(scores_of(full)) == ["likelihood", "consensus", "regression", "contrastive"]
    assert list(scores_of(replace(full, emb=None))) == ["likelihood", "contrastive"]
    assert scores_of(full)["regression"] == pytest.approx(full.emb @ full.regressed)


def test_the_script_fits_and_reports(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    import fit_ranking as script

    folder = ranked_by(model, tmp_path / "m", {"likelihood": 1.0})
    words = ["fit_ranking.py", "--preset", str(folder), "--images", "6", "--candidates", "4"]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    out = capsys.readouterr()
    facts = json.loads(out.out)
    table = {row["choice"]: row["mean_cosine"] for row in facts["table"]}
    assert table["oracle"] == max(table.values()) and "captioner's own best" in table and "contrastive" in table
    assert facts["images"] == [6, 6] and not facts["regressor"] and "points over own best" in out.err
    fitted = load_ranking(folder)
    assert fitted is not None and fitted.candidates == 4


def test_a_small_gain_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    from fit_ranking import Looked, reason, report

    rng = np.random.default_rng(0)
    ranking = Ranking(({"likelihood": 1.0},))

    def why(spread: float, tells: float) -> str | None:
        gains = [0.8 + spread * rng.normal(size=8) for _ in range(2000)]
        scores = [{"likelihood": tells * (row - 0.8) / spread + rng.normal(size=8)} for row in gains]
        looked = Looked(scores, gains)
        return reason(looked, ranking, report(looked, ranking))

    assert why(0.05, 2.0) is None
    assert "little to choose from" in (why(0.002, 2.0) or "")
    assert "cannot tell" in (why(0.05, 0.0) or "")

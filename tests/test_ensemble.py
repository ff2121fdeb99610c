"""Ensembles: the weights that are fitted, the file that names the members, and what the members make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_model import picture, save_model
from tiny_towers import random_spec

from img2prompt.ensemble import Ensemble, combine, fit_weights, held_out_estimates, read_ensemble, unit_length
from img2prompt.errors import ConfigError, MissingExtra, ModelError
from img2prompt.jobs.fitting import EQUAL, FITTED, HELD_OUT, fit_members, halves, table
from img2prompt.metrics import cosines, mean_cosine
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.results import Candidate

Array = NDArray[np.float64]


def units(*shape: int, seed: int = 0) -> Array:
    return unit_length(np.random.default_rng(seed).normal(size=shape))


def noisy(targets: Array, noise: float, seed: int) -> Array:
    return unit_length(targets + noise * np.random.default_rng(seed).normal(size=targets.shape))


@dataclass
class Fixed:
    """A member that gives the rows it was made with, first those of the first pictures."""

    rows: NDArray[Any]
    fingerprint: str = ""
    sentence_model: str = ""

    def embed_many(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        return self.rows[: len(images)].astype(np.float32)


sizes = {"members": st.integers(1, 5), "rows": st.integers(1, 30), "width": st.integers(2, 8)}


@settings(max_examples=40, deadline=None)
@given(**sizes, noise=st.lists(st.floats(0, 10), min_size=5, max_size=5), seed=st.integers(0, 10**6))
def test_weights_lie_on_the_simplex_and_lose_to_no_member(
    members: int, rows: int, width: int, noise: list[float], seed: int
) -> None:
    targets = units(rows, width, seed=seed)
    embs = np.stack([noisy(targets, noise[m], seed + m + 1) for m in range(members)])
    weights = fit_weights(embs, targets)
    assert weights.shape == (members,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    best = max(mean_cosine(emb, targets) for emb in embs)
    assert mean_cosine(combine(embs, weights), targets) >= best - 1e-9


@settings(max_examples=40, deadline=None)
@given(**sizes, seed=st.integers(0, 10**6), data=st.data())
def test_the_order_of_members_does_not_matter(
    members: int, rows: int, width: int, seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(members)))
    targets = units(rows, width, seed=seed)
    embs = np.stack([noisy(targets, 0.5 + m, seed + m + 1) for m in range(members)])
    given_weights = np.random.default_rng(seed).uniform(0.1, 1, members)
    assert combine(embs, given_weights) == pytest.approx(combine(embs[order], given_weights[order]), abs=1e-9)
    one = mean_cosine(combine(embs, fit_weights(embs, targets)), targets)
    other = mean_cosine(combine(embs[order], fit_weights(embs[order], targets)), targets)
    assert one == pytest.approx(other, abs=1e-6)


def test_the_weights_that_made_the_targets_are_found() -> None:
    embs = units(3, 400, 16)
    targets = combine(embs, np.array([0.6, 0.3, 0.1]))
    assert fit_weights(embs, targets) == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)
    two = np.stack([noisy(targets, 0.1, 5), units(400, 16, seed=6)])
    assert fit_weights(two, targets)[0] > 0.95, "noise is given no say"


def test_estimates_that_err_differently_are_better_together_on_pictures_they_were_not_fitted_on() -> None:
    targets = units(300, 24)
    embs = np.stack([noisy(targets, 0.2, 1), noisy(targets, 0.25, 2), noisy(targets, 0.9, 3)])
    second = halves([str(i) for i in range(300)])
    held_out = held_out_estimates(embs, targets, second)
    assert held_out is not None
    best = max(mean_cosine(emb, targets) for emb in embs)
    fitted = mean_cosine(combine(embs, fit_weights(embs, targets)), targets)
    assert best < mean_cosine(held_out, targets) <= fitted + 1e-9
    assert held_out[second] == pytest.approx(combine(embs[:, second], fit_weights(embs[:, ~second], targets[~second])))
    assert held_out_estimates(embs, targets, np.ones(300, bool)) is None


def test_members_count_by_direction_and_not_by_length() -> None:
    embs, weights = units(2, 5, 8), np.array([0.7, 0.3])
    long = embs * np.array([100.0, 0.01])[:, None, None]
    assert combine(long, weights) == pytest.approx(combine(embs, weights))
    assert np.linalg.norm(combine(embs, weights), axis=1) == pytest.approx(1)
    opposite = np.stack([embs[0], -embs[0]])
    assert combine(opposite, np.array([0.5, 0.5])) == pytest.approx(embs[0])


def test_equal_prompts_share_a_half_and_keep_it() -> None:
    prompts = [f"prompt {i % 50}" for i in range(100)]
    second = halves(prompts)
    assert second[:50].tolist() == second[50:].tolist()
    assert halves(["  PROMPT 3 ", *prompts])[1:].tolist() == second.tolist()
    assert halves(["  PROMPT 3 "])[0] == second[3]
    assert 10 < halves(prompts[:50]).sum() < 40


def test_the_table_holds_every_member_and_the_whole() -> None:
    targets = units(60, 8)
    ensemble = Ensemble({"good": Fixed(targets), "bad": Fixed(targets)}, [1, 1])
    embs = np.stack([noisy(targets, 0.1, 1), noisy(targets, 2, 2)]).astype(np.float32)
    fitted = fit_members(ensemble, embs, [f"p{i}" for i in range(60)], targets.astype(np.float32))
    assert list(fitted.scores) == ["good", "bad", EQUAL, HELD_OUT, FITTED]
    assert fitted.scores["bad"] == pytest.approx(cosines(embs[1], targets), abs=1e-6)
    assert fitted.weights[0] > 0.8
    lines = list(table(fitted))
    assert len(lines) == 6
    assert lines[0].split() == ["cosine", "95", "%", "interval", "weight"]
    good = lines[1].split()
    low, high = map(float, good[2].split("-"))
    assert good[0] == "good"
    assert low <= float(good[1]) <= high
    assert float(good[3]) == pytest.approx(fitted.weights[0], abs=1e-3)
    alone = fit_members(Ensemble({"good": Fixed(targets)}, [1]), embs[:1], [""] * 60, targets.astype(np.float32))
    assert (list(alone.scores), alone.weights.tolist()) == (["good"], [1.0])


def test_members_that_do_not_fit_together_are_named() -> None:
    rows = units(3, 8).astype(np.float32)
    images = [picture(i) for i in range(3)]
    good = Fixed(rows)
    with pytest.raises(ModelError, match=r"member 'small': .*5 numbers where the first member gives 8"):
        Ensemble({"good": good, "small": Fixed(rows[:, :5])}, [1, 1]).embed_many(images)
    with pytest.raises(ModelError, match=r"member 'broken': gives NaN"):
        Ensemble({"good": good, "broken": Fixed(rows * np.nan)}, [1, 1]).embed_many(images)
    both = Ensemble({"good": good, "same": Fixed(3 * rows)}, [1, 3])
    assert both.weights.tolist() == [0.25, 0.75]
    assert both.embed_many(images) == pytest.approx(rows, abs=1e-6)
    assert both.embed_many(images).dtype == np.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("members: [", "not YAML"),
        ("- bank: x", "needs members"),
        ("members: []", "one or more members"),
        ("members: 3", "one or more members"),
        ("members: [bank]", "member 1: it must be one of regressor, captioner, bank"),
        ("members: [{bank: a, captioner: b}]", "member 1: it must be one of"),
        ("members: [{bank: 3}]", "member 1: bank: a preset or a folder is needed, not 3"),
        ("members: [{bank: a, candidates: 3}]", "member 1: no option 'candidates' for a bank; choose from name"),
        ("members: [{captioner: a, candidates: 0}]", "member 1: candidates: a whole number from 1 to 64"),
        ("members: [{captioner: a, style: loud}]", "member 1: style: one of short"),
        ("members: [{bank: a, k: 2.5}]", "member 1: k: a whole number"),
        ("members: [{bank: a, temperature: .nan}]", "member 1: temperature: a number above 0"),
        ("members: [{regressor: a, views: flip}]", "member 1: views: a list of words"),
        ("members: [{bank: a}, {bank: b, weight: -1}]", "member 2: weight: a number from 0 on"),
        ("members: [{bank: a, weight: 0}]", "all weights are 0"),
        ("members: [{bank: a}, {bank: a}]", "two members are called 'bank a'"),
        ("member: []\nmembers: [{bank: a}]", "no setting 'member'"),
        ("sentence_model: 3\nmembers: [{bank: a}]", "sentence_model: a name"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_ensemble(tmp_path / "e.yaml")
    assert message in str(caught.value)
    assert str(tmp_path / "e.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        read_ensemble(tmp_path / "none.yaml")


def write(path: Path, *members: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"members": list(members)}))
    return path


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    for kind, message in {
        "regressor": r"member 'regressor gone': gone: .*regressor",
        "captioner": r"member 'captioner gone': gone: neither a preset nor a folder",
        "bank": r"member 'bank gone': gone: no manifest\.json",
    }.items():
        with pytest.raises(ConfigError, match=message):
            Ensemble.load(write(tmp_path / "e.yaml", {kind: "gone"}))


def test_folders_are_seen_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "bank").mkdir(parents=True)
    path = write(tmp_path / "models" / "e.yaml", {"bank": "bank"}, {"captioner": "storybook", "name": "words"})
    monkeypatch.chdir("/")
    spec = read_ensemble(path)
    assert [(m.kind, m.source, m.name) for m in spec.members] == [
        ("bank", str((tmp_path / "models" / "bank").resolve()), "bank bank"),
        ("captioner", "storybook", "words"),
    ]
    assert spec.weights.tolist() == [0.5, 0.5]


@pytest.fixture(scope="module")
def sentences() -> SentenceEncoder:
    try:
        return SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from img2prompt.models.regressor import RegressorConfig, new_regressor, save_regressor

    return save_regressor(new_regressor(RegressorConfig(random_spec())), tmp_path_factory.mktemp("r") / "regressor")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("c") / "captioner")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, regressor: Path) -> Path:
    from img2prompt.models.bank import Bank, Entries, Origin
    from img2prompt.models.features import load_features

    encoder = load_features(str(regressor))
    known = Entries(
        encoder.features_many([picture(i) for i in range(6)]),
        units(6, 384, seed=3),
        [f"prompt {i}" for i in range(6)],
        [str(i) for i in range(6)],
    )
    origin = Origin(encoder.name, encoder.fingerprint, "sentences", "s")
    return Bank.build(known, origin).save(tmp_path_factory.mktemp("b") / "bank")


def test_real_members_together(
    tmp_path: Path, sentences: SentenceEncoder, regressor: Path, captioner: Path, bank: Path
) -> None:
    path = write(
        tmp_path / "e.yaml",
        {"regressor": str(regressor), "weight": 2.0, "name": "r"},
        {"captioner": str(captioner), "candidates": 3, "name": "c"},
        {"bank": str(bank), "k": 1, "name": "b"},
    )
    images = [picture(i) for i in range(6)]
    ensemble = Ensemble.load(path, device="cpu", batch_size=4)
    parts = ensemble.embed_members(images)
    assert parts.shape == (3, 6, 384)
    assert parts[2] == pytest.approx(units(6, 384, seed=3), abs=1e-3), "the bank knows these very pictures"
    whole = ensemble.embed_many(images)
    mean = 0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2]
    assert whole == pytest.approx(mean / np.linalg.norm(mean, axis=1, keepdims=True), abs=1e-5)
    alone = np.concatenate([ensemble.embed_many([image]) for image in images])
    assert alone == pytest.approx(whole, abs=1e-3), "a picture's row does not depend on those beside it"


def test_views_only_where_they_are_asked_for(tmp_path: Path, regressor: Path) -> None:
    def embedded(**options: Any) -> NDArray[np.float32]:
        return Ensemble.load(write(tmp_path / "e.yaml", {"regressor": str(regressor), **options})).embed_many([image])

    image = picture(3)
    plain = embedded()
    assert embedded(views=["plain"]) == pytest.approx(plain, abs=1e-6)
    both = embedded(views=["plain", "flip"])
    assert np.abs(both - plain).max() > 1e-4
    with pytest.raises(ConfigError, match=r"member .*: views upside-down; choose from plain"):
        embedded(views=["upside-down"])


def test_a_bank_of_another_encoder_is_no_member(tmp_path: Path, bank: Path, captioner: Path) -> None:
    path = write(tmp_path / "e.yaml", {"bank": str(bank), "encoder": str(captioner), "name": "b"})
    with pytest.raises(ConfigError, match=r"member 'b': encoder .*captioner.*built with another one, .*regressor"):
        Ensemble.load(path)


def test_members_of_different_sentence_models_are_noticed(
    tmp_path: Path, bank: Path, regressor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from img2prompt.models.bank import Bank

    known = Bank.load(bank)
    known.manifest = {**known.manifest, "origin": asdict(replace(known.origin, sentence_fingerprint="t"))}
    known.save(tmp_path / "other")
    rows = {"bank": str(bank), "name": "one"}, {"bank": str(tmp_path / "other"), "name": "two"}
    with pytest.raises(ConfigError, match="members one, two hold embeddings of different sentence models"):
        Ensemble.load(write(tmp_path / "e.yaml", *rows))
    Ensemble.load(write(tmp_path / "e.yaml", rows[0], {"regressor": str(regressor)}))
    assert "member 'one' estimates embeddings of sentences, the ensemble sentence-transformers/all" in caplog.text
    assert caplog.text.count("estimates embeddings of") == 1


def test_idle_members_are_not_loaded(tmp_path: Path, regressor: Path) -> None:
    path = write(tmp_path / "e.yaml", {"regressor": str(regressor)}, {"bank": "gone", "weight": 0})
    assert list(Ensemble.load(path).members) == [f"regressor {regressor}"]
    with pytest.raises(ConfigError, match="member 'bank gone'"):
        Ensemble.load(path, idle_too=True)


def test_likelier_candidates_count_more(sentences: SentenceEncoder) -> None:
    from img2prompt.models.members import CaptionerMember

    class Two:
        def caption_many(self, images: Sequence[Image.Image], **_: Any) -> list[tuple[Candidate, ...]]:
            sure, unsure = np.log(0.8), np.log(0.2)
            return [
                (Candidate("a cat", 3 * sure, 3), Candidate("two dogs", 9 * unsure, 9)),
                (Candidate("a cat", 0, 1),),
            ]

    found = CaptionerMember(Two(), sentences).embed_many([picture(0), picture(1)])
    cat, dogs = sentences.encode_many(["a cat", "two dogs"])
    mean = 0.8 * cat + 0.2 * dogs
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert found[1] == pytest.approx(cat, abs=1e-5)

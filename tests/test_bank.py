"""Banks: what a search finds is what brute force finds, and damage never passes for a bank."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, DataError, ModelError, OutputError
from img2prompt.models import bank_index
from img2prompt.models.bank import Bank, Entries, Origin
from img2prompt.models.bank_files import EMBEDDINGS, INDEX, MANIFEST, PROMPTS
from img2prompt.models.bank_index import build_index, measure_recall, search

ORIGIN = Origin("encoder", "e" * 64, "sentences", "s" * 64)


def units(count: int, width: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def entries(count: int = 12, width: int = 6, seed: int = 0, dimensions: int = 5) -> Entries:
    return Entries(
        units(count, width, seed),
        units(count, dimensions, seed + 1),
        [f"prompt {i}" for i in range(count)],
        [f"id{i}" for i in range(count)],
    )


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    width=st.integers(2, 12),
    queries=st.integers(1, 25),
    k=st.integers(1, 70),
    kind=st.sampled_from(["flat", "ivf"]),
    temperature=st.floats(0.01, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_neighbours_and_regression_are_those_of_brute_force(
    count: int, width: int, queries: int, k: int, kind: str, temperature: float, seed: int
) -> None:
    known, asked = entries(count, width, seed), units(queries, width, seed + 2)
    bank = Bank.build(known, ORIGIN, index=kind)
    cosines = asked.astype(np.float64) @ known.features.T  # (Q,N)
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    for row, found in enumerate(bank.neighbours(asked, k)):
        assert [n.cosine for n in found] == pytest.approx(list(cosines[row, best[row]]), abs=1e-5)
        assert len({n.id for n in found}) == min(k, count)
        for n in found:
            i = int(n.id.removeprefix("id"))
            assert n.prompt == f"prompt {i}"
            assert n.cosine == pytest.approx(cosines[row, i], abs=1e-5)
    chosen = np.take_along_axis(cosines, best, 1)
    weights = np.exp((chosen - chosen.max(axis=1, keepdims=True)) / temperature)
    mean = np.einsum("qk,qkd->qd", weights, known.emb[best].astype(np.float64))
    wanted = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    regressed = bank.regress(asked, k, temperature)
    assert regressed.dtype == np.float32
    assert np.linalg.norm(regressed, axis=1) == pytest.approx(1, abs=1e-5)
    # Half precision of the bank's embeddings is what differs; where the mean nearly vanishes, it matters more.
    size = np.linalg.norm(mean, axis=1) / weights.sum(axis=1)
    assert (np.abs(regressed - wanted).max(axis=1) < 4e-3 / size).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 40), k=st.integers(1, 50), temperature=st.floats(0.01, 10), seed=st.integers(0, 10**6))
def test_a_bank_of_one_prompt_gives_its_embedding(count: int, k: int, temperature: float, seed: int) -> None:
    emb = np.repeat(units(1, 8, seed), count, axis=0)
    known = Entries(units(count, 4, seed + 1), emb, ["a cat"] * count, [str(i) for i in range(count)])
    bank = Bank.build(known, ORIGIN)
    regressed = bank.regress(units(7, 4, seed + 2), k, temperature)
    assert regressed == pytest.approx(np.repeat(emb[:1], 7, axis=0), abs=1e-3)
    assert {n.prompt for row in bank.neighbours(units(3, 4, seed), k) for n in row} == {"a cat"}


def test_opposite_prompts_that_cancel_leave_the_nearest() -> None:
    emb = np.array([[1, 0], [-1, 0]], np.float32)
    bank = Bank.build(Entries(np.array([[1, 0], [0, 1]], np.float32), emb, ["a", "b"], ["0", "1"]), ORIGIN)
    between = np.array([[2**-0.5, 2**-0.5]], np.float32)
    assert bank.regress(between, k=2).tolist() == [[1, 0]]


def test_inverted_lists_find_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = units(40, 16, 0)
    rng = np.random.default_rng(1)
    rows = centres[rng.integers(0, 40, 4000)] + rng.normal(scale=0.1, size=(4000, 16))
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    index, facts = build_index(features, "ivf")
    assert facts["kind"] == "ivf"
    assert 1 < facts["lists"] <= 4000 // 39
    assert 1 <= facts["probes"] < facts["lists"], "the data has clusters: not every list needs to be read"
    assert facts["recall_at_10"] >= 0.99
    held_out = features[rng.choice(4000, 200, replace=False)] + rng.normal(scale=0.01, size=(200, 16)).astype(
        np.float32
    )
    _, found = search(index, held_out, 10)
    exact = np.argsort(-(held_out @ features.T), axis=1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert recall >= 0.97
    index.nprobe = 1
    poor = measure_recall(index, features, np.arange(200))
    assert poor < 0.99, "recall is measured, not assumed"
    monkeypatch.setattr(bank_index, "LARGE", 4000)
    assert build_index(features)[1]["kind"] == "ivf"
    assert build_index(features[:-1])[1]["kind"] == "flat"


def test_recall_leaves_the_asked_row_itself_out() -> None:
    rows = units(50, 8, 0)
    quantizer = faiss.IndexFlatIP(8)
    index = faiss.IndexIVFFlat(quantizer, 8, 50, faiss.METRIC_INNER_PRODUCT)
    quantizer.add(rows)  # every row is a list of its own, and one probe finds nothing else
    index.is_trained = True
    index.add(rows)
    assert measure_recall(index, rows, np.arange(50)) == 0
    assert search(index, rows[:3], 50)[1].min() == 0, "lists that hold too little are no reason to give less"
    index.nprobe = 50
    assert measure_recall(index, rows, np.arange(50)) == 1


def test_the_regression_is_tuned_to_the_bank() -> None:
    centres, of_centre = units(50, 16, 1), units(50, 8, 2)
    which = np.arange(1000) % 50
    rng = np.random.default_rng(3)

    def near(rows: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
        moved = rows + scale * rng.normal(size=rows.shape)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)

    # All pictures look much alike (cosines from 0.9 on), those of a kind a little more; 20 are of each kind.
    axis = np.zeros(16, np.float32)
    axis[0] = 4
    features = near(centres[which] + axis, 0.05)
    texts = [str(i) for i in range(1000)]
    bank = Bank.build(Entries(features, near(of_centre[which], 0.3), texts, texts), ORIGIN)
    tuned = bank.manifest["regression"]
    assert tuned["k"] >= 10
    asked, truth = near(centres + axis, 0.05), of_centre

    def score(**settings: float) -> float:
        return float((bank.regress(asked, **settings) * truth).sum(axis=1).mean())  # type: ignore[arg-type]

    assert score() > score(k=50, temperature=0.2) + 0.02
    assert score() > score(k=1) + 0.02
    one_of_each = Bank.build(Entries(features[:50], near(of_centre, 0.0), texts[:50], texts[:50]), ORIGIN)
    assert one_of_each.manifest["regression"] == {"k": 20, "temperature": 0.05}, "too few to tell"


def test_a_row_foretells_others_and_not_itself() -> None:
    bank = Bank.build(entries(400, 6, 0), ORIGIN)  # nothing to foretell
    assert abs(bank.manifest["regression"]["leave_one_out_cosine"]) < 0.2


def test_a_bank_stays_what_it_was_on_the_disk(tmp_path: Path) -> None:
    for kind in ("flat", "ivf"):
        known, asked = entries(200), units(9, 6, 7)
        made = Bank.build(known, ORIGIN, index=kind, facts={"skipped": {"NotAnImage": 3}})
        made.save(tmp_path / kind)
        bank = Bank.load(tmp_path / kind)
        assert bank.neighbours(asked, 6) == made.neighbours(asked, 6)
        assert bank.regress(asked).tolist() == made.regress(asked).tolist()
        assert (len(bank), bank.dimensions, bank.origin, bank.ids) == (200, 5, ORIGIN, set(known.ids))
        assert bank.manifest["skipped"] == {"NotAnImage": 3}
        assert bank.manifest["index"] == made.manifest["index"]
        assert bank.fingerprint == made.fingerprint
        assert sorted(p.name for p in (tmp_path / kind).iterdir()) == sorted([MANIFEST, INDEX, EMBEDDINGS, PROMPTS])


def test_another_encoder_is_refused_by_name() -> None:
    bank = Bank.build(entries(), ORIGIN)
    bank.check_encoder("moved", "e" * 64)
    with pytest.raises(ModelError, match=r"encoder other .*built with another one, encoder"):
        bank.check_encoder("other", "f" * 64)
    with pytest.raises(ConfigError, match="width 6"):
        bank.neighbours(units(1, 7, 0))
    with pytest.raises(ConfigError, match="at least 1"):
        bank.regress(units(1, 6, 0), k=0)
    with pytest.raises(ConfigError, match="temperature"):
        bank.regress(units(1, 6, 0), temperature=0)
    with pytest.raises(DataError, match="NaN"):
        bank.regress(np.full((1, 6), np.nan, np.float32))


def test_nothing_to_search_for_finds_nothing() -> None:
    bank = Bank.build(entries(), ORIGIN)
    assert bank.neighbours(np.zeros((0, 6), np.float32)) == []
    assert bank.regress(np.zeros((0, 6), np.float32)).shape == (0, 5)


def test_rows_that_are_no_numbers_make_no_bank() -> None:
    known = entries()
    known.features[3, 2] = np.nan
    with pytest.raises(DataError, match=r"features: NaN .* 1 of 12 rows, the first is 3"):
        Bank.build(known, ORIGIN)
    with pytest.raises(DataError, match="empty"):
        Bank.build(entries(0), ORIGIN)
    with pytest.raises(ValueError, match="do not match"):
        Bank.build(Entries(units(3, 2, 0), units(2, 2, 0), ["a"] * 3, ["b"] * 3), ORIGIN)
    with pytest.raises(ValueError, match="unit length"):
        Bank.build(Entries(3 * units(3, 2, 0), units(3, 2, 0), ["a"] * 3, ["b"] * 3), ORIGIN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Bank.build(entries(), ORIGIN).save(tmp_path / "bank")


@pytest.mark.parametrize("name", [INDEX, EMBEDDINGS, PROMPTS])
def test_half_missing_and_changed_files_are_said(folder: Path, name: str) -> None:
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=rf"{name}: \d+ bytes where {len(data)}"):
        Bank.load(folder)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{name}: damaged"):
        Bank.load(folder)
    path.unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        Bank.load(folder)


@pytest.mark.parametrize("name", [INDEX, EMBEDDINGS, PROMPTS])
def test_garbage_behind_a_true_manifest_is_an_error_of_ours(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x" * (folder / name).stat().st_size)
    with pytest.raises(DataError):
        Bank.load(folder, verify=False)


def test_nan_in_stored_embeddings_is_found(folder: Path) -> None:
    emb = np.load(folder / EMBEDDINGS)
    emb[5, 1] = np.nan
    np.save(folder / EMBEDDINGS, emb)
    with pytest.raises(DataError, match=r"embeddings\.npy.*NaN .* first is 5"):
        Bank.load(folder, verify=False)


def test_files_of_another_bank_do_not_belong(folder: Path, tmp_path: Path) -> None:
    other = Bank.build(entries(13), ORIGIN).save(tmp_path / "other")
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in (INDEX, EMBEDDINGS, PROMPTS):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes((other / name).read_bytes())
        manifest["files"][name]["bytes"] = (other / name).stat().st_size
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(DataError, match="do not belong together"):
            Bank.load(folder, verify=False)
        (folder / name).write_bytes(kept)
        manifest["files"][name]["bytes"] = len(kept)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no bank of prompts"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": "img2prompt-shards-1"}', "not the manifest of a bank"),
        ('{"format": "img2prompt-bank-1"}', "damaged"),
    ],
)
def test_what_is_no_bank_is_called_so(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(DataError, match=message):
        Bank.load(tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        Bank.build(entries(), ORIGIN).save(tmp_path / "file")

"""Optimiser, averages, grounding targets, texts and pictures of the training."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import MODEL, write_data

from img2prompt.errors import DataError
from img2prompt.models.coca import new_coca
from img2prompt.models.tokenizer import own_tokenizer, train_tokenizer
from img2prompt.pairs.shards import ShardPlan, write_shards
from img2prompt.training import optim
from img2prompt.training.data import CaptionPairs, Decoding, Source
from img2prompt.training.decoding import DecodingLoader
from img2prompt.training.forward import Seen
from img2prompt.training.grounding import Grounding, Heads
from img2prompt.training.grounding_targets import KIND_INDEX, targets_of
from img2prompt.training.muon import MuonAdamW, orthogonalised
from img2prompt.training.pair_set import PairSet
from img2prompt.training.pixels import decode_once
from img2prompt.training.plan import Manner
from img2prompt.training.texts import tokenise
from img2prompt.training.windows import windows_around


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("pairs") / "data", 24)


# --- optimiser ---------------------------------------------------------------------------------------------------


def test_only_matrices_decay() -> None:
    model = new_coca(MODEL, 0)
    groups = optim.parameter_groups(optim.Optimiser(weight_decay=0.3), model)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    named = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert named["visual.transformer.resblocks.0.mlp.c_fc.weight"] == 0.3
    assert named["visual.conv1.weight"] == 0.3
    free = [
        n for n in named if "ln_" in n or n.endswith("bias") or "embedding" in n or n.endswith(("query", "cls_emb"))
    ]
    assert len(free) > 20 and all(named[name] == 0 for name in free)


def test_layers_learn_slower_the_deeper_they_lie() -> None:
    cfg = {**MODEL, "vision_cfg": {**MODEL["vision_cfg"], "layers": 3}}
    model = new_coca(cfg, 0)
    groups = optim.parameter_groups(optim.Optimiser(lr=1.0, layer_decay=0.5), model)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert [named[f"visual.transformer.resblocks.{i}.ln_1.weight"] for i in range(3)] == [0.125, 0.25, 0.5]
    assert named["visual.conv1.weight"] == named["visual.positional_embedding"] == 0.0625
    assert named["visual.attn_pool.query"] == named["text_decoder.text_projection"] == 1.0
    assert named["text.token_embedding.weight"] == 0.25  # below the one text block


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["cosine", "linear", "wsd"]), st.integers(1, 50), st.integers(51, 500))
def test_schedules_rise_then_fall_to_zero(schedule: str, warmup: int, steps: int) -> None:
    chosen = optim.Optimiser(warmup_steps=warmup, schedule=schedule)  # type: ignore[arg-type]
    factors = [optim.factor(chosen, step, steps) for step in range(steps + 1)]
    assert factors[warmup - 1] == 1.0 and 0 < factors[0] <= 1
    assert all(0 <= f <= 1 for f in factors)
    assert all(a <= b for a, b in itertools.pairwise(factors[:warmup]))
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(factors[warmup:]))
    assert factors[-1] == pytest.approx(0, abs=1e-9)


def test_average_follows_and_swaps() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    average = optim.Average([p], 0.5)
    with torch.no_grad():
        p.fill_(1.0)
    for _ in range(200):
        average.update()
    torch.testing.assert_close(average.values[0], torch.ones(3))
    with torch.no_grad():
        p.fill_(5.0)
    average.swap()
    torch.testing.assert_close(p.detach(), torch.ones(3))
    average.swap()
    torch.testing.assert_close(p.detach(), torch.full((3,), 5.0))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 9))
def test_muon_orthogonalises(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    found = torch.linalg.svdvals(orthogonalised(matrix, steps=10))
    assert found.min() > 0.5 and found.max() < 1.5


def test_muon_and_adamw_each_move_their_own() -> None:
    torch.manual_seed(0)
    matrix, vector = torch.nn.Parameter(torch.randn(4, 4)), torch.nn.Parameter(torch.randn(4))
    twin = vector.detach().clone().requires_grad_()
    optimizer = MuonAdamW([{"params": [matrix], "muon": True, "lr": 0.1}, {"params": [vector]}], lr=0.1, weight_decay=0)
    adam = torch.optim.AdamW([twin], lr=0.1, weight_decay=0)
    before = matrix.detach().clone()
    for parameters, o in (((matrix, vector), optimizer), ((twin,), adam)):
        sum((p**2).sum() for p in parameters).backward()
        o.step()
    torch.testing.assert_close(vector.detach(), twin.detach())
    step = (before - matrix.detach()) / 0.1
    assert torch.linalg.svdvals(step).max() < 1.5 and torch.linalg.svdvals(step).min() > 0.3


# --- grounding ---------------------------------------------------------------------------------------------------


def scene(boxes: list[dict[str, object]]) -> str:
    groups = [
        {"kind": "cat", "count": 2, "colour": None, "size": None},
        {"kind": "car", "count": 1, "colour": "red", "size": None},
    ]
    facts = {"setting": "beach", "style": "comic book", "time": "night", "weather": "fog"}
    return json.dumps({"groups": groups, "relations": [], "seed": 0, **facts, "boxes": boxes})


def box(kind: str, group: int, x0: float, y0: float, x1: float, y1: float) -> dict[str, object]:
    return {"kind": kind, "group": group, "x0": x0, "y0": y0, "x1": x1, "y1": y1}


def test_targets_say_what_covers_each_patch() -> None:
    boxes = [box("cat", 0, 0, 0, 0.5, 0.5), box("car", 1, 0.25, 0.25, 0.75, 0.5), box("cat", 0, 0.9, 0.9, 0.95, 0.95)]
    found = targets_of([scene(boxes)], grid=4)
    cat, car = 1 + KIND_INDEX["cat"], 1 + KIND_INDEX["car"]
    assert found.kinds[0].reshape(4, 4).tolist() == [
        [cat, cat, 0, 0],
        [cat, car, car, 0],  # the car was drawn later, so it is in front
        [0, 0, 0, 0],
        [0, 0, 0, cat],  # smaller than a patch, and seen all the same
    ]
    assert found.colours[0].reshape(4, 4).tolist()[1] == [0, 1, 1, 0]
    assert found.centres[0].sum() == 3 and found.centres[0].reshape(4, 4)[1, 1] == 1
    assert found.facts[0].tolist() == [0, 8, 2, 3]
    assert found.counts[0, KIND_INDEX["cat"]] == 2 and found.counts[0].sum() == 3


def test_heads_learn_their_targets() -> None:
    torch.manual_seed(0)
    boxes = [box("cat", 0, 0, 0, 0.5, 0.5), box("car", 1, 0.5, 0.5, 1, 1)]
    targets = targets_of([scene(boxes)], grid=4).each(lambda part: torch.from_numpy(part).long())
    heads, weights = Heads(16, 8), Grounding(1, 1, 1, 1, 1)
    seen = Seen(torch.randn(1, 16, 16), torch.randn(1, 5, 8))
    optimizer = torch.optim.Adam(heads.parameters(), 0.05)
    first = {}
    for _ in range(150):
        losses = heads.losses(seen, targets, weights)
        first = first or {name: value.item() for name, value in losses.items()}
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert set(losses) == {"kinds", "colours", "centres", "facts", "counts"}
    assert all(value.item() < 0.1 * first[name] for name, value in losses.items())


def test_only_asked_losses_are_computed_and_weights_fade() -> None:
    targets = targets_of([scene([])], grid=4).each(lambda part: torch.from_numpy(part).long())
    seen = Seen(torch.randn(1, 16, 16), torch.randn(1, 5, 8))
    assert set(Heads(16, 8).losses(seen, targets, Grounding(kinds=1.0))) == {"kinds"}
    fading = Grounding(kinds=1.0, constant_until=0.5)
    assert [fading.scale(share) for share in (0, 0.5, 0.75, 1.0)] == [1, 1, 0.5, 0]
    assert fading.on and not Grounding().on


def test_windows_hold_an_objects_centre() -> None:
    centres = torch.zeros(50, 64)
    centres[torch.arange(50), torch.arange(50)] = 1
    kept = windows_around(centres, 3, seed=1)
    assert kept.shape == (50, 9) and all(i in row for i, row in enumerate(kept.tolist()))
    assert torch.equal(kept, windows_around(centres, 3, seed=1))
    assert not torch.equal(kept, windows_around(centres, 3, seed=2))


# --- texts and pictures ------------------------------------------------------------------------------------------


def test_tokens_are_start_prefix_text_end() -> None:
    own = own_tokenizer(train_tokenizer(["short: a red cat on a beach"] * 3, 300))
    texts = tokenise({"a": ["a red cat", "on a beach a red cat", None]}, {"m": Manner("a", "short:")}, own, 40)["m"]
    prefix = own.encode("short:")
    rows = texts.rows(np.array([1, 0]), own.pad_id)
    assert rows[1].tolist()[: texts.lengths[0]] == [own.sot_id, *prefix, *own.encode("a red cat"), own.eot_id]
    assert rows.shape[1] == texts.lengths[1] and texts.prefix_length == 1 + len(prefix)
    assert set(rows[1].tolist()[texts.lengths[0] :]) <= {own.pad_id}
    assert texts.lengths[2] == 0
    cut = tokenise({"a": ["on a beach a red cat"]}, {"m": Manner("a", "short:")}, own, 1 + len(prefix) + 3)["m"]
    assert cut.lengths[0] == len(prefix) + 4 and cut.ids[-1] == own.eot_id
    with pytest.raises(DataError, match="no column 'b'"):
        tokenise({"a": []}, {"m": Manner("b")}, own, 40)


def test_pictures_are_decoded_once(data: Path, tmp_path: Path) -> None:
    shards = PairSet.read(data).shards
    first = decode_once(shards, 32, 2, tmp_path)
    assert first.images.shape == (24, 32, 32, 3) and first.good.all() and first.images.std() > 10
    stamp = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*.npy"))]
    again = decode_once(shards, 32, 2, tmp_path)
    assert stamp == [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*.npy"))]
    np.testing.assert_array_equal(first.images, again.images)
    assert not list(tmp_path.glob(".*")), "nothing half-made stays"
    assert decode_once(shards, 16, 2, tmp_path).images.shape == (24, 16, 16, 3)


def broken_rows(rows: range) -> list[dict[str, object]]:
    import io

    from tiny_model import picture

    made = []
    for i in rows:
        buffer = io.BytesIO()
        picture(i).save(buffer, "PNG")
        made.append(
            {"id": str(i), "image": b"no picture" if i in (3, 9) else buffer.getvalue(), "prompt": f"number {i}"}
        )
    return made


@pytest.mark.parametrize("cache", [True, False])
def test_corrupt_pictures_are_skipped_and_counted(tmp_path: Path, cache: bool) -> None:
    write_shards(tmp_path / "data", ShardPlan(20, ("id", "image", "prompt"), rows_per_shard=8), broken_rows)
    pairs = CaptionPairs(
        Source(tmp_path / "data", held_out=2), 6, decoding=Decoding(cache, tmp_path / "cache", workers=0)
    )
    own = own_tokenizer(pairs.new_tokenizer(300))
    pairs.prepare(own, 20, 32, 2)
    train = pairs._sets["train"]
    if cache:
        assert pairs.skipped == 2 and {3, 9}.isdisjoint(train.usable())
        return
    plan = pairs.plan(10)
    loader = DecodingLoader(train, pairs._cut(train), lambda: plan.since(0), workers=0)
    seen = [row for batch, _ in zip(loader, range(plan.batches_per_epoch), strict=False) for row in batch.rows]
    assert len(seen) == 16 and {3, 9}.isdisjoint(seen) and loader.skipped == 2
    batch = next(iter(loader))
    assert batch.images.shape[1:] == (3, 32, 32) and len(batch.rows) == len(batch.tokens) == len(batch.images)


def test_workers_and_cache_give_the_same_batches(data: Path, tmp_path: Path) -> None:
    found = []
    for cache in (True, False):
        pairs = CaptionPairs(Source(data, held_out=4), 5, decoding=Decoding(cache, tmp_path, workers=0))
        pairs.prepare(own_tokenizer(pairs.new_tokenizer(300)), 48, 32, 2)
        train, plan = pairs._sets["train"], pairs.plan(10)
        if cache:
            found.append([pairs._cut(train)(plan[i]) for i in range(4)])
        else:
            loader = DecodingLoader(train, pairs._cut(train), lambda plan=plan: plan.since(0), workers=0)
            found.append([batch for batch, _ in zip(loader, range(4), strict=False)])
    for a, b in zip(*found, strict=True):
        assert a.rows == b.rows and torch.equal(a.images, b.images) and torch.equal(a.tokens, b.tokens)
        assert max(a.rows) < 20, "the last rows are kept for validation"

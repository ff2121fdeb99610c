"""The training forward gives open_clip's losses and gradients, and leaves out what the loss does not use."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from open_clip.loss import CoCaLoss
from tiny_training import MODEL
from torch import Tensor
from torch.nn import functional as F

from img2prompt.models.coca import freeze, new_coca
from img2prompt.training.contrast import see_and_contrast
from img2prompt.training.forward import decode, see


def config(**changes: Any) -> dict[str, Any]:
    cfg = deepcopy(MODEL)
    for key, value in changes.items():
        part, name = key.split("__")
        cfg[part][name] = value
    return cfg


VARIANTS = {
    "pooled": {},
    "parallel": {"vision_cfg__attentional_pool": "parallel"},
    "cascade": {"vision_cfg__attentional_pool": "cascade"},
    "average": {"vision_cfg__pool_type": "avg"},
    "deeper": {"vision_cfg__layers": 3, "text_cfg__layers": 2, "multimodal_cfg__layers": 2},
    "scaled": {"vision_cfg__ls_init_value": 0.1, "text_cfg__ls_init_value": 0.1},
    "custom blocks": {"vision_cfg__qk_norm": True},
    "patches": {"vision_cfg__attentional_pool": False},
    "patches, late norm": {"vision_cfg__attentional_pool": False, "vision_cfg__final_ln_after_pool": True},
}


def inputs(rows: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(rows, 3, 32, 32, generator=rng)
    tokens = torch.randint(3, 400, (rows, 12), generator=rng)
    tokens[0, 7:] = 0
    tokens[1, 10:] = 0
    return images, tokens


def our_loss(model: Any, images: Tensor, tokens: Tensor) -> Tensor:
    labels = tokens[:, 1:]
    wanted = labels != 0
    return F.cross_entropy(decode(model, see(model.visual, images).tokens, tokens[:, :-1], wanted), labels[wanted])


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum()}


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_and_gradients_are_open_clips(name: str) -> None:
    model = new_coca(config(**VARIANTS[name]), seed=3)
    images, tokens = inputs()
    ours = our_loss(model, images, tokens)
    ours.backward()
    mine = gradients(model)
    model.zero_grad()
    theirs = sum(CoCaLoss(1.0, 0.0)(**model(images, tokens), output_dict=True).values())
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    reference = gradients(model)
    assert set(mine) == set(reference) and len(mine) > 20
    for key, value in reference.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-3, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_the_contrastive_side_is_not_computed() -> None:
    model = new_coca(config(), seed=3)
    with torch.no_grad():
        for part in (
            model.text.cls_emb,
            model.text.text_projection,
            model.visual.proj,
            model.visual.attn_pool.query[0],
        ):
            part.fill_(float("nan"))  # whatever touches them becomes NaN
        model.text.ln_final.weight.fill_(float("nan"))
        model.logit_scale.fill_(float("nan"))
    images, tokens = inputs()
    loss = our_loss(model, images, tokens)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    untouched = (model.text.cls_emb, model.text.text_projection, model.visual.proj, model.text.ln_final.weight)
    assert all(p.grad is None for p in untouched)
    assert not torch.isfinite(model(images, tokens)["text_features"]).any(), "open_clip's own forward does touch them"


def test_checkpointing_changes_no_gradient() -> None:
    images, tokens = inputs()
    found = []
    for checkpointing in (False, True):
        model = new_coca(config(vision_cfg__layers=2), seed=3)
        model.set_grad_checkpointing(checkpointing)
        our_loss(model, images, tokens).backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value)


def test_contrastive_loss_is_open_clips() -> None:
    model = new_coca(config(), seed=3)
    images, tokens = inputs()
    seen, contrastive = see_and_contrast(model, images, tokens)
    torch.testing.assert_close(
        contrastive, CoCaLoss(0.0, 1.0)(**model(images, tokens), output_dict=True)["contrastive_loss"]
    )
    alone = see(model.visual, images)
    torch.testing.assert_close(seen.tokens, alone.tokens)
    torch.testing.assert_close(seen.patches, alone.patches)


def test_frozen_parts_do_not_move() -> None:
    model = new_coca(config(), seed=3)
    assert freeze(model, ["image.stem", "text"]) > 0
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    our_loss(model, *inputs()).backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith(("text.", "visual.conv1", "visual.positional")) for name in moved)
    assert any(name.startswith("text_decoder.") for name in moved)
    assert any(name.startswith("visual.transformer") for name in moved)

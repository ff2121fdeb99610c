"""Windows onto pictures, and a tower without pooler."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from img2prompt.errors import ModelError
from img2prompt.models.coca import new_coca
from img2prompt.training.forward import decode, see
from img2prompt.training.grounding import Grounding, Heads
from img2prompt.training.grounding_targets import COLOUR_INDEX, FACTS, KIND_INDEX, Targets
from img2prompt.training.windows import windows_around

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 64,
        "patch_size": 8,
        "width": 32,
        "layers": 2,
        "head_width": 16,
        "attentional_pool": False,
        "output_tokens": True,
    },
    "text_cfg": {
        "context_length": 20,
        "vocab_size": 50,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "embed_cls": True,
        "output_tokens": True,
    },
    "multimodal_cfg": {"context_length": 20, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2},
}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.data())
def test_a_window_is_a_square_around_an_object(grid: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, grid))
    seed = data.draw(st.integers(0, 2**40))
    centres = torch.zeros(5, grid * grid)
    for row in range(5):
        centres[row, data.draw(st.integers(0, grid * grid - 1))] = 1
    keep = windows_around(centres, size, seed)
    assert keep.shape == (5, size * size)
    assert torch.equal(keep, windows_around(centres, size, seed))
    for row in range(5):
        y, x = keep[row] // grid, keep[row] % grid
        assert len(set(keep[row].tolist())) == size * size
        assert y.max() - y.min() == x.max() - x.min() == size - 1
        assert centres[row, keep[row]].sum() == 1


def test_a_picture_without_objects_gets_a_window() -> None:
    assert windows_around(torch.zeros(3, 16), 2, 0).shape == (3, 4)


def test_a_window_of_everything_sees_the_same() -> None:
    visual = new_coca(CONFIG, seed=1).visual.eval()
    images = torch.randn(2, 3, 64, 64)
    whole, through = see(visual, images), see(visual, images, torch.arange(64).expand(2, -1))
    torch.testing.assert_close(whole.patches, through.patches)
    torch.testing.assert_close(whole.tokens, through.tokens)


def test_grounding_through_a_window_learns_from_its_patches_only() -> None:
    torch.manual_seed(0)
    heads = Heads(32, 32)
    visual = new_coca(CONFIG, seed=1).visual.eval()
    facts = torch.stack([torch.zeros(2, dtype=torch.long) for _ in FACTS], dim=1)
    counts = torch.zeros(2, len(KIND_INDEX), dtype=torch.long)

    def losses(kinds: torch.Tensor) -> dict[str, torch.Tensor]:
        targets = Targets(kinds, kinds % (len(COLOUR_INDEX) + 1), (kinds > 0).long(), facts, counts)
        weights = Grounding(kinds=1, colours=1, centres=1, facts=1, counts=1)
        keep = torch.arange(9).expand(2, -1)
        return heads.losses(see(visual, images, keep), targets, weights, keep)

    images = torch.randn(2, 3, 64, 64)
    kinds = torch.randint(0, 60, (2, 64))
    first = losses(kinds)
    assert "counts" not in first
    outside, inside = kinds.clone(), kinds.clone()
    outside[:, 9:] = 0
    inside[:, :9] = 0
    torch.testing.assert_close(losses(outside), first)
    assert not torch.allclose(losses(inside)["kinds"], first["kinds"])


def test_without_pooler_our_forward_is_open_clips() -> None:
    model = new_coca(CONFIG, seed=1).eval()
    images, texts = torch.randn(2, 3, 64, 64), torch.randint(1, 49, (2, 12))
    with torch.no_grad():
        theirs = model(images, texts)["logits"]  # (2,11,V)
        seen = see(model.visual, images)
        ours = decode(model, seen.tokens, texts[:, :-1], torch.ones(2, 11, dtype=torch.bool))
    torch.testing.assert_close(ours.view_as(theirs), theirs, rtol=1e-4, atol=1e-5)


def test_without_pooler_the_widths_must_fit() -> None:
    narrow = {**CONFIG, "multimodal_cfg": {**CONFIG["multimodal_cfg"], "width": 48, "heads": 3}}
    with pytest.raises(ModelError, match=r"multimodal_cfg\.width 48"):
        new_coca(narrow, seed=1)

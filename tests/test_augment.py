"""Augmentation: mild, exact after a resume, and off where it should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from img2prompt.training.augment import Augment, augment

OFF = Augment(crop=1, stretch=0, erase=0, colour=0)


def smooth(count: int = 8, px: int = 32, seed: int = 0) -> Tensor:
    """Pictures without edges, in the memory layout that the data module gives: (B,3,px,px) uint8."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.integers(40, 215, (count, 3, 3, 3))).float()
    large = torch.nn.functional.interpolate(small, size=(px, px), mode="bilinear")
    return large.round().to(torch.uint8).to(memory_format=torch.channels_last)


def test_nothing_is_changed_when_all_is_off() -> None:
    images = smooth()
    assert not OFF.on
    assert augment(images, OFF, (1, 2)) is images


@settings(max_examples=25, deadline=None)
@given(
    st.floats(0.5, 1), st.floats(0, 0.3), st.floats(0, 1), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 2**40)
)
def test_same_seed_same_pictures_and_another_seed_others(
    crop: float, stretch: float, erase: float, area: float, colour: float, seed: int
) -> None:
    wanted = Augment(crop, stretch, erase, area, colour)
    images = smooth(3, 16)
    kept = images.clone()
    first, again = augment(images, wanted, (seed, 7)), augment(images, wanted, (seed, 7))
    assert first.dtype == torch.uint8 and first.shape == images.shape
    assert torch.equal(first, again)
    assert torch.equal(images, kept), "the batch itself must stay as it is"


def test_batches_draw_differently() -> None:
    images = smooth()
    assert not torch.equal(augment(images, Augment(), (1, 2)), augment(images, Augment(), (1, 3)))


def test_default_is_mild_and_never_mirrors() -> None:
    assert Augment().flip == 0
    ramp = torch.arange(64, dtype=torch.float32).mul(4).to(torch.uint8).expand(16, 3, 64, 64).contiguous()
    out = augment(ramp, Augment(erase=0), (0,)).float()
    assert (out[..., 40:].mean((1, 2, 3)) > out[..., :24].mean((1, 2, 3))).all(), "left stays left"
    changed = (augment(smooth(64), Augment(), (0,)).float() - smooth(64).float()).abs().mean()
    assert 1 < changed < 25


def test_flip_mirrors_all_when_asked() -> None:
    images = smooth()
    out = augment(images, Augment(crop=1, stretch=0, erase=0, colour=0, flip=1.0), (0,))
    assert (out.int() - images.flip(3).int()).abs().max() <= 1


def test_crop_shows_a_part_of_the_picture() -> None:
    """Each pixel of a picture that holds its own coordinates tells where it came from."""
    px = 64
    across = (torch.arange(px) * 4).to(torch.uint8)
    images = torch.stack([across.expand(px, px), across[:, None].expand(px, px), torch.zeros(px, px).byte()])[None]
    out = augment(images.expand(200, 3, px, px), Augment(crop=0.5, stretch=0, erase=0, colour=0), (3,)).float()
    widths = (out[:, 0, 32, -2] - out[:, 0, 32, 1]) / 4 / (px - 3)
    assert widths.min() >= 0.5**0.5 - 0.03
    assert widths.max() <= 1.01
    assert widths.max() - widths.min() > 0.15, "different pictures get different crops"
    lefts = out[:, 0, 32, 0]
    assert lefts.max() > 40 and lefts.min() < 8, "crops lie in different places"


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_share_of_erased_pictures_and_their_area(share: float) -> None:
    px = 32
    images = torch.zeros(400, 3, px, px, dtype=torch.uint8)
    images[:, :, ::2] = 200  # rows of 0 and 200: their mean, 100, stands nowhere but in erased places
    out = augment(images, Augment(crop=1, stretch=0, erase=share, erase_area=0.25, colour=0), (5,))
    areas = (out == 100).all(1).float().mean((1, 2))  # (B,)
    assert (areas > 0).float().mean().item() == pytest.approx(share, abs=0.07)
    assert areas.max() <= 0.25 * 1.15
    kept = out != 100
    assert torch.equal(out[kept], images[kept])


def test_colour_moves_brightness_within_its_limit() -> None:
    images = torch.full((300, 3, 8, 8), 100, dtype=torch.uint8)
    out = augment(images, Augment(crop=1, stretch=0, erase=0, colour=0.2), (1,)).float()
    assert out.min() >= 79 and out.max() <= 121
    assert out.std() > 5


def test_bright_pictures_do_not_wrap_around() -> None:
    images = torch.full((50, 3, 8, 8), 250, dtype=torch.uint8)
    assert augment(images, Augment(crop=1, stretch=0, erase=0, colour=0.3), (1,)).min() > 150


def test_an_empty_batch() -> None:
    assert augment(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), Augment(), (0,)).shape == (0, 3, 8, 8)

"""Windows onto pictures: squares of patches around an object, for the time before captions are trained.

In a picture of 64 patches some 15 show objects; the others are background, of which a tower soon knows enough. What
covers a patch can be told from its neighbourhood, so while only grounding trains, the tower sees a square of patches
around an object: two and a half times as many pictures in the same time, with objects on most of their patches.
"""

from __future__ import annotations

import torch
from torch import Tensor


def windows_around(centres: Tensor, size: int, seed: int) -> Tensor:
    """A square of patches for every picture, holding the centre of one of its objects at a random place.

    Args:
        centres: (B,P) 1 where a patch holds the centre of an object; row-major, P a square number.
        size: patches a side of the window.
        seed: of the choice; the same seed and pictures give the same windows.

    Returns:
        Patch numbers (B,size*size) int64, row-major within the window.
    """
    grid = round(centres.shape[1] ** 0.5)
    rng = torch.Generator(device="cpu").manual_seed(seed)
    weights = centres.float().cpu() + 1e-6  # a picture without objects gets a window anywhere
    chosen = torch.multinomial(weights, 1, generator=rng).squeeze(1)  # (B,)
    corners = []
    for place in (chosen // grid, chosen % grid):
        offset = torch.randint(size, place.shape, generator=rng)
        corners.append((place - offset).clamp(0, grid - size))
    inside = torch.arange(size)
    y, x = corners[0][:, None] + inside, corners[1][:, None] + inside  # (B,size) each
    return (y[:, :, None] * grid + x[:, None, :]).flatten(1).to(centres.device)

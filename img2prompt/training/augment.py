"""Mild augmentation of uint8 batches: crop, erase, colour. Drawn from the batch's number, so a resume draws the same.

A prompt says what is in the picture, often also where ("on the left") and how ("dark", "pastel"), so all of it is mild
and nothing is mirrored unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """How far a training picture is changed; all 0 (crop 1) changes nothing.

    Attributes:
        crop: least share of the picture's area that is kept, 0..1; the kept part is scaled back to the full size.
        stretch: how far the kept part's proportions may differ from the picture's: 0.1 for up to 10 percent.
        erase: share of the pictures in which a rectangle is painted over in the picture's mean colour, 0..1.
        erase_area: largest share of the area that is painted over.
        colour: largest relative change of brightness, contrast and saturation.
        flip: share of the pictures that are mirrored.
    """

    crop: float = 0.8
    stretch: float = 0.1
    erase: float = 0.2
    erase_area: float = 0.15
    colour: float = 0.1
    flip: float = 0.0

    @property
    def on(self) -> bool:
        """Whether anything is changed at all."""
        return self.moves or self.colour > 0 or (self.erase > 0 and self.erase_area > 0)

    @property
    def moves(self) -> bool:
        """Whether pixels change their place."""
        return self.crop < 1 or self.stretch > 0 or self.flip > 0


def augment(images: Tensor, settings: Augment, seed: tuple[int, ...]) -> Tensor:
    """A changed copy of a batch.

    Args:
        images: (B,3,H,W) uint8, on any device.
        settings: how far.
        seed: what everything drawn here depends on, e.g. the run's seed, the batch's number and the process's rank.

    Returns:
        (B,3,H,W) uint8.
    """
    if not settings.on or len(images) == 0:
        return images
    # NumPy's generator on the processor: the same numbers whatever the device.
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(rng.random((len(images), 12), np.float32)).to(images.device)  # (B,12)
    out = images.float()  # (B,3,H,W)
    if settings.moves:
        out = _moved(out, settings, drawn[:, :5])
    if settings.colour:
        out = _coloured(out, settings.colour, drawn[:, 5:8])
    if settings.erase and settings.erase_area:
        out = _erased(out, settings, drawn[:, 8:12])
    return out.round_().clamp_(0, 255).to(torch.uint8)


def _moved(images: Tensor, settings: Augment, drawn: Tensor) -> Tensor:
    """Cut, stretched and mirrored: for every picture one rectangle, sampled bilinearly."""
    area = settings.crop + (1 - settings.crop) * drawn[:, 0]
    ratio = (1 + settings.stretch) ** (2 * drawn[:, 1] - 1)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # (B,) of 1
    x, y = (1 - width) * (2 * drawn[:, 2] - 1), (1 - height) * (2 * drawn[:, 3] - 1)  # centres in -1..1
    sign = 1 - 2 * (drawn[:, 4] < settings.flip).float()
    zero = torch.zeros_like(x)
    theta = torch.stack([width * sign, zero, x, zero, height, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (B,H,W,2)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _coloured(images: Tensor, most: float, drawn: Tensor) -> Tensor:
    """Brightness, contrast around the mean, saturation around the grey picture."""
    bright, contrast, saturation = (1 + most * (2 * drawn - 1)).T[:, :, None, None, None]  # each (B,1,1,1)
    out = images * bright
    out = torch.lerp(out.mean((1, 2, 3), keepdim=True), out, contrast)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)  # ITU-R BT.601
    return torch.lerp((out * weights).sum(1, keepdim=True), out, saturation)


def _erased(images: Tensor, settings: Augment, drawn: Tensor) -> Tensor:
    """A square of up to `erase_area` of the picture in the picture's mean colour."""
    _, _, height, width = images.shape
    # A share `erase` of uniform numbers lies below it; divided by it they are uniform again and say how large.
    size = settings.erase_area * (0.2 + 0.8 * (drawn[:, 0] / settings.erase).clamp(max=1))
    side = size.sqrt() * (drawn[:, 0] < settings.erase)  # (B,) of 1
    left, top = (1 - side) * drawn[:, 1], (1 - side) * drawn[:, 2]
    across = (torch.arange(width, device=images.device) + 0.5) / width
    down = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = (across >= left[:, None]) & (across < (left + side)[:, None])  # (B,W)
    inside_y = (down >= top[:, None]) & (down < (top + side)[:, None])  # (B,H)
    mask = (inside_y[:, :, None] & inside_x[:, None, :])[:, None]  # (B,1,H,W)
    return torch.where(mask, images.mean((2, 3), keepdim=True), images)

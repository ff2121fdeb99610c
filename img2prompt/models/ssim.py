"""Structural similarity of pictures, through torchmetrics."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_PX = 11  # a side of its window


@torch.inference_mode()
def ssim(pixels: NDArray[np.uint8], others: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float64]:
    """SSIM of pairs of pictures, over the colour channels: 1 the same, about 0 unrelated.

    Args:
        pixels: (B,H,W,3), 11 px a side or more.
        others: (B,H,W,3).
        device: where it is computed.

    Returns:
        (B,) in -1..1, at the scale of the pictures, with a Gaussian window of 11 px.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    scores: Tensor = structural_similarity_index_measure(
        channels_first(pixels, device), channels_first(others, device), reduction="none", data_range=1.0
    )
    return np.asarray(scores.double().cpu()).reshape(len(pixels))


def channels_first(pixels: NDArray[np.uint8], device: str) -> Tensor:
    """(B,H,W,3) uint8 -> (B,3,H,W) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255

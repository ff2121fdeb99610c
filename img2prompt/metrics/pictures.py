"""Distances of two pictures that need no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 8  # of each colour channel


def colour_distance(pixels: ArrayLike, other: ArrayLike) -> float:
    """How much two pictures differ in their colours, wherever these are: 0 the same, 1 no colour in common.

    One minus the intersection of their histograms of 8x8x8 colours, which is the total variation distance. A pixel
    counts for the bins around it by nearness, so a small change of brightness makes a small distance.

    Args:
        pixels: (H,W,3) uint8.
        other: (H',W',3) uint8; the sizes may differ.

    Raises:
        ValueError: no RGB pixels.

    Source: Swain and Ballard, "Color indexing", IJCV 1991.
    """
    one, two = (histogram(np.asarray(picture)) for picture in (pixels, other))  # (512,), (512,)
    return float((1 - np.minimum(one, two).sum()).clip(0, 1))


def histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of each of 8x8x8 colours (512,), in all 1."""
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels are (H,W,3), not {pixels.shape}")
    places = pixels.reshape(-1, 3) / 255 * (BINS - 1)  # (P,3): bin 0 is at 0, the last at 255
    below = np.minimum(places.astype(np.int64), BINS - 2)
    above = places - below  # how much of a pixel belongs to the bin above
    counts = np.zeros(BINS**3)
    for corner in np.ndindex(2, 2, 2):
        bins = ((below + corner) * (BINS**2, BINS, 1)).sum(axis=1)
        shares = np.where(corner, above, 1 - above).prod(axis=1)
        counts += np.bincount(bins, shares, BINS**3)
    share: NDArray[np.float64] = counts / len(places)
    return share

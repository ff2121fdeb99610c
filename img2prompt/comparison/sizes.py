"""Pictures before they are measured: RGB, each object once, and of two sizes which both get. No model in here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2prompt.errors import ImageError
from img2prompt.pairs.images import open_image

LONGEST_SHORT_SIDE_PX = 256  # as the authors' own code of SSIM brings pictures to


def opened(images: Sequence[Image.Image]) -> list[Image.Image | None]:
    """Each as upright RGB, by `open_image`; one object stays one; None for one without pixels or with too many."""
    pictures, places = unique(images)
    ready: list[Image.Image | None] = []
    for picture in pictures:
        try:
            ready.append(open_image(picture))
        except ImageError:
            ready.append(None)
    return [ready[place] for place in places]


def at_one_size(image: Image.Image, other: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (H,W,3) of two RGB pictures at the smaller width and the smaller height, at most 256 px on the short side.

    Both are scaled by area (Pillow's box filter), so neither is sharpened and a pixel of the original that was not
    scaled stays as it is. A picture of another shape is squeezed, not cut.
    """
    width, height = min(image.width, other.width), min(image.height, other.height)
    return _pixels(image, _limited(width, height)), _pixels(other, _limited(width, height))


def at_most(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels (H,W,3) of an RGB picture in its own shape, at most 256 px on the short side."""
    return _pixels(image, _limited(*image.size))


def unique(images: Sequence[Image.Image]) -> tuple[list[Image.Image], NDArray[np.int64]]:
    """Each object once, and for each of `images` its place among them (N,)."""
    places: dict[int, int] = {}
    found: list[Image.Image] = []
    for image in images:
        if id(image) not in places:
            places[id(image)] = len(found)
            found.append(image)
    return found, np.array([places[id(image)] for image in images], np.int64)


def _limited(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, LONGEST_SHORT_SIDE_PX / min(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _pixels(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.size != size:
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image)

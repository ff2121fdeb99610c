"""What the painters of backgrounds and styles share: noise, blurs, edges.

Arrays are float32 in 0-1; colour pictures are planar, (3,px,px), which numpy works on about three times as fast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage

FloatArray = npt.NDArray[np.floating[Any]]  # float32, or float64 where a mask of bool took part
IntArray = npt.NDArray[np.intp]
Colour = tuple[int, int, int]

TILE = 2  # noise textures are this many pictures wide, so that every seed can cut its own part


@lru_cache(maxsize=32)
def noise(image_px: int, cells: int, octaves: int = 3) -> FloatArray:
    """Smooth noise, (TILE*px, TILE*px) float32 in 0-1, `cells` bumps to a picture's width in the first octave."""
    side = TILE * image_px
    rng = np.random.default_rng(cells * 101 + octaves)
    total = np.zeros((side, side), dtype=np.float32)
    for octave in range(octaves):
        count = min(side, cells * TILE * 2**octave)
        grid = Image.fromarray(rng.random((count, count), dtype=np.float32), "F")
        total += np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC)) * 0.5**octave
    total -= total.min()
    scaled: FloatArray = total / total.max()
    return scaled


@lru_cache(maxsize=8)
def grain(image_px: int) -> FloatArray:
    """Paper-like grain about 1.5/128 of the picture coarse, (TILE*px, TILE*px) float32 around 0, deviation 1."""
    side = TILE * image_px
    rough = np.random.default_rng(7).standard_normal((side, side), dtype=np.float32)
    soft = ndimage.gaussian_filter(rough, 0.55 * image_px / 128)
    scaled: FloatArray = (soft / soft.std()).astype(np.float32)
    return scaled


def cut(texture: FloatArray, image_px: int, seed: int) -> FloatArray:
    """The part of a texture that belongs to a seed, (px, px)."""
    span = texture.shape[0] - image_px
    x, y = seed % 9973 * 37 % (span + 1), seed // 7 % 9973 * 53 % (span + 1)
    return texture[y : y + image_px, x : x + image_px]


@lru_cache(maxsize=8)
def coordinates(image_px: int) -> tuple[FloatArray, FloatArray]:
    """x (1,px) and y (px,1) of the pixels' middles in unit coordinates."""
    line = ((np.arange(image_px) + 0.5) / image_px).astype(np.float32)
    return line[None, :], line[:, None]


def blurred(array: FloatArray, share: float) -> FloatArray:
    """The plane or picture under a box blur with a radius of `share` of its side: in 8 bits, which is quick."""
    return to_array(to_image(array).filter(ImageFilter.BoxBlur(share * array.shape[-1])))


def glow(array: FloatArray, share: float) -> FloatArray:
    """The picture under a wide soft blur, worked out at half size."""
    image = to_image(array)
    small = image.reduce(2)
    return to_array(
        small.filter(ImageFilter.GaussianBlur(share * small.width)).resize(image.size, Image.Resampling.BILINEAR)
    )


def grey(picture: FloatArray) -> FloatArray:
    """Luma of (3,px,px)."""
    luma: FloatArray = picture[0] * np.float32(0.299) + picture[1] * np.float32(0.587) + picture[2] * np.float32(0.114)
    return luma


def edges(plane: FloatArray) -> FloatArray:
    """Gradient magnitude of (H,W) by central differences."""
    dx, dy = np.zeros_like(plane), np.zeros_like(plane)
    dx[:, 1:-1] = plane[:, 2:] - plane[:, :-2]
    dy[1:-1] = plane[2:] - plane[:-2]
    return np.sqrt(dx * dx + dy * dy)


def to_array(image: Image.Image) -> FloatArray:
    """An RGB picture as (3,px,px), an L picture as (px,px)."""
    values = np.asarray(image)
    if values.ndim == 3:
        values = values.transpose(2, 0, 1)
    array: FloatArray = values.astype(np.float32, order="C")
    array *= np.float32(1 / 255)
    return array


def to_image(array: FloatArray) -> Image.Image:
    """The inverse of `to_array`, out-of-range values clipped."""
    values = (np.clip(array, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    if values.ndim == 2:
        return Image.fromarray(values)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in values])


def saturated(picture: FloatArray, factor: float) -> FloatArray:
    """Colours moved away from (factor > 1) or towards grey."""
    luma = grey(picture)
    return luma + (picture - luma) * np.float32(factor)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    a, b, c = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return a, b, c


def cell_means(picture: FloatArray, labels: IntArray) -> FloatArray:
    """Every pixel's colour replaced by the mean of all with its label, (3,px,px)."""
    flat = labels.ravel()
    counts = np.maximum(np.bincount(flat), 1)
    means = [(np.bincount(flat, plane.ravel()) / counts).astype(np.float32)[labels] for plane in picture]
    return np.stack(means)


def rgb(red: float, green: float, blue: float) -> FloatArray:
    """A colour (0-1) that broadcasts over planar pictures, (3,1,1)."""
    return np.array((red, green, blue), dtype=np.float32)[:, None, None]


def posterised(picture: FloatArray, levels: int) -> FloatArray:
    """Every channel in so many even steps."""
    stepped: FloatArray = np.rint(picture * np.float32(levels - 1)) * np.float32(1 / (levels - 1))
    return stepped

"""What the painters of backgrounds and styles share: noise, gradients, blurs, edges. Arrays are float32 in 0-1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy import ndimage

FloatArray = npt.NDArray[np.float32]
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


def blurred(image: Image.Image, share: float) -> Image.Image:
    """The picture blurred by `share` of its width (three box blurs: near enough to a Gaussian, and quick)."""
    return image.filter(ImageFilter.GaussianBlur(share * image.width))


def grey(rgb: FloatArray) -> FloatArray:
    """Luma of (H,W,3)."""
    luma: FloatArray = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return luma


def edges(plane: FloatArray) -> FloatArray:
    """Gradient magnitude of (H,W) by central differences."""
    dx, dy = np.zeros_like(plane), np.zeros_like(plane)
    dx[:, 1:-1] = plane[:, 2:] - plane[:, :-2]
    dy[1:-1] = plane[2:] - plane[:-2]
    return np.hypot(dx, dy)


def to_array(image: Image.Image) -> FloatArray:
    """An RGB or L picture as float32 in 0-1."""
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def to_image(array: FloatArray) -> Image.Image:
    """The inverse of `to_array`, out-of-range values clipped."""
    return Image.fromarray((np.clip(array, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8))


def saturated(rgb: FloatArray, factor: float) -> FloatArray:
    """Colours moved away from (factor > 1) or towards grey."""
    luma = grey(rgb)[..., None]
    return luma + (rgb - luma) * np.float32(factor)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    a, b, c = (round(x + (y - x) * share) for x, y in zip(first, second, strict=True))
    return a, b, c


def cell_means(rgb: FloatArray, labels: IntArray) -> FloatArray:
    """Every pixel's colour replaced by the mean of all with its label, (H,W,3)."""
    flat = labels.ravel()
    counts = np.maximum(np.bincount(flat), 1)
    means = np.stack([np.bincount(flat, rgb[..., c].ravel()) / counts for c in range(3)], axis=-1)
    filled: FloatArray = means.astype(np.float32)[labels]
    return filled

"""The 12 styles as operations on the finished plain picture. One row a style; every row keeps objects recognisable.

Lengths are shares of the picture's side, so that a style looks the same at every resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

from img2prompt.pairs.storybook import mosaics
from img2prompt.pairs.storybook.painting import (
    FloatArray,
    blurred,
    coordinates,
    cut,
    edges,
    glow,
    grain,
    grey,
    noise,
    rgb,
    saturated,
    to_image,
)
from img2prompt.pairs.storybook.plate import Plate


def digital_art(plate: Plate) -> FloatArray:
    """The plain rendering."""
    return plate.picture


def _flow(picture: FloatArray, seed: int, reach: float) -> FloatArray:
    """The picture with its outlines wandering by up to `reach` of the side, as wet paint does."""
    px = picture.shape[-1]
    steps = np.arange(px)
    dx = (cut(noise(px, 14, 2), px, seed) - 0.5) * (2 * reach * px)
    dy = (cut(noise(px, 14, 2), px, seed + 31) - 0.5) * (2 * reach * px)
    x = np.clip(np.rint(steps[None, :] + dx), 0, px - 1).astype(np.intp)
    y = np.clip(np.rint(steps[:, None] + dy), 0, px - 1).astype(np.intp)
    return picture.reshape(3, -1)[:, y * px + x]


def watercolor(plate: Plate) -> FloatArray:
    """Wandering outlines, pigment that pools at edges and in patches, paper grain, an unpainted rim."""
    px = plate.px
    wet = blurred(_flow(plate.picture, plate.seed, 0.014), 0.008)
    rim = np.clip(edges(grey(wet)) * 0.8, 0, 0.25)
    pool = 0.72 + 0.5 * cut(noise(px, 6, 4), px, plate.seed + 3)
    painted = 1 - (1 - saturated(wet, 1.12)) * pool * 0.92 - rim
    rough = cut(grain(px), px, plate.seed)
    painted -= 0.028 * rough
    x, y = coordinates(px)
    distance = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) + 0.05 * (
        cut(noise(px, 9, 3), px, plate.seed + 9) - 0.5
    )
    bare = np.clip((0.03 - distance) * 60, 0, 1)
    paper = rgb(0.985, 0.975, 0.95) - 0.02 * rough
    page: FloatArray = painted + (paper - painted) * bare
    return page


@lru_cache(maxsize=4)
def _strokes(px: int) -> tuple[FloatArray, FloatArray]:
    """Two textures of bristle marks running in different directions, deviation 1, (2px,2px) each."""
    rough = np.random.default_rng(11).standard_normal((2 * px, 2 * px)).astype(np.float32)
    length = max(3, round(px * 0.06))
    marks = []
    for angle in (35, -50):
        turned = ndimage.rotate(rough, angle, reshape=False, order=1, mode="wrap")
        soft = ndimage.gaussian_filter1d(ndimage.uniform_filter1d(turned, length, axis=1), px * 0.004, axis=0)
        back = ndimage.rotate(soft, -angle, reshape=False, order=1, mode="wrap")
        marks.append((back / back.std()).astype(np.float32))
    return marks[0], marks[1]


def oil_painting(plate: Plate) -> FloatArray:
    """Patches of one colour along edges (Kuwahara's filter, 1976) with bristle marks that catch the light."""
    px = plate.px
    reach = max(1, round(px * 0.013))
    picture = _flow(plate.picture, plate.seed, 0.008)
    luma = grey(picture)
    planes = np.concatenate([picture, luma[None], (luma * luma)[None]])
    means = ndimage.uniform_filter(planes, size=(1, reach + 1, reach + 1), mode="nearest")
    half = (reach + 1) // 2
    padded = np.pad(means, ((0, 0), (half, half), (half, half)), mode="edge")
    corners = [padded[:, y : y + px, x : x + px] for y in (0, 2 * half) for x in (0, 2 * half)]
    best, least = corners[0][:3].copy(), corners[0][4] - corners[0][3] ** 2
    for corner in corners[1:]:
        spread = corner[4] - corner[3] ** 2
        calmer = spread < least
        np.copyto(least, spread, where=calmer)
        np.copyto(best, corner[:3], where=calmer[None])
    first, second = _strokes(px)
    choice = cut(noise(px, 4, 2), px, plate.seed) > 0.5
    marks = np.where(choice, cut(first, px, plate.seed), cut(second, px, plate.seed))
    return saturated(best, 1.22) * (1 + 0.06 * marks)


@lru_cache(maxsize=4)
def _hatching(px: int) -> tuple[FloatArray, ...]:
    """Three layers of pencil lines in different directions: how dark, (px,px) float32 in 0-1."""
    x, y = coordinates(px)
    wobble = 0.03 * cut(noise(px, 5, 2), px, 5)
    period = 0.03
    layers = []
    for dx, dy in ((0.71, 0.71), (0.71, -0.71), (0.17, 0.98)):
        wave = np.cos((x * dx + y * dy + wobble) * (2 * np.pi / period))
        layers.append(np.clip(0.5 + 1.1 * wave, 0, 1).astype(np.float32))
    return tuple(layers)


def pencil_sketch(plate: Plate) -> FloatArray:
    """Grey outlines and three layers of hatching on paper."""
    px = plate.px
    luma = grey(plate.picture)
    tone = blurred(luma, 0.012)
    lines = np.clip(edges(blurred(luma, 0.003)) * 2.0 - 0.08, 0, 1)
    dark = np.clip(lines + 0.85 * plate.outlines(0.008), 0, 1) * 0.85
    for layer, limit in zip(_hatching(px), (0.78, 0.52, 0.3), strict=True):
        dark += layer * np.clip((limit - tone) * 3.2, 0, 1) * (0.30 - 0.10 * plate.mask)
    rough = cut(grain(px), px, plate.seed)
    dark = np.clip(dark, 0, 0.93) * (0.9 + 0.12 * rough) + 0.16 * (1 - tone)
    sheet = (0.965 - 0.012 * rough) * (1 - np.clip(dark, 0, 0.92))
    drawing: FloatArray = sheet * rgb(1.0, 0.995, 0.975)
    return drawing


@lru_cache(maxsize=4)
def _plan_sheet(px: int) -> FloatArray:
    """Blue paper with its grid and frame, (3,px,px)."""
    x, y = coordinates(px)
    width = max(1.0 / px, 0.006)
    fine = ((x % 0.0625 < width) | (y % 0.0625 < width)) * 0.11
    coarse = ((x % 0.25 < width) | (y % 0.25 < width)) * 0.15
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    frame = ((edge > 0.022) & (edge < 0.022 + 2 * width)) * 0.75
    white = np.maximum(np.maximum(fine, coarse), frame)
    blue = rgb(0.086, 0.243, 0.541) * (0.86 + 0.28 * cut(noise(px, 3), px, 0))
    plan: FloatArray = (blue + (1 - blue) * white).astype(np.float32)
    return plan


def blueprint(plate: Plate) -> FloatArray:
    """White lines on blue paper with a grid."""
    luma = grey(plate.picture)
    inside = np.clip(edges(blurred(luma, 0.005)) * 2.6 - 0.12, 0, 1)
    line = np.maximum(np.clip(inside, 0, 0.9), plate.outlines(0.009))
    line = line * (0.62 + 0.38 * plate.mask) + 0.10 * luma * plate.mask
    sheet = _plan_sheet(plate.px)
    sheet = sheet - 0.05 * plate.mask
    plan: FloatArray = sheet + (rgb(0.93, 0.97, 1.0) - sheet) * np.clip(line, 0, 1)
    return plan


@lru_cache(maxsize=4)
def _sheetframe(px: int) -> tuple[FloatArray, FloatArray]:
    """The vignette and the white border of an old print, (px,px) each."""
    x, y = coordinates(px)
    vignette = 1.06 - 0.95 * ((x - 0.5) ** 2 + (y - 0.5) ** 2) ** 1.25
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    border = np.clip((0.042 - edge) * px * 0.8, 0, 1)
    return vignette.astype(np.float32), border.astype(np.float32)


def _toned(tone: FloatArray) -> FloatArray:
    """Sepia by a table of 256 tones, (3,px,px): the power of every single pixel would cost ten times as much."""
    tones = np.linspace(0, 1, 256, dtype=np.float32) ** np.array(((0.80,), (1.02,), (1.38,)), dtype=np.float32)
    return tones[:, (tone * 255).astype(np.intp)]


def vintage_photograph(plate: Plate) -> FloatArray:
    """Faded sepia with grain, a vignette, dust and a white border."""
    px = plate.px
    vignette, border = _sheetframe(px)
    luma = grey(plate.picture)
    tone = (0.06 + 0.90 * luma) * vignette + 0.022 * cut(grain(px), px, plate.seed)
    tone += 0.10 * (cut(noise(px, 2), px, plate.seed) - 0.5)
    tone += 0.35 * (cut(grain(px), px, plate.seed + 17) > 3.1)
    sepia = 0.04 + 0.93 * _toned(np.clip(tone, 0, 1))
    paper = rgb(0.95, 0.92, 0.84)
    sheet: FloatArray = sepia + (paper - sepia) * border
    return sheet


@lru_cache(maxsize=4)
def _dots(px: int) -> FloatArray:
    """A halftone screen at 45 degrees, (px,px) in 0-1; a tone prints where it is darker than the screen."""
    x, y = coordinates(px)
    turn = 2 * np.pi / (0.036 * 2**0.5)
    screen = 0.5 + 0.25 * (np.cos((x + y) * turn) + np.cos((x - y) * turn))
    dots: FloatArray = screen.astype(np.float32)
    return dots


def comic_book(plate: Plate) -> FloatArray:
    """Few flat saturated tones, dots of ink in the shades, black outlines."""
    px = plate.px
    smooth = plate.picture
    luma = grey(smooth)
    flat = (np.floor(luma * 5) + 0.55) / 5
    colours = saturated(smooth * (flat / np.maximum(luma, 0.03)), 1.45)
    ink = np.clip((0.62 - luma - 0.75 * _dots(px)) * 5 + 0.4, 0, 1) * 0.34 * (1 - 0.7 * plate.mask)
    bright = np.clip((0.8 - 2.6 * np.abs(luma - 0.78) - _dots(px)) * 4, 0, 1) * 0.2 * (1 - plate.mask)
    page = colours * (1 - ink)
    page = page + (1 - page) * bright
    line = np.clip(edges(luma) * 2.0 - 0.6, 0, 1)
    line = np.maximum(line, plate.outlines(0.0075))
    inked: FloatArray = page * (1 - 0.96 * line)
    return inked


def neon(plate: Plate) -> FloatArray:
    """Glowing coloured outlines over a dim picture."""
    luma = grey(plate.picture)
    line = np.clip(edges(luma) * 2.0 - 0.2, 0, 1) * (0.55 + 0.25 * plate.mask)
    line = np.maximum(line, plate.outlines(0.011))
    vivid = saturated(plate.picture, 1.9)
    tube = np.clip(vivid / np.maximum(vivid.max(axis=0), 0.12), 0, 1)
    lit = tube * line
    halo = (blurred(lit, 0.018) * 0.9 + glow(lit, 0.035)) * (1 - 0.45 * plate.mask)
    dim = saturated(plate.picture, 1.35) * (0.27 + 0.38 * plate.mask)
    shining: FloatArray = dim + lit * 0.9 + halo
    return shining


STYLE_PAINTERS: dict[str, Callable[[Plate], FloatArray]] = {
    "digital art": digital_art,
    "watercolor": watercolor,
    "oil painting": oil_painting,
    "pencil sketch": pencil_sketch,
    "pixel art": mosaics.pixel_art,
    "stained glass": mosaics.stained_glass,
    "blueprint": blueprint,
    "vintage photograph": vintage_photograph,
    "comic book": comic_book,
    "low poly": mosaics.low_poly,
    "paper cut-out": mosaics.paper_cut_out,
    "neon": neon,
}


def painted(plate: Plate, style: str) -> Image.Image:
    """The plate in a style, RGB."""
    return to_image(STYLE_PAINTERS[style](plate))

"""The styles that build the picture from pieces of one colour: pixels, glass, facets, paper."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter
from scipy import ndimage, spatial

from img2prompt.pairs.storybook.painting import (
    FloatArray,
    IntArray,
    blurred,
    cell_means,
    coordinates,
    cut,
    grain,
    grey,
    noise,
    saturated,
    to_array,
    to_image,
)
from img2prompt.pairs.storybook.plate import Plate

PIXEL_ART_CELLS = 43
VARIANTS = 5  # different nets of facets or panes, made once and kept


def pixel_art(plate: Plate) -> FloatArray:
    """43 pixels across, a palette of 28 colours, dark contours around objects."""
    px = plate.px
    small = (PIXEL_ART_CELLS, PIXEL_ART_CELLS)
    picture = to_array(to_image(saturated(plate.picture, 1.25)).resize(small, Image.Resampling.BOX))
    objects = Image.fromarray(plate.objects).resize(small, Image.Resampling.NEAREST)
    ids = np.asarray(objects)
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, 1:] |= (ids[:, 1:] != ids[:, :-1]) & (ids[:, 1:] > 0)
    edge[:, :-1] |= (ids[:, 1:] != ids[:, :-1]) & (ids[:, :-1] > 0)
    edge[1:] |= (ids[1:] != ids[:-1]) & (ids[1:] > 0)
    edge[:-1] |= (ids[1:] != ids[:-1]) & (ids[:-1] > 0)
    picture = picture * (1 - 0.38 * edge)[..., None]
    flat = to_image(picture).quantize(28, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    return to_array(flat.resize((px, px), Image.Resampling.NEAREST))


def _sites(cells: int, variant: int) -> FloatArray:
    """Jittered points of a honeycomb over a little more than the unit square, (N,2)."""
    rng = np.random.default_rng(cells * 17 + variant)
    lines = np.arange(-1, cells + 2, dtype=np.float32)
    x, y = np.meshgrid(lines, lines)
    x = x + 0.5 * (y % 2) + rng.uniform(-0.33, 0.33, x.shape)
    y = y + rng.uniform(-0.33, 0.33, y.shape)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32) / cells


@lru_cache(maxsize=32)
def _net(px: int, cells: int, variant: int, facets: bool) -> IntArray:
    """Which triangle (facets) or which cell around a site each pixel belongs to, (px,px)."""
    x, y = coordinates(px)
    points = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(-1, 2)
    sites = _sites(cells, variant)
    labels = spatial.Delaunay(sites).find_simplex(points) if facets else spatial.cKDTree(sites).query(points)[1]
    return np.maximum(labels, 0).reshape(px, px).astype(np.intp)


def low_poly(plate: Plate) -> FloatArray:
    """Triangular facets of one colour: large in the background, small within objects."""
    px, variant = plate.px, plate.seed % VARIANTS
    coarse, fine = _net(px, 13, variant, True), _net(px, 30, variant, True)
    far = plate.mask < 0.5
    # Pixels of objects are kept out of the background's means: they go to a label of their own.
    behind = cell_means(plate.picture, np.where(far, coarse, coarse.max() + 1 + coarse % 7))
    near = cell_means(plate.picture, np.where(far, 0, fine * 9 + plate.objects))
    hidden = behind[~far]
    behind[~far] = _under(behind, coarse, far)[~far] if hidden.size else hidden
    tilt = np.random.default_rng(variant).uniform(0.86, 1.14, 4096).astype(np.float32)
    behind = behind * tilt[coarse % 4096][..., None]
    near = near * (0.55 + 0.45 * tilt[fine % 4096])[..., None]
    sharp = plate.mask[..., None]
    return saturated(behind + (near - behind) * sharp, 1.12)


def _under(means: FloatArray, labels: IntArray, far: FloatArray) -> FloatArray:
    """The colour each background cell has where it is visible, spread over the whole cell."""
    flat, weight = labels.ravel(), far.ravel().astype(np.float32)
    counts = np.maximum(np.bincount(flat, weight), 1)
    table = np.stack([np.bincount(flat, weight * means[..., c].ravel()) / counts for c in range(3)], axis=-1)
    filled: FloatArray = table.astype(np.float32)[labels]
    return filled


def stained_glass(plate: Plate) -> FloatArray:
    """Panes of one colour in leads that follow the objects and the large forms."""
    px, variant = plate.px, plate.seed % VARIANTS
    soft = to_array(blurred(to_image(grey(plate.picture)), 0.012))
    bands = (soft * 3.4).astype(np.intp)
    wide, narrow = _net(px, 7, variant, False), _net(px, 9, variant, False)
    forms = (grey(plate.picture) * 2.6).astype(np.intp)
    behind = wide * 4 + bands
    panes = np.where(plate.objects > 0, 4096 + (narrow * 9 + plate.objects) * 4 + forms, behind)
    glass = cell_means(plate.picture, panes)
    near = plate.mask[..., None]
    glass = glass + (plate.picture - glass) * near * 0.45  # painted detail, as on real windows
    light = 0.94 + 0.4 * cut(noise(px, 7, 3), px, plate.seed) + 0.03 * cut(grain(px), px, plate.seed)
    glass = saturated(glass, 1.5) * light[..., None]
    net = np.where(plate.objects > 0, -plate.objects.astype(np.intp), behind)
    lead = np.zeros((px, px), dtype=np.uint8)
    lead[:, :-1] |= np.where(net[:, 1:] != net[:, :-1], np.uint8(255), np.uint8(0))
    lead[:-1] |= np.where(net[1:] != net[:-1], np.uint8(255), np.uint8(0))
    line = np.clip(to_array(blurred(Image.fromarray(lead), 0.0048)) * 1.9 * max(1.0, px / 128), 0, 1)
    line = np.maximum(line, plate.outlines(0.014))[..., None]
    return glass * (1 - line) + 0.07 * line


def paper_cut_out(plate: Plate) -> FloatArray:
    """Sheets of plain paper: flat colours, a pale cut edge around every object, drop shadows."""
    px = plate.px
    calm = blurred(to_image(saturated(plate.picture, 1.1)), 0.006)
    flat = to_array(calm.quantize(22, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB"))
    shift = max(1, round(px * 0.012))
    luma = grey(flat)
    step = luma - np.roll(luma, (shift, shift), axis=(0, 1))
    relief = to_array(blurred(to_image(0.5 + np.clip(step, -0.25, 0.25)), 0.006)) - 0.5
    sheet = flat + 0.55 * relief[..., None]
    solid = Image.fromarray(np.where(plate.objects > 0, np.uint8(255), np.uint8(0)))
    rim = np.clip(to_array(blurred(solid, 0.008)) * 4.5, 0, 1)
    shadow = to_array(ImageChops.offset(blurred(solid, 0.018), round(px * 0.022), round(px * 0.028)))
    sheet = sheet * (1 - 0.62 * np.clip(shadow * 1.2, 0, 1) * (1 - rim))[..., None]
    cream = np.array((0.985, 0.97, 0.94), dtype=np.float32)
    sheet = sheet + (cream - sheet) * (rim * (1 - plate.mask))[..., None]
    inner = to_array(to_image(saturated(plate.picture, 1.1)).quantize(26, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB"))
    sheet = sheet + (inner - sheet) * plate.mask[..., None]
    return sheet * (1 + 0.032 * cut(grain(px), px, plate.seed))[..., None]

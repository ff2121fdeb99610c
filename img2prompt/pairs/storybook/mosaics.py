"""The styles that build the picture from pieces of one colour: pixels, glass, facets, paper."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import spatial

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
    posterised,
    rgb,
    saturated,
    to_array,
    to_image,
)
from img2prompt.pairs.storybook.plate import Plate, borders

PIXEL_ART_CELLS = 43
VARIANTS = 5  # different nets of facets or panes, made once and kept


def pixel_art(plate: Plate) -> FloatArray:
    """43 pixels across, nine steps a channel, dark contours around objects."""
    px = plate.px
    small = (PIXEL_ART_CELLS, PIXEL_ART_CELLS)
    picture = saturated(to_array(to_image(plate.picture).resize(small, Image.Resampling.BOX)), 1.3)
    objects = Image.fromarray(plate.objects).resize(small, Image.Resampling.NEAREST)
    ids = np.asarray(objects)
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, 1:] |= (ids[:, 1:] != ids[:, :-1]) & (ids[:, 1:] > 0)
    edge[:, :-1] |= (ids[:, 1:] != ids[:, :-1]) & (ids[:, :-1] > 0)
    edge[1:] |= (ids[1:] != ids[:-1]) & (ids[1:] > 0)
    edge[:-1] |= (ids[1:] != ids[:-1]) & (ids[:-1] > 0)
    flat = posterised(picture, 9) * (1 - 0.28 * edge)
    return to_array(to_image(flat).resize((px, px), Image.Resampling.NEAREST))


def _sites(cells: int, variant: int) -> FloatArray:
    """Jittered points of a honeycomb over a little more than the unit square, (N,2)."""
    rng = np.random.default_rng(cells * 17 + variant)
    lines = np.arange(-1, cells + 2, dtype=np.float32)
    columns, rows = np.meshgrid(lines, lines)
    x = columns + 0.5 * (rows % 2) + rng.uniform(-0.33, 0.33, columns.shape)
    y = rows + rng.uniform(-0.33, 0.33, rows.shape)
    return np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32) / cells


@lru_cache(maxsize=32)
def _net(px: int, cells: int, variant: int, facets: bool) -> IntArray:
    """Which triangle (facets) or which cell around a site each pixel belongs to, (px,px)."""
    sites = _sites(cells, variant)
    if facets:
        picture = Image.new("I", (px, px), 0)
        draw = ImageDraw.Draw(picture)
        for number, corners in enumerate(spatial.Delaunay(sites).simplices):
            draw.polygon([(float(x) * px, float(y) * px) for x, y in sites[corners]], fill=number)
        return np.asarray(picture).astype(np.intp)
    x, y = coordinates(px)
    points = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(-1, 2)
    nearest: IntArray = spatial.cKDTree(sites).query(points)[1].reshape(px, px).astype(np.intp)
    return nearest


def low_poly(plate: Plate) -> FloatArray:
    """Triangular facets of one colour: large in the background, small within objects."""
    px, variant = plate.px, plate.seed % VARIANTS
    coarse, fine = _net(px, 19, variant, True), _net(px, 34, variant, True)
    far = plate.mask < 0.5
    behind = _visible_means(plate.picture, coarse, far)  # objects do not bleed into the facets behind them
    near = cell_means(plate.picture, np.where(far, 0, fine * 9 + plate.objects))
    tilt = np.random.default_rng(variant).uniform(0.91, 1.09, 4096).astype(np.float32)
    behind = behind * tilt[coarse % 4096]
    near = near * (0.55 + 0.45 * tilt[fine % 4096])
    return saturated(behind + (near - behind) * plate.mask, 1.12)


def _visible_means(picture: FloatArray, labels: IntArray, visible: npt.NDArray[np.bool_]) -> FloatArray:
    """The mean colour of the visible pixels of each cell, spread over the whole cell, (3,px,px)."""
    flat, weight = labels.ravel(), visible.ravel().astype(np.float32)
    counts = np.maximum(np.bincount(flat, weight), 1)
    return np.stack(
        [(np.bincount(flat, plane.ravel() * weight) / counts).astype(np.float32)[labels] for plane in picture]
    )


def stained_glass(plate: Plate) -> FloatArray:
    """Panes of one colour in leads that follow the objects and the large forms."""
    px, variant = plate.px, plate.seed % VARIANTS
    luma = grey(plate.picture)
    bands = (blurred(luma, 0.025) * 3.4).astype(np.intp)
    wide, narrow = _net(px, 7, variant, False), _net(px, 9, variant, False)
    forms = (luma * 2.6).astype(np.intp)
    behind = wide * 4 + bands
    panes = np.where(plate.objects > 0, 4096 + (narrow * 9 + plate.objects) * 4 + forms, behind)
    glass = cell_means(plate.picture, panes)
    glass = glass + (plate.picture - glass) * (plate.mask * 0.45)  # painted detail, as on real windows
    light = 0.94 + 0.4 * cut(noise(px, 7, 3), px, plate.seed) + 0.03 * cut(grain(px), px, plate.seed)
    glass = saturated(glass, 1.5) * light
    net = np.where(plate.objects > 0, -plate.objects.astype(np.intp), behind)
    lead = to_array(Image.fromarray(borders(net)).filter(ImageFilter.BoxBlur(0.0055 * px)))
    line = np.maximum(np.clip(lead * (1.5 * max(1.0, px / 128)), 0, 1), plate.outlines(0.013))
    window: FloatArray = glass * (1 - line) + 0.07 * line
    return window


def paper_cut_out(plate: Plate) -> FloatArray:
    """Sheets of plain paper: flat colours, a pale cut edge around every object, drop shadows."""
    px = plate.px
    vivid = saturated(plate.picture, 1.12)
    flat = posterised(blurred(vivid, 0.006), 7)
    shift = max(1, round(px * 0.012))
    luma = grey(flat)
    step = luma - np.roll(luma, (shift, shift), axis=(0, 1))
    relief = blurred(0.5 + np.clip(step, -0.25, 0.25), 0.008) - 0.5
    sheet = flat + 0.55 * relief
    solid = (plate.objects > 0).astype(np.float32)
    rim = np.clip(blurred(solid, 0.012) * 4.5, 0, 1)
    shadow = np.roll(blurred(solid, 0.026), (round(px * 0.028), round(px * 0.022)), axis=(0, 1))
    sheet = sheet * (1 - 0.62 * np.clip(shadow * 1.2, 0, 1) * (1 - rim))
    cream = rgb(0.985, 0.97, 0.94)
    sheet = sheet + (cream - sheet) * (rim * (1 - plate.mask))
    sheet = sheet + (posterised(vivid, 7) - sheet) * plate.mask
    collage: FloatArray = sheet * (1 + 0.032 * cut(grain(px), px, plate.seed))
    return collage

"""The sprites of the storybook world: cut from the packed atlas, recoloured, scaled and mirrored.

The atlas is made by scripts/make_atlas.py; its licence stands beside it in atlas_licence.txt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
from PIL import Image

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS

MASK_PX = 32  # side of the coarse silhouettes that the layout works with

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Paint:
    """Which pixels of a sprite take the named colour: those near one hue, within bounds of saturation and value."""

    hue: float  # degrees
    reach: float = 34.0  # degrees to either side
    saturation: tuple[float, float] = (0.22, 1.0)
    value: tuple[float, float] = (0.0, 1.0)
    middle: float = 60.0  # the percentile of the painted pixels' luma that becomes the named colour itself


PAINTS: dict[str, Paint] = {
    "fish": Paint(45),
    "octopus": Paint(0),
    "butterfly": Paint(30),
    "dinosaur": Paint(120, reach=75),
    "apple": Paint(8, reach=30),
    "donut": Paint(15, reach=40, saturation=(0.1, 1.0), value=(0.0, 0.62), middle=40),
    "cupcake": Paint(205, saturation=(0.05, 1.0), middle=30),
    "car": Paint(355, middle=80),
    "bus": Paint(0, reach=180, saturation=(0.0, 1.0), value=(0.34, 0.92), middle=55),
    "bicycle": Paint(190, reach=40, saturation=(0.12, 1.0)),
    "helicopter": Paint(48),
    "sailboat": Paint(10, reach=35),
    "tractor": Paint(145, reach=28),
    "tulip": Paint(335, reach=40, saturation=(0.1, 1.0)),
    "mushroom": Paint(12, reach=25, saturation=(0.5, 1.0)),
    "tent": Paint(22, reach=40, middle=75),
    "teddy bear": Paint(15, reach=30, middle=70),
    "balloon": Paint(5, reach=30),
    "kite": Paint(0, reach=180, saturation=(0.2, 1.0)),
    "umbrella": Paint(250, reach=40),
    "guitar": Paint(0, reach=26, saturation=(0.5, 1.0)),
    "drum": Paint(0, reach=30, saturation=(0.5, 1.0)),
    "book": Paint(0, reach=30),
    "gift box": Paint(0, reach=180),
    "alarm clock": Paint(0, reach=30),
    "teapot": Paint(8, reach=32),
}


@lru_cache(maxsize=1)
def _boxes() -> dict[str, tuple[int, int, int, int]]:
    text = (files(__package__) / "atlas.json").read_text(encoding="utf-8")
    return {kind: (box[0], box[1], box[2], box[3]) for kind, box in json.loads(text).items()}


@lru_cache(maxsize=1)
def _atlas() -> Image.Image:
    with (files(__package__) / "atlas.webp").open("rb") as file, Image.open(file) as atlas:
        return atlas.convert("RGBA")


def aspect(kind: str) -> float:
    """Width over height of the visible extent of a kind's sprite.

    Raises:
        DataError: no such kind.
    """
    if kind not in _boxes():
        raise DataError(f"kind {kind!r}: the storybook atlas holds no such sprite")
    x0, y0, x1, y1 = _boxes()[kind]
    return (x1 - x0) / (y1 - y0)


@lru_cache(maxsize=256)
def silhouette(kind: str, flip: bool = False) -> BoolArray:
    """Where a kind's sprite is opaque, as (MASK_PX, MASK_PX) bool over its visible extent."""
    alpha = _full_size(kind, None).getchannel("a").resize((MASK_PX, MASK_PX), Image.Resampling.BOX)
    mask = np.asarray(alpha) > 110
    return np.ascontiguousarray(mask[:, ::-1]) if flip else mask


@lru_cache(maxsize=512)
def sprite(kind: str, colour: str | None, size_px: tuple[int, int], flip: bool = False) -> Image.Image:
    """The sprite of a kind as RGBA of exactly `size_px` (width, height), its visible extent filling it.

    Args:
        kind: key of KINDS.
        colour: key of COLOURS for a tintable kind; None keeps the sprite's own colours.
        size_px: width and height in pixels, at least 1.
        flip: mirror left and right.
    """
    full = _full_size(kind, colour)
    if flip:
        full = full.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    smaller = size_px[0] < full.width
    return full.resize(size_px, Image.Resampling.BILINEAR if smaller else Image.Resampling.BICUBIC).convert("RGBA")


@lru_cache(maxsize=512)
def _full_size(kind: str, colour: str | None) -> Image.Image:
    """As large as in the atlas, alpha premultiplied so that scaling mixes no invisible colours in."""
    aspect(kind)  # speaks up for an unknown kind
    cut = _atlas().crop(_boxes()[kind])
    if colour is None or not KINDS[kind].tintable:
        return cut.convert("RGBa")
    return _tint(cut, PAINTS[kind], COLOURS[colour]).convert("RGBa")


def _tint(cut: Image.Image, paint: Paint, target: tuple[int, int, int]) -> Image.Image:
    """Paints the chosen pixels: the named colour where they have their middle value, darker and lighter around it."""
    rgba = np.asarray(cut, dtype=np.float32)  # (H,W,4)
    weight = _painted(cut, paint)
    value = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255  # luma keeps the drawing's folds
    chosen = (weight > 0.5) & (rgba[..., 3] > 128)
    if not chosen.any():
        return cut
    middle = float(np.percentile(value[chosen], paint.middle))
    shade = np.clip(value / max(middle, 1e-3), 0.0, 2.0)[..., None]  # (H,W,1)
    colour = np.array(target, dtype=np.float32)
    # Dark parts keep half of their depth, so that the colour stays nameable in the shadows.
    painted = np.where(
        shade < 1, colour * (0.35 + 0.65 * shade), colour + (255 - colour) * np.clip((shade - 1) * 0.8, 0, 0.6)
    )
    rgb = rgba[..., :3] + (painted - rgba[..., :3]) * weight[..., None]
    out = np.concatenate([np.clip(rgb, 0, 255), rgba[..., 3:]], axis=-1)
    return Image.fromarray(out.astype(np.uint8), "RGBA")


def _painted(cut: Image.Image, paint: Paint) -> FloatArray:
    """How much each pixel belongs to the painted part: (H,W) float32 in 0-1."""
    hsv = np.asarray(cut.convert("RGB").convert("HSV"), dtype=np.float32) / 255
    hue, saturation, value = hsv[..., 0] * 360, hsv[..., 1], hsv[..., 2]
    distance = np.abs((hue - paint.hue + 180) % 360 - 180)
    near = np.clip((paint.reach + 10 - distance) / 10, 0, 1) if paint.reach < 180 else np.ones_like(distance)
    low, high = paint.saturation
    vivid = np.clip((saturation - low + 0.05) / 0.1, 0, 1) * np.clip((high - saturation + 0.05) / 0.05, 0, 1)
    low, high = paint.value
    lit = np.clip((value - low + 0.05) / 0.05, 0, 1) * np.clip((high - value + 0.05) / 0.05, 0, 1)
    painted: FloatArray = (near * vivid * lit).astype(np.float32)
    return painted

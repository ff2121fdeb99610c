"""The 14 settings in their light, the weather in front of them, the shadows of objects on their ground."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from img2prompt.pairs.storybook import interiors, landscapes, tended_land
from img2prompt.pairs.storybook.blocks import Box
from img2prompt.pairs.storybook.canvas import Canvas
from img2prompt.pairs.storybook.layout import FLOATING_SETTINGS, MAY_FLY
from img2prompt.pairs.storybook.painting import FloatArray, coordinates, cut, noise, rgb, to_array
from img2prompt.pairs.storybook.scene import Scene

PAINTERS: dict[str, Callable[[Canvas], None]] = {
    "beach": landscapes.beach,
    "forest": landscapes.forest,
    "city": tended_land.city,
    "desert": landscapes.desert,
    "kitchen table": interiors.kitchen_table,
    "outer space": interiors.outer_space,
    "underwater": interiors.underwater,
    "snowy mountains": landscapes.snowy_mountains,
    "flower meadow": tended_land.flower_meadow,
    "lake": landscapes.lake,
    "living room": interiors.living_room,
    "moon": interiors.moon,
    "volcano": landscapes.volcano,
    "farm": tended_land.farm,
}
HORIZON = 0.55  # objects whose feet are above it stand in the air and throw no shadow


def paint(scene: Scene, image_px: int) -> Image.Image:
    """The setting of a scene without objects and without falling weather."""
    canvas = Canvas(scene, image_px, random.Random(f"background {scene.seed}"))
    PAINTERS[scene.setting](canvas)
    return canvas.finished()


def textured(picture: Image.Image, seed: int, strength: float) -> FloatArray:
    """The background with the slow variation of tone that a painted surface has, (3,px,px) float32 in 0-1."""
    px = picture.width
    tone = cut(noise(px, 5), px, seed) * np.float32(0.16) + cut(noise(px, 24, 2), px, seed + 5) * np.float32(0.10)
    return to_array(picture) * (tone * np.float32(strength) + np.float32(1 - 0.13 * strength))


def shadows(scene: Scene, boxes: tuple[Box, ...], image_px: int) -> Image.Image:
    """Soft contact shadows under what stands on the ground: an L picture, 255 in full shadow."""
    picture = Image.new("L", (image_px, image_px), 0)
    if scene.setting in FLOATING_SETTINGS:
        return picture
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        if box.y1 < HORIZON or box.kind in MAY_FLY:
            continue
        width = box.x1 - box.x0
        x, y = (box.x0 + box.x1) / 2, box.y1 - 0.012
        half = (width * 0.46, 0.018 + width * 0.055)
        draw.ellipse(tuple(image_px * v for v in (x - half[0], y - half[1], x + half[0], y + half[1])), fill=120)
    return picture.filter(ImageFilter.BoxBlur(0.012 * image_px))


def weather_marks(scene: Scene, image_px: int, boldness: float = 1.0) -> Image.Image | None:
    """Rain streaks or snowflakes as coverage (L), None for other weather; bolder for styles that eat fine marks."""
    if scene.weather not in ("rain", "snow"):
        return None
    rng = random.Random(f"weather {scene.seed}")
    side = image_px * 2
    picture = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(picture)
    if scene.weather == "rain":
        lean = rng.choice((-1, 1)) * rng.uniform(0.12, 0.25)
        for _ in range(60):
            x, y, length = rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 1), rng.uniform(0.06, 0.12)
            width = max(1, round(side * 0.0075 * boldness))
            draw.line(
                ((x * side, y * side), ((x + lean * length) * side, (y + length) * side)),
                fill=rng.choice((110, 150, 190)),
                width=width,
            )
    else:
        for _ in range(58):
            x, y, r = rng.random(), rng.random(), rng.choice((0.006, 0.009, 0.013)) * boldness
            draw.ellipse(((x - r) * side, (y - r) * side, (x + r) * side, (y + r) * side), fill=rng.choice((200, 235)))
    return picture.reduce(2)


def fogged(picture: FloatArray, scene: Scene, amount: float) -> FloatArray:
    """The picture behind banks of fog, (3,px,px)."""
    px = picture.shape[-1]
    _, y = coordinates(px)
    red, green, blue = {"day": (222, 228, 232), "sunset": (240, 206, 184), "night": (112, 122, 148)}[scene.time]
    colour = rgb(red / 255, green / 255, blue / 255)
    banks = np.clip(0.45 + 0.75 * cut(noise(px, 3), px, scene.seed) - 0.35 * np.abs(y - 0.5), 0, 0.95) * np.float32(
        amount
    )
    veiled: FloatArray = picture + (colour - picture) * banks
    return veiled

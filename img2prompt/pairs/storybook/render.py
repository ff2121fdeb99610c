"""From a scene to its picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.backgrounds import fogged, paint, shadows, textured, weather_marks
from img2prompt.pairs.storybook.blocks import Box
from img2prompt.pairs.storybook.layout import layout
from img2prompt.pairs.storybook.painting import FloatArray, rgb, to_array, to_image
from img2prompt.pairs.storybook.plate import Plate
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.sprites import sprite
from img2prompt.pairs.storybook.styles import painted

OBJECT_LIGHT: dict[str, tuple[float, float, float]] = {  # gentler than on the ground: colours must stay nameable
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.93, 0.88),
    "night": (0.80, 0.82, 0.90),
}
FLAT_STYLES = frozenset(
    {"paper cut-out", "comic book", "pixel art", "low poly", "blueprint", "stained glass"}
)  # no painted ground
LATE_WEATHER: dict[str, float] = {  # styles that would swallow streaks and flakes get them afterwards: how bold
    "stained glass": 1.4,
    "low poly": 1.2,
    "paper cut-out": 1.4,
    "neon": 1.0,
    "pixel art": 1.5,
    "oil painting": 1.3,
    "comic book": 1.3,
}


def render(scene: Scene, image_px: int = 128) -> Image.Image:
    """Draws a scene as an RGB picture of image_px x image_px; the same scene gives the same bytes.

    Raises:
        DataError: the scene cannot be laid out, or image_px is not in 32-2048.
    """
    if not 32 <= image_px <= 2048:
        raise DataError(f"image_px {image_px}: choose 32 to 2048")
    boxes = layout(scene)
    ground = textured(paint(scene, image_px), scene.seed, 0.2 if scene.style in FLAT_STYLES else 1.0)
    if scene.weather == "fog":
        ground = fogged(ground, scene, 0.8)
    ground = ground * (1 - 0.62 * to_array(shadows(scene, boxes, image_px)))
    plate = _with_objects(scene, boxes, ground)
    marks = weather_marks(scene, image_px, LATE_WEATHER.get(scene.style, 1.0))
    early = marks is not None and scene.style not in LATE_WEATHER
    if early and marks is not None:
        plate = Plate(_marked(plate.picture, marks), plate.mask, plate.objects, plate.seed)
    picture = painted(plate, scene.style)
    if marks is not None and not early:
        return to_image(_marked(to_array(picture), marks))
    return picture


def _marked(picture: FloatArray, marks: Image.Image) -> FloatArray:
    """The picture under falling rain or snow."""
    cover = to_array(marks) * np.float32(0.85)
    return picture + (rgb(0.93, 0.96, 1.0) - picture) * cover


def _with_objects(scene: Scene, boxes: tuple[Box, ...], ground: FloatArray) -> Plate:
    """The objects drawn on the ground, back to front."""
    px = ground.shape[-1]
    layer = Image.new("RGB", (px, px))
    cover = Image.new("L", (px, px), 0)
    objects = Image.new("L", (px, px), 0)
    for number, box in enumerate(boxes, start=1):
        size = max(1, round((box.x1 - box.x0) * px)), max(1, round((box.y1 - box.y0) * px))
        drawn = sprite(box.kind, scene.groups[box.group].colour, size, box.flip)
        place = round(box.x0 * px), round(box.y0 * px)
        alpha = drawn.getchannel("A")
        layer.paste(drawn, place, alpha)
        patch = (*place, place[0] + size[0], place[1] + size[1])
        cover.paste(ImageChops.screen(cover.crop(patch), alpha), place)
        objects.paste(number, place, alpha.point(_SOLID))
    mask = to_array(cover)
    return Plate(_lit_objects(scene, ground, to_array(layer), mask), mask, np.asarray(objects), scene.seed)


_SOLID = [255 * (value > 127) for value in range(256)]


def _lit_objects(scene: Scene, ground: FloatArray, layer: FloatArray, mask: FloatArray) -> FloatArray:
    light = rgb(*OBJECT_LIGHT[scene.time])
    drawn = fogged(layer, scene, 0.15) if scene.weather == "fog" else layer
    picture: FloatArray = ground + (drawn * light - ground) * mask
    return picture

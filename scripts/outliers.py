"""Pictures that show nothing of the storybook world, made without any photograph: to calibrate confidence with.

Dead leaves (overlapping textured discs whose radii follow a power law) share the statistics of natural pictures:
Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Array = NDArray[np.float64]
Rng = np.random.Generator


def outlier(seed: int, storybook: Image.Image, image_px: int = 192) -> Image.Image:
    """One picture from outside of the storybook world.

    Args:
        seed: settles everything.
        storybook: a storybook picture, which some of the recipes take apart.
        image_px: side of the square.
    """
    rng = np.random.default_rng(seed)
    name = list(RECIPES)[seed % len(RECIPES)]
    image = RECIPES[name](rng, image_px, storybook)
    if rng.random() < 0.6:  # most pictures in the world went through a JPEG
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(50, 96)))
        image = Image.open(buffer).convert("RGB")
    return image


def _picture(values: Array) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def _noise(rng: Rng, px: int, slope: float) -> Array:
    """(px,px) in 0..1 whose spectrum falls with frequency**-slope: 1 looks like clouds, 0 is static."""
    frequency = np.hypot(np.fft.fftfreq(px)[:, None], np.fft.rfftfreq(px)[None]) + 1 / px
    spectrum = np.fft.rfft2(rng.standard_normal((px, px))) / frequency**slope
    field = np.fft.irfft2(spectrum, s=(px, px))
    return (field - field.min()) / (np.ptp(field) + 1e-9)


def _colours(rng: Rng, count: int) -> Array:
    """(count,3) in 0..1, all of one saturation, from grey to gaudy."""
    return np.clip(rng.uniform(0.1, 0.9, (count, 1)) + rng.normal(0, rng.uniform(0.01, 0.3), (count, 3)), 0, 1)


def _palette(rng: Rng, values: Array, colours: int = 4) -> Array:
    """(px,px) in 0..1 -> (px,px,3) along a line through random colours."""
    stops = np.linspace(0, 1, colours)
    line = _colours(rng, colours) ** rng.uniform(0.5, 2)
    return np.stack([np.interp(values, stops, line[:, c]) for c in range(3)], axis=2)


def _fractal(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    zoom = rng.uniform(0.6, 2.2)
    x = np.linspace(-zoom, zoom, px)
    z = x[None] + 1j * x[:, None] + complex(*rng.normal(0, 0.3, 2))
    c = 0.7885 * np.exp(1j * rng.uniform(0, 2 * np.pi))
    steps = np.zeros((px, px))
    for _step in range(60):
        inside = np.abs(z) < 4
        z = np.where(inside, z**2 + c, z)
        steps += inside
    return _picture(_palette(rng, (steps / 60) ** rng.uniform(0.3, 1)))


def _gradient(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    y, x = np.mgrid[0 : 1 : px * 1j, 0 : 1 : px * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    values = (
        np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.6 else np.hypot(x - rng.random(), y - rng.random())
    )
    values = (values - values.min()) / np.ptp(values)
    return _picture(_palette(rng, values, int(rng.integers(2, 6))) + rng.normal(0, 0.02, (px, px, 1)))


def _texture(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    values = _noise(rng, px, rng.uniform(0, 2.2))
    if rng.random() < 0.4:  # grain in one direction: wood, water, hair
        values = (values + np.sin(values * rng.uniform(20, 80)) * 0.3) / 1.3
    return _picture(_palette(rng, values, int(rng.integers(2, 6))))


def _landscape(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    y = np.linspace(0, 1, px)[:, None, None]
    sky, low = rng.random((2, 3)) * 0.6 + 0.4
    picture = sky * (1 - y) + low * y + (_noise(rng, px, 1.8)[..., None] - 0.5) * 0.5
    for depth in np.linspace(0.35, 0.95, int(rng.integers(2, 6))):
        ridge = depth + (_noise(rng, px, rng.uniform(1.2, 2))[0] - 0.5) * rng.uniform(0.1, 0.5)
        ground = np.linspace(0, 1, px)[:, None] > ridge[None]
        colour = rng.random(3) * (1.1 - depth)
        surface = colour * (0.6 + 0.8 * _noise(rng, px, rng.uniform(0.5, 1.5))[..., None])
        picture = np.where(ground[..., None], surface, picture)
    return _picture(picture)


def _dead_leaves(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    picture = _palette(rng, _noise(rng, px, 1.5))
    base = _colours(rng, 3)  # pictures of the world have few colours
    textures = [_noise(rng, px, s)[..., None] for s in (0.5, 1.0, 1.6)]
    for _leaf in range(int(rng.integers(20, 160))):
        radius = px * min(0.45, 0.02 * (1 - rng.random()) ** -0.7)
        cy, cx = rng.uniform(0, px, 2)
        window = tuple(slice(max(0, int(c - 1.5 * radius)), int(c + 1.5 * radius) + 1) for c in (cy, cx))
        y, x = np.mgrid[0:px, 0:px][(slice(None), *window)]
        turn, flat = rng.uniform(0, np.pi), rng.uniform(0.3, 1)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = ((y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)) / flat
        leaf = (np.maximum(abs(u), abs(v)) if rng.random() < 0.4 else np.hypot(u, v)) < radius
        colour = base[rng.integers(3)] + rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)
        shade = 1 + 0.4 * (u / radius)[..., None] * rng.choice((-1, 1))
        surface = colour * shade * (0.6 + 0.8 * textures[rng.integers(3)][window])
        picture[window] = np.where(leaf[..., None], surface, picture[window])
    light = 0.5 + _noise(rng, px, 2.5)[..., None]
    blurred = _picture(picture * light).filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.5))))
    return _picture(np.asarray(blurred) / 255 + rng.normal(0, rng.uniform(0, 0.04), (px, px, 1)))


def _collage(rng: Rng, px: int, storybook: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (px, px))
    parts = [recipe for recipe in RECIPES.values() if recipe is not _collage]
    for i in range(4):
        part = parts[rng.integers(len(parts))](rng, px // 2, storybook)
        canvas.paste(part, ((i % 2) * px // 2, (i // 2) * px // 2))
    return canvas


def _page(rng: Rng, px: int, _: Image.Image) -> Image.Image:
    dark = rng.random() < 0.3
    image = Image.new("RGB", (px, px), (30, 32, 38) if dark else (250, 248, 242))
    draw = ImageDraw.Draw(image)
    size = float(rng.uniform(8, 22))
    for top in np.arange(6, px, size * 1.4):
        words = ("".join(chr(97 + rng.integers(26)) for _ in range(rng.integers(2, 9))) for _ in range(12))
        colour = (210, 210, 200) if dark else (20, 20, 30)
        draw.text((8, float(top)), " ".join(words), fill=colour, font_size=size)
    return image


def _shuffled(rng: Rng, px: int, storybook: Image.Image) -> Image.Image:
    side = int(rng.choice((4, 6, 8)))
    small = storybook.resize((side * (px // side),) * 2)
    step = small.width // side
    order = rng.permutation(side * side)
    tiles = [
        small.crop((i % side * step, i // side * step, (i % side + 1) * step, (i // side + 1) * step)) for i in order
    ]
    canvas = Image.new("RGB", small.size)
    for i, tile in enumerate(tiles):
        canvas.paste(tile.rotate(90 * int(rng.integers(4))), (i % side * step, i // side * step))
    return canvas


def _warped(rng: Rng, px: int, storybook: Image.Image) -> Image.Image:
    pixels = np.asarray(storybook.resize((px, px)))
    y, x = np.mgrid[0:px, 0:px]
    strength = px * rng.uniform(0.3, 0.8)
    sources = [(a + (_noise(rng, px, 2.0) - 0.5) * strength).astype(int) % px for a in (y, x)]
    image = Image.fromarray(pixels[sources[0], sources[1]])
    return ImageOps.invert(image) if rng.random() < 0.4 else image


RECIPES: dict[str, Callable[[Rng, int, Image.Image], Image.Image]] = {
    "dead leaves": _dead_leaves,
    "fractal": _fractal,
    "landscape": _landscape,
    "texture": _texture,
    "dead leaves again": _dead_leaves,  # the nearest to photographs: twice the share
    "gradient": _gradient,
    "page": _page,
    "collage": _collage,
    "shuffled": _shuffled,
    "warped": _warped,
}

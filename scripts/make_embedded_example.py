"""Draws imgs/examples/embedded-prompt.png: a sunset at sea that carries its prompt as AUTOMATIC1111 would write it.

    python scripts/make_embedded_example.py [OUT.png]

The picture is computed here, so its prompt describes it truthfully; no image model was involved.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

Field = npt.NDArray[np.float64]
WIDTH, HEIGHT, HORIZON = 384, 256, 150
PROMPT = (
    "a calm sea at sunset, low orange sun on the horizon, glittering reflection on dark blue water, "
    "layered purple hills, thin clouds, soft gradient sky, minimalist digital painting"
)
NEGATIVE = "people, text, watermark, (blurry:1.2)"
SETTINGS = (
    "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 20240607, "
    f"Size: {WIDTH}x{HEIGHT}, Model: drawn-with-numpy, Version: v1.10.1"
)


def blend(image: Field, colour: tuple[float, float, float], amount: Field) -> Field:
    """`image` (H,W,3) in 0..1 with `colour` laid over it by `amount` (H,W) in 0..1."""
    return image + (np.asarray(colour) - image) * amount[..., None]  # (H,W,3)


def noise(rng: np.random.Generator, columns: int, rows: int) -> Field:
    """Smooth noise (H,W) in 0..1, with about `columns` x `rows` bumps."""
    grid = rng.random((rows, columns)).astype(np.float32)
    image = Image.fromarray(grid, "F").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(image, dtype=np.float64), 0, 1)  # (H,W)


def draw() -> Image.Image:
    """The seascape; the same pixels on every machine."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    sun_x, sun_y = WIDTH * 0.62, HORIZON - 16.0
    image = np.tile((0.16, 0.17, 0.38), (HEIGHT, WIDTH, 1))
    for height, colour in ((0.35, (0.45, 0.27, 0.52)), (0.72, (0.93, 0.47, 0.42)), (1.0, (1.0, 0.78, 0.45))):
        image = blend(image, colour, np.clip((y / HORIZON - height + 0.42) / 0.42, 0, 1))
    clouds = np.clip(0.6 * noise(rng, 5, 26) + 0.4 * noise(rng, 12, 60) - 0.52, 0, 1) * 3.0
    image = blend(image, (1.0, 0.66, 0.55), np.clip(clouds, 0, 0.75) * np.clip(1.1 - y / HORIZON, 0, 1))
    distance = np.hypot(x - sun_x, y - sun_y)
    image = blend(image, (1.0, 0.88, 0.55), 0.75 * np.exp(-distance / 42))
    image = blend(image, (1.0, 0.96, 0.80), np.clip(23.0 - distance, 0, 1))
    for level, colour, seed in (
        (20, (0.55, 0.33, 0.53), 1.0),
        (12, (0.38, 0.23, 0.45), 4.0),
        (5, (0.23, 0.15, 0.34), 9.0),
    ):
        wave = np.sin(x / 37 + seed) + 0.6 * np.sin(x / 17 + 2 * seed) + 0.25 * np.sin(x / 7 + 3 * seed)
        slope = 1 - np.exp(-(((x - sun_x) / 95) ** 2))  # the hills leave room for the sun
        ridge = HORIZON - slope * (level + level * 0.55 * wave)
        image = blend(image, colour, np.clip(y - ridge + 0.5, 0, 1))
    image = np.where((y >= HORIZON)[..., None], _sea(rng, x, y, sun_x), image)
    image += rng.normal(0, 0.006, image.shape)  # against banding
    return Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8), "RGB")


def _sea(rng: np.random.Generator, x: Field, y: Field, sun_x: float) -> Field:
    depth = np.clip((y - HORIZON) / (HEIGHT - HORIZON), 0, 1)
    sea = blend(np.tile((0.86, 0.47, 0.44), (HEIGHT, WIDTH, 1)), (0.09, 0.13, 0.30), depth**0.45)
    scale = 1.5 + 16 * depth  # waves look larger near the viewer
    waves = np.sin(60 * np.log1p(5 * depth) + x / (scale * 3.1) + 5 * noise(rng, 9, 40)) * np.sin(
        x / scale + 9 * noise(rng, 30, 60)
    )
    sea = blend(sea, (0.20, 0.22, 0.42), np.clip(waves, 0, 1) * 0.5)
    width = 12 + 34 * depth
    glitter = np.exp(-(((x - sun_x) / width) ** 2)) * np.clip(waves + 0.35, 0, 1)
    return blend(sea, (1.0, 0.84, 0.55), np.clip(1.3 * glitter, 0, 1) * (1 - 0.35 * depth))


def main(path: Path) -> None:
    """Writes the picture with its parameters."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", f"{PROMPT}\nNegative prompt: {NEGATIVE}\n{SETTINGS}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw().save(path, pnginfo=info, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "imgs" / "examples" / "embedded-prompt.png"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)

"""Makes the example pictures of imgs/examples/ that `scripts/quickstart` predicts, and the strip in the README.

Run: python scripts/make_examples.py
The storybook pictures come from the test split: no model has seen their scenes. The fractal is from outside that
world, so that the warning of a low confidence can be seen. (imgs/examples/embedded-prompt.png, which carries its prompt
inside, is made by scripts/make_embedded_example.py.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import Scene, sample_scene

IMGS = Path(__file__).parents[1] / "imgs"
IMAGE_PX = 384
EXAMPLES = {"storybook-1": 17, "storybook-2": 4, "storybook-3": 29}  # file name -> seed in the test split
STRIP = range(100, 112)  # test seeds, one style after the other


def fractal(image_px: int = IMAGE_PX) -> Image.Image:
    """A Julia set, coloured by escape time: nothing that the storybook world knows."""
    axis = np.linspace(-1.35, 1.35, 2 * image_px)
    z = axis[None, :] + 1j * axis[:, None]
    escaped = np.full(z.shape, 120.0)
    for step in range(120):
        z = np.where(np.abs(z) < 8, z * z + complex(-0.79, 0.156), z)
        fresh = (np.abs(z) >= 8) & (escaped == 120)
        escaped[fresh] = step + 1 - np.log2(np.log(np.abs(z[fresh])) / np.log(8))
    phase = np.sqrt(escaped / 120)[..., None] * np.array([9.0, 7.0, 5.0]) + np.array([0.0, 0.6, 1.3])
    shades = (127.5 * (1 - np.cos(phase))).astype(np.uint8)
    return Image.fromarray(shades).resize((image_px, image_px), Image.Resampling.LANCZOS)


def strip() -> Image.Image:
    """Twelve test scenes in two rows, one in each style."""
    scenes: dict[str, Scene] = {}
    seed = 1000
    while len(scenes) < 12:
        scene = sample_scene(seed, "test")
        scenes.setdefault(scene.style, scene)
        seed += 1
    sheet = Image.new("RGB", (6 * 196 - 4, 2 * 196 - 4), "white")
    for i, scene in enumerate(scenes.values()):
        sheet.paste(render(scene, 192), (i % 6 * 196, i // 6 * 196))
    return sheet


def main() -> None:
    """Writes all pictures."""
    folder = IMGS / "examples"
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in EXAMPLES.items():
        render(sample_scene(seed, "test"), IMAGE_PX).save(folder / f"{name}.png", optimize=True)
    fractal().save(folder / "fractal.jpg", quality=88)
    strip().save(IMGS / "storybook.jpg", quality=90)


if __name__ == "__main__":
    main()

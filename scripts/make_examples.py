"""Makes the example pictures of imgs/examples/ that `scripts/quickstart` predicts, and the strip in the README.

Run: python scripts/make_examples.py
The storybook pictures come from the test split: no model has seen their scenes. The landscape is from outside that
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


def landscape(image_px: int = IMAGE_PX) -> Image.Image:
    """Ridges behind ridges in the haze of a morning: nothing that the storybook world knows."""
    rng = np.random.default_rng(3)
    x, y = np.arange(image_px), np.arange(image_px)[:, None] / image_px
    light, haze, near = np.array([252.0, 226, 190]), np.array([178.0, 190, 206]), np.array([28.0, 44, 48])
    picture = light + (np.array([118.0, 156, 200]) - light) * (1 - y[..., None]) ** 1.5 * np.ones((1, image_px, 1))
    for depth in np.linspace(0, 1, 7):
        frequencies = np.arange(1, 65)
        waves = np.sin(2 * np.pi * (frequencies[:, None] * x / image_px * 0.7 + rng.random((64, 1))))
        height = (waves * rng.normal(0, 1, (64, 1)) / frequencies[:, None] ** 1.25).sum(axis=0)
        ridge = 0.36 + 0.5 * depth - (0.05 + 0.04 * depth) * height
        shade = haze + (near - haze) * depth + rng.normal(0, 2 + 5 * depth, (image_px, image_px, 1))
        below = (y - ridge)[..., None]
        mist = np.clip(below / 0.35, 0, 1) * (1 - depth) * 0.7
        picture = np.where(below > 0, shade + (haze - shade) * mist, picture)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


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
    landscape().save(folder / "landscape.jpg", quality=88)
    strip().save(IMGS / "storybook.jpg", quality=90)


if __name__ == "__main__":
    main()

"""Storybook data sets: scenes drawn at random, with their pictures, prompts and truth."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from PIL.Image import Image

from img2prompt.errors import ConfigError
from img2prompt.pairs.shards import ShardPlan
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.layout import layout
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import SPLITS, Scene, sample_scene

COLUMNS = ("id", "image", "prompt", "short", "long", "tags", "alt", "scene", "split")
SEED_STRIDE = 1 << 32  # scenes of neighbouring seeds never meet: a data set has fewer rows than this

IMAGE_FORMATS: dict[str, dict[str, Any]] = {  # name -> how PIL saves it
    # 4:4:4: small coloured sprites lose their colours when chroma is halved.
    "jpeg": {"format": "JPEG", "quality": 92, "subsampling": 0},
    "png": {"format": "PNG", "compress_level": 6},
    "webp": {"format": "WEBP", "lossless": True, "method": 4},
}


@dataclass(frozen=True, slots=True)
class StorybookRows:
    """Makes the rows of a storybook data set; the same settings and range always give the same rows.

    Attributes:
        seed: which data set; two seeds share no scene's random stream.
        split: one of `SPLITS`.
        image_px: width and height of the pictures.
        image_format: key of `IMAGE_FORMATS`.
    """

    seed: int
    split: str = "train"
    image_px: int = 128
    image_format: str = "jpeg"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"--split {self.split}: choose from {', '.join(SPLITS)}")
        if self.image_format not in IMAGE_FORMATS:
            raise ConfigError(f"--image-format {self.image_format}: choose from {', '.join(IMAGE_FORMATS)}")
        if not 32 <= self.image_px <= 1024:
            raise ConfigError(f"--image-px {self.image_px}: choose 32 to 1024")

    def __call__(self, rows: range) -> Iterator[dict[str, Any]]:
        """The rows of a range, one after the other."""
        for index in rows:
            scene = sample_scene(self.seed * SEED_STRIDE + index, self.split)
            short = describe(scene, "short")
            yield {
                "id": f"storybook-{self.split}-{self.seed}-{index:07d}",
                "image": encode(render(scene, self.image_px), self.image_format),
                "prompt": short,
                "short": short,
                "long": describe(scene, "long"),
                "tags": describe(scene, "tags"),
                "alt": describe(scene, "alt"),
                "scene": scene_json(scene),
                "split": self.split,
            }

    def plan(self, count: int) -> ShardPlan:
        """The data set of the first `count` scenes."""
        if not 0 < count < SEED_STRIDE:
            raise ConfigError(f"--count {count}: choose 1 or more")
        return ShardPlan(rows=count, columns=COLUMNS, config={"world": "storybook", **asdict(self)})


def encode(image: Image, image_format: str) -> bytes:
    """The picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, **IMAGE_FORMATS[image_format])
    return file.getvalue()


def scene_json(scene: Scene) -> str:
    """The scene's JSON with the visible extent of every sprite, in unit coordinates, under "boxes"."""
    boxes = [
        {"kind": box.kind, "group": box.group}
        | {side: round(float(getattr(box, side)), 5) for side in ("x0", "y0", "x1", "y1")}
        for box in layout(scene)
    ]
    # The object's last brace gives way to one more key: reading and writing it all again costs more than the boxes.
    return f'{scene.to_json().removesuffix("}")},"boxes":{json.dumps(boxes, separators=(",", ":"))}}}'

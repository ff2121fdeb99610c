"""The smallest recipe of a regressor, on storybook pictures of 32 px with real targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from img2prompt.errors import MissingExtra
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.shards import write_shards
from img2prompt.pairs.storybook.dataset import StorybookRows

VISION = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 3}
TOWER: dict[str, Any] = {
    "family": "open_clip",
    "name": "",
    "source": None,
    "image_px": None,
    "config": {"model_cfg": {"embed_dim": 16, "vision_cfg": VISION}},
}


def write_pairs(folder: Path) -> dict[str, Path]:
    """Training and validation shards."""
    try:
        SentenceEncoder().encode_many(["a"])
    except MissingExtra as error:
        pytest.skip(str(error))
    for name, rows, seed in (("train", 40, 7), ("validation", 8, 8)):
        make = StorybookRows(seed=seed, image_px=32)
        write_shards(folder / name, make.plan(rows), make)
    return {"train": folder / "train", "validation": folder / "validation", "cache": folder / "cache"}


def data_of(pairs: dict[str, Path]) -> dict[str, Any]:
    """A recipe's data."""
    return {
        "sources": [{"path": str(pairs["train"]), "prompt_column": "short"}],
        "validation": {"sources": [{"path": str(pairs["validation"]), "prompt_column": "short"}]},
        "batch_size": 8,
        "prompts": {"cache_folder": str(pairs["cache"])},
        "pictures": {"cache_folder": str(pairs["cache"]), "workers": 0},
    }


def write_recipe(tmp: Path, pairs: dict[str, Path], **changes: Any) -> str:
    """The recipe as a file; `changes` replace keys named with dots as double underscores."""
    base: dict[str, Any] = {
        "seed_everything": 1,
        "output": str(tmp / "run"),
        "threads": 1,
        "model": {
            "model": {"tower": TOWER, "pooling": "attention"},
            "optimiser": {"lr": 3e-3, "warmup_steps": 2},
        },
        "data": data_of(pairs),
        "keep": {"minutes": 1000},
        "trainer": {"max_steps": 6, "log_every_n_steps": 1, "accelerator": "cpu"},
    }
    for key, value in changes.items():
        place = base
        *path, last = key.split("__")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    tmp.mkdir(parents=True, exist_ok=True)
    path = tmp / "recipe.yaml"
    path.write_text(yaml.safe_dump(base))
    return str(path)

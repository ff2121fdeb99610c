"""A small data set and the smallest recipe, for the tests of training."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml

from img2prompt.pairs.shards import write_shards
from img2prompt.pairs.storybook.dataset import StorybookRows

MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 16,
        "width": 32,
        "head_width": 16,
        "layers": 1,
        "attentional_pool": True,
        "attn_pooler_queries": 5,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {
        "context_length": 48,
        "vocab_size": 400,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "embed_cls": True,
        "output_tokens": True,
    },
    "multimodal_cfg": {"context_length": 48, "vocab_size": 400, "width": 32, "heads": 2, "layers": 1},
}


def write_data(folder: Path, rows: int = 40) -> Path:
    """Storybook pictures of 32 px."""
    make = StorybookRows(seed=7, image_px=32)
    write_shards(folder, make.plan(rows), make)
    return folder


def recipe(tmp: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """The smallest recipe; `changes` replace keys named with dots as double underscores."""
    base: dict[str, Any] = {
        "seed_everything": 1,
        "output": str(tmp / "run"),
        "threads": 1,
        "model": {
            "model": {"vocab_size": 400, "config": MODEL},
            "optimiser": {"lr": 3e-3, "warmup_steps": 2},
            "validate_captions": 0,
        },
        "data": {
            "source": {"train": str(data), "held_out": 8},
            "batch_size": 8,
            "manners": {
                "short": {"column": "short", "prefix": "short:"},
                "tags": {"column": "tags", "prefix": "tags:"},
            },
            "decoding": {"cache_folder": str(tmp / "cache")},
        },
        "keep": {"minutes": 1000},
        "trainer": {"max_steps": 6, "log_every_n_steps": 1, "accelerator": "cpu"},
    }
    for key, value in changes.items():
        place = base
        *path, last = key.split("__")
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return base


def write_recipe(tmp: Path, data: Path, **changes: Any) -> str:
    """The recipe as a file."""
    path = tmp / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(tmp, data, **changes)))
    return str(path)


def logged(run: Path, name: str) -> dict[int, str]:
    """Step -> value, as written, over all of a run's logs, later ones over earlier ones."""
    found: dict[int, str] = {}
    for path in sorted(run.glob("csv-*/metrics.csv"), key=lambda path: path.parent.name):
        with path.open() as file:
            for row in csv.DictReader(file):
                if row.get(name):
                    found[int(row["step"])] = row[name]
    return found

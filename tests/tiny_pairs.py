"""Small data sets of one-coloured pictures in several formats: a picture's colour says which row it is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from img2prompt.pairs.shards import ShardPlan, write_shards

SUBJECTS = (
    "a red fox in the snow", "a lighthouse at dusk", "portrait of an old sailor", "a bowl of ramen", "a steam train",
    "two robots playing chess", "a cathedral made of glass", "a field of sunflowers", "a cat on a piano",
    "an astronaut riding a horse", "a bicycle against a brick wall", "a dragon over a frozen lake",
    "a wooden rowing boat", "a neon city in the rain", "a teapot on a table", "a desert with three pyramids",
    "a jazz band on a stage", "a whale under the ice", "a medieval market", "a mountain hut in the fog",
)  # fmt: skip


def prompts(count: int) -> list[str]:
    """Texts of which no two are near-duplicates as long as there are subjects."""
    assert count <= len(SUBJECTS)
    return list(SUBJECTS[:count])


def colour(number: int) -> tuple[int, int, int]:
    """What picture `number` is painted in; differs by 10 or more between neighbours, which JPEG keeps apart."""
    return 20 + number * 37 % 200, 20 + number * 83 % 200, 20 + number * 11 % 200


def picture(number: int, px: int = 40) -> Image.Image:
    """Picture `number`."""
    return Image.new("RGB", (px, px), colour(number))


def write_csv(
    folder: Path, texts: Sequence[str], first: int = 0, columns: tuple[str, str] = ("image", "prompt")
) -> Path:
    """pairs.csv and JPEG files of the colours `first`, `first` + 1, ..."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for i, text in enumerate(texts):
            picture(first + i).save(folder / "images" / f"{i}.jpg", quality=95)
            writer.writerow([f"images/{i}.jpg", text])
    return table


def write_sidecars(folder: Path, texts: Sequence[str], first: int = 0) -> Path:
    """PNG files, each with a .txt beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        picture(first + i).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return folder


def write_parquet(folder: Path, texts: Sequence[str], first: int = 0) -> Path:
    """Our shards, three rows each."""

    def rows(wanted: range) -> list[dict[str, Any]]:
        return [{"id": f"row-{i}", "image": png(first + i), "prompt": texts[i]} for i in wanted]

    plan = ShardPlan(len(texts), ("id", "image", "prompt"), {"texts": list(texts)}, rows_per_shard=3)
    write_shards(folder, plan, rows)
    return folder


def png(number: int) -> bytes:
    """Picture `number` as a file."""
    import io

    out = io.BytesIO()
    picture(number).save(out, "PNG")
    return out.getvalue()


def is_picture(images: np.ndarray, number: int, tolerance: int = 3) -> bool:
    """Whether an array (3,H,W) shows picture `number`."""
    wanted = np.array(colour(number))[:, None, None]
    return bool(np.abs(images.astype(int) - wanted).max() <= tolerance)

"""How much of a prompt a text-to-image model puts into its picture, as the bundled captioner and the parser see it.

    python scripts/bench/text2image.py --generator storybook-diffusion --prompts 500 --data data/test
    python scripts/bench/text2image.py --generator runs/storybook-text2image/last --steps 20 --guidance 3

Held-out prompts -> pictures -> the captioner's own words for each -> the facts in them, against the prompt's facts. The
captioner errs too, so the renderer (`storybook`), which draws every fact, is scored on the same prompts: the most that
this measure can give. Intervals are of 1,000 bootstrap draws over prompts. A seed is the prompt's place.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from img2prompt.jobs.generators import open_generator
from img2prompt.models.diffusion_settings import PictureSettings, RunSettings
from img2prompt.pairs.prompts import read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.storybook.parse import parse
from img2prompt.pairs.storybook.score import FactScore, score_one, summarise
from img2prompt.predictor import Predictor
from img2prompt.progress import track
from img2prompt.results import Generated, Generator, Prediction

RESULTS = Path(__file__).parent / "results"
CEILING = "storybook"
SHOWN, COLUMNS = 24, 8


def drawn(generator: Generator, prompts: Sequence[str]) -> tuple[list[Image.Image | None], float]:
    """A picture for each prompt, None where it failed, and the seconds that one took."""
    made: list[Image.Image | None] = []
    start, size = time.perf_counter(), generator.batch_size
    for first in track(range(0, len(prompts), size), total=-(-len(prompts) // size)):
        part = prompts[first : first + size]
        rows = generator.generate_many(part, list(range(first, first + len(part))))
        made += [row.image if isinstance(row, Generated) else None for row in rows]
    return made, (time.perf_counter() - start) / len(prompts)


def scored(images: Sequence[Image.Image | None], prompts: Sequence[str], predictor: Predictor) -> list[FactScore]:
    """What the captioner finds of each prompt in its picture; of a failed one nothing."""
    there = [image for image in images if image is not None]
    captions = iter(predictor.predict_many(there, batch_size=50, ignore_metadata=True))
    said = [next(captions) if image is not None else None for image in images]
    texts = [row.prompt if isinstance(row, Prediction) else "" for row in said]
    return [score_one(parse(text), parse(prompt)) for text, prompt in zip(texts, prompts, strict=True)]


def with_intervals(scores: Sequence[FactScore], draws: int = 1000) -> dict[str, dict[str, float]]:
    """Every ratio with its 95 % bootstrap interval over prompts."""
    rng, found = random.Random(0), summarise(scores)
    samples = [summarise(rng.choices(scores, k=len(scores))) for _ in range(draws)]
    rows = {}
    for name, value in found.items():
        if name == "prompts" or math.isnan(value):
            continue
        values = sorted(v for sample in samples if not math.isnan(v := sample[name]))
        low, high = values[int(0.025 * len(values))], values[int(0.975 * len(values)) - 1]
        rows[name] = {"mean": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
    return rows


def sheet(images: Sequence[Image.Image | None], path: Path, px: int = 128) -> None:
    """The first pictures, a row of COLUMNS each."""
    shown = images[:SHOWN]
    whole = Image.new("RGB", (COLUMNS * px, -(-len(shown) // COLUMNS) * px), "white")
    for place, image in enumerate(shown):
        if image is not None:
            whole.paste(image.resize((px, px), Image.Resampling.BICUBIC), (place % COLUMNS * px, place // COLUMNS * px))
    whole.save(path)


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Scores one generator, and the renderer beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="storybook-diffusion", help="a generator's name or a diffusers folder")
    parser.add_argument("--data", type=Path, required=True, help="a folder of shards that training did not see")
    parser.add_argument("--column", default="short", help="of the prompts")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--captioner", help="a captioner's name or folder; the bundled one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-ceiling", action="store_true", help="leave the renderer out")
    parser.add_argument("--output", type=Path, default=RESULTS / "storybook_text2image.json")
    given = parser.parse_args()
    rows = read_prompts(given.data, columns={"prompt": given.column}, skips=Skips())
    prompts = [row.prompt for row in islice(rows, given.prompts)]
    predictor = Predictor.from_preset(given.captioner, device=given.device, rank=1)
    run = RunSettings(device=given.device, batch_size=given.batch_size)
    asked = {given.generator: PictureSettings(steps=given.steps, guidance_scale=given.guidance)}
    if given.generator == CEILING or not given.no_ceiling:
        asked[CEILING] = PictureSettings(128, 128)
    found: dict[str, Any] = {
        "what": "facts of held-out prompts that the captioner finds in their pictures; micro-averages, 95 % bootstrap",
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "prompts": len(prompts),
        "column": given.column,
        "generators": {},
    }
    for name, picture in asked.items():
        generator = open_generator(name, picture, run)
        images, seconds = drawn(generator, prompts)
        scores = with_intervals(scored(images, prompts, predictor))
        settings = {key: value for key, value in generator.settings().items() if key != "scheduler_config"}
        failed = sum(image is None for image in images)
        found["generators"][name] = {
            "settings": settings,
            "seconds_a_picture": round(seconds, 3),
            "failed": failed,
            "scores": scores,
        }
        if name == given.generator:
            sheet(images, given.output.with_suffix(".png"))
        print(name, " ".join(f"{key} {row['mean']:.3f}" for key, row in scores.items()), file=sys.stderr, flush=True)
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

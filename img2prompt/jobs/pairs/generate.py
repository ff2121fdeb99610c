"""`img2prompt pairs generate`: pictures from prompts, as a data set of pairs."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, DataError
from img2prompt.jobs.generators import GENERATORS, open_generator
from img2prompt.jobs.options import number
from img2prompt.models.diffusion_schedulers import SCHEDULERS, row_of
from img2prompt.models.diffusion_settings import ATTENTIONS, DTYPES, OFFLOADS, PictureSettings, RunSettings
from img2prompt.progress import track

if TYPE_CHECKING:
    from img2prompt.pairs.generated import Outcome
    from img2prompt.pairs.orders import Order
    from img2prompt.results import Generator

FORMATS = ("jpeg", "png", "webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the sub-verb's arguments."""
    parser.description = (
        "Makes a picture of every prompt and writes them as parquet shards. A killed run is continued by running it"
        " again; pictures that fail are rows of failures.jsonl. Nothing is downloaded."
    )
    add = parser.add_argument
    add("prompts", nargs="+", type=Path, metavar="PROMPTS", help=".txt, .csv, .tsv, .jsonl, .parquet, or pairs")
    add("out", type=Path, metavar="OUT", help="folder of the data set")
    add("--model", required=True, metavar="NAME", help=f"{', '.join(GENERATORS)}, a diffusers folder, or OWNER/NAME")
    add("--prompt-column", metavar="NAME", help="of the tables (default: found by itself)")
    add("--limit", type=number(int, 1, 2**40), metavar="N", help="only the first N prompts")
    add("--images-per-prompt", type=number(int, 1, 10_000), default=1, metavar="N", help="(default: 1)")
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="another one gives other pictures (default: 0)")
    _add_picture(parser)
    _add_files(parser)
    _add_run(parser)


def _add_picture(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the pictures (default: as the model's card says)").add_argument
    add("--size", type=_size, metavar="PX", help="side, or WIDTHxHEIGHT, e.g. 512 or 768x512")
    add("--steps", type=number(int, 1, 1000), metavar="N", help="of denoising")
    add("--guidance", type=number(float, 0, 100), metavar="G", help="guidance scale")
    add("--scheduler", type=_scheduler, metavar="NAME", help=", ".join(SCHEDULERS))
    add("--negative-prompt", metavar="TEXT", help="what the pictures should not show")
    add("--no-safety-checker", action="store_true", help="leave it away where the model has one")


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files").add_argument
    add("--image-format", choices=FORMATS, help="in the shards (default: jpeg; png with --png)")
    add("--png", type=Path, metavar="FOLDER", help="PNG files too, with their parameters inside, as web interfaces do")
    add("--rows-per-shard", type=number(int, 1, 100_000), default=250, metavar="N", help="(default: 250)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    usual = RunSettings()
    add = parser.add_argument_group("how the work is done").add_argument
    add("--batch-size", type=number(int, 1, 4096), default=4, metavar="N", help="halved if memory ends (default: 4)")
    add("--device", default=usual.device, help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--dtype", choices=DTYPES, default=usual.dtype, help="of the weights (default: 16 bits on CUDA, else 32)")
    add("--attention", choices=ATTENTIONS, default=usual.attention, help=f"(default: {usual.attention})")
    add(
        "--offload", choices=OFFLOADS, default=usual.offload, help="weights wait in main memory: slower, for small GPUs"
    )
    add("--vae-slicing", action="store_true", help="decode one picture at a time")
    add("--vae-tiling", action="store_true", help="decode large pictures in tiles")
    add("--compile", action="store_true", help="torch.compile: minutes at the start, faster afterwards")
    add("--allow-pickle", action="store_true", help="read weights that are no safetensors; they can hold code")


def generate(options: argparse.Namespace) -> int:
    """Makes the pictures; returns 0, or 1 when some failed."""
    from img2prompt.jobs.pairs.generate_rows import PictureMaker, PngFolder
    from img2prompt.pairs.generated import COLUMNS, GeneratedSet
    from img2prompt.pairs.shards import ShardPlan

    image_format = options.image_format or ("png" if options.png else "jpeg")
    if options.png and image_format != "png":
        raise ConfigError(f"--png: the shards must hold the same files; leave --image-format {image_format} away")
    orders = _orders(options)
    generator = open_generator(options.model, _picture(options), _run(options))
    maker = PictureMaker(generator, orders, image_format)
    asked = {name: getattr(options, name) for name in ("images_per_prompt", "seed")}
    plan = ShardPlan(len(orders), COLUMNS, {**maker.config(), **asked}, options.rows_per_shard)
    on_row = PngFolder(options.png) if options.png else None
    pictures = GeneratedSet(options.out, plan, maker, on_row)
    started = time.perf_counter()
    shown = partial(track, total=pictures.missing(), unit="picture")
    outcome = pictures.write(maker.made_by(), shown)
    _report(outcome, time.perf_counter() - started, generator)
    print(options.out)
    return 1 if outcome.failures else 0


def _orders(options: argparse.Namespace) -> list[Order]:
    from itertools import chain, islice

    from img2prompt.pairs.orders import orders_of
    from img2prompt.pairs.prompts import read_prompts
    from img2prompt.pairs.skips import Skips

    skips = Skips()
    columns = {"prompt": options.prompt_column} if options.prompt_column else None
    rows = chain.from_iterable(read_prompts(source, columns=columns, skips=skips) for source in options.prompts)
    # The file's name, not its path: the same prompts from elsewhere are the same work.
    named = ((row.prompt, f"{Path(row.file).name}:{row.number}") for row in islice(rows, options.limit))
    orders = orders_of(named, options.images_per_prompt, options.seed)
    for line in skips.lines():
        print(f"left out: {line}", file=sys.stderr)
    if not orders:
        raise DataError(f"{', '.join(map(str, options.prompts))}: no prompts")
    return orders


def _picture(options: argparse.Namespace) -> PictureSettings:
    width, height = options.size or (None, None)
    return PictureSettings(
        width_px=width,
        height_px=height,
        steps=options.steps,
        guidance_scale=options.guidance,
        scheduler=options.scheduler,
        negative_prompt=options.negative_prompt,
        safety_checker=not options.no_safety_checker,
    )


def _run(options: argparse.Namespace) -> RunSettings:
    return RunSettings(
        device=options.device,
        dtype=options.dtype,
        batch_size=options.batch_size,
        attention=options.attention,
        offload=options.offload,
        vae_slicing=options.vae_slicing,
        vae_tiling=options.vae_tiling,
        compile=options.compile,
        allow_pickle=options.allow_pickle,
    )


def _report(outcome: Outcome, seconds: float, generator: Generator) -> None:
    from img2prompt.pairs.skips import Skips

    speed = f", {seconds / outcome.tried:.3g} s each, {generator.batch_size} at once" if outcome.tried else ""
    failed = len(outcome.failures)
    print(f"{outcome.tried + outcome.stood - failed} pictures, {failed} failed", file=sys.stderr)
    print(f"made now: {outcome.tried}{speed}; stood already: {outcome.stood}", file=sys.stderr)
    skips = Skips()
    for row in outcome.failures:
        skips.add(row["kind"], row["prompt"], row["error"])
    for line in skips.lines():
        print(f"  {line}", file=sys.stderr)
    if outcome.cut:
        print(f"longer than the text encoder reads: {outcome.cut}; column read holds what it saw", file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if not (1 <= len(sides) <= 2 and all(side.isdecimal() and 8 <= int(side) <= 8192 for side in sides)):
        raise argparse.ArgumentTypeError(f"{text}: a side, or WIDTHxHEIGHT, of 8 to 8192 pixels")
    return int(sides[0]), int(sides[-1])


def _scheduler(text: str) -> str:
    row_of(text)
    return text

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
from img2prompt.jobs.picture_options import add_picture_options, add_run_options, picture_settings, run_settings
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
    add_picture_options(parser)
    _add_files(parser)
    add("--batch-size", type=number(int, 1, 4096), default=4, metavar="N", help="halved if memory ends (default: 4)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add_run_options(parser)


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("files").add_argument
    add("--image-format", choices=FORMATS, help="in the shards (default: jpeg; png with --png)")
    add("--png", type=Path, metavar="FOLDER", help="PNG files too, with their parameters inside, as web interfaces do")
    add("--rows-per-shard", type=number(int, 1, 100_000), default=250, metavar="N", help="(default: 250)")


def generate(options: argparse.Namespace) -> int:
    """Makes the pictures; returns 0, or 1 when some failed."""
    from img2prompt.jobs.pairs.generate_rows import PictureMaker, PngFolder
    from img2prompt.pairs.generated import COLUMNS, GeneratedSet
    from img2prompt.pairs.shards import ShardPlan

    image_format = options.image_format or ("png" if options.png else "jpeg")
    if options.png and image_format != "png":
        raise ConfigError(f"--png: the shards must hold the same files; leave --image-format {image_format} away")
    orders = _orders(options)
    generator = open_generator(options.model, picture_settings(options), run_settings(options))
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

"""`img2prompt storybook`: writes a data set of storybook pictures with their prompts and truth."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the verb's arguments."""
    parser.description = (
        "Writes storybook scenes as parquet shards: pictures, short, long, tags and alt prompts, the scene's truth. "
        "The same arguments give the same bytes; a killed run is continued by running it again."
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the data set")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="scenes (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which scenes (default: 0)")
    parser.add_argument(
        "--split",
        default="train",
        help="train, validation, test, test_pairs or test_styles (the last two: held-out combinations; default: train)",
    )
    parser.add_argument("--image-px", type=int, default=128, metavar="PX", help="width and height (default: 128)")
    parser.add_argument("--image-format", default="jpeg", help="jpeg, png or webp (default: jpeg)")
    parser.add_argument("--workers", type=int, default=0, metavar="W", help="processes (default: one a core)")


def storybook(options: argparse.Namespace) -> int:
    """Writes the data set; returns 0."""
    from img2prompt.pairs.shards import write_shards
    from img2prompt.pairs.storybook.dataset import StorybookRows

    make_rows = StorybookRows(options.seed, options.split, options.image_px, options.image_format)
    plan = make_rows.plan(options.count)
    workers = options.workers if options.workers > 0 else os.cpu_count() or 1
    started = time.perf_counter()
    made = write_shards(options.out, plan, make_rows, workers=workers)
    seconds = time.perf_counter() - started
    print(f"{made} shards made, {len(plan.shards()) - made} stood already, {seconds:.1f} s", file=sys.stderr)
    print(options.out)
    return 0

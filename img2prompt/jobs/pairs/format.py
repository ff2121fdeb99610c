"""`img2prompt pairs format`: any sources of pairs -> our shards, checked, cleaned and filtered."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.jobs.options import number
from img2prompt.jobs.pairs.scale import Cluster, add_ray_arguments, on_ray
from img2prompt.pairs.filters import FILTERS, settings_of

if TYPE_CHECKING:
    from img2prompt.pairs.making.format_run import FormatPlan, FormatReport, Run

DOWNLOAD_PX = 512  # shorter side of fetched pictures, unless they are re-encoded to another


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the sub-verb's arguments."""
    parser.description = (
        "Writes pairs of any format as parquet shards: pictures as they came (or re-encoded), prompts in Unicode's NFC"
        " with white space folded, source, and an id by content. Every picture is opened and decoded; what cannot be"
        " used is counted by kind, what a filter drops by filter, both with examples. The same picture and prompt is"
        " written once. A killed run is continued by running it again, to the same bytes."
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="folders, tables, tars, parquet files, or hf:OWNER/NAME")
    add("out", metavar="OUT", type=Path, help="folder of the data set, new or of the same command before")
    for name in ("image", "prompt", "id", "source"):
        add(f"--{name}-column", metavar="NAME", help=f"column of the {name}s, where it is not found by itself")
    add(
        "--download",
        metavar="FOLDER",
        type=Path,
        help="fetch the pictures of tables of URLs (CC3M, SBU, LAION) into FOLDER first, with img2dataset",
    )
    add("--keep", nargs="*", metavar="COLUMN", help="further columns to keep (default: all)")
    add(
        "--image-px",
        type=number(int, 8, 16384),
        metavar="PX",
        help="re-encode with the shorter side at PX, never enlarged (default: files as they came)",
    )
    add("--image-format", choices=("jpeg", "webp", "png"), default="jpeg", help="of re-encoded ones (default: jpeg)")
    add("--quality", type=number(int, 1, 100), default=92, metavar="Q", help="of re-encoded ones (default: 92)")
    add("--max-pixels", type=number(int, 1), default=64_000_000, metavar="N", help="of one picture (default: 64e6)")
    add("--max-bytes", type=number(int, 1), default=64 << 20, metavar="N", help="of one file (default: 64 MiB)")
    add(
        "--rows-per-shard",
        type=number(int, 1, 100_000),
        default=1000,
        metavar="N",
        help="rows read for a shard (default: 1000)",
    )
    add("--workers", type=number(int, 0, 4096), default=0, metavar="W", help="processes (default: one a core)")
    add_ray_arguments(parser)
    add("--json", action="store_true", help="print what became of the rows as JSON")
    group = parser.add_argument_group("filters", "what they keep; give one the value off to switch it off")
    for name, row in FILTERS.items():
        group.add_argument(f"--{name}", metavar=row.metavar, help=f"{row.keeps} (default: {row.default})")


def format(options: argparse.Namespace) -> int:  # file = function = sub-verb
    """Makes the data set; returns 0, or 1 when pictures or prompts could not be used.

    Raises:
        ConfigError, DataError, MissingExtra, OutputError: see those.
    """
    from img2prompt.pairs.making.format_run import format_pairs

    started = time.perf_counter()
    plan = _plan(options)
    if options.download is not None:
        plan = replace(plan, sources=tuple(_fetched(options)))
    with _runner(options) as run:
        report = format_pairs(options.out, plan, run)
    seconds = time.perf_counter() - started
    if options.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        print(options.out)
    for line in _lines(report):
        print(line, file=sys.stderr)
    stood = report.shards - report.shards_made
    print(f"{report.shards_made} shards made, {stood} stood already, {seconds:.1f} s", file=sys.stderr)
    return 1 if report.unusable else 0


def _fetched(options: argparse.Namespace) -> Iterator[str]:
    """The sources, with the folders of fetched pictures in the places of tables of URLs."""
    from img2prompt.pairs.formats.url_tables import download, url_table

    for source in options.sources:
        if url_table(Path(source)) is None:
            yield source
        else:
            folder = options.download / Path(source).stem
            yield str(download(source, folder, image_px=options.image_px or DOWNLOAD_PX))


def _runner(options: argparse.Namespace) -> AbstractContextManager[Run]:
    from img2prompt.pairs.pool import in_processes

    if options.ray:
        return on_ray(Cluster(options.ray, options.workers or None, timeout_s=options.ray_timeout), options.out)
    return nullcontext(partial(in_processes, workers=options.workers or os.cpu_count() or 1))


def _plan(options: argparse.Namespace) -> FormatPlan:
    from img2prompt.pairs.filters import build
    from img2prompt.pairs.images import Limits
    from img2prompt.pairs.making.format_run import FormatPlan
    from img2prompt.pairs.making.formatting import FormatSettings

    given = {name: getattr(options, f"{name}_column") for name in ("image", "prompt", "id", "source")}
    texts = {name: getattr(options, name) for name in FILTERS}
    filters = settings_of({name: text for name, text in texts.items() if text is not None})
    build(filters)  # what a filter lacks is said before anything is written
    settings = FormatSettings(
        names={ours: theirs for ours, theirs in given.items() if theirs is not None},
        filters=filters,
        image_px=options.image_px,
        image_format=options.image_format,
        quality=options.quality,
        limits=Limits(max_pixels=options.max_pixels, max_bytes=options.max_bytes),
    )
    keep = None if options.keep is None else tuple(options.keep)
    return FormatPlan(tuple(options.sources), settings, keep, options.rows_per_shard)


def _lines(report: FormatReport) -> Iterator[str]:
    """What became of the rows, for people."""
    yield f"{report.rows} of {report.rows_in} rows kept"
    parts = {
        "left out of the sources": report.left_out,
        "not usable": report.unusable,
        "dropped by filters": report.filtered,
        "dropped as repeats": report.repeats,
    }
    for what, skips in parts.items():
        if skips:
            yield f"{skips.total} {what}:"
            yield from (f"  {line}" for line in skips.lines())

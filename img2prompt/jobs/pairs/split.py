"""`img2prompt pairs split`: training, validation and test rows that do not give each other away."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError
from img2prompt.jobs.options import number

if TYPE_CHECKING:
    from img2prompt.jobs.pairs.dividing import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the sub-verb's arguments."""
    parser.description = (
        "Divides rows into training, validation and test: whole clusters of near-duplicate prompts (or whole groups of"
        " a column), from every source its share. Writes OUT/assignment.csv (id, side, cluster, ...), with --shards"
        " also OUT/train, OUT/validation and OUT/test, and OUT/report.json, which says what still leaks. The same rows"
        " and seed give the same sides. When rows are added, those that were there keep their sides: nearly all by"
        " themselves, all with --previous."
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="pairs in any format, or tables and lists of prompts alone")
    add("out", metavar="OUT", type=Path, help="folder to write, new or of the same command before")
    share = number(float, 0, 0.99)
    add("--validation", type=share, default=0.1, metavar="SHARE", help="of the rows (default: 0.1)")
    add("--test", type=share, default=0.1, metavar="SHARE", help="of the rows (default: 0.1)")
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="another one, another division (default: 0)")
    add("--threshold", type=number(float, 0.3, 1), default=0.9, help="cosine of near-duplicates (default: 0.9)")
    add("--group", metavar="COLUMN", help="rows with the same value share a side, in the place of clusters")
    add("--clusters", action="store_true", help="with --group: near-duplicates share a side, too")
    add("--tolerance", type=number(float, 0), default=0.1, metavar="PART", help="how far a source's share may be off,"
        " as a part of it (default: 0.1); 0: as near as its clusters allow; inf: right on average, and nothing but new"
        " near-duplicates ever moves a row")  # fmt: skip
    add("--largest", type=number(int, 1), metavar="ROWS", help="larger clusters stay in training (default: those of"
        " more than half the rows that a side is to get; a number does not move when rows are added)")  # fmt: skip
    add("--previous", type=Path, metavar="FILE", help="assignment (or its folder) of an earlier split: its rows keep"
        " their sides, whatever is added; new rows that are near rows of several sides are left out")  # fmt: skip
    add("--benchmark", nargs="+", action="extend", default=[], metavar="FILE", help="prompts of a benchmark, e.g."
        " DrawBench or PartiPrompts: how near do the sides come to them?")  # fmt: skip
    add("--shards", action="store_true", help="write the rows of each side as a data set; for sources that are ours")
    add("--no-leakage", action="store_true", help="with --group: measure no leakage, which needs no sentence model")
    for name in ("prompt", "id", "source"):
        add(f"--{name}-column", metavar="NAME", help=f"column of the {name}s, where it is not found by itself")
    add("--sentence-model", metavar="MODEL", help="name or folder (default: all-MiniLM-L6-v2)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--json", action="store_true", help="print the report as JSON")


def split(options: argparse.Namespace) -> int:
    """Divides the rows; returns 0.

    Raises:
        ConfigError, DataError, MissingExtra, OutputError: see those.
    """
    from img2prompt.jobs.pairs.dividing import read_material, written
    from img2prompt.jobs.pairs.split_report import report_lines

    plan = _plan(options)
    columns = {name: getattr(options, f"{name}_column") for name in ("prompt", "id", "source")}
    given = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    material = read_material(options.sources, given, plan.group, options.previous, options.benchmark)
    report = written(options.out, material, plan, options.device)
    print(json.dumps(report, ensure_ascii=False) if options.json else "\n".join(report_lines(report)))
    for line in material.skips.lines():
        print(f"skipped: {line}", file=sys.stderr)
    print(f"written: {options.out}", file=sys.stderr)
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    from img2prompt.jobs.pairs.dividing import Plan
    from img2prompt.models.sentence import MINILM
    from img2prompt.pairs.prompts import is_shards
    from img2prompt.pairs.split import SplitSettings

    clusters = options.group is None or options.clusters
    if options.no_leakage and (clusters or options.benchmark):
        raise ConfigError("--no-leakage goes with --group alone: clusters and benchmarks need the embeddings anyway")
    foreign = [source for source in options.sources if not is_shards(Path(source))]
    if options.shards and foreign:
        raise ConfigError(
            f"--shards: {foreign[0]} is no data set of ours; make one first: img2prompt pairs format SOURCE... OUT"
        )
    try:
        settings = SplitSettings(options.validation, options.test, options.seed, options.tolerance, options.largest)
    except ValueError as error:
        raise ConfigError(f"--validation and --test: {error}") from error
    return Plan(
        settings=settings,
        threshold=options.threshold,
        group=options.group,
        clusters=clusters,
        sentence_model=options.sentence_model or MINILM,
        leakage=not options.no_leakage,
        shards=options.shards,
    )

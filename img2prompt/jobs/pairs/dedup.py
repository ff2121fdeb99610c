"""`img2prompt pairs dedup`: removes near-duplicate prompts, and says which went because of which."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Literal

from img2prompt.errors import ConfigError
from img2prompt.jobs.options import number
from img2prompt.jobs.pairs.scale import Cluster, add_ray_arguments

RULES = ("first", "longest", "shortest")
BEST = "best:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the sub-verb's arguments."""
    parser.description = (
        "Of prompts whose embeddings are near, one stays. Writes OUT/survivors (a data set of ours, when every SOURCE"
        " is one) or OUT/survivors.jsonl, OUT/removed.jsonl (each row that went, the survivor and the cosine), and"
        " OUT/report.html, .json and groups.jsonl. No two survivors reach the threshold. Embeddings are kept in the"
        " user's cache, so that a killed run, or one at another threshold, does not compute them again."
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="pairs in any format, or tables and lists of prompts alone")
    add("out", metavar="OUT", type=Path, help="folder to write, new or of the same command before")
    add("--threshold", type=number(float, 0.3, 1), default=0.9, help="cosine of near-duplicates (default: 0.9)")
    add("--keep", type=_rule, default="first", metavar="RULE", help="which one stays: first, longest, shortest, or"
        " best:COLUMN, the largest number in a column (default: first)")  # fmt: skip
    add("--against", nargs="+", action="extend", default=[], metavar="OTHER", help="rows near these (validation,"
        " a benchmark) go first")  # fmt: skip
    add("--only-against", action="store_true", help="with --against: near-duplicates among the rest stay")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--exact", action="store_true", help="compare all rows, however long it takes")
    ways.add_argument("--approximate", action="store_true", help="compare rows of neighbouring k-means cells; what"
                      " that misses is measured on a sample")  # fmt: skip
    ways.add_argument("--budget-s", type=number(float, 0), default=600, metavar="S", help="approximate when exact"
                      " would take longer (default: 600)")  # fmt: skip
    add("--curve", action="store_true", help="also count the survivors at thresholds from 0.70 to 0.98; exact, takes"
        " about twice as long as one threshold")  # fmt: skip
    for name in ("prompt", "id"):
        add(f"--{name}-column", metavar="NAME", help=f"column of the {name}s, where it is not found by itself")
    add("--sentence-model", metavar="MODEL", help="name or folder (default: all-MiniLM-L6-v2)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--threads", type=number(int, 0), default=0, metavar="N", help="processors to use (default: all)")
    add("--seed", type=number(int, 0, 2**31 - 1), default=0, help="of the approximate way's division (default: 0)")
    add_ray_arguments(parser)
    add("--json", action="store_true", help="print the facts as JSON")


def dedup(options: argparse.Namespace) -> int:
    """Removes near-duplicates; returns 0.

    Raises:
        ClusterError, ConfigError, DataError, MissingExtra, ModelError, OutputError: see those.
    """
    from img2prompt.jobs.pairs.dedup_plan import Plan, read_material
    from img2prompt.jobs.pairs.dedup_work import written
    from img2prompt.models.sentence import MINILM

    if options.only_against and not options.against:
        raise ConfigError("--only-against goes with --against OTHER")
    if options.ray and (options.exact or options.curve):
        raise ConfigError("--ray compares rows of neighbouring cells; leave --exact and --curve to a run without it")
    columns = {"prompt": options.prompt_column, "id": options.id_column}
    method: Literal["auto", "exact", "approximate"] = "exact" if options.exact else "auto"
    if options.approximate or options.ray:
        method = "approximate"
    cluster = Cluster(options.ray, options.threads or None, timeout_s=options.ray_timeout) if options.ray else None
    plan = Plan(
        threshold=options.threshold,
        keep=options.keep,
        among=not options.only_against,
        curve=options.curve,
        method=method,
        budget_s=options.budget_s,
        seed=options.seed,
        sentence_model=options.sentence_model or MINILM,
    )
    material = read_material(
        options.sources, options.against, {k: v for k, v in columns.items() if v is not None}, plan.column
    )
    facts = written(options.out, material, plan, options.device, options.threads, cluster)
    print(json.dumps(facts, ensure_ascii=False) if options.json else _line(facts))
    for line in material.skips.lines():
        print(f"skipped: {line}", file=sys.stderr)
    print(f"written: {options.out}; to look at: {options.out / 'report.html'}", file=sys.stderr)
    return 0


def _rule(text: str) -> str:
    """The value of --keep."""
    if text in RULES or (text.startswith(BEST) and len(text) > len(BEST)):
        return text
    raise argparse.ArgumentTypeError(f"{text}: {', '.join(RULES)} or {BEST}COLUMN is possible")


def _line(facts: dict[str, object]) -> str:
    """What was done, in a line."""
    recall = f"; recall {facts['recall']:.5f} on {facts['recall_pairs']} pairs" if facts["recall"] is not None else ""
    gone = f", {facts['near_others']} of them near OTHER" if facts["against"] else ""
    return (
        f"{facts['rows']} prompts: {facts['survivors']} stay, {facts['removed']} go{gone}"
        f" (cosine >= {facts['threshold']}; {facts['method']}{recall}; {facts['seconds']:.1f} s)"
    )

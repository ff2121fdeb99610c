"""`img2prompt pairs`: prompt-image pairs as data sets. One file a sub-verb; file = function = sub-verb."""

from __future__ import annotations

import argparse
import importlib

SUB_VERBS: dict[str, str] = {  # sub-verb -> its line in the help; the module is img2prompt.jobs.pairs.<sub-verb>
    "format": "any sources of pairs -> our shards, checked, cleaned and filtered",
    "stats": "what a data set holds, as a table, JSON and a page with pictures",
    "dedup": "remove near-duplicate prompts",
    "split": "training, validation and test rows without leaks",
    "generate": "pictures from prompts",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the arguments of every sub-verb."""
    parser.description = "Gathers, cleans, de-duplicates, divides and generates prompt-image pairs."
    subs = parser.add_subparsers(dest="sub_verb", metavar="SUB-VERB", required=True)
    for name, line in SUB_VERBS.items():
        sub_parser = subs.add_parser(name, help=line, description=line, allow_abbrev=False)
        importlib.import_module(f"{__name__}.{name}").add_arguments(sub_parser)


def pairs(options: argparse.Namespace) -> int:
    """Runs the sub-verb; returns 0, or 1 when some items failed."""
    job = importlib.import_module(f"{__name__}.{options.sub_verb}")
    return int(getattr(job, options.sub_verb)(options))

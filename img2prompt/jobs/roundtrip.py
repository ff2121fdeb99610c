"""`img2prompt roundtrip`: regenerates pictures from their prompts and says how close they come."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError, DataError
from img2prompt.jobs.options import add_model_options, number
from img2prompt.jobs.picture_options import (
    DERIVED,
    add_picture_options,
    add_run_options,
    picture_settings,
    wants_derived,
)

if TYPE_CHECKING:
    from img2prompt.jobs.loop.folder import Row, RunFolder
    from img2prompt.jobs.loop.plan import Item
    from img2prompt.jobs.loop.trip import Trip, Wishes

SEARCH_METRIC = "regressor_cosine"
KINDS = ("true", "predicted", "upsampled", "candidates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.description = (
        "Predicts the prompt of each picture, makes it rich, regenerates pictures from both with the same noise, and"
        " says how close each comes to the original, between a floor (another picture's prompt) and a ceiling (the true"
        " prompt where it is known, else another seed). A killed run is continued by running it again; nothing is"
        " downloaded."
    )
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", help="file, folder (searched recursively), 'pattern*' or URL")
    add("--pairs", metavar="SOURCE", help="pictures with their true prompts: a data set, table or folder of pairs")
    add("--count", type=number(int, 1), metavar="N", help="only the first N pictures of --pairs")
    add("--output", type=Path, required=True, metavar="RUN", help="folder of the run: pictures, results, report.html")
    add_model_options(parser)
    add("--ignore-metadata", action="store_true", help="a prompt inside of a file is not taken as its true prompt")
    _add_loop(parser)
    add_picture_options(parser, derived=True)
    add_run_options(parser)
    add("--json", action="store_true", help="print summary.json instead of the table")
    add("--no-report", action="store_true", help="write no report.html")


def _add_loop(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the loop").add_argument
    add(
        "--upsampler",
        default="bundled",
        metavar="SPEC",
        help="bundled, transformers:FOLDER, openai:MODEL, dspy:FILE.json, a preset, or none (default: bundled)",
    )
    add("--endpoint", metavar="URL", help="of the upsampler openai:MODEL")
    add(
        "--generator",
        default="storybook",
        metavar="NAME",
        help="as `pairs generate --model` (default: storybook, which draws exactly what it reads; the bundled model"
        " storybook-diffusion paints, small and less sure)",
    )
    add("--seeds", type=number(int, 1, 1000), default=4, metavar="N", help="pictures of a prompt (default: 4)")
    add("--kinds", metavar="LIST", help=f"prompts to compare: {','.join(KINDS)} (default: all there are)")
    add(
        "--refine",
        type=number(int, 2, 64),
        metavar="N",
        help="choose among N candidates by what they regenerate (with seeds of its own), and edit the best; a kind"
        " of its own, `refined`",
    )
    add(
        "--refine-metric", default=SEARCH_METRIC, metavar="NAME", help=f"that is made better (default: {SEARCH_METRIC})"
    )
    add(
        "--judge",
        metavar="SPEC",
        help="who scores how well pictures show the true prompt, else the predicted one: coca (offline), openai:MODEL",
    )
    add("--judge-endpoint", metavar="URL", help="of the judge openai:MODEL")
    add("--metrics", metavar="LIST", help="names of `img2prompt.metrics.METRICS` (default: all that are usable here)")


def roundtrip(options: argparse.Namespace) -> int:
    """Runs the loop; returns 1 when some pictures failed, else 0.

    Raises:
        ConfigError: an option is wrong, or the folder holds another run.
        DataError: none of the pictures can be used.
        OutputError: the folder cannot be written; finished work stays.
        Img2PromptError: a model cannot be opened.
    """
    from img2prompt.jobs.doctor import installation
    from img2prompt.jobs.loop.closing import table
    from img2prompt.jobs.loop.ending import finish, tell
    from img2prompt.jobs.loop.folder import RunFolder
    from img2prompt.jobs.loop.judge import judge_pictures, metrics_of
    from img2prompt.jobs.loop.opening import judge_of, parts_of, refuse_negatives
    from img2prompt.jobs.loop.plan import pictures_of
    from img2prompt.jobs.loop.summary import BASE
    from img2prompt.jobs.loop.trip import Trip

    if options.judge is not None:
        metrics_of(options.judge)  # refuses a judge that there is not, before any work
    refuse_negatives(options)
    items, wishes = _items(options), _wishes(options)
    settings = {**_settings(options), "pictures": pictures_of(items)}
    with RunFolder(options.output, settings, installation()) as run:
        trip = Trip(run, items, wishes, parts_of(options))
        trip.words()
        if not trip.predicted():
            raise DataError(_none_usable(trip))
        trip.refine()
        trip.pictures()
        trip.negate()
        trip.scores()
        if options.judge is not None:
            judge_pictures(run, trip.cases(), partial(judge_of, options))
        rows = trip.rows()
        summary = finish(run, rows, _found(run, rows, trip, options), BASE, options)
    tell(summary, table, options)
    return 1 if summary["failed"] else 0


def _items(options: argparse.Namespace) -> list[Item]:
    from img2prompt.jobs.loop.plan import items_of_pairs, items_of_targets
    from img2prompt.jobs.targets import find_targets

    if not options.images and options.pairs is None:
        raise ConfigError("name pictures, or pairs of pictures and prompts with --pairs")
    if options.count is not None and options.pairs is None:
        raise ConfigError("--count is of --pairs; name fewer pictures instead")
    items = items_of_targets(find_targets(options.images)) if options.images else []
    if options.pairs is not None:
        items += items_of_pairs(options.pairs, options.style, options.count, len(items))
    return items


def _wishes(options: argparse.Namespace) -> Wishes:
    from img2prompt.jobs.loop.opening import listed
    from img2prompt.jobs.loop.prompts import Asked
    from img2prompt.jobs.loop.trip import Wishes

    kinds = listed(options.kinds) or KINDS
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ConfigError(f"--kinds {unknown[0]}: choose from {', '.join(KINDS)}")
    proposed = max(options.candidates, options.refine or 1)
    asked = Asked(proposed, options.style, options.seed, options.batch_size)
    return Wishes(
        kinds=tuple(kinds),
        seeds=options.seeds,
        seed=options.seed,
        asked=asked,
        candidates=options.candidates,
        metadata=not options.ignore_metadata,
        negate=wants_derived(options),
    )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What decides the results, beside the pictures."""
    from img2prompt.presets import best_available

    names = ("style", "candidates", "seed", "precision", "ignore_metadata", "upsampler", "generator", "seeds")
    preset = options.preset or best_available().name
    settings = {"preset": preset, **{name: getattr(options, name) for name in names}, "judge": options.judge}
    settings |= {"refine": options.refine, "refine_metric": options.refine_metric if options.refine else None}
    settings |= {"kinds": options.kinds, **asdict(picture_settings(options))}
    return settings | ({"negative_prompt": DERIVED} if wants_derived(options) else {})


def _none_usable(trip: Trip) -> str:
    failed = [failed for row in trip.rows() for failed in row["failed"]]
    first = failed[0]
    others = f"; and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"none of the pictures can be used: {first['source']}: {first['error']}{others}"


def _found(run: RunFolder, rows: Sequence[Row], trip: Trip, options: argparse.Namespace) -> Row:
    """What the rows say together."""
    from img2prompt.jobs.loop.negated import summarise_negated
    from img2prompt.jobs.loop.refine import summarise_refined
    from img2prompt.jobs.loop.scoring import set_scores
    from img2prompt.jobs.loop.summary import summarise

    found = summarise(rows, options.seeds, trip.kinds()) | {"skipped_metrics": trip.skipped_metrics}
    if sets := set_scores(run, [*trip.kinds(), "floor"]):
        found["sets"] = sets
    if wants_derived(options):
        found["negated"] = summarise_negated(rows)
    if options.refine is not None:
        found["refined"] = summarise_refined(rows, options.refine_metric)
    return found

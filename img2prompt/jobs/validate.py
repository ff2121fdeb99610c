"""`img2prompt validate`: do rich prompts make better pictures? Base against upsampled prompts, measured and judged."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError, DataError
from img2prompt.jobs.options import number
from img2prompt.jobs.picture_options import add_picture_options, add_run_options, picture_settings
from img2prompt.jobs.upsample_inputs import Inputs, add_input_options, find_prompts

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.judge import Judge
    from img2prompt.predictor import Predictor
    from img2prompt.results import Upsampler

METRICS = ("clip_score", "coca_likelihood", "coca_probability", "coca_cosine", "prompt_cosine")  # picture and prompt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.description = (
        "Makes each prompt rich, makes pictures of both with the same noise, and says which show the base prompt"
        " better: measured, judged, and tested in pairs. A killed run is continued by running it again; nothing is"
        " downloaded."
    )
    add_input_options(parser)
    parser.set_defaults(variants=1)
    add = parser.add_argument
    add("--count", type=number(int, 1, 2**40), metavar="N", help="only the first N prompts")
    add("--output", type=Path, required=True, metavar="RUN", help="folder of the run: pictures, results, report.html")
    add("--seeds", type=number(int, 1, 1000), default=4, metavar="N", help="pictures of a prompt (default: 4)")
    add("--seed", type=number(int, 0, 2**62), default=0, help="of the run (default: 0)")
    add("--generator", default="storybook", metavar="NAME", help="as `pairs generate --model` (default: storybook)")
    _add_words(parser)
    _add_measures(parser)
    add_picture_options(parser)
    add_run_options(parser)
    add("--json", action="store_true", help="print summary.json instead of the table")
    add("--no-report", action="store_true", help="write no report.html")


def _add_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how prompts are made rich").add_argument
    add(
        "--upsampler",
        default="bundled",
        metavar="SPEC",
        help="bundled, transformers:FOLDER, openai:MODEL, dspy:FILE.json, or a preset (default: bundled)",
    )
    add("--endpoint", metavar="URL", help="of the upsampler openai:MODEL")
    add("--template", metavar="FILE", help="name or file of the request (default: the upsampler's own)")


def _add_measures(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how pictures are judged").add_argument
    add("--judge", default="coca", metavar="SPEC", help="coca (offline, the default), openai:MODEL, or none")
    add("--judge-endpoint", metavar="URL", help="of the judge openai:MODEL, whose model sees pictures")
    add("--rubric", type=Path, metavar="FILE", help="says how to judge (default: ours)")
    add("--metrics", metavar="LIST", help=f"some of {','.join(METRICS)} (default: all that are usable here)")
    add("--preset", help="whose captioner measures and reads pictures again (default: the best here)")
    add("--batch-size", type=number(int, 1, 4096), default=16, metavar="N", help="at once (default: 16)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")


def validate(options: argparse.Namespace) -> int:
    """Runs the experiment; returns 1 when some of it failed, else 0.

    Raises:
        ConfigError: an option is wrong, or the folder holds another run.
        DataError: there is no prompt.
        OutputError: the folder cannot be written; finished work stays.
        Img2PromptError: a model cannot be opened.
    """
    from img2prompt.jobs.doctor import installation
    from img2prompt.jobs.loop.ending import finish, tell
    from img2prompt.jobs.loop.folder import RunFolder
    from img2prompt.jobs.loop.judge import judge_pictures
    from img2prompt.jobs.loop.opening import generator_of
    from img2prompt.jobs.loop.summary import summarise
    from img2prompt.jobs.validate_closing import table
    from img2prompt.jobs.validate_trip import KINDS, Parts, TextTrip

    inputs = _inputs(options)
    parts = Parts(
        partial(_upsampler, options),
        partial(generator_of, options),
        partial(_predictor, options),
        partial(_comparer, options),
    )
    with RunFolder(options.output, _settings(options, inputs), installation()) as run:
        trip = TextTrip(run, inputs, parts, (options.seeds, options.seed, options.batch_size))
        trip.words()
        trip.pictures()
        trip.scores()
        if options.judge != "none":
            judge_pictures(run, trip.cases(), partial(_judge, options))
        rows = trip.rows()
        found = summarise(rows, options.seeds, KINDS, KINDS[0]) | {"skipped_metrics": trip.skipped_metrics}
        found["failed"] = [row.to_dict() for row in trip.refused] + found["failed"]
        summary = finish(run, rows, found, KINDS[0], options)
    tell(summary, table, options)
    return 1 if summary["failed"] or summary.get("judge", {}).get("failed") else 0


def _inputs(options: argparse.Namespace) -> Inputs:
    """The prompts, once all that a run needs has been looked at."""
    from img2prompt.jobs.loop.judge import metrics_of
    from img2prompt.jobs.loop.opening import listed

    if options.judge != "none":
        metrics_of(options.judge)  # refuses a judge that there is not
    if unknown := [name for name in listed(options.metrics) if name not in METRICS]:
        raise ConfigError(
            f"--metrics {unknown[0]}: compares no picture with a prompt; choose from {', '.join(METRICS)}"
        )
    inputs = find_prompts(options)
    inputs.wanted = inputs.wanted[: options.count]
    if not inputs.wanted:
        first = inputs.failed[0]
        raise DataError(f"{first.source}: {first.error}; none of the prompts can be used")
    return inputs


def _settings(options: argparse.Namespace, inputs: Inputs) -> dict[str, Any]:
    """What decides the results."""
    from img2prompt.presets import best_available

    names = ("benchmark", "upsampler", "template", "generator", "seeds", "seed", "judge")
    given = {name: getattr(options, name) for name in names}
    words = "\n".join(f"{one.name} {one.prompt}" for one in inputs.wanted).encode(errors="surrogatepass")
    prompts = {"count": len(inputs.wanted), "words": hashlib.sha256(words).hexdigest()[:16]}
    preset = options.preset or best_available().name
    return {"prompts": prompts, **given, "preset": preset, **asdict(picture_settings(options))}


def _upsampler(options: argparse.Namespace) -> Upsampler:
    from img2prompt.jobs.loop.opening import target_of
    from img2prompt.upsampler import BackEndSettings, UpsampleSettings, open_upsampler

    settings = UpsampleSettings(template=options.template, target=target_of(options.generator))
    run = BackEndSettings(device=options.device, batch_size=options.batch_size, endpoint=options.endpoint)
    return open_upsampler(options.upsampler, settings, run)


def _predictor(options: argparse.Namespace) -> Predictor:
    from img2prompt.predictor import Predictor

    return Predictor.from_preset(options.preset, device=options.device)


def _comparer(options: argparse.Namespace) -> Comparer:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.opening import listed

    return Comparer.open(listed(options.metrics) or METRICS, device=options.device, predictor=_predictor(options))


def _judge(options: argparse.Namespace) -> Judge:
    from img2prompt.jobs.loop.judge import JudgeSettings, open_judge
    from img2prompt.upsampling.settings import BackEndSettings

    reach = BackEndSettings(device=options.device, endpoint=options.judge_endpoint)
    return open_judge(options.judge, JudgeSettings(reach, options.rubric, partial(_predictor, options)))

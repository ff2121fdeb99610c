"""How the options of the loop become its models; none is opened before there is work for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.jobs.loop.trip import Parts
from img2prompt.jobs.picture_options import picture_settings, run_settings

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.judge import Judge
    from img2prompt.jobs.loop.refine import Refiner
    from img2prompt.predictor import Predictor
    from img2prompt.results import Generator, Upsampler


def parts_of(options: argparse.Namespace) -> Parts:
    """The models of a round trip."""
    predictor = partial(_predictor, options)
    return Parts(
        predictor,
        None if options.upsampler == "none" else partial(_upsampler, options),
        partial(generator_of, options),
        partial(_comparer, options, predictor),
        None if options.refine is None else partial(_refiner, options, predictor),
    )


def _predictor(options: argparse.Namespace) -> Predictor:
    from img2prompt.predictor import Predictor

    return Predictor.from_preset(options.preset, device=options.device, precision=options.precision)


def _upsampler(options: argparse.Namespace) -> Upsampler:
    from img2prompt.upsampler import BackEndSettings, UpsampleSettings, open_upsampler

    settings = UpsampleSettings(target=target_of(options.generator))
    run = BackEndSettings(device=options.device, batch_size=options.batch_size, endpoint=options.endpoint)
    return open_upsampler(options.upsampler, settings, run)


def target_of(generator: str) -> str:
    """The text encoder that reads a generator's prompts, where it is known; else CLIP."""
    from img2prompt.upsampling.limits import TARGETS_OF_GENERATORS, TOKEN_COUNTERS

    known = generator in TARGETS_OF_GENERATORS or generator in TOKEN_COUNTERS or Path(generator).is_dir()
    return generator if known else "clip"


def generator_of(options: argparse.Namespace) -> Generator:
    """Who makes the pictures."""
    from img2prompt.jobs.generators import open_generator

    return open_generator(options.generator, picture_settings(options), run_settings(options))


def _comparer(options: argparse.Namespace, predictor: Callable[[], Predictor]) -> Comparer:
    from img2prompt.comparison import Comparer

    return Comparer.open(listed(options.metrics) or None, device=options.device, predictor=predictor())


def _refiner(options: argparse.Namespace, predictor: Callable[[], Predictor]) -> Refiner:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.refine import Refiner, Search

    opened = predictor()
    comparer = Comparer.open([options.refine_metric], device=options.device, predictor=opened)
    return Refiner(opened, generator_of(options), comparer, Search(options.refine_metric))


def judge_of(options: argparse.Namespace) -> Judge:
    """Who judges the pictures."""
    from img2prompt.jobs.loop.judge import JudgeSettings, open_judge
    from img2prompt.upsampling.settings import BackEndSettings

    reach = BackEndSettings(device=options.device, endpoint=options.judge_endpoint)
    return open_judge(options.judge, JudgeSettings(reach, predictor=partial(_predictor, options)))


def listed(text: str | None) -> list[str]:
    """The names in a list with commas."""
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]

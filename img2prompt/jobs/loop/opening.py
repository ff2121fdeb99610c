"""How the options of the loop become its models; none is opened before there is work for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError
from img2prompt.jobs.loop.negated import NEGATED
from img2prompt.jobs.loop.trip import Parts
from img2prompt.jobs.picture_options import picture_settings, run_settings, wants_derived

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.judge import Judge
    from img2prompt.jobs.loop.refine import Refiner
    from img2prompt.predictor import Predictor
    from img2prompt.results import Generator, Upsampler


_NO_NEGATIVES = "--negative-prompt derived: {} takes no negative prompt"


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
    """Who makes the pictures.

    Raises:
        ConfigError: negative prompts are to be derived, and its pipeline heeds none.
        Img2PromptError: it cannot be opened.
    """
    from img2prompt.jobs.generators import open_generator

    opened = open_generator(options.generator, picture_settings(options), run_settings(options))
    if wants_derived(options) and not opened.takes_negatives:
        raise ConfigError(f"{_NO_NEGATIVES.format(options.generator)}, or its guidance is no more than 1")
    return opened


def refuse_negatives(options: argparse.Namespace) -> None:
    """Says before any work what can be said without opening the generator.

    Raises:
        ConfigError: negative prompts are to be derived, and it has none or no kind of prompt would get one.
    """
    from img2prompt.jobs.generators import GENERATORS

    if not wants_derived(options):
        return
    if options.generator in GENERATORS and not GENERATORS[options.generator].negatives:
        raise ConfigError(f"{_NO_NEGATIVES.format(options.generator)}; storybook-diffusion does")
    kinds = listed(options.kinds)
    if kinds and not set(kinds) & set(NEGATED):
        raise ConfigError(f"--negative-prompt derived: --kinds needs {' or '.join(NEGATED)}, which it is derived for")


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

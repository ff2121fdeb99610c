"""`img2prompt upsample --optimise`: better instructions and examples for a DSPy program."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, OutputError
from img2prompt.pairs.atomic import write_atomically

if TYPE_CHECKING:
    from img2prompt.models.dspy_optimise import Optimised
    from img2prompt.upsampler import BackEndSettings, UpsampleSettings


def optimise(
    options: argparse.Namespace, prompts: Sequence[str], settings: UpsampleSettings, run: BackEndSettings
) -> int:
    """Optimises on the prompts and saves the program; says on stderr what was compared.

    Raises:
        ConfigError: no DSPy model was named, or there are too few prompts.
        MissingExtra: dspy is not installed.
        TrainingError: the language model gives nothing usable.
        OutputError: the file cannot be written.
    """
    name, _, spec = options.upsampler.partition(":")
    if name != "dspy" or not spec:
        raise ConfigError("--optimise takes a DSPy program: --upsampler dspy:MODEL --endpoint URL")
    if options.optimise.suffix != ".json":
        raise ConfigError(f"{options.optimise}: the name of a program ends in .json")
    from img2prompt.models.dspy_optimise import optimise as search
    from img2prompt.models.dspy_program import RichPrompt, load_program, open_model, program_text
    from img2prompt.upsampling.drift import open_check
    from img2prompt.upsampling.limits import open_counter
    from img2prompt.upsampling.merit import merit_by

    counter = open_counter(settings.target, settings.token_limit)
    measure = merit_by(open_check(settings.check or "auto"), counter)
    if spec.endswith(".json"):
        program, model, _ = load_program(Path(spec), measure)
    else:
        program, model = RichPrompt(measure), spec
    lm = open_model(model, run.endpoint, timeout_s=run.timeout_s, tries=run.tries)
    found = search(program, lm, prompts, counter.limit, seed=options.seed)
    about = {"chosen": found.chosen, "scores": found.scores, "compared_on": found.prompts, "seed": options.seed}
    about |= {"target": counter.name, "token_limit": counter.limit}
    _save(options.optimise, program_text(found.program, model, about))
    _report(found, options.optimise)
    return 0


def _save(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; choose a place that can be written") from error


def _report(found: Optimised, path: Path) -> None:
    for one, score in found.scores.items():
        print(f"{score:.3f}  {one}{'  <- kept' if one == found.chosen else ''}", file=sys.stderr)
    print(
        f"{path}: mean over {found.prompts} prompts that nothing was learned from; use it with --upsampler dspy:{path}",
        file=sys.stderr,
    )

"""Better instructions and examples for a DSPy program, found on a handful of prompts."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from img2prompt.errors import ConfigError, TrainingError
from img2prompt.models.dspy_program import Measure, RichPrompt, dspy

_GOOD = 0.75  # of the measure: an answer that is worth to be an example
_LEAST_PROMPTS = 4  # that can be divided into those to learn from and those to compare programs on


@dataclass(frozen=True, slots=True)
class Optimised:
    """What an optimisation found.

    Attributes:
        program: the best of those that were compared, the unchanged one among them.
        chosen: its name.
        scores: mean measure of each program, 0..1, on prompts that nothing was learned from.
        prompts: how many these were.
    """

    program: RichPrompt
    chosen: str
    scores: dict[str, float]
    prompts: int


def optimise(program: RichPrompt, model: Any, prompts: Sequence[str], token_limit: int, *, seed: int = 0) -> Optimised:
    """Looks for better instructions and examples.

    One half of the prompts is learned from: answers that measure well become examples (bootstrapping), and the model is
    asked for other instructions, which are tried (COPRO). The other half says which program stands; the unchanged one
    is among them, so the outcome is never worse there.

    Args:
        program: to start from.
        model: of `open_model`.
        prompts: short ones, at least four.
        token_limit: of the rich prompts.
        seed: of the division.

    Raises:
        ConfigError: too few prompts.
        TrainingError: the model answers nothing that can be read.
    """
    some = list(dict.fromkeys(prompt for prompt in prompts if prompt.strip()))
    if len(some) < _LEAST_PROMPTS:
        raise ConfigError(f"{len(some)} different prompts: to optimise takes at least {_LEAST_PROMPTS}")
    random.Random(seed).shuffle(some)
    rows = [
        dspy.Example(base_prompt=prompt, token_limit=token_limit, trouble="").with_inputs(
            "base_prompt", "token_limit", "trouble"
        )
        for prompt in some
    ]
    learn, compare = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    with dspy.context(lm=model), _quiet_stdout():
        programs = {"unchanged": program, **dict(_variants(program, learn))}
        scores = {name: _mean(one, compare) for name, one in programs.items()}
    if not any(scores.values()):
        raise TrainingError("the language model gave no usable answer to any prompt; take another model")
    chosen = max(scores, key=lambda name: scores[name])
    return Optimised(programs[chosen], chosen, scores, len(compare))


def _variants(program: RichPrompt, learn: Sequence[Any]) -> Iterator[tuple[str, RichPrompt]]:
    measured = _metric(program.measure)

    def good(example: Any, found: Any, trace: Any = None) -> bool:
        return measured(example, found) >= _GOOD

    examples = dspy.BootstrapFewShot(metric=good, max_bootstrapped_demos=4, max_labeled_demos=0, max_errors=len(learn))
    with contextlib.suppress(dspy.utils.exceptions.DSPyError):
        yield "examples", examples.compile(program.deepcopy(), trainset=list(learn))
    rewritten = None
    with contextlib.suppress(dspy.utils.exceptions.DSPyError, AttributeError, IndexError):
        # What a weak model proposes may not be read; then there are no other instructions.
        search = dspy.COPRO(metric=measured, breadth=4, depth=1)
        rewritten = search.compile(program.deepcopy(), trainset=list(learn), eval_kwargs=_EVALUATE)
        yield "instructions", rewritten
    if rewritten is not None:
        with contextlib.suppress(dspy.utils.exceptions.DSPyError):
            again = rewritten.deepcopy()
            again._compiled = False
            yield "both", examples.compile(again, trainset=list(learn))


_EVALUATE = {"num_threads": 1, "display_progress": False, "display_table": False}


def _metric(measure: Measure) -> Callable[..., float]:
    def measured(example: Any, found: Any, trace: Any = None) -> float:
        return measure(example.base_prompt, found.rich_prompt or "", example.token_limit)

    return measured


def _mean(program: RichPrompt, rows: Sequence[Any]) -> float:
    """Of the measure; an answer that cannot be read counts 0."""
    scores: list[float] = []
    for row in rows:
        try:
            scores.append(program(**row.inputs().toDict()).score)
        except dspy.utils.exceptions.AdapterParseError:
            scores.append(0.0)
    return sum(scores) / len(scores)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """DSPy's optimisers print; standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield

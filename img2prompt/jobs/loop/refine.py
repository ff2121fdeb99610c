"""Refinement: the prompt whose pictures come closest to the original, among candidates and edits of the best.

Analysis by synthesis: a candidate is believed for what it regenerates. The pictures of this search start from seeds of
their own, so that the final scores, which use the run's seeds, tell nothing that the search has already seen. What is
maximised is the mean of a metric over the seeds of the search plus WEIGHT times the score that ranked the candidate.

Measured by scripts/bench/refine.py on 301 held-out storybook scenes, 12 candidates, 63 prompts changed: facts right
95.3 -> 96.0 % (p 0.002), object F1 0.958 -> 0.965 (p 0.02), cosine to the true prompt 0.955 -> 0.958 (p 0.01), that
metric on pictures of other seeds 0.974 -> 0.980 (p < 0.001); SSIM no different. The pictures alone, without the
ranking, choose no better than it (p 0.9), and no edit was taken: that generator draws all it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from img2prompt.errors import ConfigError
from img2prompt.jobs.loop.faults import missing_in
from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.originals import open_pictures, original_file
from img2prompt.jobs.loop.plan import seeds_for
from img2prompt.pairs.storybook.parse import parse
from img2prompt.progress import track
from img2prompt.results import Failed
from img2prompt.tracing import span

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.comparison import Comparer
    from img2prompt.predictor import Predictor
    from img2prompt.results import Generator

WEIGHT = 0.5  # of a candidate's ranking score beside the metric; fitted on validation scenes
MOST_EDITS = 6


@dataclass(frozen=True, slots=True)
class Search:
    """How refinement searches.

    Attributes:
        metric: of METRICS, between two pictures, that is made better.
        seeds: pictures of each prompt.
        rounds: of edits after the choice among candidates.
        weight: of the ranking score.
    """

    metric: str = "regressor_cosine"
    seeds: int = 4
    rounds: int = 1
    weight: float = WEIGHT


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt that was tried: where it comes from, what its pictures score, and with its ranking score."""

    text: str
    origin: str
    likeness: float  # mean of the metric, higher is better
    total: float
    says: tuple[str, ...] = ()  # what is predicted of its pictures


class Refiner:
    """Searches the prompt of one original after the other; its three models stay in memory together.

    Args:
        predictor: says what a regenerated picture shows.
        generator: of the pictures.
        comparer: with the metric of the search.
        search: how.

    Raises:
        ConfigError: the metric is not usable here.
    """

    def __init__(self, predictor: Predictor, generator: Generator, comparer: Comparer, search: Search) -> None:
        if search.metric not in comparer.rows:
            raise ConfigError(f"refining by {search.metric}: {comparer.skipped[search.metric]}")
        if comparer.rows[search.metric].kind != "images":
            raise ConfigError(f"refining by {search.metric}: it does not compare pictures with pictures")
        self._predictor, self._generator, self._comparer, self._search = predictor, generator, comparer, search
        self._sign = 1 if comparer.rows[search.metric].higher_is_better else -1

    def refine(self, original: Image, candidates: Sequence[Row], seeds: Sequence[int]) -> Row:
        """The best prompt of an original.

        Args:
            original: the picture.
            candidates: rows with `text` and `score`, best first.
            seeds: of the search.

        Returns:
            A row of `prompts`: text, from, likeness, of the candidate before the search too, and every trial.
        """
        scores = [row.get("score") for row in candidates]
        ranked = None not in scores
        trials: list[Trial] = []
        for place, row in _distinct(candidates):
            origin = "predicted" if place == 1 else f"candidate-{place}"
            prior = row["score"] - scores[0] if ranked else 0.0
            trials.append(self._try(original, row["text"], origin, seeds, self._search.weight * prior))
        best = max(trials, key=lambda trial: trial.total)
        for _ in range(self._search.rounds):
            known = {trial.text for trial in trials}
            edits = [text for text in _edits(best, self._said(best, seeds)) if text not in known]
            trials += [self._try(original, text, "edit", seeds, best.total - best.likeness) for text in edits]
            better = max(trials, key=lambda trial: trial.total)
            if better is best:
                break
            best = better
        told = [{"text": t.text, "from": t.origin, "likeness": _plain(t.likeness)} for t in trials]
        return {
            "text": best.text,
            "from": best.origin,
            "likeness": _plain(best.likeness),
            "before": _plain(trials[0].likeness),
            "trials": told,
        }

    def _try(self, original: Image, text: str, origin: str, seeds: Sequence[int], prior: float) -> Trial:
        images = self._pictures(text, seeds)
        likeness = -np.inf
        if images:
            scores = self._comparer.images([original] * len(images), images)[self._search.metric]
            likeness = self._sign * float(np.nanmean(scores)) if np.isfinite(scores).any() else -np.inf
        return Trial(text, origin, likeness, likeness + prior)

    def _said(self, trial: Trial, seeds: Sequence[int]) -> list[str]:
        """What is predicted of the trial's pictures."""
        images = self._pictures(trial.text, seeds)
        rows = self._predictor.predict_many(images, batch_size=len(images) or 1, ignore_metadata=True)
        return [row.prompt for row in rows if not isinstance(row, Failed)]

    def _pictures(self, text: str, seeds: Sequence[int]) -> list[Image]:
        made = self._generator.generate_many([text] * len(seeds), list(seeds))
        return [item.image for item in made if not isinstance(item, Failed)]


def refine(
    run: RunFolder,
    cases: Sequence[tuple[str, Sequence[Row]]],
    open_it: Callable[[], Refiner],
    seeds: Callable[[str], Sequence[int]],
) -> None:
    """Refines the prompts that were not refined yet.

    Args:
        run: the run.
        cases: id of each original and the candidates for its prompt.
        open_it: opens the models.
        seeds: those of the search, by the id.

    Raises:
        OutputError: a row cannot be written.
        Img2PromptError: a model cannot be opened.
    """
    todo = [case for case in cases if run.get("refine", case[0]) is None]
    if not todo:
        return
    refiner = open_it()
    for name, candidates in track(todo, total=len(todo), unit="picture", label="refine"):
        (original,) = open_pictures(run.root, [original_file(name)])
        with span("refine", image=name, candidates=[row["text"] for row in candidates]) as step:
            row = refiner.refine(original, candidates, seeds(name))
            step.set(prompt=row["text"], origin=row["from"], likeness=row["likeness"], before=row["before"])
        run.put("refine", name, row)


def search_seeds(place: str, count: int, seed: int, taken: int) -> list[int]:
    """Seeds for the search of one original, none of which is among the `taken` ones that its final pictures have."""
    final = set(seeds_for(place, taken, seed))
    return [value for value in seeds_for(f"search {place}", count + taken, seed) if value not in final][:count]


def summarise_refined(rows: Sequence[Row], metric: str) -> Row:
    """The `refined` of summary.json: what the search did; whether it helped is in the tests of every metric."""
    found = [row["prompts"]["refined"] for row in rows if "refined" in row["prompts"]]
    gains = [row["likeness"] - row["before"] for row in found if None not in (row["likeness"], row["before"])]
    return {
        "metric": metric,
        "images": len(found),
        "prompts_tried": sum(len(row["trials"]) for row in found),
        "changed": sum(row["from"] != "predicted" for row in found),
        "edited": sum(row["from"] == "edit" for row in found),
        "gain_on_search_seeds": float(np.mean(gains)) if gains else None,
    }


def _distinct(candidates: Sequence[Row]) -> list[tuple[int, Row]]:
    """Candidates that say different things, each with its place; of those that say the same the first."""
    found: dict[Any, tuple[int, Row]] = {}
    for place, row in enumerate(candidates, 1):
        facts = parse(row["text"])
        meaning = facts if facts.objects else " ".join(row["text"].casefold().split())
        found.setdefault(meaning, (place, row))
    return list(found.values())


def _edits(best: Trial, said: Sequence[str]) -> list[str]:
    """The prompt with what most of its pictures do not show, each thing and then all of it said again."""
    missing = missing_in(best.text, said)[:MOST_EDITS]
    edits = [f"{best.text}, {fact}" for fact in missing]
    return edits + ([f"{best.text}, {', '.join(missing)}"] if len(missing) > 1 else [])


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None

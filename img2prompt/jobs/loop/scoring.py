"""Comparison: what the captioner says of the regenerated pictures, and every metric of every picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.originals import open_pictures, original_file
from img2prompt.jobs.loop.pictures import Wanted, grouped, picture_row
from img2prompt.progress import track
from img2prompt.results import Failed
from img2prompt.tracing import span

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.predictor import Predictor

Scores = dict[str, dict[str, list[float | None]]]  # metric -> kind -> one value a seed
TRUE, ANOTHER_SEED = "true prompt", "another seed"  # what a ceiling is made of
CEILING = "ceiling"  # in scores: pictures of one prompt against each other, where no true prompt is known


@dataclass(frozen=True, slots=True)
class Case:
    """An original with its regenerated pictures.

    Attributes:
        id: of the original.
        reference: what pictures are compared to in words: the true prompt, else the predicted one.
        predicted: the predicted prompt.
        ceiling: "true prompt" | "another seed".
        pictures: kind -> its pictures, a seed each.
    """

    id: str
    reference: str
    predicted: str
    ceiling: str
    pictures: Mapping[str, Sequence[Wanted]] = field(default_factory=dict)


def predict_again(
    run: RunFolder, cases: Sequence[Case], predictor: Callable[[], Predictor], style: str, batch_size: int
) -> None:
    """Predicts the prompt of every regenerated picture that has none yet.

    Raises:
        OutputError: a row cannot be written.
        Img2PromptError: the model cannot be opened.
    """
    todo = [
        picture
        for case in cases
        for pictures in case.pictures.values()
        for picture in pictures
        if run.get("again", picture.file) is None and "file" in picture_row(run, picture)
    ]
    twins = grouped(todo)
    if not twins:
        return
    files = (run.root / group[0].file for group in twins)
    rows = predictor().predict_many(files, batch_size=batch_size, style=style, ignore_metadata=True)
    shown = track(rows, total=len(twins), unit="picture", label="predict again")
    for group, row in zip(twins, shown, strict=True):
        for picture in group:
            run.put("again", picture.file, {"error": row.error} if isinstance(row, Failed) else {"text": row.prompt})


def compare(run: RunFolder, cases: Sequence[Case], open_it: Callable[[], Comparer]) -> dict[str, str]:
    """Scores every picture by every metric that it has no score of yet.

    Returns:
        Metrics that are not usable here, and why.

    Raises:
        OutputError: a row cannot be written.
        Img2PromptError: the metrics cannot be opened.
    """
    comparer = open_it()
    for name, model in comparer.settings().items():
        run.open_model(f"metric {name}", {"model": model})
    wanted = {name for name, row in comparer.rows.items() if row.kind != "sets"}
    for case in track(cases, total=len(cases), unit="picture", label="compare"):
        pictures = _Pictures(run, case)
        known = run.get("score", case.id) or {}
        # A picture that failed for want of memory may be there in the next run.
        scores: Scores = known["scores"] if known.get("of") == pictures.files else {}
        if not wanted <= set(scores):
            with span("compare", image=case.id, reference=case.reference) as step:
                scores = {**scores, **pictures.scores(comparer)}
                step.set(**{f"{metric}.{kind}": some for metric, row in scores.items() for kind, some in row.items()})
            run.put("score", case.id, {"of": pictures.files, "scores": scores})
    _compare_sets(run, cases, comparer)
    return dict(comparer.skipped)


def set_scores(run: RunFolder, kinds: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Scores of all pictures of a kind together, as `sets` of summary.json; empty where no such metric is usable."""
    rows = {kind: run.get("sets", kind) for kind in kinds}
    return {kind: row["scores"] for kind, row in rows.items() if row is not None}


def _compare_sets(run: RunFolder, cases: Sequence[Case], comparer: Comparer) -> None:
    if not any(row.kind == "sets" for row in comparer.rows.values()):
        return
    for kind in dict.fromkeys(kind for case in cases for kind in case.pictures):
        wanted = [(case, picture) for case in cases for picture in case.pictures.get(kind, ())]
        there = [(case, picture) for case, picture in wanted if "file" in picture_row(run, picture)]
        files = [picture.file for _, picture in there]
        if not files or (run.get("sets", kind) or {}).get("of") == files:
            continue
        firsts = [original_file(name) for name in dict.fromkeys(case.id for case, _ in there)]
        scores = comparer.sets(list(open_pictures(run.root, firsts)), list(open_pictures(run.root, files)))
        plain = {name: value if np.isfinite(value) else None for name, value in scores.items()}
        run.put("sets", kind, {"of": files, "scores": plain})


class _Pictures:
    """The pictures of one original that are there; kinds with the same words share theirs and its scores."""

    def __init__(self, run: RunFolder, case: Case) -> None:
        self._case, self._run = case, run
        there = {
            kind: [picture if "file" in picture_row(run, picture) else None for picture in pictures]
            for kind, pictures in case.pictures.items()
        }
        self.files = [picture.file for some in there.values() for picture in some if picture is not None]
        groups = grouped(picture for some in there.values() for picture in some if picture is not None)
        self._distinct = [group[0] for group in groups]
        places = {picture.key: place for place, picture in enumerate(self._distinct)}
        # Of each kind and seed, where its picture stands among the distinct ones.
        self._places = {
            kind: [None if picture is None else places[picture.key] for picture in some] for kind, some in there.items()
        }
        ceiling = [place for place in self._places.get("predicted", ()) if place is not None]
        # Each against the next seed, the last against the first.
        pairs = list(zip(ceiling, [*ceiling[1:], *ceiling[:1]], strict=True)) if len(ceiling) > 1 else []
        self._pairs = [] if case.ceiling == TRUE else pairs

    def scores(self, comparer: Comparer) -> Scores:
        """By all metrics: of pictures to the original, of pictures to the reference, of what is predicted of them."""
        if not self._distinct:
            return {name: {} for name in comparer.rows}
        files = [picture.file for picture in self._distinct]
        original, *images = open_pictures(self._run.root, [original_file(self._case.id), *files])
        firsts = [original] * len(images) + [images[one] for one, _ in self._pairs]
        seconds = images + [images[other] for _, other in self._pairs]
        found = {name: self._by_kind(values) for name, values in comparer.images(firsts, seconds).items()}
        # Of the words a ceiling without a true prompt is the original itself, which the words were read from.
        itself = [original] if self._pairs else []
        words = comparer.texts([*images, *itself], [self._case.reference] * (len(images) + len(itself)))
        found |= {name: self._by_kind(values) for name, values in words.items()}
        if "prompt_cosine" in comparer.rows:
            found["prompt_cosine"] = self._by_kind(self._of_prompts(comparer))
        return found

    def _of_prompts(self, comparer: Comparer) -> NDArray[np.float64]:
        rows: list[Any] = [self._run.get("again", picture.file) or {} for picture in self._distinct]
        said = [row.get("text") for row in rows]
        firsts = [self._case.predicted] * len(said) + [said[one] for one, _ in self._pairs]
        seconds = said + [said[other] for _, other in self._pairs]
        known = [n for n in range(len(firsts)) if firsts[n] is not None and seconds[n] is not None]
        values = np.full(len(firsts), np.nan)
        values[known] = comparer.prompts([firsts[n] for n in known], [seconds[n] for n in known])
        return values

    def _by_kind(self, values: NDArray[np.floating]) -> dict[str, list[float | None]]:
        """Scores of the distinct pictures, then of the ceiling where it is one of its own, as lists by kind."""
        plain = [float(value) if np.isfinite(value) else None for value in values]
        rows = {
            kind: [None if place is None else plain[place] for place in places] for kind, places in self._places.items()
        }
        if self._pairs:
            rows[CEILING] = plain[len(self._distinct) :]
        return rows

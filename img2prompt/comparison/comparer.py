"""`Comparer`: all measures of likeness that this machine has the weights for, opened once."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from img2prompt.comparison.means import Means
from img2prompt.comparison.measures import MEASURES, Measure
from img2prompt.comparison.sizes import opened
from img2prompt.errors import ConfigError, Img2PromptError
from img2prompt.metrics import METRICS, Metric
from img2prompt.tracing import span

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.companions import Models

Array = NDArray[np.float64]


class _Rater(Protocol):
    models: Models


class _Predicting(Protocol):
    """What is needed of a `Predictor`, which stands beside this room."""

    @property
    def rater(self) -> _Rater: ...


class Comparer:
    """Measures how close pictures are to each other and to texts; make one with `open`.

    A pair's scores do not depend on the pairs beside it (to 1e-5). A score that cannot be had is NaN and never another
    number, and `undefined` counts why: a picture has no pixels or is too small for the measure, a set has fewer than
    two, or a model gives no finite number.

    Attributes:
        rows: the metrics that are usable here, by name.
        skipped: name -> why a metric is not, and what to do about it.
        undefined: "metric: reason" -> how many scores were NaN so far.
    """

    def __init__(self, measures: Mapping[str, Measure], skipped: Mapping[str, str]) -> None:
        self._measures, self.skipped = dict(measures), dict(skipped)
        self.rows: dict[str, Metric] = {name: METRICS[name] for name in measures}
        self.undefined: Counter[str] = Counter()

    @classmethod
    def open(
        cls,
        names: Sequence[str] | None = None,
        *,
        device: str = "auto",
        predictor: _Predicting | None = None,
        weights: str | Path | None = None,
    ) -> Comparer:
        """Loads what is on this machine; downloads nothing, and replaces nothing by something else.

        Args:
            names: of METRICS, those that compare pictures, pictures with texts, or two prompts; None: all of these.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            predictor: whose captioner and regressor measure, in float32 whatever it computes in; None: those of the
                best preset on this machine.
            weights: a folder that is searched for weights files before torch's hub cache.

        Raises:
            ConfigError: there is no such metric, or no such device.
        """
        wanted = list(MEASURES) if names is None else list(dict.fromkeys(names))
        for name in wanted:
            if name not in MEASURES:
                near = difflib.get_close_matches(name, MEASURES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(MEASURES)}"
                raise ConfigError(f"metric {name}: not one that compares pictures; {hint}")
        theirs = None if predictor is None else predictor.rater.models
        means = Means(device, theirs, None if weights is None else Path(weights).expanduser())
        measures: dict[str, Measure] = {}
        skipped: dict[str, str] = {}
        for name in wanted:
            try:
                measures[name] = MEASURES[name](means)
            except Img2PromptError as error:
                skipped[name] = str(error)
        return cls(measures, skipped)

    def settings(self) -> dict[str, str]:
        """Metric -> the model that measures it: what settles the scores beside pictures and prompts."""
        return {name: measure.model for name, measure in self._measures.items()}

    def images(self, originals: Sequence[Image], others: Sequence[Image]) -> dict[str, Array]:
        """Scores (B,) of each picture of `others` against the one of `originals` at its place, a row a metric.

        Pictures of any mode and size; transparent ones stand on white. Where pixels are compared (ssim, lpips) both
        are brought to the smaller width and the smaller height of the two, by area and so that the shorter side has
        at most 256 pixels, which also squeezes a picture of another shape; the other measures see each picture as
        their model wants it. One object that occurs several times is looked at once.
        """
        return self._measured("images", originals, others)

    def texts(self, images: Sequence[Image], prompts: Sequence[str]) -> dict[str, Array]:
        """Scores (B,) of each picture with the prompt at its place, a row a metric.

        A prompt longer than a model reads counts as far as it is read.
        """
        return self._measured("image-text", images, prompts)

    def prompts(self, texts: Sequence[str], others: Sequence[str]) -> Array:
        """Cosines (B,) of the sentence embeddings of two prompts at the same place; NaN where the row is not usable."""
        scores = self._measured("texts", texts, others)
        return scores.get("prompt_cosine", np.full(len(texts), math.nan))

    def sets(self, originals: Sequence[Image], others: Sequence[Image]) -> dict[str, float]:
        """Distances of two sets of pictures of any sizes, a row a metric; pictures that cannot be used are left out."""
        ours, theirs = ([image for image in opened(some) if image is not None] for some in (originals, others))
        with span("compare", kind="sets", originals=len(ours), others=len(theirs)) as step:
            scores = self._scores("sets", ours, theirs)
            step.set(**{name: _mean(values) for name, values in scores.items()})
        return {name: float(values[0]) for name, values in scores.items()}

    def _measured(self, kind: str, first: Sequence[Any], second: Sequence[Any]) -> dict[str, Array]:
        if len(first) != len(second):
            raise ValueError(f"{len(first)} and {len(second)} items; pairs are compared")
        ours = list(first) if kind == "texts" else opened(first)
        theirs = opened(second) if kind == "images" else list(second)
        usable = [place for place in range(len(ours)) if ours[place] is not None and theirs[place] is not None]
        ours, theirs = [ours[place] for place in usable], [theirs[place] for place in usable]
        found = {}
        with span("compare", kind=kind, pairs=len(first)) as step:
            for name, scores in self._scores(kind, ours, theirs).items():
                found[name] = np.full(len(first), math.nan)
                found[name][usable] = scores
                self._count(name, "a picture without pixels, or with too many", len(first) - len(usable))
                step.set(**{name: _mean(scores)})
        return found

    def _scores(self, kind: str, first: list[Any], second: list[Any]) -> dict[str, Array]:
        found = {}
        for name in [name for name, row in self.rows.items() if row.kind == kind]:
            scores = np.asarray(self._measures[name].compute(first, second), np.float64)
            found[name] = np.where(np.isfinite(scores), scores, math.nan)
            self._count(name, self._measures[name].unless, int(np.isnan(found[name]).sum()))
        return found

    def _count(self, name: str, reason: str, count: int) -> None:
        if count:
            self.undefined[f"{name}: {reason}"] += count


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None

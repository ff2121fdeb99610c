"""What computes each metric that needs a model: one row a metric.

A row opens its model, or raises what is missing here and what to do about it, and gives a `Measure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from img2prompt.comparison.means import Means
from img2prompt.comparison.sizes import at_most, at_one_size, unique
from img2prompt.metrics import colour_distance, cosines

Array = NDArray[np.float64]
BATCH = 16  # pairs of one size that are looked at together
_CLIP_SCORE_WEIGHT = 2.5  # of its authors


@dataclass(frozen=True, slots=True)
class Measure:
    """An opened metric.

    Attributes:
        compute: B pictures or texts and what each is compared to -> scores (B,); NaN where there is none.
        model: what measures, for the configuration of a run.
    """

    compute: Callable[[Sequence[Any], Sequence[Any]], Array]
    model: str


def _of_pixels(measure: Callable[[NDArray[np.uint8], NDArray[np.uint8]], Array], least_px: int, model: str) -> Measure:
    """Of a function of pixels (B,H,W,3) and (B,H,W,3): pairs of one size go together; NaN below `least_px` a side."""

    def compute(originals: Sequence[Image], others: Sequence[Image]) -> Array:
        scores = np.full(len(originals), np.nan)
        by_size: dict[tuple[int, ...], list[int]] = {}
        pairs = [at_one_size(*pair) for pair in zip(originals, others, strict=True)]
        for place, (one, _) in enumerate(pairs):
            if min(one.shape[:2]) >= least_px:
                by_size.setdefault(one.shape, []).append(place)
        for places in by_size.values():
            for start in range(0, len(places), BATCH):
                some = places[start : start + BATCH]
                scores[some] = measure(*(np.stack([pairs[place][side] for place in some]) for side in (0, 1)))
        return scores

    return Measure(compute, model)


def _of_features(see: Callable[[Sequence[Image]], NDArray[np.floating[Any]]], model: str) -> Measure:
    """Of embeddings (B,D): their cosines; a picture that occurs several times is seen once."""

    def compute(originals: Sequence[Image], others: Sequence[Image]) -> Array:
        pictures, places = unique([*originals, *others])
        emb = np.asarray(see(pictures), np.float64)[places]  # (2B,D)
        return cosines(*np.split(emb, 2)) if len(emb) else np.zeros(0)

    return Measure(compute, model)


def _ssim(means: Means) -> Measure:
    from img2prompt.models.ssim import LEAST_PX, ssim

    return _of_pixels(lambda one, two: ssim(one, two, means.device), LEAST_PX, "torchmetrics")


def _colour_distance(_: Means) -> Measure:
    def compute(originals: Sequence[Image], others: Sequence[Image]) -> Array:
        pairs = zip(originals, others, strict=True)
        return np.array([colour_distance(at_most(one), at_most(two)) for one, two in pairs], np.float64)

    return Measure(compute, "none")


def _regressor_cosine(means: Means) -> Measure:
    return _of_features(means.regressor.embed_many, f"regressor of {means.models.located.name}")


def _coca_likelihood(means: Means) -> Measure:
    return Measure(means.likelihood.score_many, means.models.located.name)


def _coca_probability(means: Means) -> Measure:
    inner = _coca_likelihood(means)
    return Measure(lambda images, texts: np.exp(inner.compute(images, texts)), inner.model)


def _prompt_cosine(means: Means) -> Measure:
    encoder = means.sentences

    def compute(texts: Sequence[str], others: Sequence[str]) -> Array:
        if not len(texts):
            return np.zeros(0)
        return cosines(encoder.encode_many(texts), encoder.encode_many(others))

    return Measure(compute, encoder.name)


MEASURES: dict[str, Callable[[Means], Measure]] = {
    "ssim": _ssim,
    "colour_distance": _colour_distance,
    "regressor_cosine": _regressor_cosine,
    "coca_likelihood": _coca_likelihood,
    "coca_probability": _coca_probability,
    "prompt_cosine": _prompt_cosine,
}

# Metric -> the one it is a function of, where that was measured already.
DERIVED: dict[str, tuple[str, Callable[[Array], Array]]] = {"coca_probability": ("coca_likelihood", np.exp)}

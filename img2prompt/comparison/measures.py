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
from img2prompt.errors import PresetError
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
        unless: why a score is NaN.
    """

    compute: Callable[[Sequence[Any], Sequence[Any]], Array]
    model: str
    unless: str = "its model gives no finite number"


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

    return Measure(compute, model, f"a side has less than {least_px} px where both pictures have one size")


def _of_features(see: Callable[[Sequence[Image]], NDArray[np.floating[Any]]], model: str) -> Measure:
    """Of embeddings (B,D): their cosines; a picture that occurs several times is seen once."""

    def compute(originals: Sequence[Image], others: Sequence[Image]) -> Array:
        pictures, places = unique([*originals, *others])
        emb = np.asarray(see(pictures), np.float64)[places]  # (2B,D)
        return cosines(*np.split(emb, 2)) if len(emb) else np.zeros(0)

    return Measure(compute, model)


def _of_features_and_texts(
    see: Callable[[Sequence[Image]], NDArray[np.float32]],
    read: Callable[[Sequence[str]], NDArray[np.float32]],
    model: str,
) -> Measure:
    """Of embeddings of pictures (B,D) and of texts (B,D): their cosines; each is looked at once."""

    def compute(images: Sequence[Image], texts: Sequence[str]) -> Array:
        if not len(images):
            return np.zeros(0)
        pictures, places = unique(images)
        words = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return cosines(see(pictures)[places], read(list(words))[[words[text] for text in texts]])

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


def _lpips(means: Means) -> Measure:
    from img2prompt.models.lpips import LEAST_PX, TRUNK, Lpips

    return _of_pixels(Lpips(means.device, means.weights).distances, LEAST_PX, f"AlexNet, {TRUNK}")


def _dreamsim(means: Means) -> Measure:
    from img2prompt.models.dreamsim import VARIANT, DreamSim

    inner = _of_features(DreamSim(means.device, means.weights).embed_many, VARIANT)
    return Measure(lambda originals, others: 1 - inner.compute(originals, others), inner.model)


def _clip_i(means: Means) -> Measure:
    return _of_features(means.clip_pictures.features_many, means.clip_pictures.name)


def _tower(family: str, repository: str) -> Callable[[Means], Measure]:
    """Cosines of what a tower in the Hugging Face cache sees."""

    def opened(means: Means) -> Measure:
        from img2prompt.models.features import load_features

        source = f"{family}:{means.cached(repository)}"
        return _of_features(load_features(source, means.device).features_many, source)

    return opened


def _clip_score(means: Means) -> Measure:
    pictures, texts = means.clip_pictures, means.clip_texts
    inner = _of_features_and_texts(pictures.features_many, texts.embed_many, pictures.name)
    return Measure(lambda some, words: _CLIP_SCORE_WEIGHT * inner.compute(some, words).clip(0), inner.model)


def _coca_cosine(means: Means) -> Measure:
    from img2prompt.models.contrastive import encode_texts
    from img2prompt.models.features import CocaFeatures

    located = means.models.located
    if located.preset is not None and not located.preset.contrastive:
        raise PresetError(
            f"the captioner {located.name} was trained without a contrastive loss, so its pictures and texts do not"
            " meet; take a preset with one, such as coca-l14"
        )
    loaded = means.models.captioner.loaded
    see = CocaFeatures(loaded, located.name).features_many
    return _of_features_and_texts(see, lambda texts: encode_texts(loaded, texts), located.name)


def _coca_likelihood(means: Means) -> Measure:
    return Measure(means.likelihoods, means.models.located.name)


def _coca_probability(means: Means) -> Measure:
    likelihoods = means.likelihoods
    return Measure(lambda images, texts: np.exp(likelihoods(images, texts)), means.models.located.name)


def _of_sets(name: str) -> Callable[[Means], Measure]:
    """One of the distances that Inception tells; the score is of shape (1,)."""

    def opened(means: Means) -> Measure:
        distances = means.set_distances

        def compute(originals: Sequence[Image], others: Sequence[Image]) -> Array:
            return np.array([distances(originals, others)[name]])

        return Measure(compute, "Inception of 2015", "a set has fewer than two pictures")

    return opened


def _prompt_cosine(means: Means) -> Measure:
    encoder = means.sentences

    def compute(texts: Sequence[str], others: Sequence[str]) -> Array:
        if not len(texts):
            return np.zeros(0)
        return cosines(encoder.encode_many(texts), encoder.encode_many(others))

    return Measure(compute, encoder.name)


MEASURES: dict[str, Callable[[Means], Measure]] = {
    "ssim": _ssim,
    "lpips": _lpips,
    "dreamsim": _dreamsim,
    "clip_i": _clip_i,
    "dino_i": _tower("timm", "timm/vit_small_patch16_224.dino"),
    "dinov2_i": _tower("transformers", "facebook/dinov2-base"),
    "regressor_cosine": _regressor_cosine,
    "colour_distance": _colour_distance,
    "clip_score": _clip_score,
    "coca_likelihood": _coca_likelihood,
    "coca_probability": _coca_probability,
    "coca_cosine": _coca_cosine,
    "prompt_cosine": _prompt_cosine,
    "fid": _of_sets("fid"),
    "kid": _of_sets("kid"),
}

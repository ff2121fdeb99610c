"""Scores of predicted prompts: arrays in, floats out. `METRICS` holds one row a metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cosines(emb: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Cosine of each row of `emb` (B,D) with the same row of `other` (B,D): (B,) in -1..1; 0 for a zero vector."""
    a, b = np.asarray(emb, np.float64), np.asarray(other, np.float64)  # (B,D), (B,D)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two arrays of one shape (B,D) are compared, not {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # (B,)
    dots: NDArray[np.float64] = (a * b).sum(axis=1) / np.where(lengths == 0, 1, lengths)  # (B,)
    return dots.clip(-1, 1)


def mean_cosine(emb: ArrayLike, other: ArrayLike) -> float:
    """Mean cosine between embeddings (B,D) of predicted and of true prompts; the score of the Kaggle task."""
    return float(np.mean(cosines(emb, other)))


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` (B,); the same seed gives the same interval.

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    sample = np.asarray(values, np.float64)  # (B,)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"one or more values are needed, in one row; their shape is {sample.shape}")
    rng = np.random.default_rng(seed)
    # One resample at a time: a table of all indices would take resamples x B x 8 bytes.
    means = [sample[rng.integers(0, len(sample), len(sample))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def bleu(prompts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 of prompts, lower-cased, each against one or more references: 0..1.

    Source: Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002, as sacreBLEU
    computes it (Post, "A call for clarity in reporting BLEU scores", 2018), with its tokens and smoothing.
    """
    import sacrebleu

    most = max((len(texts) for texts in references), default=0)
    # sacreBLEU wants the first references of all prompts, then the second ones, ...
    streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
    return float(sacrebleu.corpus_bleu(list(prompts), streams, lowercase=True).score) / 100


def identical_share(prompts: Sequence[str]) -> float:
    """Share of prompts that another image got too, but for case and white space: 1.0 when a captioner has collapsed."""
    folded = [" ".join(prompt.lower().split()) for prompt in prompts]
    counts = Counter(folded)
    return sum(count for count in counts.values() if count > 1) / max(len(folded), 1)


def auroc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """How well a score separates two groups: the chance that a positive scores higher, ties counted half; 0..1.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", 1982.
    """
    high, low = np.asarray(positives, np.float64), np.sort(np.asarray(negatives, np.float64))
    if not high.size or not low.size or np.isnan(high).any() or np.isnan(low).any():
        raise ValueError("both groups need one or more scores, none of them NaN")
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")  # twice the count, ties once
    return float(below.mean() / 2 / low.size)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of `METRICS`.

    Attributes:
        function: arrays in, one float out.
        range: smallest and largest value.
        higher_is_better: the direction.
        source: where the definition comes from.
    """

    function: Callable[..., float]
    range: tuple[float, float]
    higher_is_better: bool
    source: str


METRICS: dict[str, Metric] = {
    "mean_cosine": Metric(mean_cosine, (-1.0, 1.0), True, "Kaggle: Stable Diffusion - Image to Prompts, 2023"),
    "bleu": Metric(bleu, (0.0, 1.0), True, "Papineni et al., ACL 2002"),
    "identical_share": Metric(identical_share, (0.0, 1.0), False, "this project"),
    "auroc": Metric(auroc, (0.0, 1.0), True, "Hanley and McNeil, 1982"),
}

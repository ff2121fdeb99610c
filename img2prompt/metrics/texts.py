"""Scores of predicted prompts against true ones."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

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


def cider_d(prompts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of prompts, each against one or more references: 0..10; rare words of the references count most.

    How rare a word or phrase is comes from these references, so one picture alone scores 0. Words are lower-cased runs
    of letters, digits and apostrophes. (pycocoevalcap runs a Java tokenizer, aac-metrics brings audio models: hence
    our own; on the same words it agrees with aac-metrics 0.6.)

    Source: Vedantam, Zitnick and Parikh, "CIDEr: consensus-based image description evaluation", CVPR 2015.
    """
    counted = [_phrases(prompt) for prompt in prompts]
    known = [[_phrases(text) for text in texts] for texts in references]
    pictures_with = Counter(phrase for texts in known for phrase in set().union(*texts))
    rarity = {phrase: math.log(len(known) / count) for phrase, count in pictures_with.items()}
    unseen = math.log(max(len(known), 1))
    scores = []
    for found, texts in zip(counted, known, strict=True):
        ours, each = _weighted(found, rarity, unseen), []
        for text in texts:
            longer = _words(found) - _words(text)
            penalty = math.exp(-(longer**2) / (2 * _LENGTH_SIGMA**2))
            each.append(penalty * _agreement(ours, _weighted(text, rarity, unseen)))
        scores.append(sum(each) / max(len(each), 1))
    return 10 * float(np.mean(scores)) if scores else 0.0


_LONGEST = 4  # words of a phrase
_LENGTH_SIGMA = 6.0  # words by which lengths may differ, as a standard deviation
_Phrase = tuple[str, ...]


def _phrases(text: str) -> Counter[_Phrase]:
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())
    return Counter(tuple(words[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(words) - n + 1))


def _words(phrases: Counter[_Phrase]) -> int:
    return sum(count for phrase, count in phrases.items() if len(phrase) == 1)


def _weighted(counts: Counter[_Phrase], rarity: Mapping[_Phrase, float], unseen: float) -> list[dict[_Phrase, float]]:
    """For each length of phrase, its phrases with count times rarity."""
    vectors: list[dict[_Phrase, float]] = [{} for _ in range(_LONGEST)]
    for phrase, count in counts.items():
        vectors[len(phrase) - 1][phrase] = count * rarity.get(phrase, unseen)
    return vectors


def _agreement(ours: Sequence[Mapping[_Phrase, float]], theirs: Sequence[Mapping[_Phrase, float]]) -> float:
    """Mean over the lengths of phrases of the clipped cosine: 0..1."""
    total = 0.0
    for one, other in zip(ours, theirs, strict=True):
        norms = math.hypot(*one.values()) * math.hypot(*other.values())
        dot = sum(min(value, other[phrase]) * other[phrase] for phrase, value in one.items() if phrase in other)
        total += dot / norms if norms > 0 else 0.0
    return total / _LONGEST


def identical_share(prompts: Sequence[str]) -> float:
    """Share of prompts that another image got too, but for case and white space: 1.0 when a captioner has collapsed."""
    folded = [" ".join(prompt.lower().split()) for prompt in prompts]
    counts = Counter(folded)
    return sum(count for count in counts.values() if count > 1) / max(len(folded), 1)

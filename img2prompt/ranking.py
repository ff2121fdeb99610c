"""Which of a captioner's candidates is the prompt: the highest weighted sum of a few scores.

A model folder may hold ranking.json, made by scripts/fit_ranking.py: weights fitted on validation pairs. Without one,
and without a regressor, the likeliest candidate comes first. No torch in here.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import PresetError

Array = NDArray[np.floating[Any]]
Weights = Mapping[str, float]  # score -> weight; a score that is not named counts nothing

SETTINGS = "ranking.json"
MOST_CANDIDATES = 64


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the n candidates of one picture.

    Attributes:
        log_likelihoods: (n,), mean natural log-likelihood of a token.
        emb: (n,D) of unit length, the candidates' sentence embeddings; None: there is no sentence model.
        regressed: (D,) of unit length, the embedding that a regressor sees in the picture; None: there is none.
        similarities: (n,), cosine of the captioner's own embeddings of text and picture; None: not computed.
    """

    log_likelihoods: Array
    emb: Array | None = None
    regressed: Array | None = None
    similarities: Array | None = None


def consensus(evidence: Evidence) -> Array | None:
    """Mean cosine (n,) of each candidate to the others, which count by their probability a token; alone: 1.

    Minimum Bayes risk decoding with the cosine as the gain: Kumar and Byrne, "Minimum Bayes-risk decoding for
    statistical machine translation", NAACL 2004.
    """
    if evidence.emb is None:
        return None
    if len(evidence.emb) == 1:
        return np.ones(1)
    cosines = evidence.emb.astype(np.float64) @ evidence.emb.T.astype(np.float64)  # (n,n)
    shares = np.exp(evidence.log_likelihoods - evidence.log_likelihoods.max())
    others = (1 - np.eye(len(shares))) * shares  # (n,n), a row's weights of the other candidates
    mean: Array = (cosines * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1e-12)
    return mean


def _regression(evidence: Evidence) -> Array | None:
    if evidence.emb is None or evidence.regressed is None:
        return None
    cosines: Array = evidence.emb.astype(np.float64) @ evidence.regressed.astype(np.float64)
    return cosines


# Name -> the score of every candidate (n,), higher is better; None where what it needs is not there.
SCORES: dict[str, Callable[[Evidence], Array | None]] = {
    "likelihood": lambda evidence: evidence.log_likelihoods,
    "consensus": consensus,
    "regression": _regression,
    "contrastive": lambda evidence: evidence.similarities,
}
LIKELIHOOD_ONLY: Weights = {"likelihood": 1.0}


def scores_of(evidence: Evidence) -> dict[str, Array]:
    """Every score (n,) that the evidence allows."""
    found = {name: score(evidence) for name, score in SCORES.items()}
    return {name: score for name, score in found.items() if score is not None}


def weighed(scores: Mapping[str, Array], weights: Weights) -> Array:
    """The sum (n,) that ranks; higher is better."""
    total: Array = np.sum([weight * np.asarray(scores[name], np.float64) for name, weight in weights.items()], axis=0)
    return total


@dataclass(frozen=True, slots=True)
class Ranking:
    """How candidates are ranked.

    Attributes:
        weightings: best first; the first counts whose scores can all be had.
        candidates: how many are worth comparing.
        sentence_model: whose embeddings the weights were fitted with; None: all-MiniLM-L6-v2.
    """

    weightings: tuple[Weights, ...]
    candidates: int = 8
    sentence_model: str | None = None

    def weights(self, available: Collection[str]) -> Weights:
        """The weights to use when these scores can be had; the likelihood alone when none fit."""
        return next((w for w in self.weightings if set(w) <= set(available)), LIKELIHOOD_ONLY)

    def names(self, score: str) -> bool:
        """Whether any of the weightings uses a score."""
        return any(score in weights for weights in self.weightings)


# For models without a ranking.json: what was fitted for the bundled captioner, rounded; a contrastive similarity
# differs a third as much between candidates as a sentence's cosine does.
UNFITTED = Ranking(
    (
        {"likelihood": 0.05, "consensus": 0.7, "regression": 0.7, "contrastive": 1.0},
        {"likelihood": 0.05, "consensus": 0.7, "regression": 0.7},
        {"likelihood": 0.05, "consensus": 0.8, "contrastive": 1.0},
        {"likelihood": 0.05, "consensus": 0.8},
    )
)


def fit_weights(scores: Sequence[Array], gains: Sequence[Array], worth: float = 0.01) -> Array:
    """Weights that foretell, by least squares, how much better a candidate is than its picture's average one.

    None is negative: each score is known to be better when higher. The columns are few, so all sets of them are tried;
    of those that foretell nearly as much as the best one the smallest is taken: a score that adds nothing costs time.

    Args:
        scores: a picture each, (n,K).
        gains: a picture each, (n,): the cosine of each candidate to the true prompt.
        worth: share of what is foretold that a score must add.

    Returns:
        (K,) weights, in cosine a unit of the score; all 0 when no score foretells anything.
    """
    x = np.concatenate([rows - rows.mean(axis=0) for rows in scores]).astype(np.float64)  # (N,K)
    y = np.concatenate([row - row.mean() for row in gains]).astype(np.float64)  # (N,)
    products, pulls, count = x.T @ x, x.T @ y, x.shape[1]
    products += np.diag(1e-6 * np.diag(products) + 1e-12)  # for columns that say the same
    found = [(0.0, np.zeros(count))]  # squares foretold, weights; the smaller sets come first
    for size in range(1, count + 1):
        for kept in map(list, itertools.combinations(range(count), size)):
            some = np.linalg.solve(products[np.ix_(kept, kept)], pulls[kept])
            if (some > 0).all():
                weights = np.zeros(count)
                weights[kept] = some
                found.append((float(some @ pulls[kept]), weights))
    most = max(foretold for foretold, _ in found)
    enough = [(foretold, weights) for foretold, weights in found if foretold >= (1 - worth) * most]
    fewest = min(np.count_nonzero(weights) for _, weights in enough)
    return max(((f, w) for f, w in enough if np.count_nonzero(w) == fewest), key=lambda pair: pair[0])[1]


def chosen(scores: Sequence[Mapping[str, Array]], weights: Weights) -> list[int]:
    """For each picture the place of the candidate that the weights prefer; of equals the first."""
    return [int(np.argmax(weighed(row, weights))) for row in scores]


def fit_ranking(scores: Sequence[Mapping[str, Array]], gains: Sequence[Array], names: Sequence[str]) -> Weights:
    """The weights of these scores; the likelihood alone when they do not choose better on these pictures."""
    found = fit_weights([np.stack([row[name] for name in names], axis=1) for row in scores], gains)
    weights = {name: float(weight) for name, weight in zip(names, found, strict=True) if weight > 0}
    if not weights:
        return LIKELIHOOD_ONLY

    def reached(weights: Weights) -> float:
        return float(np.mean([row[place] for row, place in zip(gains, chosen(scores, weights), strict=True)]))

    return weights if reached(weights) > reached(LIKELIHOOD_ONLY) else LIKELIHOOD_ONLY


def save_ranking(ranking: Ranking, folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes the ranking into a model folder; `facts` says how it was made and what it reached."""
    settings = {
        "weightings": [dict(weights) for weights in ranking.weightings],
        "candidates": ranking.candidates,
        "sentence_model": ranking.sentence_model,
        "made_by": dict(facts),
    }
    fresh = folder / f".{SETTINGS}.new"
    fresh.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    fresh.replace(folder / SETTINGS)


def load_ranking(folder: Path) -> Ranking | None:
    """The ranking in a model folder, or None when it has none.

    Raises:
        PresetError: the file is damaged.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        ranking = Ranking(
            tuple({str(k): float(v) for k, v in weights.items()} for weights in settings["weightings"]),
            int(settings["candidates"]),
            settings.get("sentence_model"),
        )
        for weights in ranking.weightings:
            if not weights or not set(weights) <= set(SCORES) or not all(map(math.isfinite, weights.values())):
                raise ValueError(f"weights {dict(weights)}; the scores are {', '.join(SCORES)}")
        if not 1 <= ranking.candidates <= MOST_CANDIDATES:
            raise ValueError(f"candidates {ranking.candidates}")
        if not isinstance(ranking.sentence_model, str | None):
            raise TypeError("sentence_model is no text")
        return ranking
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(f"{path}: damaged ({type(error).__name__}: {error}); remove it, or fit it again") from error

"""What a captioner proposes for pictures, ranked: the scores of every candidate, the choice, how far to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from img2prompt.companions import Models
from img2prompt.errors import ConfigError
from img2prompt.ranking import LIKELIHOOD_ONLY, Evidence, scores_of, weighed
from img2prompt.results import Candidate, Neighbour

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.models.generation import Captions

NEAREST = 3  # known prompts that a bank gives for a picture


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the captioner: how many captions, in which manner, and the seed of its samples."""

    candidates: int = 1
    style: str = "short"
    seed: int = 0


@dataclass(frozen=True)
class Seen:
    """What was found in B pictures.

    Attributes:
        rows: for each picture its candidates with their scores, best first.
        features: (B,D), the captioner's image features.
        log_likelihoods: (B,), mean of a token of the captioner's own best caption, whatever was chosen.
        agreement: (B,), cosine of the chosen prompt's embedding to the regressed one; None: not known.
    """

    rows: list[tuple[Candidate, ...]]
    features: NDArray[np.float64]
    log_likelihoods: NDArray[np.float64]
    agreement: NDArray[np.float64] | None


class Rater:
    """Looks at pictures with a captioner and its companions.

    Args:
        models: those.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    def see(self, images: Sequence[Image], asked: Asked) -> Seen:
        """Candidates for B pictures, ranked.

        Raises:
            ConfigError: out of memory; or the regressor and the sentence model do not go together.
        """
        rows, evidence, features = self.evidence(images, asked)
        ranked = [self._ranked(*pair) for pair in zip(rows, evidence, strict=True)]
        agreement = [(row[0].scores or {}).get("regression", np.nan) for row in ranked]
        return Seen(
            rows=[row[: asked.candidates] for row in ranked],
            features=features,
            log_likelihoods=np.array([row[0].mean_log_likelihood for row in rows]),
            agreement=None if np.isnan(agreement).any() else np.array(agreement),
        )

    def evidence(
        self, images: Sequence[Image], asked: Asked
    ) -> tuple[list[list[Candidate]], list[Evidence], NDArray[np.float64]]:
        """Before the choice: for each of B pictures its candidates, the captioner's own best first, and what is known
        about them; and the captioner's image features (B,D)."""
        captions = self._captions(images, asked)
        rows = [[_cleaned(candidate) for candidate in row] for row in captions.candidates]
        features = captions.features.double().numpy()
        likelihoods = [np.array([candidate.mean_log_likelihood for candidate in row]) for row in rows]
        if self.models.sentences is None:
            return rows, [Evidence(each) for each in likelihoods], features
        texts = [candidate.prompt for row in rows for candidate in row]
        ends = np.cumsum([len(row) for row in rows])[:-1]
        emb = np.split(self.models.sentences.encode_many(texts), ends)  # B of (n,D)
        regressed = self._regressed(images, self.models.sentences.dimensions)
        spoken = np.split(self._spoken(texts), ends) if self.models.contrasts else None  # B of (n,D)
        evidence = [
            Evidence(
                log_likelihoods=likelihoods[i],
                emb=emb[i],
                regressed=None if regressed is None else regressed[i],
                similarities=None if spoken is None else spoken[i] @ features[i],
            )
            for i in range(len(rows))
        ]
        return rows, evidence, features

    def judge(self, seen: Seen) -> list[tuple[float, bool | None]]:
        """Confidence of each picture's prompt, and whether the picture belongs to the model's world."""
        if self.models.calibration is None:
            return [(float(np.exp(row[0].mean_log_likelihood)), None) for row in seen.rows]
        evidence = self.models.calibration.evidence(seen.features, seen.log_likelihoods, seen.agreement)
        return [(float(c), bool(inside)) for c, inside in zip(*self.models.calibration.judge(evidence), strict=True)]

    def nearest(self, images: Sequence[Image]) -> list[tuple[Neighbour, ...]]:
        """Known prompts for each picture, nearest first; none without a bank."""
        if self.models.bank is None:
            return [()] * len(images)
        bank, encoder = self.models.bank
        return bank.neighbours(encoder.features_many(images), NEAREST)

    def _captions(self, images: Sequence[Image], asked: Asked) -> Captions:
        count = asked.candidates
        if self.models.ranking is not None and self.models.sentences is not None:
            count = max(count, self.models.companions.rank or self.models.ranking.candidates)
        try:
            return self.models.captioner.describe_many(
                images, candidates=count, style=asked.style, seed=asked.seed, least=asked.candidates
            )
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise ConfigError(f"out of memory with {len(images)} pictures at once; use a smaller batch size") from error

    def _regressed(self, images: Sequence[Image], dimensions: int) -> NDArray[np.float32] | None:
        if self.models.regressor is None:
            return None
        regressed = self.models.regressor.embed_many(images)  # (B,D)
        if regressed.shape[1] != dimensions:
            raise ConfigError(
                f"the regressor gives {regressed.shape[1]} numbers a picture, the sentence model {dimensions};"
                " take a regressor that was trained for this sentence model"
            )
        return regressed

    def _spoken(self, texts: Sequence[str]) -> NDArray[np.float32]:
        from img2prompt.models.contrastive import encode_texts

        return encode_texts(self.models.captioner.loaded, texts)

    def _ranked(self, row: Sequence[Candidate], evidence: Evidence) -> tuple[Candidate, ...]:
        """Best first, with the scores that say so."""
        scores = scores_of(evidence)
        totals = weighed(
            scores, LIKELIHOOD_ONLY if self.models.ranking is None else self.models.ranking.weights(scores)
        )
        return tuple(
            replace(row[i], score=float(totals[i]), scores={name: float(score[i]) for name, score in scores.items()})
            for i in np.argsort(-totals, kind="stable")
        )


def _cleaned(candidate: Candidate) -> Candidate:
    """A byte-level vocabulary can spell control characters; nobody wants them on a terminal."""
    if candidate.prompt.isprintable():
        return candidate
    text = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in candidate.prompt).split())
    return replace(candidate, prompt=text)

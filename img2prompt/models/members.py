"""What the members of an ensemble do: each turns pictures into estimates of their prompts' sentence embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from img2prompt import presets
from img2prompt.models.bank import Bank
from img2prompt.models.coca import load_coca
from img2prompt.models.devices import fast_dtype
from img2prompt.models.features import FeatureEncoder, find_regressor, fingerprint_of, load_features
from img2prompt.models.generation import CocaCaptioner
from img2prompt.models.member_specs import MemberSpec
from img2prompt.models.regressor import EmbeddingRegressor, load_regressor
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.results import Captioner

if TYPE_CHECKING:
    from PIL.Image import Image

CANDIDATES = 8  # captions of a picture, of which a captioner's estimate is the mean


class Member(Protocol):
    """A member that is ready for use; `results.Regressor` with a fingerprint."""

    @property
    def fingerprint(self) -> str:
        """Of what it computes with."""
        ...

    @property
    def sentence_model(self) -> str:
        """Whose embeddings it estimates; a name or a folder."""
        ...

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,D) float32 of unit length."""
        ...


@dataclass(frozen=True)
class Resources:
    """What members share: the device, how many pictures go together, and the sentence model, loaded when needed."""

    sentence_model: str
    device: str = "cpu"
    batch_size: int = 16

    @cached_property
    def sentences(self) -> SentenceEncoder:
        """The model whose embeddings are estimated."""
        return SentenceEncoder(self.sentence_model, self.device)


class RegressorMember:
    """A regressor, with the mean over some views of each picture if asked for."""

    def __init__(self, regressor: EmbeddingRegressor, sentence_model: str, fingerprint: str = "") -> None:
        self.fingerprint, self.sentence_model, self._regressor = fingerprint, sentence_model, regressor

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,D) float32 of unit length."""
        return self._regressor.embed_many(images)


class CaptionerMember:
    """The mean of the sentence embeddings of a captioner's candidates, the likelier ones counting more."""

    def __init__(
        self,
        captioner: Captioner,
        sentences: SentenceEncoder,
        fingerprint: str = "",
        *,
        candidates: int = CANDIDATES,
        style: str = "short",
        seed: int = 0,
    ) -> None:
        self.fingerprint, self.sentence_model = fingerprint, sentences.name
        self._captioner, self._sentences = captioner, sentences
        self._asked: dict[str, Any] = {"candidates": candidates, "style": style, "seed": seed}

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,D) float32 of unit length.

        A candidate weighs what its model gives a token of it on average (the geometric mean of its tokens'
        probabilities): whole likelihoods would leave nothing but the shortest.
        """
        rows = self._captioner.caption_many(images, **self._asked)
        flat = self._sentences.encode_many([c.prompt for row in rows for c in row]).astype(np.float64)  # (sum C,D)
        means = np.zeros((len(rows), flat.shape[1]))
        first = 0
        for i, row in enumerate(rows):
            weights = np.exp(np.array([c.mean_log_likelihood for c in row]))  # (C,)
            means[i] = weights @ flat[first : first + len(row)]
            first += len(row)
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        unit: NDArray[np.float32] = (means / np.maximum(lengths, 1e-12)).astype(np.float32)
        return unit


class BankMember:
    """A bank's regression by nearest neighbours."""

    def __init__(
        self, bank: Bank, encoder: FeatureEncoder, k: int | None = None, temperature: float | None = None
    ) -> None:
        """
        Args:
            bank: the known prompts.
            encoder: the bank's own.
            k: as for `Bank.regress`.
            temperature: likewise.

        Raises:
            ModelError: the bank was built with another encoder.
        """
        bank.check_encoder(encoder.name, encoder.fingerprint)
        self.bank, self._encoder, self._k, self._temperature = bank, encoder, k, temperature
        self.sentence_model = bank.origin.sentence_model

    @property
    def fingerprint(self) -> str:
        """Of the bank's contents and of how they are asked."""
        return f"{self.bank.fingerprint} {self._k} {self._temperature}"

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,D) float32 of unit length."""
        return self.bank.regress(self._encoder.features_many(images), self._k, self._temperature)


def _regressor(spec: MemberSpec, shared: Resources) -> Member:
    model = load_regressor(find_regressor(spec.source), device=shared.device)
    return RegressorMember(
        EmbeddingRegressor(model, batch_size=shared.batch_size, **spec.options),
        model.config.sentence_model,
        fingerprint_of([model], model.tower.image_px, model.tower.mean, model.tower.std),
    )


def _captioner(spec: MemberSpec, shared: Resources) -> Member:
    located = presets.resolve(spec.source)
    loaded = load_coca(located.source, device=shared.device, dtype=fast_dtype(shared.device))
    return CaptionerMember(
        CocaCaptioner(loaded, batch_size=shared.batch_size),
        shared.sentences,
        fingerprint_of([loaded.model], loaded.image_px, loaded.mean, loaded.std),
        **spec.options,
    )


def _bank(spec: MemberSpec, shared: Resources) -> Member:
    bank = Bank.load(spec.source)
    options = dict(spec.options)
    encoder = load_features(options.pop("encoder", bank.origin.encoder), shared.device, shared.batch_size)
    return BankMember(bank, encoder, **options)


# Kind -> what loads a member of it; their options: member_specs.OPTIONS.
KINDS: dict[str, Callable[[MemberSpec, Resources], Member]] = {
    "regressor": _regressor,
    "captioner": _captioner,
    "bank": _bank,
}

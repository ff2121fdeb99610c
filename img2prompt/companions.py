"""The models that work together on a prediction: the captioner and what stands beside it, each loaded on first use."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.confidence import Calibration, load_calibration
from img2prompt.errors import MissingExtra, PresetError
from img2prompt.presets import PRESETS, Located, companion
from img2prompt.ranking import UNFITTED, Ranking, load_ranking
from img2prompt.results import Regressor

if TYPE_CHECKING:
    from img2prompt.models.bank import Bank
    from img2prompt.models.features import FeatureEncoder
    from img2prompt.models.generation import CocaCaptioner
    from img2prompt.models.sentence import SentenceEncoder

log = logging.getLogger(__name__)

MODEL_BATCH = 4096  # `predict_many` decides how many pictures go together; the captioner takes what it is given


@dataclass(frozen=True, slots=True)
class Companions:
    """What stands beside the captioner.

    Attributes:
        regressor: a folder, a preset's name or a loaded one; None: the preset's own where it lies on this machine.
        bank: the folder of known prompts; None: none are looked up.
        rank: candidates that are compared; None: as many as the weights were fitted for; 1: the captioner's own choice.
    """

    regressor: str | Path | Regressor | None = None
    bank: str | Path | None = None
    rank: int | None = None


class Models:
    """A captioner and its companions; each is loaded on first use."""

    def __init__(
        self,
        located: Located,
        device: str = "auto",
        companions: Companions | None = None,
        precision: str = "auto",
    ) -> None:
        """
        Args:
            located: the captioner.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            companions: None: those that the preset brings.
            precision: of the captioner: "auto" (bfloat16 where the processor multiplies it), "float32", "bfloat16".
        """
        self.located, self.companions = located, companions or Companions()
        self._device, self._precision = device, precision

    @cached_property
    def device(self) -> str:
        """Where the models compute."""
        from img2prompt.models.devices import usable

        return usable(self._device)

    @cached_property
    def captioner(self) -> CocaCaptioner:
        """The model that proposes."""
        from img2prompt.models.coca import load_coca
        from img2prompt.models.devices import dtype_of
        from img2prompt.models.generation import CocaCaptioner

        loaded = load_coca(self.located.source, device=self.device, dtype=dtype_of(self._precision, self.device))
        return CocaCaptioner(loaded, batch_size=MODEL_BATCH)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What is known about the model's world; None: nothing."""
        return load_calibration(self.located.folder)

    @cached_property
    def regressor(self) -> Regressor | None:
        """What estimates the embedding of a picture's prompt."""
        given = self.companions.regressor
        if given is None or (isinstance(given, str) and given in PRESETS):
            folder = companion(self.located.preset if given is None else PRESETS[given])
            if folder is None and given is not None:
                raise PresetError(f"preset {given}: no regressor of it is on this machine; give a regressor's folder")
        elif isinstance(given, str | Path):
            folder = Path(given)
        else:
            return given
        if folder is None:
            return None
        from img2prompt.models.regressor import EmbeddingRegressor, load_regressor

        return EmbeddingRegressor(load_regressor(folder, device=self.device))

    @cached_property
    def ranking(self) -> Ranking | None:
        """How candidates are ranked; None: by their likelihood alone."""
        rank, given = self.companions.rank, self.companions.regressor
        if rank == 1:
            return None
        fitted = load_ranking(self.located.folder)
        if fitted is not None and (given is None or fitted.names("regression")):
            return fitted
        return UNFITTED if rank is not None or self.regressor is not None else None

    @cached_property
    def sentences(self) -> SentenceEncoder | None:
        """The sentence model that ranking needs; None: ranking needs none, or it is missing, which is said once."""
        if self.ranking is None:
            return None
        from img2prompt.models.sentence import MINILM, SentenceEncoder

        config = getattr(getattr(self.regressor, "model", None), "config", None)  # a loaded folder names its model
        try:
            return SentenceEncoder(
                config.sentence_model if config else self.ranking.sentence_model or MINILM, self.device
            )
        except MissingExtra as error:
            log.warning("candidates are ranked by their likelihood only: %s", error)
            return None

    @cached_property
    def bank(self) -> tuple[Bank, FeatureEncoder] | None:
        """The known prompts, and what sees pictures as they were seen when the bank was built."""
        if self.companions.bank is None:
            return None
        from img2prompt.models.bank import Bank
        from img2prompt.models.features import load_features

        bank = Bank.load(self.companions.bank)
        encoder = load_features(bank.origin.encoder, self.device)
        bank.check_encoder(encoder.name, encoder.fingerprint)
        return bank, encoder

    def prepare(self) -> None:
        """Loads all that the next pictures need."""
        _ = self.captioner, self.calibration, self.sentences, self.bank
        if self.sentences is not None:
            _ = self.regressor

    @property
    def contrasts(self) -> bool:
        """Whether the captioner's own text embeddings are worth computing."""
        preset = self.located.preset
        trained = preset is None or preset.contrastive
        return trained and self.ranking is not None and self.ranking.names("contrastive")

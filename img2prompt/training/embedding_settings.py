"""What a recipe says about the regressor's data, and the batches that come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from img2prompt.models.sentence import MINILM
from img2prompt.training.augment import Augment
from img2prompt.training.data import Decoding
from img2prompt.training.pair_table import PairSource


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """What one training step learns from."""

    number: int  # of the run's batches
    rows: tuple[int, ...]  # row numbers in the data module's table
    images: Tensor  # (B,3,H,W) uint8
    targets: Tensor  # (B,D) float32 unit rows

    def to(self, device: torch.device | str, **options: Any) -> EmbeddingBatch:
        """The batch on a device."""
        images, targets = self.images.to(device, **options), self.targets.to(device, **options)
        return EmbeddingBatch(self.number, self.rows, images, targets)


@dataclass(frozen=True)
class Prompts:
    """How prompts become targets.

    Attributes:
        model: sentence encoder, by name or folder.
        longest: rows with a prompt of more characters are skipped; an encoder reads some 1,000 of them.
        cache_folder: where targets are kept; None: the user's cache.
        device: where they are computed.
        precision: of `SentenceEncoder`.
    """

    model: str = MINILM
    longest: int = 4000
    cache_folder: Path | None = None
    device: str = "cpu"
    precision: Literal["float32", "bfloat16", "int8"] = "float32"


@dataclass(frozen=True)
class Pictures(Decoding):
    """How pictures become arrays, and how far training pictures are changed.

    Attributes:
        augment: crop, erase and colour; never in validation.
    """

    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class Validation:
    """What the model is validated on.

    Attributes:
        sources: pairs of their own; without any, a share of the training pairs is held out.
        share: of the rows that is held out, 0..1.
        threshold: prompts whose embeddings have this cosine or more are near-duplicates, which stay on one side.
    """

    sources: list[PairSource] = field(default_factory=list)
    share: float = 0.05
    threshold: float = 0.9

"""What a recipe says about the model and its losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from img2prompt.errors import ConfigError
from img2prompt.models.tower_base import TowerSpec


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        source: a model to start from that is on this machine: a preset, a folder or "hf-hub:OWNER/NAME".
        config: or open_clip's model_cfg of a new one with random weights.
        vocab_size: tokens of a new model's own vocabulary, learned from the captions; None: CLIP's.
        mean: of the new model's pictures, per channel, of values in 0..1.
        std: likewise.
        freeze: parts that do not train, as `img2prompt.models.coca.freeze` names them.
        grad_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: torch.compile the vision tower.
        seed: of random weights.
    """

    source: str | None = None
    config: dict[str, Any] | None = None
    vocab_size: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    freeze: list[str] = field(default_factory=list)
    grad_checkpointing: bool = False
    compile: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Loss:
    """Weights of the losses.

    Attributes:
        caption: cross-entropy of the caption's tokens after the prefix.
        contrastive: CLIP's loss; at 0 nothing of its side is computed.
        label_smoothing: of the caption loss.
        caption_from: share of the run before which only grounding trains and no text is computed.
    """

    caption: float = 1.0
    contrastive: float = 0.0
    label_smoothing: float = 0.0
    caption_from: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing <= 1:
            raise ConfigError("model.loss.label_smoothing: lies between 0 and 1")


@dataclass(frozen=True)
class RegressorModel:
    """Which regressor is trained.

    Attributes:
        tower: the vision tower of a new regressor; as an open_clip source, a preset's name will do as well.
        source: or a regressor to go on from: a run's best/ folder. It says what tower, pooling and head are.
        image_px: other side of the pictures, in a second stage after `source`; position embeddings are interpolated.
        pooling: of a new one: class, mean, gem, attention.
        head: of a new one: linear, or mlp (linear, norm, activation, linear).
        hidden: width inside the head "mlp".
        dimensions: of the sentence embeddings.
        head_init: "random", or "text_map": a linear map fitted from the tower's own text embeddings of the training
            prompts to their sentence embeddings, for CLIP towers with the linear head on the class token.
        freeze: the block up to which the tower does not train, by number or name, or "stem"; None: all of it trains.
        grad_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: torch.compile tower and head.
        seed: of random weights.
    """

    tower: TowerSpec | None = None
    source: Path | None = None
    image_px: int | None = None
    pooling: Literal["class", "mean", "gem", "attention"] = "mean"
    head: Literal["linear", "mlp"] = "linear"
    hidden: int = 1024
    dimensions: int = 384
    head_init: Literal["random", "text_map"] = "random"
    freeze: str | None = None
    grad_checkpointing: bool = False
    compile: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Probe:
    """A first part of the run in which only pooling and head train.

    Afterwards the head fits the tower's features, so that fine-tuning need not bend these to a random head first
    (Kumar et al. 2022, arXiv:2202.10054).

    Attributes:
        until: share of the run, 0..1; 0 for none.
        lr: highest learning rate; warm-up and schedule are the optimiser's, and begin anew with fine-tuning.
    """

    until: float = 0.0
    lr: float = 1e-3

"""What a recipe says about the model and its losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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

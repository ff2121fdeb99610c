"""A regressor as training calls it, and its head's first weights from texts."""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2prompt.models.clip_texts import ClipTexts
from img2prompt.models.regressor import Regressor
from img2prompt.models.text_map import fit_head

MAP_TEXTS = 20_000  # enough for a map of some 768 x 384 numbers


class Learner(nn.Module):
    """A regressor that takes pictures as they are in memory, and whose tower can be left alone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, regressor: Regressor) -> None:
        super().__init__()
        self.regressor = regressor
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (regressor.tower.mean, regressor.tower.std))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def forward(self, images: Tensor, probing: bool = False) -> Tensor:
        """(B,3,H,W) uint8 -> (B,D) unit rows; no gradient goes through the tower's blocks while probing."""
        tower, pool = self.regressor.tower, self.regressor.pool
        images = images.to(self.scale.dtype) * self.scale + self.shift  # (B,3,H,W)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not probing):
            tokens = tower(images)
        return self.regressor.embed(tower.finish(pool(tokens)))


def head_from_texts(model: Regressor, texts: list[str], targets: NDArray[np.float32]) -> None:
    """Fits the head on prompts alone, evenly chosen, and says on stderr how well it fits them.

    Args:
        model: fresh from its tower's checkpoint.
        texts: N prompts.
        targets: their sentence embeddings (N,D).

    Raises:
        ConfigError: the tower knows no texts, or pooling or head do not suit.
    """
    chosen = np.unique(np.linspace(0, len(texts) - 1, MAP_TEXTS).astype(int))
    emb = ClipTexts(model.config.tower).embed_many([texts[row] for row in chosen])  # (M,E)
    found = fit_head(model, emb, targets[chosen])
    print(
        f"head from {found.rows} texts: cosine {found.cosine:.3f}, of held-out texts {found.held_out_cosine:.3f}",
        file=sys.stderr,
        flush=True,
    )

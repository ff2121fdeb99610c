"""A regressor's first head from texts alone.

CLIP puts pictures and texts into one space. A linear map from CLIP's text embeddings to sentence embeddings, fitted
on prompts without their pictures, therefore serves pictures too: composed with the tower's projection it is a head,
from which training starts better than from random weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2prompt.errors import ConfigError, DataError
from img2prompt.models.regressor import Regressor

_HELD_OUT = 10  # every tenth text judges the map


@dataclass(frozen=True, slots=True)
class TextMap:
    """How well the map fits texts; of pictures it says nothing.

    Attributes:
        rows: texts.
        cosine: mean cosine to the true sentence embedding, of the texts that it was fitted on.
        held_out_cosine: of every tenth text, by a map that was fitted on the others; NaN with fewer than ten.
    """

    rows: int
    cosine: float
    held_out_cosine: float


def fit_head(
    regressor: Regressor,
    clip_text_embeddings: NDArray[np.float32],
    sentence_embeddings: NDArray[np.float32],
    ridge: float = 1e-4,
) -> TextMap:
    """Puts the ridge map from CLIP's texts to sentence embeddings into a linear head.

    There is no intercept: the length of what the tower gives, which CLIP takes away, then does not matter, since the
    output is of unit length anyway.

    Args:
        regressor: with a tower that shares a space with texts, fresh from its pretrained checkpoint, pooled as that
            space wants it, and with a linear head, which is overwritten.
        clip_text_embeddings: (N,E) of `clip_texts.ClipTexts`, any length.
        sentence_embeddings: (N,D) of the same texts.
        ridge: added to the diagonal of the texts' covariance, whose trace is 1.

    Raises:
        ConfigError: the tower has no text side, or the pooling or the head is another; ridge is not positive.
        DataError: the embeddings do not fit each other or the regressor, or hold NaN.
    """
    projection = _projection(regressor)  # (W,E)
    if not ridge > 0:
        raise ConfigError(f"ridge {ridge}: must be above 0")
    x = _unit_rows(clip_text_embeddings, projection.shape[1], "CLIP text embeddings")  # (N,E)
    y = _unit_rows(sentence_embeddings, regressor.config.dimensions, "sentence embeddings")  # (N,D)
    if len(x) != len(y):
        raise DataError(
            f"{len(x)} CLIP text embeddings, but {len(y)} sentence embeddings; give those of the same texts"
        )
    judges = torch.arange(len(x)) % _HELD_OUT == _HELD_OUT - 1
    held_out = float("nan")
    if judges.any():
        held_out = _cosine(x[judges] @ _ridge(x[~judges], y[~judges], ridge), y[judges])
    found = _ridge(x, y, ridge)  # (E,D)
    head = regressor.head
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_((projection.double().cpu() @ found).T)
        head.bias.zero_()
    return TextMap(len(x), _cosine(x @ found, y), held_out)


def _projection(regressor: Regressor) -> Tensor:
    tower, config = regressor.tower, regressor.config
    if tower.projection is None:
        raise ConfigError(
            "this tower shares no space with texts, or was not just loaded from a checkpoint of the whole model;"
            " take a CLIP of open_clip or transformers with its source, or leave the head random"
        )
    if config.pooling != tower.projected:
        raise ConfigError(f"pooling {config.pooling}: a head from texts needs pooling {tower.projected} on this tower")
    if config.head != "linear":
        raise ConfigError(f"head {config.head}: only the head linear can be fitted from texts")
    return tower.projection


def _unit_rows(rows: NDArray[np.float32], width: int, what: str) -> Tensor:
    """(N,width) float64 of unit length."""
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise DataError(f"{what} are {rows.shape}, expected (N,{width}); take those of this model")
    if not np.isfinite(rows).all():
        raise DataError(f"{what}: row {int(np.argwhere(~np.isfinite(rows))[0, 0])} holds NaN; compute them again")
    return nn.functional.normalize(torch.from_numpy(np.asarray(rows, np.float64)), dim=-1)


def _ridge(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    covariance = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(covariance, x.T @ y / len(x))  # type: ignore[no-any-return]


def _cosine(found: Tensor, true: Tensor) -> float:
    return float(nn.functional.cosine_similarity(found, true, dim=-1).mean())

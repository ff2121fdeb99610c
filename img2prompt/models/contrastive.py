"""CoCa's text tower on its own: texts as embeddings that meet those of pictures, where a model was trained for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from img2prompt.models.coca import LoadedCoca, token_rows


@torch.inference_mode()
def encode_texts(loaded: LoadedCoca, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
    """Embeddings (N,D) of unit length; their products with `Captions.features` are the model's similarities.

    Args:
        loaded: the model.
        texts: N texts; what does not fit the model's context is cut off.
        batch_size: texts at once.
    """
    model = loaded.model
    device = model.visual.conv1.weight.device
    rows = [np.zeros((0, model.visual.output_dim), np.float32)]
    for first in range(0, len(texts), batch_size):
        tokens = token_rows(loaded.tokenizer, texts[first : first + batch_size], loaded.context_length)  # (B,T)
        rows.append(model.encode_text(tokens.to(device)).float().cpu().numpy())
    return np.concatenate(rows)

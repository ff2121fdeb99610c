"""CoCa's contrastive side, for the runs that train it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from img2prompt.training.forward import Seen


def see_and_contrast(coca: Any, images: Tensor, tokens: Tensor) -> tuple[Seen, Tensor]:
    """Both towers with their latents, and CLIP's loss over the batch.

    Args:
        coca: an open_clip CoCa.
        images: (B,3,H,W) normalised.
        tokens: (B,T), padded.
    """
    kept: list[Tensor] = []
    hook = coca.visual.transformer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        image_latent, image_tokens = coca._encode_image(images)  # (B,D), (B,Q,D)
    finally:
        hook.remove()
    text_latent, _ = coca._encode_text(tokens)  # (B,D)
    logits = coca.logit_scale.exp() * image_latent @ text_latent.T  # (B,B)
    if coca.logit_bias is not None:
        logits = logits + coca.logit_bias
    truth = torch.arange(len(logits), device=logits.device)
    loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
    return Seen(kept[0][:, 1:], image_tokens), loss

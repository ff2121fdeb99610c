"""Parts of a CoCa by name, and how to stop their training."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import CoCa
from torch import nn

from img2prompt.errors import ConfigError


def freeze(model: CoCa, parts: Sequence[str]) -> int:
    """Stops the training of named parts and puts them in evaluation mode.

    Args:
        model: the model.
        parts: any of "image" (the whole vision tower), "image.stem", "image.0-5" or "image.3" (its blocks),
            "pooler", "text", "text.0-5", "embedding" (of tokens), "decoder", "decoder.0-5" (self- and
            cross-attention blocks), "vocabulary" (the last projection).

    Returns:
        The number of parameters (scalars) that are frozen now by these parts, each counted once.

    Raises:
        ConfigError: a name matches nothing.
    """
    frozen: dict[int, int] = {}
    for part in parts:
        members = _members(model, part)
        parameters = [p for m in members for p in ([m] if isinstance(m, nn.Parameter) else list(m.parameters()))]
        if not parameters:
            raise ConfigError(f"cannot freeze {part!r}: no such part; try image, image.0-5, pooler, text, decoder")
        for parameter in parameters:
            parameter.requires_grad_(False)
            frozen[id(parameter)] = parameter.numel()
        for member in members:
            if isinstance(member, nn.Module):
                member.eval()
    return sum(frozen.values())


def _members(model: CoCa, part: str) -> list[nn.Module | nn.Parameter]:
    visual, text, decoder = model.visual, model.text, model.text_decoder
    whole: dict[str, list[nn.Module | nn.Parameter | None]] = {
        "image": [visual],
        "image.stem": [visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre],
        "pooler": [visual.attn_pool, getattr(visual, "attn_pool_contrastive", None), visual.ln_post, visual.proj],
        "text": [text],
        "embedding": [text.token_embedding],
        "decoder": [decoder],
        "vocabulary": [decoder.text_projection],
    }
    if part in whole:
        return [member for member in whole[part] if member is not None]
    blocks = {
        "image": [visual.transformer.resblocks],
        "text": [text.transformer.resblocks],
        "decoder": [decoder.resblocks, decoder.cross_attn],
    }
    name, _, span = part.partition(".")
    first, dash, last = span.partition("-")
    if name not in blocks or not first.isdigit() or (dash and not last.isdigit()):
        return []
    end = int(last or first)
    if int(first) > end or end >= len(blocks[name][0]):
        return []
    return [block for stack in blocks[name] for block in list(stack)[int(first) : end + 1]]

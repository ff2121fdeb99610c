"""The networks of a text-to-image model as its training calls them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from img2prompt.training import optim


class Networks(nn.Module):
    """The text encoder and the transformer, as one model that trains."""

    def __init__(self, transformer: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder


def predict_pictures(networks: Networks, pictures: Tensor, times: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The clean pictures (B,3,H,W) that the transformer sees in noised ones.

    Args:
        networks: what predicts.
        pictures: noised, (B,3,H,W).
        times: (B,) in 0..1, 1 for noise alone.
        tokens: of the prompts, (B,T).
        mask: (B,T) bool, False for padding.
    """
    words = networks.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state  # (B,T,D)
    arguments = {"encoder_hidden_states": words, "attention_mask": mask, "return_dict": False}
    seen: Tensor = networks.transformer(hidden_states=pictures, timestep=times, **arguments)[0]
    return seen


@contextmanager
def middle_of(transformer: Any) -> Iterator[list[Tensor]]:
    """Gathers the tokens (B,P,W) after half of the blocks in every call of the transformer inside the context.

    No longer than that: a copy of the transformer that is saved would take a lasting hook and all it knows along.
    """
    gathered: list[Tensor] = []
    blocks = transformer.blocks
    handle = blocks[len(blocks) // 2].register_forward_hook(lambda block, given, tokens: gathered.append(tokens))
    try:
        yield gathered
    finally:
        handle.remove()


_BLOCK = re.compile(r"^transformer\.blocks\.(\d+)\.")


def places(networks: nn.Module) -> dict[str, optim.Place]:
    """Where the parameters lie; the modulation of a block moves by AdamW, as the text encoder does.

    Modulations start at 0 so that every block starts as the identity, which steps of equal size in all directions undo.
    """
    names = [name for name, _ in networks.named_parameters()]
    found = {name: int(block[1]) for name in names if (block := _BLOCK.match(name))}
    top = max(found.values(), default=-1) + 1
    last = ("transformer.final_layer",)
    return {
        name: optim.Place(top - found[name], ".modulation." not in name)
        if name in found
        else optim.Place(0 if name.startswith(last) else top + 1, False)
        for name in names
    }

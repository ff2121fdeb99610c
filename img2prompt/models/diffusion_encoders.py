"""How much of a prompt a pipeline's text encoders have room for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_UNSET = 100_000  # tokenizers without a limit name a huge one


@dataclass(frozen=True, slots=True)
class _Room:
    tokenizer: Any
    tokens: int  # that fit, start and end not counted


class EncoderRoom:
    """The tokenizers of a pipeline with the length of what its text encoders read."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        call = inspect.signature(type(pipeline).__call__).parameters
        most = call["max_sequence_length"].default if "max_sequence_length" in call else None
        self._rooms = []
        for name, tokenizer in pipeline.components.items():
            if "tokenizer" not in name or not hasattr(tokenizer, "model_max_length"):
                continue
            encoder = getattr(pipeline, name.replace("tokenizer", "text_encoder"), None)
            positions = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
            limits = [limit for limit in (tokenizer.model_max_length, most, positions) if isinstance(limit, int)]
            limit = min(limits, default=_UNSET)
            if limit < _UNSET:
                self._rooms.append(_Room(tokenizer, limit - tokenizer.num_special_tokens_to_add()))

    def read_part(self, prompt: str) -> str | None:
        """The start of the prompt that the roomiest text encoder reads; None: there is room for all of it."""
        parts = [_start(room, prompt) for room in self._rooms]
        if not parts or None in parts:
            return None
        return max((part for part in parts if part is not None), key=len)


def _start(room: _Room, prompt: str) -> str | None:
    """What fits, or None when all does."""
    tokenizer = room.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        ids = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
        return None if len(ids) <= room.tokens else str(tokenizer.decode(ids[: room.tokens])).strip()
    found = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    if len(found["input_ids"]) <= room.tokens:
        return None
    end = max((stop for _, stop in found["offset_mapping"][: room.tokens]), default=0)
    return prompt[:end].strip()

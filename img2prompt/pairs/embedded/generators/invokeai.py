"""InvokeAI's three formats: "invokeai_metadata" (3.x and later), "sd-metadata" (2.x), "Dream" (1.x)."""

from __future__ import annotations

import re
from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.sdparsers import read_with
from img2prompt.pairs.embedded.values import embedded
from img2prompt.results import EmbeddedPrompt

MAX_DREAM_CHARS = 20_000
_DREAM = re.compile(r'\s*"')


def read_invokeai(fields: Fields) -> EmbeddedPrompt | None:
    """The newest format first; the two older ones, with negative prompts in [brackets], through sd-parsers."""
    metadata = fields.json_object("invokeai_metadata", "invokeai_meta")
    if metadata is not None:
        return _current(metadata)
    if fields.json_object("sd-metadata") is not None:
        return read_with("InvokeAIParser", {"sd-metadata": fields.texts["sd-metadata"]})
    dream = fields.first("Dream", "dream")
    if dream is not None and _DREAM.match(dream):
        return read_with("InvokeAIParser", {"Dream": " ".join(dream[:MAX_DREAM_CHARS].split())})
    return None


def _current(metadata: dict[str, Any]) -> EmbeddedPrompt | None:
    # sd-parsers wants a scheduler, which FLUX files lack, and the model's name under its key of 3.x.
    model = metadata.get("model")
    if isinstance(model, dict):
        model = model.get("name") or model.get("model_name")
    guidance = metadata.get("cfg_scale")
    if guidance in (None, 1, 1.0):  # no classifier-free guidance: the model's own guidance is in charge
        guidance = metadata.get("guidance") or guidance
    return embedded(
        "InvokeAI",
        {
            "prompt": metadata.get("positive_prompt"),
            "negative_prompt": metadata.get("negative_prompt"),
            "model": model,
            "seed": metadata.get("seed"),
            "steps": metadata.get("steps") or metadata.get("num_steps"),
            "guidance_scale": guidance,
            "width_px": metadata.get("width"),
            "height_px": metadata.get("height"),
        },
    )

"""The bridge to sd-parsers: its parser of InvokeAI reads what we found and bounded, its result becomes ours.

Only parsers that take plain fields are used; how fields get out of a file is ours (embedded/fields.py), because
sd-parsers reads JPEG and WebP in one encoding only and decodes pixels to find late PNG chunks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from img2prompt.pairs.embedded.values import embedded
from img2prompt.results import EmbeddedPrompt

if TYPE_CHECKING:
    from sd_parsers.data import PromptInfo


def read_sd_metadata(metadata: Mapping[str, Any]) -> EmbeddedPrompt | None:
    """What sd-parsers makes of InvokeAI's "sd-metadata", which must be within limits: it parses JSON without any."""
    from sd_parsers.parsers import InvokeAIParser  # here: it is needed for few files and imports Pillow's plugins

    try:
        info = InvokeAIParser().parse({"sd-metadata": json.dumps(metadata)})
        generator, facts = info.generator.value, _facts(info)
    except Exception:  # its parsers expect well-formed metadata and raise anything on the rest, some of it on demand
        return None
    return embedded(generator, facts)


def _facts(info: PromptInfo) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for sampler in info.samplers:
        settings |= sampler.parameters
    settings = {**info.metadata, **settings}
    return {
        "prompt": ", ".join(str(prompt) for prompt in info.prompts),
        "negative_prompt": ", ".join(str(prompt) for prompt in info.negative_prompts),
        "model": next((model.name or model.hash for model in info.models), None),
        "seed": settings.get("seed"),
        "steps": settings.get("steps"),
        "guidance_scale": settings.get("cfg_scale"),
        "width_px": settings.get("width"),
        "height_px": settings.get("height"),
    }

"""InvokeAI's formats: "invokeai_metadata" (3.x and later), "sd-metadata" (2.x), "Dream" (1.x), and its graphs alone."""

from __future__ import annotations

import re
from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.invokeai_graph import read_invokeai_graph
from img2prompt.pairs.embedded.generators.sdparsers import read_sd_metadata
from img2prompt.pairs.embedded.values import embedded
from img2prompt.results import EmbeddedPrompt

MAX_DREAM_CHARS = 20_000
_SWITCH = re.compile(r" -([sSWHCA]) ?(\S+)")  # "-s 50", in the first versions "-s50"
_UNQUOTED = re.compile(r" -(?=[sS] ?\d)")  # what ends a prompt without quotes: steps or seed, whichever comes first
_SWITCHES = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}


def read_invokeai(fields: Fields) -> EmbeddedPrompt | None:
    """The newest statement first; pictures of the workflow editor have no statement, only the graph that was run."""
    metadata = fields.json_object("invokeai_metadata", "invokeai_meta")
    stated = fields.json_object("sd-metadata")
    dream = fields.first("Dream", "dream")
    return (
        (_current(metadata) if metadata is not None else None)
        or (_legacy(stated) if stated is not None else None)
        or (_legacy(_dream(dream)) if dream is not None else None)
        or read_invokeai_graph(fields)
    )


def _legacy(metadata: dict[str, Any]) -> EmbeddedPrompt | None:
    """Through sd-parsers, which knows the negative prompts in [brackets] but wants one image, a list and a sampler."""
    images = metadata.get("images")  # of a grid
    image = metadata.get("image") or (images[0] if isinstance(images, list) and images else None)
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    image = {"sampler": None, **image, "prompt": [{"prompt": prompt}] if isinstance(prompt, str) else prompt}
    return read_sd_metadata({**metadata, "image": image})


def _dream(command: str) -> dict[str, Any]:
    """A command such as `"a fox [text]" -s 50 -S 7` as the later "sd-metadata"; not every version quotes the prompt."""
    text = " ".join(command[:MAX_DREAM_CHARS].split())
    if text.startswith('"'):
        prompt, _, switches = text[1:].rpartition('" -')
    else:
        prompt, switches = (*_UNQUOTED.split(text, maxsplit=1), "")[:2]
    settings = {_SWITCHES[letter]: value for letter, value in _SWITCH.findall(f" -{switches}")}
    return {"image": {"prompt": prompt, **settings}} if settings else {}


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

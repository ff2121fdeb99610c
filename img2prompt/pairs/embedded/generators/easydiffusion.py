"""Easy Diffusion: one PNG text chunk a setting, or all of them as JSON in UserComment (JPEG, WebP).

Scripts and web demos around diffusers write much the same names, so theirs are read here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, parse_json, size
from img2prompt.results import EmbeddedPrompt

_KEYS = {  # ours -> theirs: names of its API, then the headings of its text files, in the order to try them
    "prompt": ("prompt", "Prompt", "original_prompt"),
    "negative_prompt": ("negative_prompt", "Negative Prompt"),
    "model": ("use_stable_diffusion_model", "Stable Diffusion model", "Stable Diffusion Model"),
    "seed": ("seed", "Seed"),
    "steps": ("num_inference_steps", "Steps", "steps"),
    "guidance_scale": ("guidance_scale", "Guidance Scale", "guidance"),
    "width_px": ("width", "Width"),
    "height_px": ("height", "Height"),
}
_SIGNS = {"Easy Diffusion": _KEYS["model"], "mflux": ("mflux_version",)}  # what only they write


def read_easydiffusion(fields: Fields) -> EmbeddedPrompt | None:
    """Both containers; a ComfyUI graph, which has the name "prompt" too, is no text and is left alone."""
    values: Mapping[str, Any] = fields.json_object("UserComment", "parameters") or fields.texts
    facts = {ours: next((values[key] for key in theirs if key in values), None) for ours, theirs in _KEYS.items()}
    prompt = facts["prompt"]
    if not isinstance(prompt, str) or parse_json(prompt) is not None:
        return None
    signs = sum(facts[name] is not None for name in ("model", "seed", "steps", "guidance_scale", "negative_prompt"))
    generator = next((name for name, keys in _SIGNS.items() if any(key in values for key in keys)), None)
    if values is not fields.texts:  # in EXIF "Model" is the camera
        facts["model"] = facts["model"] or values.get("Model") or values.get("model")
        if facts["width_px"] is None:
            facts["width_px"], facts["height_px"] = size(values.get("resolution"))
    # A bare "prompt" chunk is what many small scripts write; one setting beside it shows that it is about an image.
    return embedded(generator, facts) if signs or values is fields.texts else None

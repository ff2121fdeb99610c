"""SwarmUI: a JSON object with the key "sui_image_params" as "parameters" (PNG) or UserComment (JPEG, WebP)."""

from __future__ import annotations

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded
from img2prompt.results import EmbeddedPrompt


def read_swarmui(fields: Fields) -> EmbeddedPrompt | None:
    """The prompt as it was sent (wildcards filled in), from `sui_image_params`."""
    for name in ("parameters", "UserComment"):
        params = (fields.json_object(name) or {}).get("sui_image_params")
        if isinstance(params, dict):
            return embedded(
                "SwarmUI",
                {
                    "prompt": params.get("prompt"),
                    "negative_prompt": params.get("negativeprompt"),
                    "model": params.get("model"),
                    "seed": params.get("seed"),
                    "steps": params.get("steps"),
                    "guidance_scale": params.get("cfgscale"),
                    "width_px": params.get("width"),
                    "height_px": params.get("height"),
                },
            )
    return None

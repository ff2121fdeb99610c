"""SwarmUI: a JSON object with the key "sui_image_params" as "parameters" (PNG) or in EXIF (JPEG, WebP)."""

from __future__ import annotations

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded
from img2prompt.results import EmbeddedPrompt


def read_swarmui(fields: Fields) -> EmbeddedPrompt | None:
    """The prompt as it was sent (wildcards filled in), from `sui_image_params`; it began as StableSwarmUI."""
    for name in ("parameters", "UserComment", "Model", "Copyright"):  # the last two: early versions of it
        params = (fields.json_object(name) or {}).get("sui_image_params")
        if isinstance(params, dict):
            guidance = params.get("cfgscale")
            if guidance in (None, 1):  # no classifier-free guidance: FLUX has its own
                guidance = params.get("fluxguidancescale", guidance)
            return embedded(
                "SwarmUI",
                {
                    "prompt": params.get("prompt"),
                    "negative_prompt": params.get("negativeprompt"),
                    "model": params.get("model"),
                    "seed": params.get("seed"),
                    "steps": params.get("steps"),
                    "guidance_scale": guidance,
                    "width_px": params.get("width"),
                    "height_px": params.get("height"),
                },
            )
    return None

"""Fooocus: JSON as "parameters" (PNG), UserComment (JPEG, WebP) or "Comment"; its A1111 scheme is read in a1111.py."""

from __future__ import annotations

import re

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, size
from img2prompt.results import EmbeddedPrompt

_VERSION = re.compile(r"\s*Fooocus", re.IGNORECASE)


def read_fooocus(fields: Fields) -> EmbeddedPrompt | None:
    """Both of its JSON dialects: keys like "base_model" (2.2 and later) or like "Base Model" (its log before)."""
    for name in ("parameters", "UserComment", "Comment"):
        raw = fields.json_object(name)
        if raw is None:
            continue
        values = {key.lower().replace(" ", "_"): value for key, value in raw.items()}
        version = values.get("version")
        if (
            not (isinstance(version, str) and _VERSION.match(version))
            and not {"base_model", "sharpness"} & values.keys()
        ):
            continue
        width, height = size(values.get("resolution"))
        return embedded(
            "Fooocus",
            {
                "prompt": values.get("prompt") or values.get("full_prompt"),
                "negative_prompt": values.get("negative_prompt"),
                "model": values.get("base_model"),
                "seed": values.get("seed"),
                "steps": values.get("steps"),
                "guidance_scale": values.get("guidance_scale"),
                "width_px": width or values.get("width"),
                "height_px": height or values.get("height"),
            },
        )
    return None

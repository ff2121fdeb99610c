"""Fooocus and its forks RuinedFooocus and MRE: JSON as "parameters" (PNG), UserComment (JPEG, WebP) or a comment.

Its A1111 scheme is read in a1111.py.
"""

from __future__ import annotations

import re

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, size
from img2prompt.results import EmbeddedPrompt

_VERSION = re.compile(r"\s*(Ruined)?Fooocus", re.IGNORECASE)


def read_fooocus(fields: Fields) -> EmbeddedPrompt | None:
    """Its JSON dialects: keys like "base_model" (2.2 and later), like "Base Model" (its log before), and the forks'."""
    for name in ("parameters", "UserComment", "Comment", "comment"):
        raw = fields.json_object(name)
        if raw is None:
            continue
        values = {key.lower().replace(" ", "_"): value for key, value in raw.items()}
        version = values.get("version", values.get("software"))
        named = _VERSION.match(version) if isinstance(version, str) else None
        if named is None and not {"base_model", "sharpness"} <= values.keys():
            continue
        width, height = size(values.get("resolution"))
        return embedded(
            "RuinedFooocus" if named and named[1] else "Fooocus",
            {
                "prompt": values.get("prompt") or values.get("full_prompt"),
                "negative_prompt": values.get("negative_prompt") or values.get("negative"),
                "model": values.get("base_model") or values.get("base_model_name"),
                "seed": values.get("seed"),
                "steps": values.get("steps"),
                "guidance_scale": values.get("guidance_scale", values.get("cfg")),
                "width_px": width or values.get("width"),
                "height_px": height or values.get("height"),
            },
        )
    return None

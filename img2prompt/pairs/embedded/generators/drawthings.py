"""Draw Things: JSON with the short keys "c" (prompt) and "uc" in EXIF's or XMP's UserComment."""

from __future__ import annotations

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, size
from img2prompt.results import EmbeddedPrompt


def read_drawthings(fields: Fields) -> EmbeddedPrompt | None:
    """PNG files have XMP only, JPEG files both."""
    for name in ("xmp:UserComment", "UserComment"):
        values = fields.json_object(name)
        if values is None or not isinstance(values.get("c"), str):
            continue
        width, height = size(values.get("size"))
        details = values.get("v2")
        if width is None and isinstance(details, dict):
            width, height = details.get("width"), details.get("height")
        return embedded(
            "Draw Things",
            {
                "prompt": values["c"],
                "negative_prompt": values.get("uc"),
                "model": values.get("model"),
                "seed": values.get("seed"),
                "steps": values.get("steps"),
                "guidance_scale": values.get("scale"),
                "width_px": width,
                "height_px": height,
            },
        )
    return None

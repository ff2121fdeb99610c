"""NovelAI: prompt as "Description", settings as JSON in "Comment"; the same fields inside the alpha channel."""

from __future__ import annotations

from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, text_of
from img2prompt.results import EmbeddedPrompt


def read_novelai(fields: Fields) -> EmbeddedPrompt | None:
    """V1 to V4.5; the character prompts of V4 follow the base prompt, joined by " | " as NovelAI's own box does."""
    comment = fields.json_object("Comment") or (fields.json_object("UserComment") or {})
    inner = comment.get("Comment")  # WebP files keep all PNG fields in one JSON object
    outer: dict[str, Any] = {}
    if isinstance(inner, str):
        outer, comment = comment, Fields({"Comment": inner}).json_object("Comment") or {}
    software = fields.first("Software") or outer.get("Software")
    own = {
        "uc",
        "v4_prompt",
        "uncond_scale",
        "request_type",
    } & comment.keys() and "c" not in comment  # "c": Draw Things
    if not own and software != "NovelAI":
        return None
    return embedded(
        "NovelAI",
        {
            "prompt": _caption(comment.get("v4_prompt"))
            or text_of(comment.get("prompt"))
            or fields.first("Description")
            or outer.get("Description"),
            "negative_prompt": _caption(comment.get("v4_negative_prompt")) or comment.get("uc"),
            "model": fields.first("Source") or outer.get("Source"),
            "seed": comment.get("seed"),
            "steps": comment.get("steps"),
            "guidance_scale": comment.get("scale"),
            "width_px": comment.get("width"),
            "height_px": comment.get("height"),
        },
    )


def _caption(block: object) -> str | None:
    caption = block.get("caption") if isinstance(block, dict) else None
    if not isinstance(caption, dict):
        return None
    characters = caption.get("char_captions")
    parts = [caption.get("base_caption")]
    for character in characters[:100] if isinstance(characters, list) else ():
        parts.append(character.get("char_caption") if isinstance(character, dict) else None)
    return " | ".join(text for part in parts if (text := text_of(part))) or None

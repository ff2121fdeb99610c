"""Sites that run ComfyUI and state beside the graph what users asked for: Civitai (older pictures) and TensorArt."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.generators.comfyui import read_comfyui
from img2prompt.pairs.embedded.values import embedded, parse_object, text_of
from img2prompt.results import EmbeddedPrompt


def read_sites(fields: Fields) -> EmbeddedPrompt | None:
    """The statement, and what it leaves out from the graph."""
    statements = {"Civitai": _civitai(fields), "TensorArt": fields.json_object("generation_data")}
    for site, stated in statements.items():
        if stated is None or text_of(stated.get("prompt")) is None:
            continue
        model = stated.get("baseModel")
        facts = {
            "prompt": stated.get("prompt"),
            "negative_prompt": stated.get("negativePrompt"),
            "model": model.get("modelFileName") if isinstance(model, dict) else None,
            "seed": stated.get("seed"),
            "steps": stated.get("steps"),
            "guidance_scale": stated.get("cfgScale"),
            "width_px": stated.get("width"),
            "height_px": stated.get("height"),
        }
        graph = read_comfyui(fields)
        known = asdict(graph) if graph is not None else {}
        return embedded(site, known | {name: value for name, value in facts.items() if value is not None})
    return None


def _civitai(fields: Fields) -> dict[str, Any] | None:
    """Among the nodes of the graph, as a text of its own JSON; that graph is a JPEG's UserComment."""
    graph = fields.json_object("UserComment", "parameters", "prompt") or {}
    stated = graph.get("extraMetadata")
    return parse_object(stated) if isinstance(stated, str) else None

"""Names for the widget values of ComfyUI's editor notation, which lists values without names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from img2prompt.pairs.embedded.generators.comfy_graph import Value

_CORE: Mapping[str, tuple[str, ...]] = {  # order of widgets in ComfyUI's own nodes (its nodes.py and comfy_extras)
    "CLIPTextEncode": ("text",),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise",
        "noise_seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "start_at_step",
        "end_at_step",
        "return_noise",
    ),
    "SamplerCustom": ("add_noise", "noise_seed", "cfg"),
    "RandomNoise": ("noise_seed",),
    "FluxGuidance": ("guidance",),
    "CFGGuider": ("cfg",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "Flux2Scheduler": ("steps", "width", "height"),
    "SDTurboScheduler": ("steps", "denoise"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CLIPTextEncodeSDXL": ("width", "height", "crop_w", "crop_h", "target_width", "target_height", "text_g", "text_l"),
    "CLIPTextEncodeSDXLRefiner": ("ascore", "width", "height", "text"),
    "CLIPTextEncodeSD3": ("clip_l", "clip_g", "t5xxl", "empty_padding"),
    "CLIPTextEncodeHiDream": ("clip_l", "clip_g", "t5xxl", "llama"),
    "CLIPTextEncodeHunyuanDiT": ("bert", "mt5xl"),
    "CLIPTextEncodeLumina2": ("system_prompt", "user_prompt"),
    "TextEncodeQwenImageEdit": ("prompt",),
    "TextEncodeQwenImageEditPlus": ("prompt",),
    "StringConcatenate": ("string_a", "string_b", "delimiter"),
    "StringReplace": ("string", "find", "replace"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "EmptyFlux2LatentImage": ("width", "height", "batch_size"),
    "ComfySwitchNode": ("switch",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveBoolean": ("value",),
    "PrimitiveNode": ("value",),
    "SetNode": ("value",),
    "GetNode": ("value",),
}
_AFTER_SEED = frozenset({"fixed", "increment", "decrement", "randomize"})  # the editor's own widget behind a seed
_WORDY = re.compile(r"(?<!kon)text(?!to)|prompt|string|encode|wildcard", re.IGNORECASE)
_FILE = re.compile(r".+\.(?:safetensors|ckpt|pt|pth|bin|gguf|sft|png|jpe?g|webp|mp4|onnx)", re.IGNORECASE)
_NO_WORDS = re.compile(r"[\W\d_]*|Select the \w+ to add to the text", re.DOTALL)  # sigmas; a menu of wildcard nodes
_PHRASE = re.compile(r"[\s,]|[^\x00-\x7f]")  # what is chosen from a menu is mostly one English word


def name_widgets(
    kind: str, slots: Sequence[Mapping[str, Any]], values: object, promoted: Sequence[object] = (), stale: int = 0
) -> dict[str, Value]:
    """Input name -> widget value. Newer files name every widget among the inputs; core nodes have a known order.

    `promoted` names the values of a subgraph that shows widgets of its inner nodes. Where nothing helps, texts of
    nodes that seem to be about texts become "text_1", "text_2", ... but for those among their `stale` first values,
    whose inputs are linked, and the first text of another node that reads like prose becomes "prompt".
    """
    if isinstance(values, dict):
        return {str(name): value for name, value in values.items() if isinstance(value, str | int | float)}
    if not isinstance(values, list):
        return {}
    plain = _without_controls(values)
    declared = [slot["widget"].get("name") for slot in slots if isinstance(slot.get("widget"), dict)]
    names: Sequence[object] = _CORE.get(kind, ())
    if not names and declared and len(declared) in (len(plain), len(values)):
        names, plain = declared, plain if len(declared) == len(plain) else values
    elif not names and len(promoted) == len(values):
        names, plain = promoted, values
    if names:
        seed = next((index for index, name in enumerate(names) if name in ("seed", "noise_seed")), None)
        if seed is not None and len(plain) > len(names) and isinstance(plain[seed + 1], bool):
            plain = [*plain[: seed + 1], *plain[seed + 2 :]]  # old editors: whether the seed changes, as a boolean
        return {
            str(name): value for name, value in zip(names, plain, strict=False) if isinstance(value, str | int | float)
        }
    wordy = _WORDY.search(kind) is not None
    texts = _texts_among(plain, wordy, stale)
    if not wordy:  # a service's node or a group: the first text is what it draws
        return {"prompt": texts[0]} if texts else {}
    return {f"text_{index}": text for index, text in enumerate(texts[:50], start=1)}


def _without_controls(values: Sequence[object]) -> list[Any]:
    return [
        value
        for index, value in enumerate(values)
        if not (
            index and isinstance(value, str) and value in _AFTER_SEED and isinstance(values[index - 1], int | float)
        )
    ]


def _texts_among(values: Sequence[object], wordy: bool, stale: int) -> list[str]:
    strings = [value.strip() for value in values if isinstance(value, str)][stale if wordy else 0 :]
    strings = [text for text in strings if not _FILE.fullmatch(text) and not _NO_WORDS.fullmatch(text)]
    if not wordy:
        return [text for text in strings if len(text) > 10 and text.count(" ") >= 3]
    first = [text for text in strings[:1] if len(text) > 10 or _PHRASE.search(text)]  # mostly the text, be it short
    return first + [text for text in strings[1:] if len(text) > 10 and _PHRASE.search(text)]

"""Values out of untrusted metadata: clean text, bounded JSON, plain numbers, and the result they make.

Everything a file says passes through here before it leaves: no escape sequence reaches a terminal, no number is
infinite, no JSON nests deeper than the walkers allow.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from img2prompt.errors import MetadataError
from img2prompt.results import EmbeddedPrompt

MAX_JSON_CHARS = 4 * 2**20  # a ComfyUI workflow of a thousand nodes is below 1 MiB
MAX_JSON_DEPTH = 100
MAX_PROMPT_CHARS = 100_000  # the longest prompt any text encoder reads is some ten thousand characters
MAX_NAME_CHARS = 500  # model names
MAX_WHOLE = 2**64 - 1  # seeds are unsigned 64-bit numbers

# Terminal escapes (ECMA-48): CSI sequences, OSC/DCS/SOS/PM/APC strings up to their terminator, then any other ESC pair.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -~]?"
)
# C0 and C1 controls but tab and newline, bidirectional overrides (text that reads differently than it is), BOM,
# noncharacters and lone surrogates (they cannot be encoded). Joiners and variation selectors stay: emoji need them.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_BREAKS = re.compile("\r\n?|[\u2028\u2029]")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z|\\)|[\[{]|[\]}]', re.DOTALL)
_NUMBER = re.compile(r"\s*([+-]?\d{1,25}(?:\.\d{0,25})?(?:[eE][+-]?\d{1,3})?)\s*")
_SIZE = re.compile(r"\D*(\d{1,6})\s*[x×,]\s*(\d{1,6})\D*")


def clean(text: str) -> str:
    """`text` without terminal escapes, control characters and outer white space; line breaks become newlines."""
    return _UNWANTED.sub("", _ESCAPES.sub("", _BREAKS.sub("\n", text))).strip()


def parse_json(text: str) -> Any:
    """The value of a JSON text, or None where it is no JSON; NaN, infinities and absurdly long integers are None.

    Raises:
        MetadataError: longer than 4 Mi characters or nested deeper than 100.
    """
    start = text.lstrip("\ufeff \t\r\n")[:1]
    if start not in ("{", "["):
        return None
    if len(text) > MAX_JSON_CHARS:
        raise MetadataError(
            f"its JSON has {len(text)} characters, more than {MAX_JSON_CHARS}; the file is damaged or hostile"
        )
    _refuse_depth(text)
    try:
        return json.loads(text.strip("\ufeff\0 \t\r\n"), parse_constant=lambda _: None, parse_int=_bounded_int)
    except ValueError:
        return None


def parse_object(text: str | None) -> dict[str, Any] | None:
    """Like `parse_json`, but only a JSON object counts."""
    value = parse_json(text) if text else None
    return value if isinstance(value, dict) else None


def dicts(values: object) -> list[dict[str, Any]]:
    """The objects among the items of a list or the values of an object; what is neither has none."""
    items: Iterable[object] = (
        values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
    )
    return [item for item in items if isinstance(item, dict)]


def _refuse_depth(text: str) -> None:
    # json.loads stops at Python's recursion limit, which the caller may have raised; this bound is our own.
    depth = 0
    for match in _BRACKETS.finditer(text):
        mark = text[match.start()]
        if mark in "[{":
            depth += 1
            if depth > MAX_JSON_DEPTH:
                raise MetadataError(f"its JSON is nested deeper than {MAX_JSON_DEPTH}; the file is damaged or hostile")
        elif mark in "]}":
            depth -= 1


def _bounded_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= 20 else None


def real(value: object) -> float | None:
    """A finite number from a number or its text, else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        value = float(match[1]) if match else None
    if not isinstance(value, int | float) or abs(value) > 1e30:  # NaN fails the next test
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """An integer of 0 to 2**64 - 1 from a number or its text, else None (negative seeds mean "random")."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        text = match[1] if match else ""
        value = int(text) if text.lstrip("+-").isdigit() else real(text)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MAX_WHOLE else None


def size(value: object) -> tuple[int | None, int | None]:
    """Width and height in pixels from texts such as "512x768" or "(1152, 896)"."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 50 else None
    return (int(match[1]), int(match[2])) if match else (None, None)


def text_of(value: object) -> str | None:
    """A cleaned text, or None where the value is none or empty; a list of texts is joined by newlines."""
    if isinstance(value, list):
        value = "\n".join(part for part in value[:1000] if isinstance(part, str))
    return (clean(value) or None) if isinstance(value, str) else None


def embedded(generator: str | None, facts: Mapping[str, object]) -> EmbeddedPrompt | None:
    """The result from raw facts, named like the fields of EmbeddedPrompt; None without a prompt.

    Raises:
        MetadataError: a prompt longer than 100,000 characters.
    """
    prompt, negative = text_of(facts.get("prompt")), text_of(facts.get("negative_prompt"))
    if prompt is None:
        return None
    longest = max(len(prompt), len(negative or ""))
    if longest > MAX_PROMPT_CHARS:
        raise MetadataError(
            f"it has a prompt of {longest} characters, more than {MAX_PROMPT_CHARS}; the file is damaged or hostile"
        )
    model = text_of(facts.get("model"))
    return EmbeddedPrompt(
        prompt=prompt,
        negative_prompt=negative,
        generator=clean(generator)[:MAX_NAME_CHARS] if generator else None,
        model=model[:MAX_NAME_CHARS] if model else None,
        seed=whole(facts.get("seed")),
        steps=whole(facts.get("steps")),
        guidance_scale=real(facts.get("guidance_scale")),
        width_px=whole(facts.get("width_px")) or None,
        height_px=whole(facts.get("height_px")) or None,
    )

"""What a generated picture says of itself, in AUTOMATIC1111's format; `read_prompt` reads it back unchanged.

    a red fox in the snow
    Negative prompt: blurry
    Steps: 25, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 1, Size: 768x768, Model: sd-2.1, App: img2prompt

The format has no way to quote a prompt. A line of a prompt that a reader would take for something else gets an
invisible left-to-right mark in front, which shows nowhere and which `read_prompt` takes away again.
"""

from __future__ import annotations

import json
import re
from io import BytesIO

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

from img2prompt.pairs.embedded.values import MAX_PROMPT_CHARS, clean
from img2prompt.results import EmbeddedPrompt

APP = "img2prompt"
_MARK = "\u200e"
_NEGATIVE = "Negative prompt:"
_PLAIN = re.compile(r"[\w./+-]+(?: [\w./+-]+)*", re.ASCII)


def parameters_text(made: EmbeddedPrompt, sampler: str | None = None) -> str:
    """The text of a picture's own parameters.

    Args:
        made: how it was made; `steps` of None is written as 1, since the format starts its last line with them.
        sampler: in the words of web interfaces, e.g. "DPM++ 2M Karras".
    """
    settings = {
        "Steps": str(made.steps or 1),
        "Sampler": sampler,
        "CFG scale": None if made.guidance_scale is None else f"{made.guidance_scale!r}".removesuffix(".0"),
        "Seed": None if made.seed is None else str(made.seed),
        "Size": f"{made.width_px}x{made.height_px}" if made.width_px and made.height_px else None,
        "Model": made.model,
        "App": made.generator or APP,
    }
    lines = [_guarded(made.prompt, first=True)]
    if made.negative_prompt:
        lines.append(f"{_NEGATIVE} {_guarded(made.negative_prompt)}")
    lines.append(", ".join(f"{name}: {_value(value)}" for name, value in settings.items() if value is not None))
    return "\n".join(lines)


def png_bytes(image: Image, parameters: str) -> bytes:
    """The picture as a PNG file that carries its parameters where every reader of the format looks for them."""
    info = PngInfo()
    if parameters.isascii():
        info.add_text("parameters", parameters)
    else:  # tEXt is Latin-1 by the standard, UTF-8 by habit: iTXt leaves no doubt
        info.add_itxt("parameters", parameters)
    file = BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _guarded(prompt: str, first: bool = False) -> str:
    lines = clean(prompt)[:MAX_PROMPT_CHARS].split("\n")
    guarded = [_MARK + line if line.lstrip().startswith(_NEGATIVE) else line for line in lines]
    if first and lines[0][:1] in ("{", "["):  # would be taken for JSON
        guarded[0] = _MARK + lines[0]
    return "\n".join(guarded)


def _value(value: str) -> str:
    """A value of the last line; one that could be misread is quoted as JSON."""
    return value if _PLAIN.fullmatch(value) else json.dumps(clean(value), ensure_ascii=False)

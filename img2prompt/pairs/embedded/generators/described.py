"""Services that leave a description: Midjourney, DALL-E and ChatGPT, Firefly, Ideogram and the like.

Cameras and stock photographs use the same fields for other things, so a description counts as a prompt only where
the file says that it was generated.
"""

from __future__ import annotations

import re

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import MAX_PROMPT_CHARS, embedded
from img2prompt.results import EmbeddedPrompt

_DESCRIPTIONS = (
    "Description",
    "ImageDescription",
    "xmp:description",
    "xmp:AIPromptInformation",
    "xmp:prompt",
    "XPComment",
    "XPSubject",
    "UserComment",
    "comment",
    "Comment",
    "xmp:UserComment",
    "xmp:title",
    "Title",
)
_MAKERS = (
    "Software",
    "xmp:CreatorTool",
    "xmp:AISystemUsed",
    "Source",
    "Make",
    "Model",
    "Artist",
    "xmp:creator",
    "Author",
    "xmp:Credit",
    "Creator",
)
_SERVICES = (  # what a maker field holds -> the name we report
    (re.compile(r"midjourney", re.IGNORECASE), "Midjourney"),
    (re.compile(r"dall[-· ]?e\b|chatgpt|openai|gpt-image", re.IGNORECASE), "DALL-E"),
    (re.compile(r"firefly", re.IGNORECASE), "Adobe Firefly"),
    (re.compile(r"ideogram", re.IGNORECASE), "Ideogram"),
    (re.compile(r"leonardo\.?ai", re.IGNORECASE), "Leonardo.Ai"),
    (re.compile(r"stable ?diffusion|dreamstudio|stability", re.IGNORECASE), "Stable Diffusion"),
    (re.compile(r"imagen\b|gemini|google ai", re.IGNORECASE), "Google Imagen"),
    (re.compile(r"flux|black forest labs", re.IGNORECASE), "FLUX"),
)
_JOB = re.compile(r"Job ID: {0,5}[0-9a-fA-F-]{8,40}")
_FLAG = re.compile(r"(?:^|(?<=\s))(?:--|—)([a-zA-Z]{1,20})(?=\s|\Z)")
_FLAG_NAMES = (  # https://docs.midjourney.com, "Parameter List"
    "ar aspect chaos c cref cw dref draft exp fast fps hd iw loop motion no niji oref ow p profile personalize q "
    "quality r raw relax repeat s seed sameseed sref stop style stylize sv sw test testp tile turbo uplight upbeta "
    "v version vibe video weird w wallpaper h height hq stealth public creative"
)
_FLAGS = frozenset(_FLAG_NAMES.split())


def read_described(fields: Fields) -> EmbeddedPrompt | None:
    """The description of a file that says it was generated; Midjourney's flags become facts."""
    text = fields.first(*_DESCRIPTIONS)
    if text is None or len(text) > MAX_PROMPT_CHARS or text.lstrip()[:1] in "{[":
        return None
    text = text.strip()
    job = _JOB.search(text, max(0, len(text) - 200))
    makers = " ".join(fields.texts.get(name, "")[:200] for name in _MAKERS)
    service = next((name for pattern, name in _SERVICES if pattern.search(makers)), None)
    if job or service == "Midjourney" or _midjourney_flags(text) >= 2:
        return _midjourney(text[: job.start()] if job else text)
    source_type = fields.texts.get("xmp:DigitalSourceType", "") + fields.texts.get("xmp:DigitalSourceFileType", "")
    if service or "trainedAlgorithmicMedia" in source_type:
        return embedded(service, {"prompt": text})
    return None


def _midjourney_flags(text: str) -> int:
    return sum(match[1].lower() in _FLAGS for match in _FLAG.finditer(text[-2000:]))


def _midjourney(text: str) -> EmbeddedPrompt | None:
    """Splits "a fox --ar 16:9 --v 6.1 --seed 7 --no text" into prompt and facts; unknown words with dashes stay."""
    flags: dict[str, str] = {}
    prompt, name, last = "", "", 0
    for match in _FLAG.finditer(text):
        if match[1].lower() not in _FLAGS:
            continue
        before = text[last : match.start()]
        if name:
            flags[name] = before.strip()
        else:
            prompt = before
        name, last = match[1].lower(), match.end()
    if name:
        flags[name] = text[last:].strip()
    else:
        prompt = text
    version = flags.get("v") or flags.get("version")
    model = f"Midjourney {version}" if version else f"niji {flags['niji']}".strip() if "niji" in flags else None
    facts = {
        "prompt": prompt,
        "negative_prompt": flags.get("no"),
        "seed": flags.get("seed") or flags.get("sameseed"),
        "model": model,
    }
    return embedded("Midjourney", facts)

"""AUTOMATIC1111's "infotext" and all who write it: Forge, SD.Next, Fooocus' a1111 scheme, ComfyUI save nodes, Civitai.

    <prompt, any number of lines>
    Negative prompt: <any number of lines>
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: "a, b", Hashes: {"model": "..."}

Written without regular expressions over whole texts: the usual one for the settings takes quadratic time.
"""

from __future__ import annotations

import json
import re

from img2prompt.pairs.embedded.fields import Fields
from img2prompt.pairs.embedded.values import embedded, parse_json, size
from img2prompt.results import EmbeddedPrompt

MAX_SETTINGS_CHARS = 100_000
_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"[A-Za-z_][\w .\-/()#]{0,60}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_STEPS = re.compile(r"\s{0,20}Steps:\s{0,20}\d")
_REFORGE = re.compile(r"f\d+(?:\.\d+)+\w*-v\d")  # f1.0.0v2-v1.10.1RC, f2.0.0dev-v1.10.1RC
_FORGE = re.compile(r"f\d+\.\d|neo|classic")  # old SD.Next has the hash of a commit here, which may begin with an f too
_MODELS = ("Model", "model", "Unet")  # most; interfaces to the AI Horde; stable-diffusion.cpp with a model in parts
_COMMON = frozenset(
    {
        "Steps",
        "Sampler",
        "CFG scale",
        "Seed",
        "Size",
        "Model",
        "Model hash",
        "Schedule type",
        "Version",
        "Clip skip",
        "Denoising strength",
    }
)


def read_a1111(fields: Fields) -> EmbeddedPrompt | None:
    """From "parameters" even without settings; from fields that cameras use too, only with settings."""
    parameters = fields.first("parameters", "Parameters")
    if parameters is not None and parameters.lstrip()[:1] not in ("{", "["):
        return _read(parameters)
    for name in (
        "UserComment",
        "xmp:parameters",
        "xmp:UserComment",
        "comment",
        "Comment",
        "ImageDescription",
        "Description",
        "xmp:description",
        "XPComment",
    ):
        text = fields.first(name)
        if text is not None and ("Steps:" in text or _NEGATIVE in text) and text.lstrip()[:1] not in ("{", "["):
            _, negative, settings = split_infotext(text)
            if settings or negative:
                return _read(text)
    return None


def _read(text: str) -> EmbeddedPrompt | None:
    prompt, negative, settings = split_infotext(text)
    width, height = size(settings.get("Size"))
    guidance = settings.get("CFG scale") or settings.get("Guidance")
    distilled = settings.get("Distilled CFG Scale")
    if distilled and guidance in (None, "1", "1.0"):  # Forge with FLUX: CFG 1 is off, the distilled one is in charge
        guidance = distilled
    return embedded(
        _generator(settings),
        {
            "prompt": prompt,
            "negative_prompt": negative,
            "model": next((settings[key] for key in _MODELS if settings.get(key)), None)
            or _checkpoint(settings.get("Civitai resources", ""))
            or settings.get("Model hash"),
            "seed": settings.get("Seed"),
            "steps": settings.get("Steps"),
            "guidance_scale": guidance,
            "width_px": width,
            "height_px": height,
        },
    )


def _generator(settings: dict[str, str]) -> str:
    version, app = settings.get("Version", ""), settings.get("App", "")
    if app:
        return app
    if "Civitai resources" in settings and not version:  # nodes of ComfyUI list resources for Civitai, too
        return "Civitai"
    for name in ("ComfyUI", "Fooocus", "stable-diffusion.cpp"):
        if version.startswith(name):
            return name
    if _REFORGE.match(version):
        return "reForge"
    return "Forge" if _FORGE.match(version) else "AUTOMATIC1111"


def _checkpoint(resources: str) -> object:
    """The name of the model in Civitai's list of all resources, which stands for the "Model" of others."""
    listed = parse_json(resources)
    for resource in listed if isinstance(listed, list) else ():
        if isinstance(resource, dict) and resource.get("type") == "checkpoint":
            return resource.get("modelName")
    return None


def split_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and settings; the inverse of how AUTOMATIC1111 joins them.

    The settings are the last line that starts with "Steps: <number>" (else a last line that reads like settings) and
    what follows it. The negative prompt starts at the first line that starts with "Negative prompt:"; the same words
    inside a line belong to the prompt.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    at = _settings_line(lines)
    settings = split_settings("\n".join(lines[at:]))
    prompt: list[str] = []
    negative: list[str] | None = None
    for line in lines[:at]:
        if line.lstrip().startswith(_NEGATIVE):
            negative = [*(negative or []), line.lstrip()[len(_NEGATIVE) :].lstrip()]
        else:
            (prompt if negative is None else negative).append(line)
    return "\n".join(prompt).strip(), "\n".join(negative or []).strip(), settings


def _settings_line(lines: list[str]) -> int:
    for index in range(len(lines) - 1, -1, -1):
        if _STEPS.match(lines[index]) and (
            len(split_settings(lines[index])) >= 2 or lines[index].strip(", 0123456789") == "Steps:"
        ):
            return index
    last = next((index for index in range(len(lines) - 1, -1, -1) if lines[index].strip()), 0)
    return last if len(_COMMON & split_settings(lines[last]).keys()) >= 3 else len(lines)


def split_settings(line: str) -> dict[str, str]:
    """`Key: value` pairs between commas; values in quotes are JSON strings, values in brackets run to their end."""
    settings: dict[str, str] = {}
    line, at = line[:MAX_SETTINGS_CHARS], 0
    while at < len(line):
        comma, colon = line.find(",", at), line.find(":", at)
        if colon < 0:
            break
        if 0 <= comma < colon:  # a piece without a colon: the rest of an unquoted value
            at = line.rfind(",", at, colon) + 1
            continue
        key = line[at:colon].strip()
        value, at = _value(line, colon + 1)
        if _KEY.fullmatch(key):
            settings.setdefault(key, value)
    return settings


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that starts at `at` and where the next pair starts."""
    while at < len(line) and line[at] == " ":
        at += 1
    quoted = _QUOTED.match(line, at) if line[at : at + 1] == '"' else None
    if quoted and line[quoted.end() :].lstrip(" ")[:1] in ("", ",", "\n"):
        try:
            value = str(json.loads(quoted[0], strict=False))
        except ValueError:
            value = quoted[0][1:-1]
        end = quoted.end()
    elif line[at : at + 1] in ("{", "["):
        end = _closing(line, at)
        value = line[at:end]
    else:
        stop = min((found for mark in ",\n" if (found := line.find(mark, at)) >= 0), default=len(line))
        return line[at:stop].strip(), stop + 1
    stop = line.find(",", end)
    return value, len(line) if stop < 0 else stop + 1


def _closing(line: str, at: int) -> int:
    """Behind the bracket that closes the one at `at`; brackets in strings do not count. Unbalanced: the line's end."""
    depth = 0
    while at < len(line):
        char = line[at]
        if char == '"':
            quoted = _QUOTED.match(line, at)
            if quoted is None:
                return len(line)
            at = quoted.end()
            continue
        depth += (char in "{[") - (char in "}]")
        at += 1
        if depth == 0:
            return at
    return at

"""Prompts in files, written with the calls that the generators use."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from img2prompt.errors import ImageEmpty, ImageIsDirectory, ImageNotFound, NotAnImage
from img2prompt.pairs.embedded.exif import decode_comment
from img2prompt.pairs.embedded.fields import Fields, read_fields
from img2prompt.pairs.embedded.generators.a1111 import split_infotext, split_settings
from img2prompt.pairs.embedded.generators.comfyui import read_comfyui
from img2prompt.pairs.metadata import read_prompt
from img2prompt.results import EmbeddedPrompt

REAL = Path(__file__).parents[2] / "shared" / "data" / "embedded_prompts" / "comfyui"
EXAMPLE = Path(__file__).parents[1] / "imgs" / "examples" / "embedded-prompt.png"

PROMPT = 'a fox, (fur:1.2), "quoted", 狐 🦊,\nBREAK second line: with a colon, Negative prompt: inside'
INFOTEXT = (
    f"{PROMPT}\nNegative prompt: blurry, text\nsecond negative line\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 1234567890, Size: 512x768, Model hash: abc, "
    'Model: "my, model", '
    'Hashes: {"model": "abc", "lora:x": "1,2"}, Version: v1.10.1'
)
A1111 = EmbeddedPrompt(
    PROMPT, "blurry, text\nsecond negative line", "AUTOMATIC1111", "my, model", 1234567890, 20, 7.5, 512, 768
)


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture with texture, so that lossy formats have something to do."""
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


def png(texts: dict[str, str], *, compressed: bool = False, international: bool = False, after: bool = False) -> bytes:
    """A PNG file with text chunks, by Pillow's PngInfo."""
    info = PngInfo()
    for name, text in texts.items():
        if international:
            info.add_itxt(name, text, zip=compressed)
        else:
            info.add_text(name, text, zip=compressed)
    if after:  # behind the pixels: move the chunks there
        return _after_pixels(_save(picture(), "PNG", pnginfo=info))
    return _save(picture(), "PNG", pnginfo=info)


def _after_pixels(data: bytes) -> bytes:
    chunks, at = [], 8
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append(data[at : at + length + 12])
        at += length + 12
    texts = [chunk for chunk in chunks if chunk[4:8] in (b"tEXt", b"zTXt", b"iTXt")]
    others = [chunk for chunk in chunks if chunk not in texts]
    assert texts
    return data[:8] + b"".join([*others[:-1], *texts, others[-1]])


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif_of(comment: bytes | str | None = None, **tags: str) -> bytes:
    """An EXIF block with a UserComment in its own directory, as piexif writes it."""
    exif = Image.Exif()
    numbers = {"description": 0x010E, "make": 0x010F, "model": 0x0110, "software": 0x0131}
    for name, text in tags.items():
        exif[numbers[name]] = text
    if comment is not None:
        exif.get_ifd(0x8769)[0x9286] = comment
    return exif.tobytes()


CONTAINERS: dict[str, Callable[[str], bytes]] = {
    "PNG tEXt/iTXt": lambda text: png({"parameters": text}),
    "PNG zTXt": lambda text: png({"parameters": text}, compressed=True),
    "PNG iTXt": lambda text: png({"parameters": text}, international=True),
    "PNG iTXt compressed": lambda text: png({"parameters": text}, international=True, compressed=True),
    "PNG behind the pixels": lambda text: png({"parameters": text}, after=True),
    "PNG tEXt holding UTF-8": lambda text: _raw_text_chunk(b"parameters", text.encode()),
    "PNG eXIf": lambda text: _save(picture(), "PNG", exif=exif_of(b"UNICODE\0" + text.encode("utf-16-be"))),
    "GIF comment": lambda text: _save(picture().convert("P"), "GIF", comment=text.encode()),
} | {
    f"{kind} UserComment {label}": (
        lambda text, kind=kind, encode=encode: _save(picture(), kind, exif=exif_of(encode(text)))
    )
    for kind in ("JPEG", "WEBP", "AVIF")
    for label, encode in {
        "UTF-16 BE": lambda text: b"UNICODE\0" + text.encode("utf-16-be"),
        "UTF-16 LE": lambda text: b"UNICODE\0" + text.encode("utf-16-le"),
        "UTF-16 with mark": lambda text: b"UNICODE\0" + text.encode("utf-16"),
        "UNICODE but UTF-8": lambda text: b"UNICODE\0" + text.encode(),
        "ASCII but UTF-8": lambda text: b"ASCII\0\0\0" + text.encode(),
        "undefined UTF-8": lambda text: bytes(8) + text.encode(),
        "undefined UTF-16": lambda text: bytes(8) + text.encode("utf-16-le"),
        "no prefix": lambda text: text.encode(),
    }.items()
}


def _raw_text_chunk(keyword: bytes, text: bytes, kind: bytes = b"tEXt") -> bytes:
    body = kind + keyword + b"\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = _save(picture(), "PNG")
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("container", CONTAINERS)
def test_parameters_come_out_of_every_container(container: str) -> None:
    assert read_prompt(CONTAINERS[container](INFOTEXT)) == A1111


def test_image_description_and_xmp_hold_parameters_too() -> None:
    plain = INFOTEXT.replace("狐 🦊", "fox")  # Pillow writes this tag in ASCII
    found = read_prompt(_save(picture(), "JPEG", exif=exif_of(description=plain)))
    assert found is not None and found.prompt == PROMPT.replace("狐 🦊", "fox") and found.seed == A1111.seed
    assert read_prompt(_save(picture(), "JPEG", xmp=xmp({"dc:description": INFOTEXT}))) == A1111
    assert read_prompt(_save(picture(), "WEBP", xmp=xmp({"dc:description": INFOTEXT}))) == A1111


def xmp(properties: dict[str, str]) -> bytes:
    """An XMP packet as Adobe's and Apple's libraries write it: language alternatives in rdf:Alt."""
    from xml.sax.saxutils import escape

    body = "".join(
        f'<{name}><rdf:Alt><rdf:li xml:lang="x-default">{escape(text)}</rdf:li></rdf:Alt></{name}>'
        if name != "xmp:CreatorTool"
        else f"<{name}>{escape(text)}</{name}>"
        for name, text in properties.items()
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f'{body}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def stealth(text: str, *, band: str = "A", packed: bool = True, kind: str = "PNG", width: int = 150) -> bytes:
    """The stealth_pnginfo extension's way: bits down the columns, left to right."""
    name = {("A", True): "pngcomp", ("A", False): "pnginfo", ("RGB", True): "rgbcomp", ("RGB", False): "rgbinfo"}
    body = gzip.compress(text.encode()) if packed else text.encode()
    data = f"stealth_{name[band, packed]}".encode() + struct.pack(">I", 8 * len(body)) + body
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    image = picture("RGBA" if band == "A" else "RGB", (width, 61))
    pixels = np.array(image)
    channels = [3] if band == "A" else [0, 1, 2]
    lanes = pixels[..., channels].transpose(1, 0, 2).reshape(-1)  # x, then y, then channel
    assert bits.size <= lanes.size
    lanes[: bits.size] = lanes[: bits.size] & 0xFE | bits
    pixels[..., channels] = lanes.reshape(width, 61, -1).transpose(1, 0, 2)
    return _save(Image.fromarray(pixels), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))


NOVELAI_COMMENT = {
    "prompt": "1girl, fox ears",
    "steps": 28,
    "height": 1216,
    "width": 832,
    "scale": 5.5,
    "uncond_scale": 0.0,
    "seed": 77,
    "sampler": "k_euler",
    "uc": "lowres",
    "request_type": "PromptGenerateRequest",
}
NOVELAI = EmbeddedPrompt(
    "1girl, fox ears", "lowres", "NovelAI", "NovelAI Diffusion V3 F1FB8CCA", 77, 28, 5.5, 832, 1216
)
NOVELAI_FIELDS = {
    "Title": "NovelAI generated image",
    "Description": "1girl, fox ears",
    "Software": "NovelAI",
    "Source": "NovelAI Diffusion V3 F1FB8CCA",
    "Comment": json.dumps(NOVELAI_COMMENT),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("band", ["A", "RGB"])
def test_stealth_pixels_hold_infotext(band: str, packed: bool, kind: str) -> None:
    assert read_prompt(stealth(INFOTEXT, band=band, packed=packed, kind=kind)) == A1111


def test_stealth_alpha_of_novelai_and_text_that_comes_first() -> None:
    assert read_prompt(stealth(json.dumps(NOVELAI_FIELDS))) == NOVELAI
    assert read_prompt(_save(picture("RGBA"), "PNG")) is None


def test_text_saves_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("img2prompt.pairs.metadata.read_stealth", refuse)
    assert read_prompt(png({"parameters": INFOTEXT})) == A1111


SWARM = {
    "prompt": "a castle",
    "negativeprompt": "ugly",
    "model": "OfficialStableDiffusion/sd_xl_base_1.0",
    "seed": 5,
    "steps": 20,
    "cfgscale": 7.0,
    "width": 1024,
    "height": 768,
    "swarm_version": "0.9.3",
}
SWARM_TEXT = json.dumps({"sui_image_params": SWARM, "sui_extra_data": {"date": "2025-01-01"}}, indent=2)
SWARM_RESULT = EmbeddedPrompt("a castle", "ugly", "SwarmUI", SWARM["model"], 5, 20, 7.0, 1024, 768)
FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL_v8",
    "base_model_hash": "aeb7e9e689",
    "guidance_scale": 4.0,
    "full_prompt": ["a lake, cinematic", "masterpiece"],
    "loras": [],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "performance": "Speed",
    "prompt": "a lake",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "seed": "99",
    "sharpness": 2.0,
    "steps": 30,
    "version": "Fooocus v2.5.5",
}
FOOOCUS_RESULT = EmbeddedPrompt("a lake", None, "Fooocus", "juggernautXL_v8", 99, 30, 4.0, 1152, 896)
FOOOCUS_A1111 = (
    "a lake\nNegative prompt: low\nSteps: 30, Sampler: DPM++ 2M SDE, Seed: 99, Size: 1152x896, CFG scale: 4.0, "
    "Sharpness: 2.0, "
    "ADM Guidance: (1.5, 0.8, 0.3), Model: juggernautXL_v8, Version: Fooocus v2.5.5"
)
INVOKE = {
    "generation_mode": "txt2img",
    "positive_prompt": "a barn",
    "negative_prompt": "cars",
    "width": 640,
    "height": 448,
    "seed": 3,
    "cfg_scale": 7.5,
    "steps": 30,
    "scheduler": "euler",
    "model": {"key": "k", "name": "dreamshaper", "base": "sd-1"},
}
INVOKE_OLD_IMAGE = {
    "prompt": [{"prompt": "a barn [cars]", "weight": 1.0}],
    "steps": 30,
    "cfg_scale": 7.5,
    "seed": 3,
    "width": 640,
    "height": 448,
    "sampler": "k_lms",
}
INVOKE_OLD: dict[str, Any] = {
    "model": "stable diffusion",
    "model_weights": "sd-1.5",
    "app_version": "2.3",
    "image": INVOKE_OLD_IMAGE,
}
INVOKE_OLD_RESULT = EmbeddedPrompt("a barn", "cars", "InvokeAI", "sd-1.5", 3, 30, 7.5, 640, 448)
DRAW = {
    "c": "a kite",
    "uc": "rain",
    "seed": 11,
    "steps": 25,
    "scale": 5.0,
    "size": "768x512",
    "model": "sdxl.ckpt",
    "sampler": "DPM++",
    "v2": {"width": 768},
}
EASY = {
    "prompt": "a jar",
    "negative_prompt": "lids",
    "seed": "8",
    "use_stable_diffusion_model": "sd-v1-5",
    "guidance_scale": "7.5",
    "num_inference_steps": "25",
    "width": "512",
    "height": "640",
}
EASY_RESULT = EmbeddedPrompt("a jar", "lids", "Easy Diffusion", "sd-v1-5", 8, 25, 7.5, 512, 640)
INVOKE_RESULT = EmbeddedPrompt("a barn", "cars", "InvokeAI", "dreamshaper", 3, 30, 7.5, 640, 448)
DRAW_RESULT = EmbeddedPrompt("a kite", "rain", "Draw Things", "sdxl.ckpt", 11, 25, 5.0, 768, 512)


def fooocus_jpeg() -> bytes:
    """Fooocus puts a plain string under UserComment's number into the first directory."""
    exif = Image.Exif()
    exif[0x9286], exif[0x0131], exif[0x927C] = json.dumps(FOOOCUS), "Fooocus v2.5.5", "fooocus"
    return _save(picture(), "JPEG", exif=exif)


def novelai_v4() -> bytes:
    caption = {
        "base_caption": "2girls, park",
        "char_captions": [{"char_caption": "girl, red hair"}, {"char_caption": "girl, hat"}],
    }
    comment = {
        **NOVELAI_COMMENT,
        "v4_prompt": {"caption": caption},
        "v4_negative_prompt": {"caption": {"base_caption": "bad"}},
    }
    return png({**NOVELAI_FIELDS, "Comment": json.dumps(comment)})


def utf16(text: str) -> bytes:
    return b"UNICODE\0" + text.encode("utf-16-le")


JOB = "Job ID: 1b3c2d4e-1111-2222-3333-444455556666"
MIDJOURNEY = f"a fox in snow, oil painting --ar 16:9 --no text, people --seed 42 --v 6.1 --style raw {JOB}"
FORGE = "Steps: 20, Sampler: Euler, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, Version: f2.0.1v1.10.1"
SDCPP = (
    "a field\nNegative prompt: sky\nSteps: 30, CFG scale: 5.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 13, "
    "Size: 512x768, Model: , RNG: cuda, Sampler: euler, Unet: flux1-dev.gguf, Version: stable-diffusion.cpp, "
    'SDCPP: {"schema":"sdcpp.image.params/v1","seed":1,"prompt":{"positive":"a field"},"loras":[{"name":"a, b: c"}]}'
)
CIVITAI = (
    "a moon\nNegative prompt: day\nSteps: 22, Sampler: DPM++ 2M Karras, CFG scale: 3.5, Seed: 13, Size: 512x768, "
    "Clip skip: 2, Created Date: 2024-09-23T06:17:42.9952795Z, Civitai resources: "
    '[{"type":"lora","weight":0.85,"modelVersionId":2,"modelName":"x [y], \\"z\\"","modelVersionName":"v1"},'
    '{"type":"checkpoint","modelVersionId":1,"modelName":"SD XL","modelVersionName":"v1.0 VAE fix"}], '
    'Civitai metadata: {"remixOfId":1}'
)
COMFYUI = {  # Civitai's loader; TensorArt's graphs differ in the kinds of some nodes only
    "resource-stack": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "urn:air:sdxl:1@2"}},
    "6": {"class_type": "smZ CLIPTextEncode", "inputs": {"text": "graph words", "clip": ["resource-stack", 1]}},
    "7": {"class_type": "smZ CLIPTextEncode", "inputs": {"text": "graph bad", "clip": ["resource-stack", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "11": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 13,
            "steps": 22,
            "cfg": 3.5,
            "model": ["resource-stack", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "13": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0], "vae": ["resource-stack", 2]}},
    "12": {"class_type": "SaveImage", "inputs": {"images": ["13", 0]}},
}
COMFYUI_RESULT = EmbeddedPrompt("graph words", "graph bad", "ComfyUI", "urn:air:sdxl:1@2", 13, 22, 3.5, 512, 768)
CIVITAI_GRAPH = COMFYUI | {
    "extra": {"airs": ["urn:air:sdxl:1@2"]},
    "extraMetadata": json.dumps(
        {"prompt": "a moon", "negativePrompt": "day", "cfgScale": 3.5, "steps": 22, "seed": 13, "resources": []}
    ),
}
TENSORART = {"prompt": "a moon", "negativePrompt": "day", "baseModel": {"modelFileName": "wai_v14", "hash": "AB"}}
RUINED = {
    "Prompt": "a lake",
    "Negative": "low",
    "steps": 30,
    "cfg": 8.5,
    "width": 1152,
    "height": 896,
    "seed": 99,
    "sampler_name": "dpmpp_2m_sde_gpu",
    "base_model_name": "sd_xl.safetensors",
    "loras": [["4852686128", "0.1 - offset.safetensors"]],
    "denoise": None,
    "software": "RuinedFooocus",
}
MRE = {
    "prompt": "a lake",
    "negative_prompt": "low",
    "style": "sai-comic book",
    "seed": 99,
    "width": 1152,
    "height": 896,
    "steps": 30,
    "sharpness": 2,
    "cfg": 8.5,
    "base_model": "sd_xl.safetensors",
    "software": "Fooocus 1.0.43 MRE",
}
MFLUX = {
    "mflux_version": "0.9.0",
    "model": "dev",
    "base_model": None,
    "seed": 42,
    "steps": 14,
    "guidance": 3.5,
    "quantize": 8,
    "prompt": "a puffin",
    "width": 1024,
    "height": 768,
}
ANIMAGINE = {
    "prompt": "1girl",
    "negative_prompt": "lowres",
    "resolution": "832 x 1216",
    "guidance_scale": 7,
    "num_inference_steps": 28,
    "seed": 5,
    "use_upscaler": None,
    "Model": "Animagine XL 3.1",
    "Model hash": "e3c47aedb0",
}
INVOKE_BARE = EmbeddedPrompt("a barn", "cars", "InvokeAI", None, 3, 30, 7.5, 640, 448)
INVOKE_MODEL = {"key": "k", "hash": "h", "name": "dreamshaper", "base": "sd-1", "type": "main"}
INVOKE_NODES: dict[str, dict[str, Any]] = {
    "a": {"type": "main_model_loader", "model": INVOKE_MODEL},
    "b": {"type": "string", "value": "a barn"},
    "c": {"type": "compel", "prompt": "what an edge replaces"},
    "d": {"type": "compel", "prompt": "cars"},
    "e": {"type": "collect"},
    "f": {"type": "noise", "seed": 3, "width": 640, "height": 448, "use_cpu": True},
    "g": {"type": "denoise_latents", "steps": 30, "cfg_scale": 7.5, "scheduler": "euler"},
    "h": {"type": "l2i", "board": None},
}
INVOKE_EDGES = [
    ("a", "clip", "c", "clip"),
    ("a", "clip", "d", "clip"),
    ("b", "value", "c", "prompt"),
    ("c", "conditioning", "e", "item"),
    ("e", "collection", "g", "positive_conditioning"),
    ("d", "conditioning", "g", "negative_conditioning"),
    ("f", "noise", "g", "noise"),
    ("a", "unet", "g", "unet"),
    ("g", "latents", "h", "latents"),
]
INVOKE_GRAPH = {
    "nodes": {key: {"id": key, **node} for key, node in INVOKE_NODES.items()},
    "edges": [
        {"source": {"node_id": a, "field": b}, "destination": {"node_id": c, "field": d}} for a, b, c, d in INVOKE_EDGES
    ],
}
INVOKE_WORKFLOW = {
    "nodes": [
        {
            "id": key,
            "type": "invocation",
            "data": {
                "id": key,
                "type": node["type"],
                "inputs": {name: {"name": name, "value": value} for name, value in node.items() if name != "type"},
            },
        }
        for key, node in INVOKE_NODES.items()
    ],
    "edges": [
        {"source": a, "sourceHandle": b, "target": c, "targetHandle": d, "type": "default"}
        for a, b, c, d in INVOKE_EDGES
    ],
}
GENERATED: dict[str, tuple[bytes, EmbeddedPrompt]] = {
    "SwarmUI PNG": (png({"parameters": SWARM_TEXT}), SWARM_RESULT),
    "SwarmUI JPEG": (_save(picture(), "JPEG", exif=exif_of(utf16(SWARM_TEXT))), SWARM_RESULT),
    "Fooocus PNG": (png({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}), FOOOCUS_RESULT),
    "Fooocus JPEG": (fooocus_jpeg(), FOOOCUS_RESULT),
    "Fooocus a1111 scheme": (
        png({"parameters": FOOOCUS_A1111, "fooocus_scheme": "a1111"}),
        EmbeddedPrompt("a lake", "low", "Fooocus", "juggernautXL_v8", 99, 30, 4.0, 1152, 896),
    ),
    "Forge with FLUX": (
        png({"parameters": f"a pond\n{FORGE}"}),
        EmbeddedPrompt("a pond", None, "Forge", None, 1, 20, 3.5),
    ),
    "reForge": (
        png({"parameters": "a pond\nSteps: 20, Sampler: Euler, CFG scale: 5, Seed: 1, Version: f2.0.0v2-v1.10.1RC"}),
        EmbeddedPrompt("a pond", None, "reForge", None, 1, 20, 5.0),
    ),
    "a commit's hash that begins like Forge": (
        png({"parameters": "a pond\nSteps: 20, Sampler: Euler, CFG scale: 5, Seed: 1, Version: f3a4b5c"}),
        EmbeddedPrompt("a pond", None, "AUTOMATIC1111", None, 1, 20, 5.0),
    ),
    "stable-diffusion.cpp": (
        png({"parameters": SDCPP}),
        EmbeddedPrompt("a field", "sky", "stable-diffusion.cpp", "flux1-dev.gguf", 13, 30, 5.0, 512, 768),
    ),
    "AI Horde": (
        _save(
            picture(),
            "JPEG",
            exif=exif_of(b"ASCII\0\0\0a cup\nSteps: 50, CFG scale: 5, Seed: 13,Size: 512x768, model: deliberate"),
        ),
        EmbeddedPrompt("a cup", None, "AUTOMATIC1111", "deliberate", 13, 50, 5.0, 512, 768),
    ),
    "Civitai": (
        _save(picture(), "JPEG", exif=exif_of(b"UNICODE\0" + CIVITAI.encode("utf-16-be"))),
        EmbeddedPrompt("a moon", "day", "Civitai", "SD XL", 13, 22, 3.5, 512, 768),
    ),
    "ComfyUI for Civitai": (
        png({"parameters": CIVITAI.replace("Civitai resources:", "Model: m, Version: ComfyUI, Civitai resources:")}),
        EmbeddedPrompt("a moon", "day", "ComfyUI", "m", 13, 22, 3.5, 512, 768),
    ),
    "Civitai with ComfyUI": (
        _save(picture(), "JPEG", exif=exif_of(utf16(json.dumps(CIVITAI_GRAPH)))),
        EmbeddedPrompt("a moon", "day", "Civitai", "urn:air:sdxl:1@2", 13, 22, 3.5, 512, 768),
    ),
    "Civitai's graph alone": (
        _save(picture(), "JPEG", exif=exif_of(utf16(json.dumps(CIVITAI_GRAPH | {"extraMetadata": "{}"})))),
        COMFYUI_RESULT,
    ),
    "TensorArt": (
        png({"generation_data": json.dumps(TENSORART) + "\0\0", "prompt": json.dumps(COMFYUI)}),
        EmbeddedPrompt("a moon", "day", "TensorArt", "wai_v14", 13, 22, 3.5, 512, 768),
    ),
    "ComfyUI as a text in a comment": (
        _save(picture(), "JPEG", exif=exif_of(utf16(json.dumps({"prompt": json.dumps(COMFYUI), "workflow": "{}"})))),
        COMFYUI_RESULT,
    ),
    "ComfyUI in pixels": (stealth(json.dumps({"prompt": COMFYUI, "workflow": {"nodes": []}})), COMFYUI_RESULT),
    "StableSwarmUI JPEG": (_save(picture(), "JPEG", exif=exif_of(model=SWARM_TEXT)), SWARM_RESULT),
    "SwarmUI with FLUX": (
        png({"parameters": json.dumps({"sui_image_params": {**SWARM, "cfgscale": 1.0, "fluxguidancescale": 3.5}})}),
        replace(SWARM_RESULT, guidance_scale=3.5),
    ),
    "RuinedFooocus": (
        png({"parameters": json.dumps(RUINED)}),
        EmbeddedPrompt("a lake", "low", "RuinedFooocus", "sd_xl.safetensors", 99, 30, 8.5, 1152, 896),
    ),
    "Fooocus MRE": (
        _save(picture(), "JPEG", comment=json.dumps(MRE).encode()),
        EmbeddedPrompt("a lake", "low", "Fooocus", "sd_xl.safetensors", 99, 30, 8.5, 1152, 896),
    ),
    "mflux": (
        _save(picture(), "PNG", exif=exif_of(json.dumps(MFLUX).encode())),
        EmbeddedPrompt("a puffin", None, "mflux", "dev", 42, 14, 3.5, 1024, 768),
    ),
    "Animagine XL's demo": (
        png({"parameters": json.dumps(ANIMAGINE)}),
        EmbeddedPrompt("1girl", "lowres", None, "Animagine XL 3.1", 5, 28, 7.0, 832, 1216),
    ),
    "parameters without settings": (
        png({"parameters": "just words"}),
        EmbeddedPrompt("just words", None, "AUTOMATIC1111"),
    ),
    "InvokeAI": (png({"invokeai_metadata": json.dumps(INVOKE)}), INVOKE_RESULT),
    "InvokeAI 2": (
        png({"sd-metadata": json.dumps(INVOKE_OLD)}),
        INVOKE_OLD_RESULT,
    ),
    "InvokeAI 2 web": (
        png({"sd-metadata": json.dumps(INVOKE_OLD | {"image": INVOKE_OLD_IMAGE | {"prompt": "a barn [cars]"}})}),
        INVOKE_OLD_RESULT,
    ),
    "InvokeAI 2 grid": (
        png({"sd-metadata": json.dumps(INVOKE_OLD | {"image": None, "images": [INVOKE_OLD_IMAGE]})}),
        INVOKE_OLD_RESULT,
    ),
    "InvokeAI 2 upscaled": (
        png({"sd-metadata": '{"image": {"type": "esrgan"}}', "Dream": "a barn [cars] -s 30 -S 3 -W 640 -H 448 -C 7.5"}),
        INVOKE_BARE,
    ),
    "InvokeAI 1": (
        png({"Dream": '"a barn [cars]" -s 30 -S 3 -W 640 -H 448 -C 7.5 -A k_lms -I /a b/-c.png -f 0.7 -U 4 0.75'}),
        INVOKE_BARE,
    ),
    "InvokeAI 1, first": (
        png({"Dream": '"a barn [cars]" -s30 -W640 -H448 -C7.5 -Ak_lms -S3'}),
        INVOKE_BARE,
    ),
    "InvokeAI 1, first web": (png({"Dream": "a barn -S3"}), EmbeddedPrompt("a barn", None, "InvokeAI", None, 3)),
    "InvokeAI 1, quotes and dashes": (
        png({"Dream": '"a "big" barn - not -s small" -s 30 -S 3 -W 640 -H 448 -C 7.5 -A k_lms'}),
        replace(INVOKE_BARE, prompt='a "big" barn - not -s small', negative_prompt=None),
    ),
    "InvokeAI graph": (
        png({"invokeai_graph": json.dumps(INVOKE_GRAPH), "invokeai_workflow": "{}"}),
        INVOKE_RESULT,
    ),
    "InvokeAI workflow": (
        png({"invokeai_metadata": '{"app_version": "4.2"}', "invokeai_workflow": json.dumps(INVOKE_WORKFLOW)}),
        INVOKE_RESULT,
    ),
    "NovelAI": (png(NOVELAI_FIELDS), NOVELAI),
    "NovelAI 4": (
        novelai_v4(),
        EmbeddedPrompt(
            "2girls, park | girl, red hair | girl, hat", "bad", "NovelAI", NOVELAI.model, 77, 28, 5.5, 832, 1216
        ),
    ),
    "NovelAI WebP": (_save(picture(), "WEBP", exif=exif_of(utf16(json.dumps(NOVELAI_FIELDS)))), NOVELAI),
    "Draw Things PNG": (
        png({"XML:com.adobe.xmp": xmp({"exif:UserComment": json.dumps(DRAW)}).decode()}, international=True),
        DRAW_RESULT,
    ),
    "Draw Things JPEG": (_save(picture(), "JPEG", exif=exif_of(utf16(json.dumps(DRAW)))), DRAW_RESULT),
    "Easy Diffusion PNG": (png(EASY), EASY_RESULT),
    "Easy Diffusion JPEG": (_save(picture(), "JPEG", exif=exif_of(utf16(json.dumps(EASY)))), EASY_RESULT),
    "Midjourney": (
        png({"Description": MIDJOURNEY, "Author": "someone"}),
        EmbeddedPrompt("a fox in snow, oil painting", "text, people", "Midjourney", "Midjourney 6.1", 42),
    ),
    "Midjourney XMP": (
        _save(picture(), "JPEG", xmp=xmp({"dc:description": f"a fox --niji 6 {JOB}"})),
        EmbeddedPrompt("a fox", None, "Midjourney", "niji 6"),
    ),
    "DALL-E": (
        _save(picture(), "WEBP", xmp=xmp({"dc:description": "a red door", "xmp:CreatorTool": "OpenAI DALL·E 3"})),
        EmbeddedPrompt("a red door", None, "DALL-E"),
    ),
    "ChatGPT EXIF": (
        _save(picture(), "JPEG", exif=exif_of(description="a blue door", software="ChatGPT")),
        EmbeddedPrompt("a blue door", None, "DALL-E"),
    ),
}


@pytest.mark.parametrize("name", GENERATED)
def test_every_generator(name: str) -> None:
    data, expected = GENERATED[name]
    assert read_prompt(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        _save(
            picture(),
            "JPEG",
            exif=exif_of(description="OLYMPUS DIGITAL CAMERA", make="OLYMPUS", model="E-M5", software="v1"),
        ),
        _save(picture(), "JPEG", exif=exif_of(b"ASCII\0\0\0a nice day at the beach")),
        _save(
            picture(),
            "JPEG",
            xmp=xmp({"dc:description": "A dog on a beach in Brighton", "xmp:CreatorTool": "Lightroom"}),
        ),
        png({"Software": "GIMP", "Comment": "Created with GIMP", "Title": "Holiday"}),
        _save(picture(), "PNG"),
        _save(picture(), "BMP"),
        _save(picture(), "TIFF"),
    ],
)
def test_photographs_have_no_prompt(data: bytes) -> None:
    assert read_prompt(data) is None


def test_real_comfyui_files() -> None:
    if not REAL.is_dir():
        pytest.skip("the real files are not beside this checkout")
    listed: dict[str, set[str]] = {}
    for row in csv.DictReader((REAL / "pairs.csv").open(encoding="utf-8")):
        listed.setdefault(row["image"], set()).add(row["prompt"])
    assert len(listed) == 19
    for image, prompts in listed.items():
        found = read_prompt(REAL / image)
        assert found is not None and found.prompt in prompts, image
        assert found.generator == "ComfyUI" and found.model and found.seed is not None and found.steps, image
        assert found.negative_prompt != found.prompt, image
        editor = read_comfyui(Fields({"workflow": read_fields((REAL / image).read_bytes()).texts["workflow"]}))
        assert editor == found, f"{image}: the two notations of one graph differ"


def test_shipped_example() -> None:
    found = read_prompt(EXAMPLE)
    assert found is not None and found.prompt.startswith("a calm sea at sunset") and found.seed == 20240607
    with Image.open(EXAMPLE) as image:
        assert image.size == (found.width_px, found.height_px)
    assert EXAMPLE.stat().st_size < 200_000


def test_sources_and_their_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png({"parameters": INFOTEXT}))
    assert read_prompt(path) == read_prompt(str(path)) == read_prompt(io.BytesIO(path.read_bytes())) == A1111
    for source, error in {
        tmp_path / "none.png": ImageNotFound,
        tmp_path: ImageIsDirectory,
        b"": ImageEmpty,
        b"Steps: 20, not an image": NotAnImage,
    }.items():
        with pytest.raises(error) as caught:
            read_prompt(source)
        assert "\n" not in str(caught.value)


def test_a_truncated_picture_still_gives_its_words() -> None:
    data = png({"parameters": INFOTEXT})
    assert read_prompt(data[:-800]) == A1111


def test_neither_torch_nor_sd_parsers_is_imported() -> None:
    code = (
        "import sys; from img2prompt.pairs.metadata import read_prompt; "
        f"assert read_prompt({str(EXAMPLE)!r}); "
        "sys.exit(' '.join({'torch', 'sd_parsers', 'transformers'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stderr == ""


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp", "Cn", "Co"]), max_size=60
)
LINES = st.lists(WORDS, max_size=4).map("\n".join)


def _plain(text: str) -> bool:
    return not any(line.lstrip().startswith(("Negative prompt:", "Steps:")) for line in text.split("\n"))


@given(
    prompt=LINES.filter(_plain), negative=LINES.filter(_plain), model=WORDS.filter(lambda text: text.strip() == text)
)
def test_infotext_round_trip(prompt: str, negative: str, model: str) -> None:
    quoted = json.dumps(model, ensure_ascii=False) if any(mark in model for mark in ',\n:"{[') else model
    text = f"{prompt}\nNegative prompt: {negative}\nSteps: 20, Sampler: Euler, Seed: 7, Model: {quoted}, Size: 64x64"
    found = split_infotext(text)
    assert found[0] == prompt.strip() and found[1] == negative.strip()
    assert found[2] == {"Steps": "20", "Sampler": "Euler", "Seed": "7", "Model": model, "Size": "64x64"}


@given(pairs=st.dictionaries(st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True), WORDS, min_size=1, max_size=8))
def test_settings_round_trip(pairs: dict[str, str]) -> None:
    line = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in pairs.items())
    assert split_settings(line) == pairs


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).filter(str.strip))
def test_user_comments_in_any_byte_order(text: str) -> None:
    for encoding in ("utf-16-be", "utf-16-le", "utf-8"):
        assert decode_comment(b"UNICODE\0" + text.encode(encoding)) == text

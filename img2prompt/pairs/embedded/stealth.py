"""Prompts hidden in the lowest bits of pixels: "stealth pnginfo", which survives sites that strip metadata.

The format (of the stealth_pnginfo extension, NovelAI writes its alpha variant): bits run down the columns, left to
right; 15 bytes of signature, a 32-bit big-endian count of bits, then the text, gzip-compressed in the "comp" variants.
The alpha variants use one bit a pixel, the rgb variants three (red, green, blue).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from img2prompt.errors import MetadataError
from img2prompt.pairs.embedded.containers import is_png, is_webp, png_header, webp_size
from img2prompt.pairs.embedded.fields import Fields, inflate
from img2prompt.pairs.embedded.values import parse_object

_GZIP = 16 + zlib.MAX_WBITS
_SIGNATURES: Mapping[str, tuple[bytes, bytes]] = {  # bands -> signature of plain and of compressed text
    "A": (b"stealth_pnginfo", b"stealth_pngcomp"),
    "RGB": (b"stealth_rgbinfo", b"stealth_rgbcomp"),
}
_HEAD_BITS = 8 * (15 + 4)
MAX_HIDDEN_BYTES = 4 * 2**20


def read_stealth(data: bytes, max_pixels: int) -> Fields | None:
    """The hidden fields of a PNG or lossless WebP file, or None.

    Pixels are decoded only where bits can have survived and the header says at most `max_pixels`.

    Raises:
        MetadataError: hidden data that decompresses to more than the limit.
    """
    bands = _bands(data, max_pixels)
    if not bands:
        return None
    try:
        with Image.open(BytesIO(data)) as image:
            if image.mode not in ("RGB", "RGBA"):
                return None
            image.load()
            hidden = next((text for band in bands if (text := _read_band(image, band)) is not None), None)
    except MetadataError:
        raise
    except Exception:  # decoders raise anything on damaged input; whoever opens the picture says what is wrong
        return None
    return _fields(hidden) if hidden else None


def _bands(data: bytes, max_pixels: int) -> tuple[str, ...]:
    """The variants that the file can hold, from its header."""
    if is_png(data):
        width, height, depth, colour = png_header(data)
        bands: tuple[str, ...] = {(8, 2): ("RGB",), (8, 6): ("A", "RGB")}.get((depth, colour), ())
    elif is_webp(data):
        width, height = webp_size(data)
        bands = ("A", "RGB") if b"VP8L" in data[:4096] else ("A",) if b"ALPH" in data[:4096] else ()
    else:
        return ()
    return bands if 0 < width * height <= max_pixels else ()


def _read_band(image: Image.Image, band: str) -> bytes | None:
    if band == "A" and image.mode != "RGBA":
        return None
    head = _read_bits(image, band, 0, _HEAD_BITS)
    if head is None or head[:15] not in _SIGNATURES[band]:
        return None
    count = int.from_bytes(head[15:19], "big")
    if count > 8 * MAX_HIDDEN_BYTES or count % 8:
        return None
    body = _read_bits(image, band, _HEAD_BITS, count)
    if body is None or head[:15] == _SIGNATURES[band][0]:
        return body
    try:
        return inflate(body, _GZIP, MAX_HIDDEN_BYTES)
    except zlib.error:
        return None


def _read_bits(image: Image.Image, band: str, start: int, count: int) -> bytes | None:
    """Bits start .. start + count, packed; None where the picture has fewer. Only the columns needed are touched."""
    per_pixel = len(band)
    columns = -(-(start + count) // (image.height * per_pixel))
    if columns > image.width:
        return None
    strip = image.crop((0, 0, columns, image.height))
    pixels = np.asarray(strip.getchannel("A") if band == "A" else strip.convert("RGB"))  # (H,C) or (H,C,3) uint8
    order = (1, 0) if band == "A" else (1, 0, 2)
    bits = (pixels & 1).transpose(order).reshape(-1)[start : start + count]  # (N,)
    return np.packbits(bits).tobytes()


def _fields(hidden: bytes) -> Fields:
    """The hidden text as the fields it stands for: AUTOMATIC1111's parameters, or PNG fields as one JSON object.

    In NovelAI's object they are texts, in ComfyUI's the graphs themselves.
    """
    text = hidden.decode("utf-8", errors="replace")
    fields = Fields()
    values: dict[str, Any] | None = parse_object(text)
    if values is None or not any(
        isinstance(values.get(name), str | dict)
        for name in ("Comment", "Description", "parameters", "prompt", "workflow")
    ):
        fields.add("parameters", text)
        return fields
    for name, value in values.items():
        if isinstance(value, str | dict):
            fields.add(name, value if isinstance(value, str) else json.dumps(value))
    return fields

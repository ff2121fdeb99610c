"""Texts of an EXIF block, in the encodings that image generators really write."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from PIL import ExifTags, Image

MAX_EXIF_BYTES = 16 * 2**20
_EXIF_IFD = 0x8769
_TEXT_TAGS = ("DocumentName", "ImageDescription", "Make", "Model", "Software", "Artist", "Copyright", "MakerNote")
_NAMES = {
    tag: name
    for tag, name in ExifTags.TAGS.items()
    if name in _TEXT_TAGS or name == "UserComment" or name.startswith("XP")
}
_GRAPH = re.compile(r"\s*(prompt|workflow)\s*:\s*(?=[\[{])", re.IGNORECASE)


def read_exif(block: bytes) -> Iterator[tuple[str, str]]:
    """Yields (name, text) of the texts in an EXIF block; ComfyUI's graphs come as "prompt" and "workflow".

    ComfyUI and its nodes put `prompt:{...}` and `workflow:{...}` into camera tags (Model, Make, ImageDescription).
    A damaged block yields what can be read.
    """
    if not block or len(block) > MAX_EXIF_BYTES:
        return
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of damage, of which the user can make nothing
            exif.load(block if block.startswith(b"Exif\0\0") else b"Exif\0\0" + block)
            values = [*exif.items(), *exif.get_ifd(_EXIF_IFD).items()]
    except Exception:  # Pillow's parser raises whatever damaged offsets lead to; a damaged block has no texts
        return
    for tag, value in values:
        name = _NAMES.get(tag)
        text = _value_text(name, value) if name else ""
        if name is None or not text.strip():
            continue
        graph = _GRAPH.match(text)
        if graph:
            yield graph[1].lower(), text[graph.end() :]
        else:
            yield name, text


def _value_text(name: str, value: object) -> str:
    if isinstance(value, tuple) and name.startswith("XP"):
        value = bytes(part for part in value if isinstance(part, int) and 0 <= part < 256)
    if isinstance(value, str):  # Pillow reads ASCII tags as Latin-1; generators write UTF-8 into them
        try:
            raw = value.encode("latin-1")
        except UnicodeEncodeError:
            return value.strip("\0")
    elif isinstance(value, bytes):
        raw = value
    else:
        return ""
    if name == "UserComment":
        return decode_comment(raw)
    if name.startswith("XP"):
        return raw.decode("utf-16-le", errors="replace").strip("\0")
    return _best(raw, ("utf-8", "latin-1")).strip("\0")


def decode_comment(raw: bytes) -> str:
    """A UserComment: eight bytes name the encoding (Exif 2.32, 4.6.5), which writers get wrong in every way.

    "UNICODE" is UTF-16 of either byte order (piexif: big endian, .NET: little endian) or plain UTF-8; the prefix may
    be undefined (zeros) or missing.
    """
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        text = _best(body, ("utf-16-be", "utf-16-le", "utf-8"))
    elif code.rstrip(b"\0 ") == b"ASCII":
        text = _best(body, ("utf-8", "latin-1"))
    elif code == b"JIS\0\0\0\0\0":
        text = _best(body, ("iso2022_jp", "utf-8", "latin-1"))
    elif code == bytes(8):
        text = _best(body, ("utf-8", "utf-16-be", "utf-16-le", "latin-1"))
    else:
        text = _best(raw, ("utf-8", "utf-16-be", "utf-16-le", "latin-1"))
    return text.strip("\0\ufeff")


def _best(raw: bytes, encodings: tuple[str, ...]) -> str:
    """The decoding with the most ASCII characters: prompts and settings hold spaces, commas and digits in every script.

    A wrong byte order turns "S" into a CJK character, so the right one stands out; the first of equals wins.
    """
    if raw[:2] in (b"\xfe\xff", b"\xff\xfe") and "utf-16-le" in encodings:
        return raw.decode("utf-16", errors="replace")
    best, best_score = "", -1.0
    for encoding in encodings:
        even = raw[: len(raw) & ~1] if encoding.startswith("utf-16") else raw
        try:
            text = even.decode(encoding, errors="replace" if encoding.startswith("utf-16") else "strict")
        except UnicodeDecodeError:
            continue
        body = text.rstrip("\0")
        score = sum(" " <= char <= "~" or char == "\n" for char in body[:20_000]) / max(1, len(body[:20_000]))
        if score > best_score + 1e-9:
            best, best_score = text, score
    return best if best_score >= 0 else raw.decode(encodings[0], errors="replace")

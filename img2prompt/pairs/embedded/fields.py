"""Text fields of an image file, read without decoding a pixel."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from PIL import Image

from img2prompt.errors import MetadataError
from img2prompt.pairs.decoding import FORMATS
from img2prompt.pairs.embedded.containers import is_jpeg, is_png, is_webp, jpeg_parts, png_parts, webp_parts
from img2prompt.pairs.embedded.exif import read_exif
from img2prompt.pairs.embedded.values import parse_object
from img2prompt.pairs.embedded.xmp import read_xmp

MAX_FIELD_BYTES = 8 * 2**20  # after decompression
MAX_TOTAL_BYTES = 32 * 2**20
MAX_FIELDS = 10_000
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass
class Fields:
    """What a file says in words.

    Attributes:
        texts: field name -> text. PNG keywords and EXIF tags under their own names, XMP properties as "xmp:name";
            the first field of a name wins.
        refused: why some fields were not read; raised only when no prompt is found without them.
        is_image: whether the bytes begin as an image does.
    """

    texts: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    is_image: bool = True
    _objects: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _total_bytes: int = 0

    def first(self, *names: str) -> str | None:
        """The first of these fields that is there and not blank."""
        return next((text for name in names if (text := self.texts.get(name)) and text.strip()), None)

    def json_object(self, *names: str) -> dict[str, Any] | None:
        """The first of these fields that holds a JSON object, parsed within limits."""
        for name in names:
            if name not in self._objects:
                self._objects[name] = parse_object(self.texts.get(name))
            if (value := self._objects[name]) is not None:
                return value
        return None

    def add(self, name: str, text: str) -> None:
        """Keeps a text under `name` unless one is there or the limits are passed."""
        self._total_bytes += len(text)
        if len(text) > MAX_FIELD_BYTES or self._total_bytes > MAX_TOTAL_BYTES or len(self.texts) >= MAX_FIELDS:
            self.refuse("its text fields are too large or too many; the file is damaged or hostile")
        elif not (self.texts.get(name) or "").strip():
            self.texts[name] = text

    def refuse(self, why: str) -> None:
        """Notes that something was left out."""
        if len(self.refused) < 10:
            self.refused.append(why)

    def add_xmp(self, packet: bytes) -> None:
        """Adds the properties of an XMP packet."""
        try:
            for name, text in read_xmp(packet).items():
                self.add(f"xmp:{name}", text)
        except MetadataError as error:
            self.refuse(str(error))

    def add_exif(self, block: bytes) -> None:
        """Adds the texts of an EXIF block."""
        for name, text in read_exif(block):
            self.add(name, text)


def read_fields(data: bytes) -> Fields:
    """All text fields of an image file; damaged parts are left out."""
    fields = Fields()
    if is_png(data):
        _add_png(fields, data)
    elif is_jpeg(data):
        _add_jpeg(fields, data)
    elif is_webp(data):
        for kind, body in webp_parts(data):
            if kind == b"EXIF":
                fields.add_exif(body)
            else:
                fields.add_xmp(body)
    else:
        _add_by_pillow(fields, data)
    return fields


def _add_png(fields: Fields, data: bytes) -> None:
    for kind, body in png_parts(data):
        if kind == b"eXIf":
            fields.add_exif(body)
            continue
        try:
            name, text = _png_text(kind, body)
        except MetadataError as error:
            fields.refuse(str(error))
            continue
        except zlib.error:  # a damaged chunk has no text
            continue
        if name == "XML:com.adobe.xmp":
            fields.add_xmp(text.encode("utf-8", errors="replace"))
        elif name.startswith("Raw profile type "):
            _add_raw_profile(fields, name, text)
        else:
            fields.add(name, text)


def _png_text(kind: bytes, body: bytes) -> tuple[str, str]:
    """Keyword and text of a chunk; PNG (ISO 15948), 11.3.4."""
    keyword, _, rest = body.partition(b"\0")
    name = keyword[:79].decode("latin-1")
    if kind == b"tEXt":
        return name, _text(rest)
    if kind == b"zTXt":
        return name, _text(inflate(rest[1:]))
    compressed = rest[:1] == b"\1"
    text = rest[2:].split(b"\0", 2)[-1]  # language and translated keyword come first
    return name, _text(inflate(text) if compressed else text)


def _add_raw_profile(fields: Fields, name: str, text: str) -> None:
    """ImageMagick's way to keep EXIF and XMP in a PNG: a name, a length, and hexadecimal lines."""
    try:
        raw = bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return
    if name.endswith(("exif", "APP1")):
        fields.add_exif(raw)
    elif name.endswith("xmp"):
        fields.add_xmp(raw)


def _add_jpeg(fields: Fields, data: bytes) -> None:
    for marker, body in jpeg_parts(data):
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            fields.add_exif(body)
        elif marker == 0xE1 and body.startswith(_XMP_SEGMENT):
            fields.add_xmp(body[len(_XMP_SEGMENT) :])
        elif marker == 0xFE:
            fields.add("comment", _text(body))


def _add_by_pillow(fields: Fields, data: bytes) -> None:
    """AVIF, GIF and the rest: Pillow opens the container and reads its header."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            info = dict(image.info)
    except Exception:  # decoders raise anything on damaged input; the image door says what is wrong
        fields.is_image = False
        return
    exif, packet, comment = info.get("exif"), info.get("xmp"), info.get("comment")
    if isinstance(exif, bytes):
        fields.add_exif(exif)
    if isinstance(packet, bytes):
        fields.add_xmp(packet)
    if isinstance(comment, bytes | str):
        fields.add("comment", comment if isinstance(comment, str) else _text(comment))


def inflate(data: bytes, window_bits: int = zlib.MAX_WBITS, limit: int = MAX_FIELD_BYTES) -> bytes:
    """Decompresses at most `limit` bytes.

    Raises:
        MetadataError: there are more.
        zlib.error: no compressed data.
    """
    stream = zlib.decompressobj(window_bits)
    out = stream.decompress(data, limit)
    if not stream.eof and stream.unconsumed_tail:
        raise MetadataError(f"its text is more than {limit} bytes after decompression; the file is hostile")
    return out


def _text(raw: bytes) -> str:
    # tEXt is Latin-1 by the standard, but most generators write UTF-8 into it; Latin-1 is hardly ever valid UTF-8.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")

"""The parts of PNG, JPEG and WebP files that hold words, walked without decoding a pixel or trusting a length."""

from __future__ import annotations

import struct
from collections.abc import Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PARTS = 100_000  # a file of 64 MiB in IDAT chunks of 8 KiB has 8,192
_WORDS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")


def is_png(data: bytes) -> bool:
    """Whether it begins as a PNG picture does."""
    return data.startswith(PNG_SIGNATURE) and data[12:16] == b"IHDR" and len(data) >= 33


def is_jpeg(data: bytes) -> bool:
    """Whether it begins as a JPEG picture does."""
    return data.startswith(b"\xff\xd8\xff") and len(data) > 20


def is_webp(data: bytes) -> bool:
    """Whether it begins as a WebP picture does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30


def png_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of text and EXIF chunks, before and behind the pixels; PNG (ISO 15948), 5.3."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND" or at + 8 + length > len(data):
            return
        if kind in _WORDS:
            yield kind, data[at + 8 : at + 8 + length]
        at += length + 12


def jpeg_parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of the segments before the first scan; JPEG (ITU T.81), B.1.1.4."""
    at = 2
    for _ in range(MAX_PARTS):
        while at + 1 < len(data) and data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1  # fill bytes
        if at + 4 > len(data) or data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker in (0xDA, 0xD9):
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            return
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def webp_parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of EXIF and XMP chunks; WebP container specification, "RIFF file format"."""
    at = 12
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind in (b"EXIF", b"XMP "):
            yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)


def png_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bits a sample and colour type of a PNG file."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return width, height, depth, colour


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of an extended or lossless WebP file."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    packed = int.from_bytes(data[21:25], "little")  # VP8L: 14 bits each
    return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)

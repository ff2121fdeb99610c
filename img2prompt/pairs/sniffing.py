"""What bytes are, how large they say they are, and whether they end early; nothing is decoded here."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# Folders are searched for these; a file that is named itself may have any name.
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "gif", "bmp", "tif", "tiff", "ico"),
        *("jp2", "j2k", "ppm", "pgm", "pbm", "mpo"),
    )
)

_FOREIGN = (  # how the bytes begin -> what they are, for files that people take for images
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself (run: git lfs pull)"),
)


def is_text(data: bytes) -> bool:
    """Whether the bytes begin like text in ASCII or an extension of it."""
    head = data[:512]
    return bool(head) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and b"\x7f" not in head


def describe(data: bytes) -> str:
    """What bytes that are no image seem to be, for a sentence "holds ..., not an image"."""
    for prefix, what in _FOREIGN:
        if data.startswith(prefix):
            return what
    if data[4:8] == b"ftyp":
        return "a HEIC picture (convert it to JPEG first)" if data[8:11] in (b"hei", b"hev", b"mif") else "a video"
    if not is_text(data):
        return "unknown bytes"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page (HTML)"
    if b"<svg" in head:
        return "an SVG drawing (export it as PNG first)"
    if head[:2] in (b"p1", b"p2", b"p3") and head[2:3].isspace():
        return "a picture written as text (plain PPM; convert it to PNG first)"
    return "text"


def declared_sizes(data: bytes, kind: str) -> Iterator[tuple[int, int]]:
    """Sizes stated where opening would already allocate them (WEBP) or would not look (pictures inside ICO)."""
    if kind == "WEBP" and data[12:16] == b"VP8X" and len(data) >= 30:
        yield 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == "ICO" and len(data) >= 6:
        for index in range(int.from_bytes(data[4:6], "little")):
            entry = data[6 + 16 * index : 22 + 16 * index]
            start = int.from_bytes(entry[12:16], "little")
            head = data[start : start + 26]
            if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
                yield struct.unpack(">II", head[16:24])
            elif len(head) >= 12 and len(entry) == 16:
                width, height = struct.unpack("<ii", head[4:12])
                yield abs(width) or 1, abs(height) // 2 or 1  # an icon's bitmap states twice its height


def tag_count(tiff: bytes) -> int:
    """How many tags the first directory of a TIFF claims; 0 when there is none to be seen."""
    order = "<" if tiff[:2] == b"II" else ">"
    big = tiff[2:4] in (b"+\0", b"\0+")  # BigTIFF: 64-bit offsets and counts
    at = struct.unpack_from(order + ("Q" if big else "I"), tiff.ljust(16, b"\0"), 8 if big else 4)[0]
    directory = tiff[at : at + (8 if big else 2)]
    if len(directory) < (8 if big else 2):
        return 0
    return int(struct.unpack(order + ("Q" if big else "H"), directory)[0])


def ends_early(data: bytes, kind: str) -> bool:
    """Whether the file states a length, or an end mark, that its bytes do not reach."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if kind in ("JPEG", "JPEG2000") and not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return True
    if kind in ("AVIF", "JPEG2000") and data[4:8] in (b"ftyp", b"jP  "):
        return _boxes_end(data) > len(data)
    if kind == "PNG":
        return b"IEND" not in data[-16:]
    if kind == "GIF":
        return not data.endswith(b";")
    return False


def _boxes_end(data: bytes) -> int:
    """Where the last top-level ISO box says that it ends."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:  # 0: up to the end of the file; 2..7: damaged
            return len(data)
        at += size
    return at if at == len(data) else max(at, len(data) + 1)

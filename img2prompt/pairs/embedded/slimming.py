"""JPEG and PNG files reduced to what draws the picture.

Pillow walks every segment and chunk of a file in Python, keeps them all, and stops at compressed texts over 1 MB. A
hostile file can make that last for minutes, and a picture with a large workflow inside would be refused. The decoder
therefore only gets the parts it needs; prompts are read from the untouched bytes elsewhere.
"""

from __future__ import annotations

import re
import struct
import zlib

_MAX_SEGMENTS = 20_000
_MAX_CHUNKS = 1_000_000
_MAX_SIDE_BYTES = 1 << 20  # of one PNG chunk that may hold the orientation
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_JPEG_APP = {  # application segments that change how the picture looks: marker -> how their payload begins
    0xE0: (b"JFIF\0",),
    0xE1: (b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"),
    0xEE: (b"Adobe",),
}
_PNG_KEPT = frozenset((b"IHDR", b"PLTE", b"tRNS"))
_PNG_SIDE = {b"eXIf": b"", b"zTXt": b"Raw profile type", b"tEXt": b"Raw profile type", b"iTXt": b"XML:com.adobe.xmp"}
_SOS = 0xDA


class TooManyParts(ValueError):
    """A file is made of so many small parts that it was built to waste time."""


def slim_jpeg(data: bytes) -> bytes:
    """The first picture's segments without comments, profiles, previews and repeated metadata.

    What cannot be walked is returned from there on as it is, for the decoder to judge.

    Raises:
        TooManyParts: more than 20,000 segments before the picture.
    """
    parts = [data[:2]]
    seen: set[tuple[int, bytes]] = set()
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.match(data, at)
        if found is None:
            return b"".join((*parts, data[at:]))
        marker, start = found[1][0], found.end()
        if marker == _SOS:
            return b"".join((*parts, b"\xff\xda", data[start:]))
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a payload
            at = start
            continue
        end = start + int.from_bytes(data[start : start + 2], "big")
        if end < start + 2 or end > len(data):
            return b"".join((*parts, data[at:]))
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            head = next((h for h in _JPEG_APP.get(marker, ()) if data.startswith(h, start + 2)), None)
            if head is None or (marker, head) in seen:
                at = end
                continue
            seen.add((marker, head))
        parts.append(b"\xff" + bytes((marker,)) + data[start:end])
        at = end
    raise TooManyParts("too many segments")


def scan_count(jpeg: bytes) -> int:
    """Scans of the first picture of a slimmed JPEG; each is one pass over all its pixels."""
    start = jpeg.find(b"\xff\xda")
    end = jpeg.find(b"\xff\xd9", start)
    return jpeg.count(b"\xff\xda", start, end if end > 0 else len(jpeg)) if start > 0 else 0


def slim_png(data: bytes) -> bytes:
    """The default picture of a PNG or APNG: header, palette, transparency, orientation, and one chunk of pixels.

    Raises:
        TooManyParts: more than a million chunks.
    """
    parts = [data[:8]]
    pixels: list[memoryview] = []
    view = memoryview(data)
    at = 8
    tail = b""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IDAT":
            pixels.append(view[at + 8 : min(end - 4, len(data))])
        elif kind == b"IEND":
            tail = data[at:end]
            break
        elif kind in _PNG_KEPT or (
            kind in _PNG_SIDE and length <= _MAX_SIDE_BYTES and data.startswith(_PNG_SIDE[kind], at + 8)
        ):
            parts.append(data[at:end])
        at = end
    else:
        raise TooManyParts("too many chunks")
    if pixels:
        body = b"".join(pixels)
        parts += (struct.pack(">I", len(body)), b"IDAT", body)
        parts.append(struct.pack(">I", zlib.crc32(body, zlib.crc32(b"IDAT"))))
    return b"".join((*parts, tail))

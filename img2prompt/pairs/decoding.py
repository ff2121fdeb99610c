"""Bytes to a loaded Pillow image under a pixel limit; every failure is one of our errors."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import (  # importing a plugin registers its format; no plugin here starts another program
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    IcoImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from img2prompt.errors import ImageEmpty, ImageError, ImageTooLarge, ImageTruncated, NotAnImage
from img2prompt.pairs.pixels import to_rgb

_PLUGINS = (
    PngImagePlugin,
    JpegImagePlugin,
    WebPImagePlugin,
    AvifImagePlugin,
    GifImagePlugin,
    BmpImagePlugin,
    TiffImagePlugin,
    IcoImagePlugin,
    Jpeg2KImagePlugin,
    PpmImagePlugin,
    MpoImagePlugin,
)
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "ICO", "JPEG2000", "PPM")

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


def decode(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """The first frame of an image file as upright RGB.

    Args:
        data: a whole file in one of `FORMATS`.
        name: what error messages call it.
        max_pixels: width x height that is still decoded; checked in the header first.

    Raises:
        ImageError: ImageEmpty, NotAnImage, ImageTruncated or ImageTooLarge.
    """
    if not data:
        raise ImageEmpty(name, "is empty (zero bytes)")
    kind = _format_of(data)
    if kind is None:
        raise NotAnImage(name, f"holds {_describe(data)}, not an image; readable are {', '.join(FORMATS)}")
    for size in _declared_sizes(data, kind):
        check_pixels(size, name, max_pixels)
    stream = _Watched(data)
    with _image_errors(name, data, kind, stream):
        factory, _ = Image.OPEN[kind]
        # Not Image.open: it holds Pillow's global pixel limit against the image, and ours belongs to the caller.
        image = factory(stream, "")
        check_pixels(image.size, name, max_pixels)
        _check_tiles(image, name, max_pixels)
        image.load()
        check_pixels(image.size, name, max_pixels)
        return to_rgb(image)


def convert(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    """`decode` for an image that is already open: the same limit, colours and errors."""
    check_pixels(image.size, name, max_pixels)
    with _image_errors(name, b"", image.format or image.mode, None):
        image.load()
        return to_rgb(image)


def check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    """Raises ImageTooLarge when `size` (width, height) has more than `max_pixels`, NotAnImage when it has none."""
    width, height = size
    if width < 1 or height < 1:
        raise NotAnImage(name, f"has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageTooLarge(
            name, f"has {width} x {height} pixels, over the limit of {max_pixels:,}; shrink it or raise max_pixels"
        )


class _Watched(io.BytesIO):
    """Remembers whether somebody wanted more bytes than there are."""

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        got = super().read(size)
        if size is not None and size > len(got):
            self.ran_out = True
        return got


@contextmanager
def _image_errors(name: str, data: bytes, kind: str, stream: _Watched | None) -> Iterator[None]:
    """Turns whatever decoding raises into an ImageError; the cause stays attached."""
    try:
        yield
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name, "needs too much memory to decode; shrink it") from error
    except Exception as error:  # decoders raise anything on damaged input: struct.error, AttributeError, ...
        ran_out = stream is not None and stream.ran_out and kind not in ("WEBP", "AVIF", "JPEG", "JPEG2000")
        if ran_out or "runcated" in str(error) or _ends_early(data, kind):
            raise ImageTruncated(name, f"the {kind} file ends before the picture does; get it again") from error
        if _is_text(data):
            raise NotAnImage(name, f"holds {_describe(data)}, not an image") from error
        raise NotAnImage(name, f"the {kind} file is damaged or of a kind that is not read ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:100] if text.isprintable() and text else type(error).__name__


def _format_of(data: bytes) -> str | None:
    prefix = data[:16]
    for kind in FORMATS:
        _, accept = Image.OPEN[kind]
        if accept is not None and accept(prefix) is True:
            return kind
    return None


def _is_text(data: bytes) -> bool:
    head = data[:512]
    return bool(head) and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head) and b"\x7f" not in head


def _describe(data: bytes) -> str:
    for prefix, what in _FOREIGN:
        if data.startswith(prefix):
            return what
    if data[4:8] == b"ftyp":
        return "a HEIC picture (convert it to JPEG first)" if data[8:11] in (b"hei", b"hev", b"mif") else "a video"
    if not _is_text(data):
        return "unknown bytes"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "a web page (HTML)"
    if b"<svg" in head:
        return "an SVG drawing (export it as PNG first)"
    return "text"


def _declared_sizes(data: bytes, kind: str) -> Iterator[tuple[int, int]]:
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


def _check_tiles(image: Image.Image, name: str, max_pixels: int) -> None:
    """A TIFF tile is decoded whole, however little of it lies in the picture."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(322), tags.get(323)  # TileWidth, TileLength
    if isinstance(tile[0], int) and isinstance(tile[1], int):
        check_pixels((tile[0], tile[1]), name, max_pixels)


def _ends_early(data: bytes, kind: str) -> bool:
    """Whether the file states a length, or an end mark, that its bytes do not reach."""
    if kind == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    if kind in ("JPEG", "JPEG2000") and not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return True
    if kind in ("AVIF", "JPEG2000") and data[4:8] in (b"ftyp", b"jP  "):
        return _boxes_end(data) > len(data)
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

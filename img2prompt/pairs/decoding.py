"""Bytes to a loaded Pillow image under a pixel limit; every failure is one of our errors."""

from __future__ import annotations

import io
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
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from img2prompt.errors import ImageEmpty, ImageError, ImageTooLarge, ImageTruncated, NotAnImage
from img2prompt.pairs.embedded.slimming import TooManyParts, scan_count, slim_jpeg, slim_png
from img2prompt.pairs.pixels import to_rgb
from img2prompt.pairs.sniffing import declared_sizes, describe, ends_early, is_text, tag_count

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
)
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "ICO", "JPEG2000", "PPM")

_MAX_SCANNED_PIXELS = 2_000_000_000  # of a progressive JPEG, summed over its scans; about 15 s

_MAX_TAGS = 4_000  # of a TIFF; each costs Pillow time and a warning when it is damaged


def decode(data: bytes, name: str, max_pixels: int, least_px: int = 0) -> Image.Image:
    """The first frame of an image file as upright RGB.

    Args:
        data: a whole file in one of `FORMATS`.
        name: what error messages call it.
        max_pixels: width x height that is still decoded; checked in the header first.
        least_px: when not 0, a JPEG may come out at 1/2, 1/4 or 1/8 of its size, each side no shorter than this.

    Raises:
        ImageError: ImageEmpty, NotAnImage, ImageTruncated or ImageTooLarge.
    """
    with _opened(data, name, max_pixels) as (image, kind):
        if least_px and kind == "JPEG":
            image.draft(None, (least_px, least_px))
        image.load()
        check_pixels(image.size, name, max_pixels)
        return to_rgb(image)


def measure(data: bytes, name: str, max_pixels: int) -> tuple[str, int, int]:
    """Format, width and height as the header of an image file states them; nothing is decoded.

    Args:
        data: a whole file in one of `FORMATS`.
        name: what error messages call it.
        max_pixels: width x height that is still accepted.

    Raises:
        ImageError: as for `decode`; damage behind the header is not seen.
    """
    with _opened(data, name, max_pixels) as (image, kind):
        return kind, image.width, image.height


@contextmanager
def _opened(data: bytes, name: str, max_pixels: int) -> Iterator[tuple[Image.Image, str]]:
    """The image of a file whose header is within the limits, and its format; what fails with it is an error of ours."""
    if not data:
        raise ImageEmpty(name, "is empty (zero bytes)")
    kind = _format_of(data)
    if kind is None:
        raise NotAnImage(name, f"holds {describe(data)}, not an image; readable are {', '.join(FORMATS)}")
    for size in declared_sizes(data, kind):
        check_pixels(size, name, max_pixels)
    with _image_errors(name, data, kind, None):
        stream = _Metered(_slimmed(data, kind))
    with _image_errors(name, data, kind, stream):
        factory, _ = Image.OPEN[kind]
        # Not Image.open: it holds Pillow's global pixel limit against the image, and ours belongs to the caller.
        image = factory(stream, "")
        check_pixels(image.size, name, max_pixels)
        _check_work(image, stream, name, max_pixels)
        yield image, kind


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


class _Metered(io.BytesIO):
    """Stops a decoder that is led through the file in millions of small or repeated steps; knows when it hit the end.

    Formats that are read piece by piece in Python (GIF blocks, TIFF tags, icons) would otherwise keep it busy for
    minutes with 64 MiB.
    """

    ran_out = False
    _reads_left = 200_000
    _bytes_left = 16 << 20

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._bytes_left += 8 * len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        got = super().read(size)
        if size is not None and size > len(got):
            self.ran_out = True
        self._reads_left -= 1
        self._bytes_left -= len(got)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise TooManyParts("too many small parts; convert it to PNG")
        return got


def _slimmed(data: bytes, kind: str) -> bytes:
    if kind == "JPEG":
        return slim_jpeg(data)
    if kind == "TIFF" and tag_count(data) > _MAX_TAGS:
        raise TooManyParts("too many tags")
    return slim_png(data) if kind == "PNG" else data


@contextmanager
def _image_errors(name: str, data: bytes, kind: str, stream: _Metered | None) -> Iterator[None]:
    """Turns whatever decoding raises into an ImageError; the cause stays attached."""
    try:
        yield
    except ImageError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name, "needs too much memory to decode; shrink it") from error
    except Exception as error:  # decoders raise anything on damaged input: struct.error, AttributeError, ...
        ran_out = stream is not None and stream.ran_out and kind not in ("WEBP", "AVIF", "JPEG", "JPEG2000")
        if ran_out or "runcated" in str(error) or ends_early(data, kind):
            raise ImageTruncated(name, f"the {kind} file ends before the picture does; get it again") from error
        if is_text(data):
            raise NotAnImage(name, f"holds {describe(data)}, not an image") from error
        raise NotAnImage(name, f"the {kind} file is damaged or of a kind that is not read ({_brief(error)})") from error


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:100] if text.isprintable() and text else type(error).__name__


def _format_of(data: bytes) -> str | None:
    prefix = data[:16]
    if prefix[:1] == b"P" and prefix[1:2] not in b"456fP":  # plain-text PPM: parsed in Python, for minutes
        return None
    for kind in FORMATS:
        _, accept = Image.OPEN[kind]
        if accept is not None and accept(prefix) is True:
            return kind
    return None


def _check_work(image: Image.Image, stream: _Metered, name: str, max_pixels: int) -> None:
    """Refuses work that the size of the picture does not show: huge TIFF tiles, JPEGs of very many scans."""
    tags = getattr(image, "tag_v2", {})
    tile = tags.get(322), tags.get(323)  # TileWidth, TileLength: decoded whole, however little lies in the picture
    if isinstance(tile[0], int) and isinstance(tile[1], int):
        check_pixels((tile[0], tile[1]), name, max_pixels)
    if image.format == "JPEG":
        scans = scan_count(stream.getvalue())
        if scans > 16 and scans * image.width * image.height > _MAX_SCANNED_PIXELS:
            raise ImageTooLarge(name, f"has {scans} scans of {image.width} x {image.height} pixels; save it again")

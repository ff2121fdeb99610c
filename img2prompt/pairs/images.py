"""The only door through which an image comes in."""

from __future__ import annotations

import errno
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

from PIL import Image

from img2prompt.errors import (
    ImageEmpty,
    ImageError,
    ImageIsDirectory,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
)
from img2prompt.pairs.decoding import convert, decode
from img2prompt.pairs.fetch import fetch, is_url, printable, shown_url

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one image may cost."""

    max_pixels: int = 64_000_000  # width x height
    max_bytes: int = 64 * 2**20  # of the file, not of the decoded picture
    timeout_s: float = 20.0  # for a URL, from the first look-up to the last byte


DEFAULT_LIMITS = Limits()


def name_of(source: Source) -> str:
    """What messages call a source: its path, its URL without secrets, "<bytes>", "<stdin>", "<file>" or "<image>".

    Characters that could break or colour a line of output are escaped.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        if text == "-" and isinstance(source, str):
            return "<stdin>"
        return printable(shown_url(text) if is_url(source) else text)
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", "")
        return printable(os.fsdecode(filename)) if filename else "<image>"
    filename = getattr(source, "name", "")
    return printable(filename) if isinstance(filename, str) and filename else "<file>"


def read_bytes(source: Source, limits: Limits = DEFAULT_LIMITS, *, name: str | None = None) -> bytes:
    """The undecoded bytes of a path, bytes, binary file object, http(s) URL or "-" (stdin).

    Never takes more than `limits.max_bytes` + 1 bytes from any source. A file object is read from where it stands and
    left open. Pipes, sockets and devices named by a path are refused, because reading them may never end.

    Raises:
        ImageError: ImageNotFound, ImageIsDirectory, ImageUnreadable, ImageEmpty, ImageTooLarge or FetchError.
        TypeError: `source` is none of these (a Pillow image has no file bytes any more).
    """
    name = name_of(source) if name is None else name
    if isinstance(source, bytes | bytearray | memoryview):
        data = _within(bytes(source[: limits.max_bytes + 1]), name, limits)
    elif isinstance(source, str | os.PathLike):
        if source == "-":
            data = _read_stdin(name, limits)
        elif is_url(source):
            data = fetch(os.fspath(source), name, limits.max_bytes, limits.timeout_s)
        else:
            data = _read_path(Path(source), name, limits)
    elif hasattr(source, "read") and not isinstance(source, Image.Image):
        data = _read_stream(source, name, limits)
    else:
        raise TypeError(f"no bytes can be read from {type(source).__name__}")
    if not data:
        raise ImageEmpty(name, "is empty (zero bytes)")
    return data


def open_image(
    source: Source, limits: Limits = DEFAULT_LIMITS, *, name: str | None = None, least_px: int = 0
) -> Image.Image:
    """The upright RGB image, at least 1 x 1, without metadata, from any source.

    Read are PNG, APNG, JPEG, MPO, WebP, AVIF, GIF, BMP, TIFF, ICO, JPEG 2000 and PPM; of several frames the first. How
    alpha, deep and unusual colours become RGB is stated at `img2prompt.pairs.pixels.to_rgb`.

    Args:
        source: a path, the bytes of a file, a binary file object, an http(s) URL, "-" for stdin, or a Pillow image,
            which goes through the same conversion and is not changed.
        limits: the size is checked in the header, before anything is decoded.
        name: what errors call it, if not `name_of(source)` (for bytes that were read from a known place).
        least_px: when not 0, a JPEG may come out at 1/2, 1/4 or 1/8 of its size, each side no shorter than this: for
            pictures that are scaled down at once, 1.7 times as fast.

    Raises:
        ImageError: the source cannot be used; the class says why.
        TypeError: `source` is none of these.
    """
    name = name_of(source) if name is None else name
    if isinstance(source, Image.Image):
        return convert(source, name, limits.max_pixels)
    return decode(read_bytes(source, limits, name=name), name, limits.max_pixels, least_px)


def _within(data: bytes, name: str, limits: Limits) -> bytes:
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(name, f"is over the limit of {limits.max_bytes:,} bytes; shrink it or raise max_bytes")
    return data


def _read_stream(stream: IO[bytes], name: str, limits: Limits) -> bytes:
    parts: list[bytes] = []
    left = limits.max_bytes + 1
    try:
        while left > 0:
            part = stream.read(min(left, _CHUNK_BYTES))
            if isinstance(part, str):
                raise ImageUnreadable(name, "was opened as text; open it in binary mode ('rb')")
            if not part:
                break
            parts.append(part)
            left -= len(part)
    except UnicodeDecodeError as error:  # a text file object that met the image's bytes
        raise ImageUnreadable(name, "was opened as text; open it in binary mode ('rb')") from error
    except (OSError, ValueError) as error:  # ValueError: the file object is closed
        raise ImageUnreadable(name, f"could not be read ({_os_reason(error)})") from error
    return _within(b"".join(parts), name, limits)


def _read_stdin(name: str, limits: Limits) -> bytes:
    if sys.stdin is None or sys.stdin.closed:
        raise ImageUnreadable(name, "standard input is closed; pipe an image into it")
    if sys.stdin.isatty():
        raise ImageUnreadable(name, "standard input is a terminal; pipe an image into it")
    data = _read_stream(sys.stdin.buffer, name, limits)
    if not data:
        raise ImageEmpty(name, "no bytes came in; pipe an image into it, and name '-' only once")
    return data


def _read_path(path: Path, name: str, limits: Limits) -> bytes:
    try:
        # Without O_NONBLOCK, opening a FIFO that nobody writes would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageUnreadable(name, "is a pipe, socket or device, not a file; pipe the image into '-'")
            if status.st_size > limits.max_bytes:
                raise ImageTooLarge(
                    name, f"has {status.st_size:,} bytes, over the limit of {limits.max_bytes:,}; raise max_bytes"
                )
            return _read_stream(file, name, limits)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _path_error(path, name, error) from error


def _path_error(path: Path, name: str, error: OSError | ValueError) -> ImageError:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises in a folder that is closed to us
        if not os.access(path, os.R_OK):
            reason = "is a folder that may not be looked into (permission denied); check its rights"
            return ImageUnreadable(name, reason)
        return ImageIsDirectory(name, "is a directory, not an image; name a file in it")
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL):
        return ImageNotFound(name, "does not exist; check the path")
    if isinstance(error, PermissionError):
        return ImageUnreadable(name, "may not be read (permission denied); check its rights")
    return ImageUnreadable(name, f"could not be read ({_os_reason(error)})")


def _os_reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)

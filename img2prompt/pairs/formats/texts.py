"""Lines of text files in whatever encoding they have: UTF-8, UTF-16, or UTF-8 with lines of cp1252 among it."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from img2prompt.errors import DataError

logger = logging.getLogger(__name__)

LINE_LIMIT = 1 << 25  # bytes or characters; a file without line breaks must not fill the memory
_STRAY_RUN = 2  # letters that are no ASCII stand alone or in pairs in the languages that cp1252 is for
_MARKS = (  # how a file begins -> its encoding; UTF-32 first, since its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SURROGATES = re.compile("[\ud800-\udfff]")


def read_lines(path: Path) -> Iterator[str]:
    r"""The lines of a text file with their line ends ("\n", "\r\n" or "\r").

    The encoding is that of the file's byte order mark, else UTF-16 where every other byte is zero, else UTF-8. A line
    that is not UTF-8 is read as cp1252 when its strange bytes look like that (they stand alone or in pairs); such
    lines are counted in the log. Any other keeps its strange bytes as lone surrogates, so that `is_text` tells.

    Raises:
        DataError: a line of more than 32 MB, or damaged UTF-16.
        OSError: as the system says.
    """
    encoding = encoding_of(path)
    if encoding == "utf-8":
        yield from _utf8_lines(path)
        return
    with _opened(path, encoding) as file:
        try:
            yield from _bounded(file, path)
        except UnicodeError:
            raise DataError(f"{path}: damaged {encoding.upper()} text; save it as UTF-8") from None


def open_text(path: Path) -> IO[str]:
    """A text file for reading in pieces; bytes in no known encoding become lone surrogates."""
    encoding = encoding_of(path)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    return _opened(path, "utf-8-sig" if encoding == "utf-8" else encoding, errors)


def read_text(path: Path, limit: int = 1 << 20) -> str:
    """The text of a small file, decoded as `read_lines` does.

    Raises:
        DataError: more characters than `limit`.
        OSError: as the system says.
    """
    if path.stat().st_size > 4 * limit:
        raise DataError(f"{path}: more than {limit} characters; a prompt is shorter")
    return decode_text(path.read_bytes())


def decode_text(data: bytes) -> str:
    """Text from bytes, decoded as `read_lines` does."""
    encoding = _encoding(data[:4096])
    if encoding != "utf-8":
        return data.decode(encoding, errors="replace").removeprefix("\ufeff")
    return _decode(data.removeprefix(codecs.BOM_UTF8))[0]


def is_text(value: str) -> bool:
    """Whether a text holds whole characters only: no bytes of an unknown encoding, no half of an emoji."""
    return value.isascii() or SURROGATES.search(value) is None


def encoding_of(path: Path) -> str:
    """The encoding of a text file, from its first bytes: "utf-8" unless they say otherwise."""
    with _bytes(path) as file:
        return _encoding(file.read(4096))


def _bytes(path: Path) -> BinaryIO:
    """The bytes of a file; those of NAME.gz unpacked."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _opened(path: Path, encoding: str, errors: str = "strict") -> IO[str]:
    return io.TextIOWrapper(_bytes(path), encoding, errors, newline="")


def _encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2], head[1::2]
    if len(head) >= 8 and 2 * max(even.count(0), odd.count(0)) > len(even):  # text of letters below 256
        return "utf-16-le" if odd.count(0) > even.count(0) else "utf-16-be"
    return "utf-8"


def _utf8_lines(path: Path) -> Iterator[str]:
    foreign, first, number = 0, 0, 0
    with _bytes(path) as file:
        while raw := file.readline(LINE_LIMIT):
            number += 1
            if len(raw) == LINE_LIMIT:
                raise DataError(f"{path}: line {number} has more than {LINE_LIMIT} bytes; is it a table?")
            text, guessed = _decode(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)
            if guessed:
                foreign, first = foreign + 1, first or number
            if "\r" in text:
                yield from io.StringIO(text, newline="")  # old files end their lines with "\r" alone
            else:
                yield text
    if foreign:
        logger.warning("%s: %d lines are not UTF-8 and were read as cp1252, the first is line %d", path, foreign, first)


def _decode(raw: bytes) -> tuple[str, bool]:
    """The text, and whether parts of it were read as cp1252."""
    try:
        return raw.decode("utf-8"), False
    except UnicodeDecodeError:
        escaped = raw.decode("utf-8", "surrogateescape")  # each strange byte b as chr(0xDC00 + b)
    runs = re.findall("[\udc80-\udcff]+", escaped)
    try:
        if max(map(len, runs)) <= _STRAY_RUN:
            return SURROGATES.sub(lambda m: bytes([ord(m[0]) - 0xDC00]).decode("cp1252"), escaped), True
    except UnicodeDecodeError:  # one of the five bytes that cp1252 does not use
        pass
    return escaped, False


def _bounded(file: IO[str], path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LINE_LIMIT):
        number += 1
        if len(line) == LINE_LIMIT:
            raise DataError(f"{path}: line {number} has more than {LINE_LIMIT} characters; is it a table?")
        yield line.removeprefix("\ufeff") if number == 1 else line

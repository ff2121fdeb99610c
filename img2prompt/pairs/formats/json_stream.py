"""The items of big JSON files one after the other: COCO's captions have 90 MB, and more in objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from img2prompt.errors import DataError
from img2prompt.pairs.formats.texts import open_text

WINDOW = 1 << 16  # characters
_ITEM_LIMIT = 1 << 25  # characters of one item
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def json_items(path: Path) -> Iterator[tuple[str | None, Any]]:
    """(None, item) of a top-level array; (key, item) of the arrays, and (key, value) of the rest, of an object.

    Raises:
        DataError: it is no JSON, or cut; the message says at which character.
        OSError: as the system says.
    """
    with open_text(path) as file:
        yield from _Scanner(file, path).top()


class _Scanner:
    """A window on a JSON text that moves along with what is read."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at, self._before, self._ended = "", 0, 0, False

    def top(self) -> Iterator[tuple[str | None, Any]]:
        opening = self._next()
        if opening == "[":
            for item in self._array():
                yield None, item
        elif opening == "{":
            yield from self._object()
        else:
            raise self._error("a JSON array or object is needed")
        if self._peek():
            raise self._error("more text after the JSON value")

    def _object(self) -> Iterator[tuple[str, Any]]:
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            key = self._value()
            if not isinstance(key, str) or self._next() != ":":
                raise self._error("a key and a colon are needed")
            if self._peek() == "[":
                self._at += 1
                for item in self._array():
                    yield key, item
            else:
                yield key, self._value()
            mark = self._next()
            if mark == "}":
                return
            if mark != ",":
                raise self._error("a comma or closing brace is needed")

    def _array(self) -> Iterator[Any]:
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            mark = self._next()
            if mark == "]":
                return
            if mark != ",":
                raise self._error("a comma or closing bracket is needed")

    def _value(self) -> Any:
        if not self._peek():
            raise self._error("the text ends early")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more():  # a number may go on in the next chunk
                    self._at = end
                    return value
            except RecursionError:
                raise self._error("nested too deeply") from None
            except ValueError as error:
                if not self._more():
                    raise self._error(getattr(error, "msg", str(error))) from None
            if len(self._text) - self._at > _ITEM_LIMIT:
                raise self._error(f"one item has more than {_ITEM_LIMIT} characters")

    def _peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _next(self) -> str:
        mark = self._peek()
        self._at += 1
        return mark

    def _more(self) -> bool:
        """Reads on; the window grows with what is not used yet, so that a long item costs few attempts."""
        if self._ended:
            return False
        rest = self._text[self._at :]
        chunk = self._file.read(max(WINDOW, len(rest)))
        self._before += self._at
        self._text, self._at = rest + chunk, 0
        self._ended = not chunk
        return bool(chunk)

    def _error(self, what: str) -> DataError:
        place = self._before + min(self._at, len(self._text))
        return DataError(f"{self._path}: not JSON at character {place} ({what}); get the file again")

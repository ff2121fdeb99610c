"""Prompts in one form: what looks the same is the same text."""

from __future__ import annotations

import re
import unicodedata

# White space of every kind, and what is no text: control characters, byte-order marks, zero-width spaces, soft hyphens.
# The zero-width joiner and non-joiner stay: emoji and Persian words are made with them.
_SPACES = re.compile(r"\s+")
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufff9-\ufffb]+")
_HALF_PAIRS = re.compile(r"[\ud800-\udfff]")  # left over from a text that was cut between two UTF-16 units


def normalise(prompt: str) -> str:
    """The prompt in Unicode's NFC, one space for any white space, nothing at the ends, without control characters.

    Case, punctuation and compatibility characters (full-width forms, ligatures) stay: they are part of the prompt.
    Normalising twice changes nothing.
    """
    if prompt.isascii() and prompt.isprintable():  # most are, and need no more than this
        return " ".join(prompt.split())
    text = _NO_TEXT.sub("", _HALF_PAIRS.sub("\N{REPLACEMENT CHARACTER}", prompt))
    return _SPACES.sub(" ", unicodedata.normalize("NFC", text)).strip()

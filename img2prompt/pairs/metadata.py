"""Prompts that generators left inside image files: read, never run, and clean when they come out.

bytes -> Fields (fields.py, exif.py, xmp.py) -> one row of GENERATORS -> EmbeddedPrompt
no words in the file -> the lowest bits of its pixels (stealth.py) -> the same rows
"""

from __future__ import annotations

from img2prompt.errors import MetadataError
from img2prompt.pairs.decoding import check_pixels, decode
from img2prompt.pairs.embedded.fields import Fields, read_fields
from img2prompt.pairs.embedded.generators import GENERATORS
from img2prompt.pairs.embedded.stealth import read_stealth
from img2prompt.pairs.images import DEFAULT_LIMITS, Limits, Source, name_of, read_bytes
from img2prompt.results import EmbeddedPrompt


def read_prompt(source: Source, limits: Limits = DEFAULT_LIMITS, *, name: str | None = None) -> EmbeddedPrompt | None:
    """The prompt that the generator of an image left in its file, or None.

    Pixels are decoded only where they may hide a prompt (PNG and lossless WebP without one in words). Fields are
    clean: no terminal escapes, no control characters, finite numbers. A file whose picture is damaged but whose
    words are whole still gives its prompt.

    Args:
        source: a path, the bytes of a file, a binary file object, an http(s) URL, or "-" for stdin.
        limits: bytes of the file, pixels that are still decoded, seconds for a URL.
        name: what errors call it, if not `name_of(source)`.

    Raises:
        ImageError: the source cannot be read, or it is no image.
        MetadataError: no prompt was found, and something in the file is hostile or beyond the limits.
    """
    name = name_of(source) if name is None else name
    data = read_bytes(source, limits, name=name)
    fields = read_fields(data)
    if not fields.is_image:
        check_pixels(decode(data, name, limits.max_pixels).size, name, limits.max_pixels)  # says what is wrong with it
    errors = list(fields.refused)
    found = _read_rows(fields, errors)
    if found is None:
        try:
            hidden = read_stealth(data, limits.max_pixels)
        except MetadataError as error:
            errors.append(str(error))
            hidden = None
        found = _read_rows(hidden, errors) if hidden is not None else None
    if found is None and errors:
        raise MetadataError(f"{name}: {errors[0]}")
    return found


def _read_rows(fields: Fields, errors: list[str]) -> EmbeddedPrompt | None:
    """The first row that finds a prompt; what a hostile field raises must not hide an honest one beside it."""
    for read in GENERATORS.values():
        try:
            found = read(fields)
        except MetadataError as error:
            errors.append(str(error))
            continue
        if found is not None:
            return found
    return None

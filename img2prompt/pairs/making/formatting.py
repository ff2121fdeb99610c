"""One row of any source -> one row of our shards, or the reason why not.

What is checked of a picture: the whole file is read through the image door under its limits of bytes and pixels, and
decoded to its end, so that a truncated, mislabelled or hostile file is found. A JPEG that is passed on as it came is
decoded at an eighth of its size: every coefficient of the file is still read, which finds the same cuts, and only the
arithmetic that makes pixels of them is spared. Flipped bits inside a JPEG that still decode are not found; no decoder
finds them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from img2prompt.errors import ImageError
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.filters import build
from img2prompt.pairs.images import DEFAULT_LIMITS, Limits, open_image, read_bytes
from img2prompt.pairs.making.normalising import normalise
from img2prompt.pairs.skips import Skips

OWN_COLUMNS = ("id", "image", "prompt", "source", "source_id")  # the others are kept as the source names them
_SHOWN_CHARS = 100  # of a prompt in an example

ENCODERS: dict[str, Callable[[int], dict[str, Any]]] = {  # name -> how Pillow saves it at a quality
    "jpeg": lambda quality: {"format": "JPEG", "quality": quality, "subsampling": 0 if quality >= 90 else 2},
    "webp": lambda quality: {"format": "WEBP", "quality": quality, "method": 4},
    "png": lambda quality: {"format": "PNG", "compress_level": 6},
}


@dataclass(frozen=True, slots=True)
class FormatSettings:
    """What becomes of every row.

    Attributes:
        columns: of the shards, in their order; `OWN_COLUMNS` and those of the source that are kept.
        names: the names that sources use for columns of ours, see `stream_rows`.
        filters: name of a filter -> its setting, see `filters.FILTERS`; one that is absent is off.
        image_px: shorter side of a re-encoded picture, never enlarged; None passes files on as they came.
        image_format: of re-encoded pictures, one of `ENCODERS`.
        quality: of re-encoded JPEG and WebP pictures, 1 to 100.
        limits: what one picture may cost.
    """

    columns: tuple[str, ...] = OWN_COLUMNS
    names: Mapping[str, str] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    image_px: int | None = None
    image_format: str = "jpeg"
    quality: int = 92
    limits: Limits = DEFAULT_LIMITS

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what does not matter without re-encoding is left out."""
        encoding = {"image_px": self.image_px, "image_format": self.image_format, "quality": self.quality}
        return {
            "columns": list(self.columns),
            "names": dict(self.names),
            "filters": dict(self.filters),
            "encoding": encoding if self.image_px is not None else None,
            "max_pixels": self.limits.max_pixels,
            "max_bytes": self.limits.max_bytes,
        }


class Formatter:
    """Formats rows by the same settings; counts what it drops.

    Attributes:
        unusable: rows without a picture or prompt that can be used, by kind.
        filtered: rows that a text filter dropped, by the filter's name; a row counts for the first that drops it.
    """

    def __init__(self, settings: FormatSettings) -> None:
        """
        Raises:
            ConfigError: a filter's setting cannot be used.
            MissingExtra: a filter needs a library that is not installed.
        """
        self.unusable = Skips()
        self.filtered = Skips()
        self._settings = settings
        self._filters = build(settings.filters)

    def __call__(self, row: Mapping[str, Any], place: str) -> dict[str, Any] | None:
        """A row for `write_rows`; None when it was dropped and counted.

        Args:
            row: of `stream_rows`.
            place: what to call a picture that has no path.

        Raises:
            OSError: never for the picture, whose errors are counted.
        """
        name = row["image"]["path"] or place
        prompt = normalise(row["prompt"])
        if not prompt:
            self.unusable.add("NoPrompt", name, "has no prompt")
            return None
        for kind, judge in self._filters.items():  # texts first: they cost less than pictures
            reason = judge(prompt)
            if reason is not None:
                self.filtered.add(kind, name, f"{reason}: {prompt[:_SHOWN_CHARS]}")
                return None
        try:
            data = _file_of(row["image"], self._settings.limits, name)
            stored = self._checked(data, name)
        except ImageError as error:
            self.unusable.add(type(error).__name__, name, error.reason)
            return None
        own = {"id": content_id(data, prompt), "image": stored, "prompt": prompt, "source": _text(row["source"])}
        own["source_id"] = _text(row.get("source_id", row.get("id")))
        return {column: own[column] if column in own else _text(row.get(column)) for column in self._settings.columns}

    def _checked(self, data: bytes, name: str) -> bytes:
        """The picture's file as it is stored, after it was decoded."""
        settings = self._settings
        if settings.image_px is None:
            open_image(data, settings.limits, name=name, least_px=1)
            return data
        # A JPEG is decoded at no less than twice the size, so that the last step of the reduction is a careful one.
        image = open_image(data, settings.limits, name=name, least_px=2 * settings.image_px)
        return encode(shrink(image, settings.image_px), settings.image_format, settings.quality)


def content_id(image: bytes, prompt: str) -> str:
    """32 hexadecimal digits of SHA-256 over the picture's file as it came, the prompt, and the prompt's length."""
    text = prompt.encode()
    digest = hashlib.sha256(image)
    digest.update(text)
    digest.update(len(text).to_bytes(8, "big"))  # so that no byte can move from the one to the other
    return digest.hexdigest()[:32]


def shrink(image: Image.Image, image_px: int) -> Image.Image:
    """The picture with its shorter side at `image_px`; a smaller one as it is."""
    if min(image.size) <= image_px:
        return image
    scale = image_px / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def encode(image: Image.Image, image_format: str, quality: int) -> bytes:
    """The picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, **ENCODERS[image_format](quality))
    return file.getvalue()


def _file_of(image: Mapping[str, Any], limits: Limits, name: str) -> bytes:
    """The bytes of a picture that lies in its row, at a path or on the web."""
    if image["bytes"] is not None:
        return read_bytes(image["bytes"], limits, name=name)
    path = image["path"]
    return read_bytes(path if is_url(path) else Path(path), limits)


def _text(value: Any) -> str | None:
    """A value of a column that is kept, as text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)

"""Prompt-image pairs of several sources as one table: prompts in memory, pictures where they are."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.sources import match_columns, open_pairs
from img2prompt.training.pair_set import PairSet
from img2prompt.training.pixels import Pixels, decode_once, picture

logger = logging.getLogger(__name__)

CHUNK_ROWS = 256  # picture files that one worker process decodes at a time


@dataclass(frozen=True)
class PairSource:
    """One data set.

    Attributes:
        path: whatever `img2prompt.pairs.sources.open_pairs` reads: a table, a folder of pictures, a folder of shards.
        weight: how often an epoch shows each of its rows: 2 twice, 0.5 every other row (the others in the next epoch),
            0 never. Of no meaning for validation.
        prompt_column: where the table's name for prompts is not one of the usual ones.
        image_column: likewise for images.
        limit: take the first so many rows; None takes all.
    """

    path: Path
    weight: float = 1.0
    prompt_column: str | None = None
    image_column: str | None = None
    limit: int | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The given names, as `open_pairs` takes them."""
        given = {"prompt": self.prompt_column, "image": self.image_column}
        return {ours: theirs for ours, theirs in given.items() if theirs is not None}


@dataclass
class PairTable:
    """Rows of all sources, one source after the other.

    Attributes:
        prompts: (N) texts; "" for a row that is not used.
        images: (N) paths or URLs of pictures in files of their own; None in shards.
        source: (N,) int, the number of the row's source.
        good: (N,) bool, the rows that are used.
        skips: reason -> number of rows that are not used.
        sets: the rows of each source as they were read.
        pixels: of each set, once they are decoded ahead.
        image_px: side of the pictures, once a model has said it.
        shrink: JPEGs may be decoded smaller (see `img2prompt.training.pixels.picture`).
    """

    prompts: list[str]
    images: list[str | None]
    source: np.ndarray
    good: np.ndarray
    skips: Counter[str]
    sets: list[PairSet]
    pixels: list[Pixels] = field(default_factory=list)
    image_px: int = 0
    shrink: bool = True

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def shards(self) -> list[dict[str, Any]]:
        """The shards of all sets, in the order of the rows."""
        return [shard for pairs in self.sets for shard in pairs.shards]

    @property
    def starts(self) -> np.ndarray:
        """The first row of each set, and the end."""
        return np.cumsum([0, *(len(pairs.columns["prompt"]) for pairs in self.sets)])

    def decode(self, image_px: int, folder: Path | None) -> None:
        """Makes the pictures ready at a size: all of them now, or, without a folder, each when it is asked for."""
        if image_px == self.image_px and (self.pixels or folder is None):
            return
        self.image_px = image_px
        self.pixels = []
        if folder is None:
            return
        self.pixels = [decode_once(s.shards, image_px, 0, folder, shrink=self.shrink) for s in self.sets]
        readable = np.concatenate([pixels.good for pixels in self.pixels])
        self.skips["unreadable image"] = int((self.good & ~readable).sum())
        self.good &= readable

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Pictures that were decoded ahead: (B,H,W,3) uint8."""
        out = np.empty((len(rows), self.image_px, self.image_px, 3), np.uint8)
        starts = self.starts
        owners = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(owners):
            chosen = owners == number
            out[chosen] = self.pixels[number].images[rows[chosen] - starts[number]]
        return out

    def picture(self, row: int) -> np.ndarray:
        """One picture (H,W,3) uint8, wherever it lies.

        Raises:
            ImageError: it cannot be read.
        """
        if self.pixels:
            return self.pictures(np.array([row]))[0]
        image = self.images[row]
        if image is None:
            from img2prompt.training.decoding import Pictures

            image = Pictures(self.shards, self.image_px).source(row)  # type: ignore[assignment]
        return picture(image or "", self.image_px, self.shrink)


def read_table(sources: Sequence[PairSource], longest: int) -> PairTable:
    """Reads the prompts of all sources; pictures wait.

    Rows without image or prompt, with a prompt of more than `longest` characters, or with the id of an earlier row of
    their source (without ids: the image and prompt of one) are not used, but counted.

    Raises:
        DataError: a source cannot be read, has no column of that name (the message says which there are), or no row.
        ConfigError: no source, or a weight or limit is negative.
    """
    if not sources:
        raise ConfigError("data.sources: give at least one, e.g. [{path: pairs.csv}]")
    for source in sources:
        if source.weight < 0 or (source.limit is not None and source.limit < 1):
            raise ConfigError(f"data.sources: {source.path}: weight must not be negative, and limit is 1 or more")
    table = PairTable([], [], np.zeros(0, np.int64), np.zeros(0, bool), Counter(), [])
    numbers: list[int] = []
    good: list[bool] = []
    for number, source in enumerate(sources):
        pairs = _read(source, table.skips)
        prompts = [(text or "").strip() for text in pairs.columns["prompt"]]
        images = _paths(pairs)
        reasons = list(_reasons(prompts, _identities(pairs, prompts, images), longest))
        if source.limit is not None:
            reasons[source.limit :] = ["limit"] * len(reasons[source.limit :])
        table.skips.update(reason for reason in reasons if reason not in ("", "limit"))
        table.sets.append(pairs)
        table.images += images
        table.prompts += ["" if reason else prompt for prompt, reason in zip(prompts, reasons, strict=True)]
        numbers += [number] * len(prompts)
        good += [not reason for reason in reasons]
    table.source, table.good = np.array(numbers, np.int64), np.array(good, bool)
    if not table.good.any():
        raise DataError(f"{', '.join(str(s.path) for s in sources)}: no usable row ({told(table.skips)})")
    return table


def _paths(pairs: PairSet) -> list[str | None]:
    return [path for shard in pairs.shards for path in shard.get("images", [None] * shard["rows"])]


def _identities(pairs: PairSet, prompts: list[str], images: list[str | None]) -> list[str | None]:
    """What tells rows apart: their ids, else image and prompt, as pictures have several captions."""
    if "id" in pairs.columns:
        return pairs.columns["id"]
    return [None if image is None else f"{image}\n{text}" for image, text in zip(images, prompts, strict=True)]


def _reasons(prompts: Sequence[str], ids: Iterable[str | None], longest: int) -> Iterable[str]:
    """Why each row is not used; "" when it is."""
    seen: set[str] = set()
    for prompt, identity in zip(prompts, ids, strict=True):
        if not prompt:
            yield "no image or prompt"
        elif len(prompt) > longest:
            yield "prompt too long"
        elif identity is not None and identity in seen:
            yield "duplicate id"
        else:
            yield ""
            if identity is not None:
                seen.add(identity)


def told(skips: Counter[str]) -> str:
    """Counts and reasons for people."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(skips.items()) if count) or "it is empty"


def _read(source: PairSource, skips: Counter[str]) -> PairSet:
    """One source: shards stay where they are, files become chunks of paths."""
    path = Path(source.path)
    if path.is_dir() and (path / "manifest.json").exists():
        pairs = PairSet.read(path, ids=True)
        names = match_columns(["image", *pairs.columns], source.columns, path)
        if names["image"] != "image":
            raise DataError(f"{path}: the pictures of shards are in the column 'image'; leave out image_column")
        pairs.columns = {ours: pairs.columns[theirs] for ours, theirs in names.items() if ours in ("prompt", "id")}
        for shard in pairs.shards:
            shard["scenes"] = False  # grounding targets are the captioner's
        return pairs

    def left_out(count: int) -> None:
        skips["no image or prompt"] += count

    data = open_pairs(path, source.columns, on_left_out=left_out)
    if any(size is not None for size in pc.binary_length(data.flatten().data["image.bytes"]).to_pylist()):
        raise DataError(
            f"{path}: its pictures lie inside other files, and training needs them at random:"
            f" run img2prompt pairs format {path} OUT, then train on OUT"
        )
    paths = [image["path"] for image in data["image"]]
    chunks = [paths[start : start + CHUNK_ROWS] for start in range(0, len(paths), CHUNK_ROWS)]
    shards = [{"images": part, "rows": len(part), "sha256": _print(part), "scenes": False} for part in chunks]
    columns = {name: list(data[name]) for name in ("prompt", "id") if name in data.column_names}
    return PairSet(shards, columns, 0, len(paths))


def _print(paths: Sequence[str]) -> str:
    """Names the files' contents without reading them: a file that was changed has another size or time."""
    known: list[Any] = []
    for path in paths:
        try:
            state = None if is_url(path) else Path(path).stat()
            known.append([path] if state is None else [str(Path(path).resolve()), state.st_size, state.st_mtime_ns])
        except (OSError, ValueError):
            known.append([path, "missing"])
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()

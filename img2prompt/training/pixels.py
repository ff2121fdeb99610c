"""Pictures decoded once: a memory-mapped array on disk that batches are cut from.

Decoding a 128 px picture takes as long as a small captioner needs for a good part of its training step, and every
epoch would decode it again. The cache holds all pictures of a data set as one uint8 array; worker processes fill it,
it appears under its name when it is whole, and another run of the same data finds it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from img2prompt.errors import Img2PromptError, OutputError
from img2prompt.pairs.images import open_image
from img2prompt.progress import track
from img2prompt.training.grounding_targets import Targets, empty_targets, targets_of

logger = logging.getLogger(__name__)

IN_PROCESS_ROWS = 64  # so few pictures are decoded before worker processes have started
VERSION = 2  # of the layout below; another version is another cache


@dataclass(frozen=True, slots=True)
class Pixels:
    """The decoded pictures of a data set, row for row.

    Attributes:
        images: (N,H,W,3) uint8, memory-mapped.
        good: (N,) bool; False where the picture could not be read.
        targets: what grounding learns from; None without scenes.
    """

    images: np.ndarray
    good: np.ndarray
    targets: Targets | None


def default_folder() -> Path:
    """Where caches lie unless the recipe names another place."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "img2prompt" / "pixels"


def square(image: Image.Image, image_px: int) -> Image.Image:
    """The centre of the picture as a square, as open_clip's evaluation transform cuts it."""
    if image.size == (image_px, image_px):
        return image
    return ImageOps.fit(image, (image_px, image_px), Image.Resampling.BICUBIC)


def picture(source: str | bytes, image_px: int, shrink: bool = False) -> np.ndarray:
    """One picture as a square (H,W,3) uint8.

    Args:
        source: a path, a URL or the bytes of a file.
        image_px: side.
        shrink: let a JPEG be decoded at 1/2, 1/4 or 1/8 of its size where that is enough: 1.7 times as fast, with
            pixels that differ slightly from those of the whole picture.

    Raises:
        ImageError: it cannot be read.
    """
    return np.asarray(square(open_image(source, least_px=image_px if shrink else 0), image_px))


def decode_once(
    shards: list[dict[str, Any]], image_px: int, grid: int, folder: Path, *, shrink: bool = False
) -> Pixels:
    """The cache of a data set: found, or made now.

    Args:
        shards: path, rows and sha256 of every shard, and whether it has a scene column; or, of pictures that lie in
            files of their own, `images` (paths or URLs) in the place of path.
        image_px: side of the square pictures.
        grid: patches a side, for the targets of grounding; 0 for no targets.
        folder: where caches lie.
        shrink: as in `picture`.

    Raises:
        OutputError: the cache cannot be written (no space: it takes 3 * image_px**2 bytes a picture).
    """
    scenes = grid > 0 and all(shard["scenes"] for shard in shards)
    wanted: list[Any] = [VERSION, image_px, grid if scenes else 0, [[s["sha256"], s["rows"]] for s in shards]]
    wanted += ["shrink"] if shrink else []
    place = folder / hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    if not (place / "good.npy").exists():
        try:
            _make(shards, (image_px, grid if scenes else 0, shrink), place)
        except OSError as error:
            raise OutputError(f"{place}: {error.strerror or error}; free space or set data.cache_folder") from error
    targets = Targets(*(np.load(place / f"{name}.npy") for name in Targets.names())) if scenes else None
    return Pixels(np.load(place / "images.npy", mmap_mode="r"), np.load(place / "good.npy"), targets)


def _make(shards: list[dict[str, Any]], kind: tuple[int, int, bool], place: Path) -> None:
    image_px, grid, shrink = kind
    place.parent.mkdir(parents=True, exist_ok=True)
    rows = sum(shard["rows"] for shard in shards)
    free = shutil.disk_usage(place.parent).free
    if free < rows * 3 * image_px**2:
        raise OutputError(f"{place.parent}: {rows * 3 * image_px**2 / 1e9:.1f} GB are needed; set data.cache_folder")
    fresh = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
    try:
        np.lib.format.open_memmap(fresh / "images.npy", "w+", np.uint8, (rows, image_px, image_px, 3)).flush()
        good, targets = np.zeros(rows, bool), empty_targets(rows, grid)
        for start, part, part_targets in track(_filled(shards, fresh / "images.npy", grid, shrink), total=len(shards)):
            span = slice(start, start + len(part))
            good[span] = part
            for name in Targets.names() if part_targets is not None else ():
                getattr(targets, name)[span] = getattr(part_targets, name)
        for name in Targets.names() if grid else ():
            np.save(fresh / f"{name}.npy", getattr(targets, name))
        np.save(fresh / "good.npy", good)
        try:
            fresh.rename(place)
        except OSError:
            if not (place / "good.npy").exists():  # else another run was quicker with the same pictures
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _filled(
    shards: list[dict[str, Any]], images: Path, grid: int, shrink: bool
) -> Iterator[tuple[int, np.ndarray, Targets | None]]:
    """Fills the array shard by shard, in parallel; yields each one's first row and what `_fill` says."""
    starts = [int(start) for start in np.cumsum([0, *(shard["rows"] for shard in shards)])[:-1]]
    if len(shards) == 1 or sum(shard["rows"] for shard in shards) <= IN_PROCESS_ROWS:
        for shard, start in zip(shards, starts, strict=True):
            yield (start, *_fill(shard, images, start, grid, shrink))
        return
    # Fresh processes: a fork would copy the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(shards), os.cpu_count() or 1), mp_context=context) as pool:
        jobs = {
            pool.submit(_fill, shard, images, start, grid, shrink): start
            for shard, start in zip(shards, starts, strict=True)
        }
        for job in as_completed(jobs):
            yield (jobs[job], *job.result())


def _fill(
    shard: dict[str, Any], images: Path, start: int, grid: int, shrink: bool
) -> tuple[np.ndarray, Targets | None]:
    """Decodes one shard into its rows of the array; runs in a worker process."""
    table = np.lib.format.open_memmap(images, "r+")
    if "images" in shard:
        rows: list[dict[str, Any]] = [{"image": {"bytes": path}} for path in shard["images"]]
    else:
        rows = pq.read_table(shard["path"], columns=["image", "scene"] if grid else ["image"]).to_pylist()
    good = np.zeros(len(rows), bool)
    for i, row in enumerate(rows):
        try:
            table[start + i] = picture(row["image"]["bytes"], table.shape[1], shrink)
            good[i] = True
        except Img2PromptError as error:
            logger.warning("%s, row %d: %s; skipped", shard.get("path", "images"), i, error)
    return good, targets_of([row["scene"] for row in rows], grid) if grid else None

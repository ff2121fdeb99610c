"""COCO captions: a JSON of images and of annotations, the pictures in a folder of their split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columns import Row, is_url
from img2prompt.pairs.formats.json_stream import json_items
from img2prompt.pairs.formats.texts import open_text
from img2prompt.pairs.skips import Skips

_HEAD_CHARS = 1 << 16
_TRIED = 1000  # pictures that are looked for until one is found


def is_coco(path: Path) -> bool:
    """Whether a .json file begins like COCO's (an object with "images" or "annotations"), or a folder holds some."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return bool(caption_files(path))
    with open_text(path) as file:
        head = file.read(_HEAD_CHARS)
    return head.lstrip()[:1] == "{" and ('"annotations"' in head or '"images"' in head)


def caption_files(folder: Path) -> list[Path]:
    """COCO's caption files in a folder or in its folder `annotations`, sorted."""
    return sorted(
        path for place in (folder / "annotations", folder) if place.is_dir() for path in place.glob("captions_*.json")
    )


def coco_rows(path: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """A row an annotation, file by file in their order. The names of the images are in memory, the captions are not.

    Raises:
        DataError: not JSON, without captions, or columns are given.
    """
    if columns:
        raise DataError(f"{path}: COCO has no columns to choose from; leave out their names")
    for file in caption_files(path) if path.is_dir() else [path]:
        yield from _captions(file, skips)


def _captions(path: Path, skips: Skips) -> Iterator[Row]:
    names: dict[object, str] = {}
    doubtful: set[object] = set()  # ids of several pictures, as when files were joined that count from 1 each
    captions = False
    for key, item in json_items(path):
        if key == "images" and isinstance(item, dict) and (called := _name(item)):
            number = _hashable(item.get("id"))
            if names.setdefault(number, called) != called:
                doubtful.add(number)
        captions = captions or (key == "annotations" and isinstance(item, dict) and "caption" in item)
    if not captions:
        raise DataError(f"{path}: its annotations have no captions; give COCO's captions_train2017.json or the like")
    folder = _folder(path, names.values())
    for key, item in json_items(path):
        if key != "annotations" or not isinstance(item, dict):
            continue
        number = _hashable(item.get("image_id"))
        name = names.get(number)
        row: Row = {"prompt": item.get("caption"), "id": str(item.get("id", "")) or None, "image": None}
        if name is None or number in doubtful:
            reason = "there is no image" if name is None else "several pictures are called image"
            skips.add("NoImage", f"{path}, annotation {row['id']}", f"{reason} {item.get('image_id')!r}")
            continue
        row["image"] = name if is_url(name) else str(folder / name)
        yield row


def _name(image: Mapping[str, object]) -> str:
    """What an image is called, else its address; "" where it has neither."""
    likely = (image.get("file_name"), image.get("coco_url"))
    return next((name for name in likely if isinstance(name, str) and name.strip()), "")


def _hashable(number: object) -> object:
    """An id as a key: JSON may hold lists and objects in its place."""
    return number if isinstance(number, str | int | float) else repr(number)


def _folder(path: Path, names: Iterable[str]) -> Path:
    """Where the pictures are, tried with the first of them, some of which may be missing: COCO keeps `train2017/`
    beside `annotations/`."""
    split = path.stem.rpartition("_")[2]
    roots = (path.parent, path.parent.parent)
    likely = [root / below for root in roots for below in (split, f"images/{split}", "images", "")]
    first = islice((name for name in names if not is_url(name)), _TRIED)
    found = (folder for name in first for folder in likely if (folder / name).is_file())
    return next(found, path.parent.parent / split)

"""DiffusionDB: numbered parts, each a folder or zip of pictures with a JSON of prompts, and a table of all of them."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columnar import one_line, parquet_rows, schema_of
from img2prompt.pairs.formats.columns import Row
from img2prompt.pairs.images import DEFAULT_LIMITS
from img2prompt.pairs.skips import Skips

PART = re.compile(r"part-(\d{6})")
_FACTS = {"p": "prompt", "se": "seed", "c": "guidance_scale", "st": "steps", "sa": "sampler"}  # their names -> ours
_TABLE = {"part_id", "image_name", "prompt"}
_PLACES = ("", "images", "diffusiondb-large-part-1", "diffusiondb-large-part-2")  # where parts lie below the table
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def is_diffusiondb(folder: Path) -> bool:
    """Whether a folder is a part, or holds parts."""
    return next(_parts(folder), None) is not None


def part_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The pictures of every part in the order of their numbers and names, with seed, steps, guidance and sampler.

    Raises:
        DataError: columns are given.
    """
    if columns:
        raise DataError(f"{folder}: DiffusionDB has no columns to choose from; leave out their names")
    for part in sorted(_parts(folder), key=lambda path: (path.stem, str(path))):
        name = f"{part.stem}.json"
        if part.suffix != ".zip":
            told = _told(part, (part / name).read_bytes, skips)
            yield from (_row(image, facts, str(part / image)) for image, facts in told)
            continue
        try:
            with zipfile.ZipFile(part) as file:
                members = {Path(info.filename).name: info for info in file.infolist() if not info.is_dir()}
                info = members.get(name)
                if info is None or info.file_size > DEFAULT_LIMITS.max_bytes:
                    raise zipfile.BadZipFile(f"it holds no usable {name}")
                for image, facts in _told(part, lambda file=file, info=info: file.read(info), skips):  # type: ignore[misc]
                    data = _read(file, members.get(image), f"{part}/{image}", skips)
                    if data is not None:
                        yield _row(image, facts, {"bytes": data, "path": f"{part}/{image}"})
        except _DAMAGED as error:
            skips.add("CutArchive", part, f"cut or damaged ({one_line(error)}); get it again")


def is_metadata(path: Path) -> bool:
    """Whether a parquet file is DiffusionDB's table."""
    return path.suffix.lower() == ".parquet" and set(schema_of(path).names) >= _TABLE


def metadata_rows(table: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of DiffusionDB's table whose parts have been downloaded (and unpacked); the others are counted."""
    folders: dict[int, Path | None] = {}
    for row in parquet_rows([table], {"image": "image_name", "prompt": "prompt", **columns}, skips):
        number = int(row.pop("part_id", None) or 0)
        if number not in folders:
            places = (table.parent / place / f"part-{number:06d}" for place in _PLACES)
            folders[number] = next((place for place in places if place.is_dir()), None)
        folder = folders[number]
        name = Path(str(row["image"])).name
        if folder is None:
            skips.add("PartMissing", name, f"part-{number:06d} is not beside {table.name}; download and unpack it")
            continue
        row.pop("user_name", None)  # hashes of people
        row |= {"image": str(folder / name), "id": name}
        row["guidance_scale"] = row.pop("cfg", None)
        row["steps"] = row.pop("step", None)
        yield row


def _parts(folder: Path) -> Iterator[Path]:
    """Folders with a JSON of their own name, and zips, called like parts; the folder itself may be one."""
    for path in (folder, *(path for place in _PLACES for path in (folder / place).glob("part-*"))):
        if PART.fullmatch(path.stem) and (path.suffix == ".zip" or (path / f"{path.name}.json").is_file()):
            yield path


def _told(part: Path, read: Callable[[], bytes], skips: Skips) -> list[tuple[str, dict[str, Any]]]:
    """Names of pictures and what the part's JSON says of them, sorted."""
    try:
        told = json.loads(read().decode("utf-8-sig"))
        entries = sorted((str(name), facts) for name, facts in told.items() if isinstance(facts, dict))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        skips.add("BadJson", part, f"its JSON cannot be read ({one_line(error)}); get the part again")
        return []
    return [(name, facts) for name, facts in entries if Path(name).name == name]


def _row(name: str, facts: Mapping[str, Any], image: object) -> Row:
    return {"image": image, "id": name, **{ours: facts.get(theirs) for theirs, ours in _FACTS.items()}}


def _read(file: zipfile.ZipFile, info: zipfile.ZipInfo | None, name: str, skips: Skips) -> bytes | None:
    if info is None:
        skips.add("ImageNotFound", name, "is told of, but not in the zip")
    elif info.file_size > DEFAULT_LIMITS.max_bytes:
        skips.add("TooLarge", name, f"has {info.file_size:,} bytes, over the limit of {DEFAULT_LIMITS.max_bytes:,}")
    else:
        try:
            return file.read(info)
        except _DAMAGED as error:
            skips.add("CutArchive", name, f"damaged ({one_line(error)})")
    return None

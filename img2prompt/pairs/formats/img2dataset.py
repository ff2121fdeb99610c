"""What img2dataset leaves: tars, parquet files or folders of pictures, and beside each what became of its URLs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from img2prompt.pairs.formats.archives import tar_rows
from img2prompt.pairs.formats.columnar import holds_picture, parquet_rows, schema_of
from img2prompt.pairs.formats.columns import Row
from img2prompt.pairs.formats.pictures import picture_rows
from img2prompt.pairs.skips import Skips

logger = logging.getLogger(__name__)

STATS = "_stats.json"
_NOTES = frozenset({"key", "status", "error_message", "exif"})


def is_img2dataset(folder: Path) -> bool:
    """Whether a folder holds a shard with img2dataset's account of it (`00000_stats.json`)."""
    return next(_stats(folder), None) is not None


def img2dataset_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The pictures that were downloaded, shard by shard; the others are counted by what went wrong."""
    finished = {path.name.removesuffix(STATS) for path in _stats(folder)}
    shards = _shards(folder)
    unfinished = [name for name in shards if name not in finished]
    if unfinished:
        logger.warning(
            "%s: img2dataset did not finish %d of %d shards (%s, ...); run its command again to complete them",
            *(folder, len(unfinished), len(shards), unfinished[0]),
        )
    for name, shard in shards.items():
        if shard.suffix != ".parquet":  # whose rows say it themselves
            _count_failed(folder / f"{name}{STATS}", skips)
        read = picture_rows(shard, columns, skips) if shard.is_dir() else None
        if read is None:
            read = (tar_rows if shard.suffix == ".tar" else parquet_rows)([shard], columns, skips)
        yield from map(_cleaned, read)


def _cleaned(row: Row) -> Row:
    """A row without img2dataset's notes to itself; its key, which is unique in the whole folder, is the id."""
    key = row.get("key") or str(row.get("id") or "").rpartition("/")[2]
    return {**{name: value for name, value in row.items() if name not in _NOTES}, "id": key or None}


def _stats(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob(f"*{STATS}") if path.name.removesuffix(STATS).isdigit())


def _shards(folder: Path) -> dict[str, Path]:
    """Number of each shard -> where its pictures are: beside a tar or folder, a parquet file holds no pictures."""
    shards: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        number = path.name.partition(".")[0]
        if not number.isdigit():
            continue
        if path.suffix == ".tar" or path.is_dir():
            shards[number] = path
        elif path.suffix == ".parquet" and number not in shards:
            schema = schema_of(path)
            if any(holds_picture(schema.field(name).type) for name in schema.names):
                shards[number] = path
    return dict(sorted(shards.items()))


def _count_failed(stats: Path, skips: Skips) -> None:
    """Counts what a shard's account says of URLs that gave no picture."""
    try:
        told = json.loads(stats.read_text(encoding="utf-8")).get("status_dict", {})
        failed = {str(status): int(count) for status, count in told.items() if status != "success"}
    except (OSError, ValueError, AttributeError, TypeError):
        return
    for status, count in sorted(failed.items()):
        for _ in range(count):
            skips.add("NotDownloaded", stats, status)

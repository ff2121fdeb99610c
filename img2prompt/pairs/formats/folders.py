"""Folders of tables, archives or pictures: which of their files are read, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from img2prompt.errors import DataError
from img2prompt.pairs.formats.archives import TAR_SUFFIXES, tar_rows
from img2prompt.pairs.formats.columnar import parquet_rows, schema_of
from img2prompt.pairs.formats.columns import Row
from img2prompt.pairs.formats.pictures import picture_rows
from img2prompt.pairs.formats.tables import TABLES_OF_FOLDERS, table_rows
from img2prompt.pairs.manifest import FORMAT, check_shard, read_manifest
from img2prompt.pairs.skips import Skips

_SAVED = ("state.json", "dataset_dict.json")  # of `save_to_disk`


def is_shards(folder: Path) -> bool:
    """Whether a folder holds our shards, finished or not."""
    notes = [path for name in ("manifest.json", "config.json") if (path := folder / name).is_file()]
    return any(FORMAT in path.read_text(encoding="utf-8", errors="replace") for path in notes) or (
        bool(notes) and next(folder.glob("shard-*.parquet"), None) is not None
    )


def shard_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of our shards; each is compared with its SHA-256 when it is reached.

    Raises:
        DataError: no manifest, a shard is missing, cut or damaged.
    """
    for shard in read_manifest(folder)["shards"]:
        path = folder / shard["file"]
        check_shard(path, shard, verify=True)
        own = {"source": "source"} if "source" in schema_of(path).names else {}
        yield from parquet_rows([path], {**own, **columns}, skips)


def table_files(folder: Path) -> list[Path]:
    """The table of a folder, else those of the folders in it (train/metadata.jsonl, ...)."""
    own = next((folder / name for name in TABLES_OF_FOLDERS if _is_file(folder / name)), None)
    if own is not None or not folder.is_dir():
        return [own] if own is not None else []
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [table for path in below for name in TABLES_OF_FOLDERS[:2] if _is_file(table := path / name)]


def _is_file(path: Path) -> bool:
    """Whether a file is there; one in a folder that must not be looked into, as a disk's lost+found, is not."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def table_folder_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of every table of a folder."""
    for table in table_files(folder):
        yield from table_rows(table, columns, skips)


def tar_files(path: Path) -> list[Path]:
    """A tar, or those of a folder, by name."""
    # Hidden ones of a folder are what file managers leave behind, as `._00000.tar`.
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if not file.name.startswith("."))
    return [file for file in files if file.name.lower().endswith(TAR_SUFFIXES)]


def tar_folder_rows(path: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The samples of every tar."""
    return tar_rows(tar_files(path), columns, skips)


def parquet_files(path: Path) -> list[Path]:
    """A parquet file, or those of a folder, else those of the folders in it (data/, train/, ...)."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".parquet" else []
    return sorted(path.glob("[!.]*.parquet")) or sorted(path.glob("[!.]*/[!.]*.parquet"))


def parquet_folder_rows(path: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of every parquet file."""
    return parquet_rows(parquet_files(path), columns, skips)


def picture_folder_rows(folder: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The pictures of a folder.

    Raises:
        DataError: there are none.
    """
    rows, before = picture_rows(folder, columns, skips), skips.total
    first = next(rows, None)
    if first is None and skips.total == before:
        if any((folder / name).is_file() for name in _SAVED):
            raise DataError(f"{folder}: what `datasets` saves to disk; write it with to_parquet, and give that file")
        raise DataError(f"{folder}: no images, and none of {', '.join(('manifest.json', *TABLES_OF_FOLDERS))}")
    if first is not None:
        yield first
        yield from rows

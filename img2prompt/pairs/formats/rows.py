"""The formats in which people keep prompt-image pairs, one row each.

What a source is, is seen by looking at it: the first row that recognises it reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from img2prompt.errors import DataError
from img2prompt.pairs.formats import coco, diffusiondb, img2dataset
from img2prompt.pairs.formats.columns import Row
from img2prompt.pairs.formats.folders import (
    is_shards,
    parquet_files,
    parquet_folder_rows,
    picture_folder_rows,
    shard_rows,
    table_files,
    table_folder_rows,
    tar_files,
    tar_folder_rows,
)
from img2prompt.pairs.formats.tables import READERS, TABLES_OF_FOLDERS, table_rows
from img2prompt.pairs.formats.url_tables import refusal, url_table
from img2prompt.pairs.skips import Skips

_PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz"})


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which people keep pairs.

    Attributes:
        about: how it looks, for people.
        is_it: whether a source is that; the paths it gets exist.
        rows: its reader: rows with `image` (path, URL, {"bytes", "path"} or None) and `prompt`, and what else they
            say; it counts what it leaves out.
    """

    about: str
    is_it: Callable[[Path], bool]
    rows: Callable[[Path, Mapping[str, str], Skips], Iterator[Row]]


def _refuse_urls(path: Path, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    table = url_table(path)
    assert table is not None
    raise DataError(refusal(table, path))


FORMATS: dict[str, Format] = {
    "shards": Format(
        "our own shards: a folder with manifest.json",
        is_shards,
        shard_rows,
    ),
    "img2dataset": Format(
        "a folder of img2dataset: 00000_stats.json beside tars, parquet files or folders of pictures",
        img2dataset.is_img2dataset,
        img2dataset.img2dataset_rows,
    ),
    "diffusiondb": Format(
        "DiffusionDB's parts: part-000001/ (or .zip) with part-000001.json inside, or a folder of them",
        diffusiondb.is_diffusiondb,
        diffusiondb.part_rows,
    ),
    "diffusiondb-table": Format(
        "DiffusionDB's metadata.parquet, beside the parts that are there",
        diffusiondb.is_metadata,
        diffusiondb.metadata_rows,
    ),
    "urls": Format(
        "tables of URLs: SBU (JSON, or two .txt), CC3M and CC12M (.tsv without header), LAION (parquet)",
        lambda path: url_table(path) is not None,
        _refuse_urls,
    ),
    "coco": Format("COCO's captions_*.json, or the folder around it", coco.is_coco, coco.coco_rows),
    "table": Format(
        f"a table ({', '.join(READERS)}) with a column of pictures (paths from its folder, or URLs) and one of prompts",
        lambda path: path.is_file() and path.suffix.lower() in READERS,
        table_rows,
    ),
    "table folder": Format(
        f"a folder (or folders in it) with one of {', '.join(TABLES_OF_FOLDERS)}",
        lambda path: bool(table_files(path)),
        table_folder_rows,
    ),
    "webdataset": Format(
        "WebDataset tars: one, or a folder of them", lambda path: bool(tar_files(path)), tar_folder_rows
    ),
    "parquet": Format(
        "parquet with pictures or their paths: one file, or a folder (or folder of folders) of them",
        lambda path: bool(parquet_files(path)),
        parquet_folder_rows,
    ),
    "pictures": Format(
        "a folder of pictures, each with a .txt (.caption, .json) beside it or its generator's prompt inside",
        lambda path: path.is_dir(),
        picture_folder_rows,
    ),
}


def find_format(path: Path) -> Format:
    """The row of FORMATS that reads a file or folder.

    Raises:
        DataError: none does; the message says what can be read.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    found = next((row for row in FORMATS.values() if row.is_it(path)), None)
    if found is not None:
        return found
    if path.suffix.lower() in _PICKLES:
        raise DataError(f"{path}: pickles can run code and are never opened; save the table as CSV or parquet")
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path}: a zip; unpack it and give its folder")
    readable = ", ".join((*READERS, ".parquet", ".tar"))
    raise DataError(f"{path}: not a table of pairs; give a folder or one of {readable}")

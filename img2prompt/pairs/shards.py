"""Data sets on disk: a folder of parquet shards, each written atomically, and a manifest that is written last.

A run that was killed at any moment is continued by running it again: finished shards stay, the others are made
anew, and the folder ends up byte for byte as an undisturbed run would have left it.

    config.json           written first: what the folder is to hold; a run of another configuration is refused
    shard-00000.parquet   id, image {bytes, path}, and text columns
    manifest.json         written last: configuration, versions, rows, and every shard's rows, size and SHA-256
    .lock                 held by the running writer; the system lets go of it when that process ends, however it ends
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from img2prompt._version import __version__
from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import sole_writer, write_atomically
from img2prompt.pairs.manifest import FORMAT, check_shard, claim, read_manifest, write_manifest
from img2prompt.pairs.pool import in_processes
from img2prompt.progress import track

if TYPE_CHECKING:
    import datasets

__all__ = ["MakeRows", "ShardPlan", "read_manifest", "read_shards", "write_shard", "write_shards"]

logger = logging.getLogger(__name__)

IN_MEMORY_BYTES = 1 << 30  # larger data sets are memory-mapped from the cache of `datasets`

MakeRows = Callable[[range], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a folder of shards is to hold.

    Attributes:
        rows: rows of the whole data set.
        columns: names of the columns; `image` takes encoded bytes, every other column text.
        config: plain data that settles the rows; a folder begun with another configuration is refused.
        rows_per_shard: rows of each shard but the last.
    """

    rows: int
    columns: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    rows_per_shard: int = 500

    def shards(self) -> dict[str, range]:
        """File name of every shard and the rows it holds."""
        starts = range(0, self.rows, self.rows_per_shard)
        return {
            f"shard-{i:05d}.parquet": range(start, min(start + self.rows_per_shard, self.rows))
            for i, start in enumerate(starts)
        }

    def to_dict(self) -> dict[str, Any]:
        """The plan and the versions that its bytes depend on, as plain data."""
        from PIL import __version__ as pillow_version

        return {
            "format": FORMAT,
            "rows": self.rows,
            "rows_per_shard": self.rows_per_shard,
            "columns": list(self.columns),
            "config": dict(self.config),
            "versions": {"img2prompt": __version__, "pillow": pillow_version, "pyarrow": pa.__version__},
        }


def write_shards(folder: str | os.PathLike[str], plan: ShardPlan, make_rows: MakeRows, *, workers: int = 1) -> int:
    """Writes the data set, or what is missing of it; returns the number of shards that were made now.

    Args:
        folder: made when it does not exist.
        plan: what the folder is to hold.
        make_rows: gives the rows of a range, each with every column of the plan; the same range must always give
            the same rows. With several workers it is sent to fresh processes, so it must be picklable.
        workers: processes; 1 works in this one.

    Raises:
        OutputError: the folder is in use, holds something else or another configuration, or cannot be written.
    """
    root = Path(folder)
    try:
        with sole_writer(root):
            claim(root, plan.to_dict())
            missing = _missing(root, plan)
            for name in track(_made(root, plan, make_rows, missing, workers), total=len(missing), unit="shard"):
                logger.debug("%s stands", name)
            write_manifest(root, plan.to_dict(), {name: len(rows) for name, rows in plan.shards().items()})
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; finished shards stay, run it again to go on") from error
    except BrokenProcessPool as error:
        raise OutputError(
            f"{root}: a worker process was killed (out of memory?); finished shards stay, run it again to go on"
        ) from error
    return len(missing)


def read_shards(folder: str | os.PathLike[str], *, decode: bool = False, verify: bool = True) -> datasets.Dataset:
    """Opens a finished data set.

    Args:
        folder: what `write_shards` wrote.
        decode: False gives images as {"bytes", "path"} for `open_image`; True as PIL images.
        verify: compare every shard with its SHA-256 (about a second a gigabyte); sizes are always compared.

    Raises:
        DataError: no manifest, a shard is missing, cut or damaged.
    """
    import datasets

    root = Path(folder)
    manifest = read_manifest(root)
    paths = [root / shard["file"] for shard in manifest["shards"]]
    for path, shard in zip(paths, manifest["shards"], strict=True):
        check_shard(path, shard, verify)
    features = datasets.Features(
        {
            name: datasets.Image(decode=decode) if name == "image" else datasets.Value("string")
            for name in manifest["columns"]
        }
    )
    if not paths:
        return datasets.Dataset.from_dict({name: [] for name in manifest["columns"]}, features=features)
    try:
        if sum(shard["bytes"] for shard in manifest["shards"]) <= IN_MEMORY_BYTES:
            table = pa.concat_tables([pq.read_table(path) for path in paths])
            return datasets.Dataset(table.replace_schema_metadata(features.arrow_schema.metadata))
        return datasets.Dataset.from_parquet([str(path) for path in paths], features=features)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{root}: {' '.join(str(error).split())}; make the data set again") from error


def _missing(root: Path, plan: ShardPlan) -> dict[str, range]:
    """The shards that are still to be made: absent, damaged, or of another length than planned."""
    try:
        listed = {shard["file"]: shard for shard in read_manifest(root)["shards"]}
    except DataError:
        return {name: rows for name, rows in plan.shards().items() if not _stands(root / name, len(rows))}
    missing = {}
    for name, rows in plan.shards().items():
        try:
            check_shard(root / name, listed[name], verify=True)
        except (DataError, KeyError):
            missing[name] = rows
    return missing


def _stands(path: Path, rows: int) -> bool:
    """True for a shard that was renamed into place, so its bytes are whole; a cut one has no footer."""
    try:
        return bool(pq.read_metadata(path).num_rows == rows)
    except (OSError, pa.ArrowException):
        return False


def _made(
    root: Path, plan: ShardPlan, make_rows: MakeRows, missing: Mapping[str, range], workers: int
) -> Iterator[str]:
    """Makes shards, yielding each name when its shard stands."""
    if missing:
        (root / "manifest.json").unlink(missing_ok=True)  # it promises shards that do not stand
    make = partial(_make_shard, root, plan.columns, make_rows)
    yield from in_processes(make, list(missing.items()), workers)


def _make_shard(root: Path, columns: tuple[str, ...], make_rows: MakeRows, shard: tuple[str, range]) -> str:
    name, rows = shard
    made = list(make_rows(rows))
    if len(made) != len(rows):
        raise ValueError(f"{name}: {len(made)} rows made, {len(rows)} planned")
    write_shard(root / name, made, columns)
    return name


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    """Writes one shard atomically; `image` takes encoded bytes, every other column text.

    Raises:
        OSError: as the system says; no half file is left.
    """
    # Through memory: the file then appears by plain writes, whose errors are the system's own.
    sink = pa.BufferOutputStream()
    texts = [name for name in columns if name != "image"]
    pq.write_table(
        table_of(rows, columns),
        sink,
        row_group_size=100,
        compression=dict.fromkeys(texts, "zstd"),
        use_dictionary=False,
        write_statistics=[name for name in ("id",) if name in columns],
    )
    write_atomically(path, sink.getvalue().to_pybytes())


def table_of(rows: Sequence[Mapping[str, Any]], columns: tuple[str, ...]) -> pa.Table:
    """Rows as they stand in a shard, with the note by which `datasets` knows the image column."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, image if name == "image" else pa.string()) for name in columns])
    arrays = [
        pa.array(
            [{"bytes": row[name], "path": None} if name == "image" else row[name] for row in rows],
            schema.field(name).type,
        )
        for name in columns
    ]
    # With this note `datasets.load_dataset` knows the image column without us.
    features = {
        name: {"_type": "Image"} if name == "image" else {"dtype": "string", "_type": "Value"} for name in columns
    }
    note = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(note))

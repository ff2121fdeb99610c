"""Embeddings of a data set's prompts, a part a shard: made here or on Ray, and the same either way.

config.json              the sentence model and the shards' checksums; parts of other ones are thrown away
shard-00000.npy          (rows,D) float32 unit rows of that shard's prompts, in its order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.pairs.scale import Cluster, run_many
from img2prompt.jobs.parts import claim_parts
from img2prompt.pairs.atomic import fresh_file
from img2prompt.pairs.cosines import unit_rows
from img2prompt.progress import track

if TYPE_CHECKING:
    from img2prompt.models.sentence import SentenceEncoder


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """A shard whose prompts are embedded.

    Attributes:
        shard: parquet file.
        column: of the prompts.
        out: the part.
    """

    shard: Path
    column: str
    out: Path


@dataclass(frozen=True, slots=True)
class EmbedReport:
    """A part that stands."""

    out: Path
    rows: int
    made: bool  # False: it stood already


class EmbedWorker:
    """Embeds shard after shard with one sentence model.

    Args:
        model: of `SentenceEncoder`.
        device: likewise.

    Raises:
        MissingExtra, ModelError: the model is not on this machine, or damaged.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        from img2prompt.models.sentence import SentenceEncoder

        # No cache of single prompts: the parts are one, and many machines must not write one SQLite file.
        self._encoder: SentenceEncoder = SentenceEncoder(model, device)

    def __call__(self, task: EmbedTask) -> EmbedReport:
        """Makes the part, unless it stands.

        Raises:
            DataError: the shard cannot be read.
            OutputError: the part cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.read_metadata(task.shard).num_rows
            if _part(task.out, rows) is not None:
                return EmbedReport(task.out, rows, made=False)
            prompts = pq.read_table(task.shard, columns=[task.column])[task.column].to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{task.shard}: {' '.join(str(error).split())}; make the data set again") from error
        emb = unit_rows(self._encoder.encode_many(prompts))  # (N,D)
        try:
            with fresh_file(task.out) as fresh, fresh.open("wb") as file:
                np.save(file, emb)
        except OSError as error:
            raise OutputError(f"{task.out}: {error.strerror or error}; make room and run the same again") from error
        return EmbedReport(task.out, rows, made=True)


def embed_shards(
    folder: Path, out: Path, *, model: str, device: str = "cpu", column: str = "prompt", cluster: Cluster | None = None
) -> list[Path]:
    """The parts of all shards of a data set, in the order of the shards; those that stand are not made again.

    Args:
        folder: of `img2prompt pairs format`.
        out: of the parts; made when it does not exist.
        model: of `SentenceEncoder`.
        device: likewise.
        column: of the prompts.
        cluster: where it runs; None: in this process.

    Raises:
        DataError: the data set is unfinished or damaged.
        OutputError: the parts cannot be written.
        MissingExtra, ModelError, ClusterError: see those.
    """
    from img2prompt.pairs.manifest import read_manifest

    shards = read_manifest(folder)["shards"]
    claim_parts(out, {"model": model, "column": column, "shards": [shard["sha256"] for shard in shards]})
    tasks = [EmbedTask(folder / s["file"], column, out / Path(s["file"]).with_suffix(".npy").name) for s in shards]
    missing = [task for task, shard in zip(tasks, shards, strict=True) if _part(task.out, shard["rows"]) is None]
    reports = _reports(missing, (model, device), cluster, out)
    for report in track(reports, total=len(missing), unit="shard", label="embedding"):
        if not report.out.exists():
            raise OutputError(f"{report.out}: was made and is gone; leave the folder alone and run the same again")
    return [task.out for task in tasks]


def read_parts(paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    """Parts as arrays (N,D) that stay on the disk until rows are asked for.

    Raises:
        DataError: a part is missing or damaged.
    """
    parts = [_part(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if part is None:
            raise DataError(f"{path}: is no part of embeddings; delete it and run the same command again")
    return [part for part in parts if part is not None]


def _reports(
    tasks: Sequence[EmbedTask], model: tuple[str, str], cluster: Cluster | None, folder: Path
) -> Iterator[EmbedReport]:
    if cluster is not None:
        yield from run_many(EmbedWorker, tasks, cluster=cluster, folder=folder, arguments=model)
    elif tasks:
        yield from map(EmbedWorker(*model), tasks)


def _part(path: Path, rows: int | None = None) -> NDArray[np.float32] | None:
    """The part, if it stands and has so many rows."""
    try:
        part = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = part.ndim == 2 and part.dtype == np.float32 and rows in (None, len(part))
    return part if fits else None

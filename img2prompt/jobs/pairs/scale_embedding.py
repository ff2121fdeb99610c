"""Embeddings of a data set's prompts, a part a shard: made here or on Ray, and the same either way.

config.json              the sentence model and the shards' checksums; parts of other ones are thrown away
shard-00000.npy          (rows,D) float32 unit rows of that shard's prompts, in its order
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.pairs.scale import Run, in_turn
from img2prompt.jobs.parts import claim_parts, split_rows
from img2prompt.pairs.atomic import fresh_file
from img2prompt.pairs.near.cosines import unit_rows
from img2prompt.progress import track

if TYPE_CHECKING:
    from img2prompt.models.sentence import SentenceEncoder

ROWS_PER_PART = 8192  # as many as `SentenceEncoder` sorts at once: parts are embedded as all prompts together would be


@dataclass(frozen=True, slots=True)
class EmbedTask:
    """A shard whose prompts are embedded.

    Attributes:
        shard: parquet file with a column `prompt`.
        out: the part.
    """

    shard: Path
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
        from img2prompt.models.devices import usable
        from img2prompt.models.sentence import SentenceEncoder

        # No cache of single prompts: the parts are one, and many machines must not write one SQLite file.
        self._encoder: SentenceEncoder = SentenceEncoder(model, usable(device))

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
            prompts = pq.read_table(task.shard)["prompt"].to_pylist()
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{task.shard}: {' '.join(str(error).split())}; run the same command again") from error
        emb = unit_rows(self._encoder.encode_many(prompts))  # (N,D)
        try:
            with fresh_file(task.out) as fresh, fresh.open("wb") as file:
                np.save(file, emb)
        except OSError as error:
            raise OutputError(f"{task.out}: {error.strerror or error}; make room and run the same again") from error
        return EmbedReport(task.out, rows, made=True)


def embed_prompts(
    prompts: Sequence[str], folder: Path, *, model: str, device: str = "cpu", run: Run = in_turn
) -> list[Path]:
    """The parts of all prompts, in their order; those that stand are not made again.

    Args:
        prompts: texts.
        folder: of the work, where its parent exists; parts of other prompts or of another model are thrown away.
        model: of `SentenceEncoder`.
        device: where a worker computes, e.g. "auto".
        run: hands out tasks.

    Raises:
        OutputError: the folder cannot be written.
        MissingExtra, ModelError, ClusterError: see those.
    """
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(f"{len(prompt)}:{prompt}".encode("utf-8", "surrogatepass"))
    claim_parts(folder, {"model": model, "prompts": digest.hexdigest(), "rows_per_part": ROWS_PER_PART})
    spans = split_rows(len(prompts), ROWS_PER_PART)
    tasks = [
        EmbedTask(folder / f"prompts-{number:05d}.parquet", folder / f"part-{number:05d}.npy")
        for number in range(len(spans))
    ]
    missing = []
    for task, span in zip(tasks, spans, strict=True):
        if _part(task.out, len(span)) is None:
            _write_prompts(task.shard, prompts[span.start : span.stop])
            missing.append(task)
    reports = run(EmbedWorker, missing, arguments=(model, device))
    for _ in track(reports, total=len(missing), unit="shard", label="embedding"):
        pass
    for task in tasks:
        task.shard.unlink(missing_ok=True)
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


def _write_prompts(path: Path, prompts: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    clean = [prompt.encode("utf-8", "replace").decode() for prompt in prompts]  # a lone surrogate is no text
    try:
        with fresh_file(path) as fresh:
            pq.write_table(pa.table({"prompt": clean}), fresh)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; make room and run the same again") from error


def _part(path: Path, rows: int | None = None) -> NDArray[np.float32] | None:
    """The part, if it stands and has so many rows."""
    try:
        part = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = part.ndim == 2 and part.dtype == np.float32 and rows in (None, len(part))
    return part if fits else None

"""Large pictures, decoded by worker processes while training goes; a corrupt one is skipped and counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from torch.utils.data import DataLoader, Dataset

from img2prompt.errors import Img2PromptError
from img2prompt.training.pixels import picture
from img2prompt.training.plan import Planned

logger = logging.getLogger(__name__)


class Pictures(Dataset[np.ndarray | None]):
    """Row number -> (H,W,3) uint8, or None for a picture that cannot be read."""

    def __init__(self, shards: list[dict[str, Any]], image_px: int, shrink: bool = False) -> None:
        self.shards, self.image_px, self.shrink = shards, image_px, shrink
        self.starts = np.cumsum([0, *(shard["rows"] for shard in shards)])
        self._files: dict[int, Any] = {}  # opened in the worker that reads from them

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, row: int) -> np.ndarray | None:
        try:
            return picture(self.source(row), self.image_px, self.shrink)
        except Img2PromptError as error:
            logger.warning("row %d: %s; skipped", row, error)
            return None

    def source(self, row: int) -> str | bytes:
        """The path, URL or bytes of a row's picture."""
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        if "images" in self.shards[shard]:
            return str(self.shards[shard]["images"][row - int(self.starts[shard])])
        if shard not in self._files:
            self._files[shard] = pq.ParquetFile(self.shards[shard]["path"], memory_map=True)
        file, place = self._files[shard], row - int(self.starts[shard])
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if place < rows:
                return bytes(file.read_row_group(group, ["image"])["image"][place].as_py()["bytes"])
            place -= rows
        raise IndexError(row)


class DecodingLoader:
    """Batches in the order of a plan, decoded ahead by worker processes.

    Attributes:
        skipped: pictures that could not be read so far.
        unreadable: their rows.
    """

    def __init__(
        self,
        pairs: Any,
        cut: Callable[..., Any],
        planned: Callable[[], Iterator[Planned]],
        workers: int,
        length: int | None = None,
    ) -> None:
        self.pictures = Pictures(pairs.shards, pairs.image_px, getattr(pairs, "shrink", False))
        self.cut, self.planned, self.workers, self.length = cut, planned, workers, length
        self.skipped = 0
        self.unreadable: set[int] = set()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("training batches have no end")
        return self.length

    def __iter__(self) -> Iterator[Any]:
        # Two walks over the same plan: the workers' one runs ahead of the other.
        loader = DataLoader(
            self.pictures,
            batch_sampler=(planned.rows.tolist() for planned in self.planned()),  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=list,
            prefetch_factor=4 if self.workers else None,
        )
        for planned, pictures in zip(self.planned(), loader, strict=False):
            kept = [i for i, picture in enumerate(pictures) if picture is not None]
            self.skipped += len(pictures) - len(kept)
            self.unreadable.update(int(row) for i, row in enumerate(planned.rows) if pictures[i] is None)
            if kept:
                rows = Planned(planned.number, planned.manner, planned.rows[kept])
                yield self.cut(rows, np.stack([pictures[i] for i in kept]))

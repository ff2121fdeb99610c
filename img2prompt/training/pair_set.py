"""Rows of a data set with their texts and pictures, and the batches that are cut from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from img2prompt.errors import DataError
from img2prompt.pairs.shards import read_manifest
from img2prompt.training.grounding_targets import Targets
from img2prompt.training.pixels import Pixels
from img2prompt.training.plan import Planned
from img2prompt.training.texts import Texts


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step learns from."""

    number: int  # of the run's batches
    manner: str
    rows: tuple[int, ...]  # row numbers in the data set
    images: Tensor  # (B,3,H,W) uint8
    tokens: Tensor  # (B,T) int64: start, prefix, text, end, padding
    prefix_length: int  # tokens before the text itself
    targets: Targets | None = None  # of tensors

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """The batch on a device."""
        moved = None if self.targets is None else self.targets.each(lambda part: part.to(device, **options))
        images, tokens = self.images.to(device, **options), self.tokens.to(device, **options)
        return Batch(self.number, self.manner, self.rows, images, tokens, self.prefix_length, moved)


def _indices(part: np.ndarray) -> Tensor:
    return torch.from_numpy(part).long()


@dataclass
class PairSet:
    """Rows start..end of a folder of shards: captions in memory, pictures where they are."""

    shards: list[dict[str, Any]]
    columns: dict[str, list[str | None]]
    start: int = 0
    end: int = 0
    texts: dict[str, Texts] = field(default_factory=dict)
    pixels: Pixels | None = None
    image_px: int = 0

    def __len__(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> PairSet:
        """Fewer of the rows; row numbers stay those of the folder."""
        return PairSet(self.shards, self.columns, start, end)

    def usable(self) -> np.ndarray:
        """Row numbers with a picture and a text in every manner."""
        good = np.zeros(self.end, bool)
        good[self.start :] = True
        for texts in self.texts.values():
            good &= texts.lengths[: self.end] > 0
        if self.pixels is not None:
            good &= self.pixels.good[: self.end]
        return np.flatnonzero(good)

    def cut(self, pad_id: int, planned: Planned, images: np.ndarray | None = None) -> Batch:
        """One batch; its pictures (B,H,W,3) from the cache unless they are given."""
        texts, targets = self.texts[planned.manner], None
        if images is None and self.pixels is not None:
            images = self.pixels.images[planned.rows]
        if self.pixels is not None and self.pixels.targets is not None:
            targets = self.pixels.targets.rows(planned.rows).each(_indices)
        return Batch(
            planned.number,
            planned.manner,
            tuple(map(int, planned.rows)),
            torch.from_numpy(images).permute(0, 3, 1, 2),  # (B,3,H,W), channels last in memory
            torch.from_numpy(texts.rows(planned.rows, pad_id)),
            texts.prefix_length,
            targets,
        )

    @staticmethod
    def read(folder: Path, *, ids: bool = False) -> PairSet:
        """Opens a data set.

        Args:
            folder: of shards.
            ids: read the rows' ids too.

        Raises:
            DataError: it is unfinished, damaged or empty.
        """
        manifest = read_manifest(folder)
        names = [name for name in manifest["columns"] if name != "image" and (ids or name != "id")]
        shards, columns = [], {name: list[str | None]() for name in names}
        for shard in manifest["shards"]:
            path = Path(folder) / shard["file"]
            try:
                table = pq.read_table(path, columns=names)
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: {' '.join(str(error).split())}; make the data set again") from error
            for name in names:
                columns[name].extend(table[name].to_pylist())
            known = {"path": str(path), "rows": shard["rows"], "sha256": shard["sha256"]}
            shards.append({**known, "scenes": "scene" in names})
        if not shards:
            raise DataError(f"{folder}: no rows; make the data set with more than 0")
        return PairSet(shards, columns, 0, len(columns[names[0]]))

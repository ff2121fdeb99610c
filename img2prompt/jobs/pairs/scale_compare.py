"""The comparing of `img2prompt pairs dedup` on Ray: embeddings, rows near others, near-duplicates among the rest."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2prompt.jobs.pairs.scale import Cluster, Run, on_ray
from img2prompt.jobs.pairs.scale_dedup import against_in_parts, find_duplicates_in_parts
from img2prompt.jobs.pairs.scale_embedding import embed_prompts
from img2prompt.pairs.dedup import Duplicates


@dataclass(frozen=True, slots=True)
class RayComparison:
    """Compares prompts in tasks that the machines of a cluster do.

    Attributes:
        cluster: where.
        folder: for the files of the work, shared by its machines; exists.
        model: of `SentenceEncoder`.
        device: where a worker embeds; "auto" is its processor, "cuda" takes a GPU for each worker.
        threshold: smallest cosine of near-duplicates.
        seed: of the division into cells.
    """

    cluster: Cluster
    folder: Path
    model: str
    device: str
    threshold: float
    seed: int = 0

    def compare(
        self, prompts: Sequence[str], others: Sequence[str], rank: NDArray[np.int64], *, among: bool
    ) -> tuple[Duplicates, Duplicates]:
        """Which prompts are near others, and which of those that are left are near an earlier one.

        Args:
            prompts: (N,) texts.
            others: texts, perhaps none.
            rank: (N,) of near prompts the one of the lowest rank stays.
            among: False: near-duplicates among the prompts stay.

        Raises:
            ClusterError, MissingExtra, ModelError, OutputError: see those; finished tasks stay.
        """
        with on_ray(self.cluster, self.folder) as run:
            parts = self._embedded("rows", prompts, run)
            near = nothing_compared(len(prompts))
            if others:
                other_parts = self._embedded("others", others, run)
                folder = self.folder / "against"
                near = against_in_parts(parts, other_parts, self.threshold, folder=folder, run=run)
            left = np.flatnonzero(near.keep)  # (L,)
            if not among:
                return near, nothing_compared(len(left))
            found = find_duplicates_in_parts(
                parts, self.threshold, rank[left], folder=self.folder / "cells", among=left, run=run, seed=self.seed
            )
            return near, found

    def _embedded(self, name: str, prompts: Sequence[str], run: Run) -> list[Path]:
        if self.device.startswith("cuda"):
            run = functools.partial(run, cluster=replace(self.cluster, gpus_per_task=1))
        return embed_prompts(prompts, self.folder / name, model=self.model, device=self.device, run=run)


def nothing_compared(count: int) -> Duplicates:
    """So many rows that all stay."""
    return Duplicates(np.ones(count, bool), np.arange(count), np.ones(count, np.float32), "nothing compared")

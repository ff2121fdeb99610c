"""What `img2prompt pairs dedup` is to do: the plan, and the prompts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from img2prompt.errors import DataError
from img2prompt.pairs.prompts import PromptRow, read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.progress import track


@dataclass(frozen=True)
class Plan:
    """What settles the result, beside the rows.

    Attributes:
        threshold: smallest cosine of near-duplicates.
        keep: "first", "longest", "shortest" or "best:COLUMN".
        among: near-duplicates among the rows go, not only those near other rows.
        curve: count survivors at many thresholds.
        method, budget_s, seed: of `DedupSettings`.
        sentence_model: name or folder.
    """

    threshold: float
    keep: str
    among: bool
    curve: bool
    method: Literal["auto", "exact", "approximate"]
    budget_s: float
    seed: int
    sentence_model: str

    @property
    def column(self) -> str | None:
        """The column of --keep best:COLUMN."""
        return self.keep.partition(":")[2] or None


@dataclass(frozen=True)
class Material:
    """What is looked at: all rows in their order, others that they must not be near, and what was left out."""

    sources: list[str]
    rows: list[PromptRow]
    others: list[PromptRow]
    skips: Skips

    def fingerprint(self) -> str:
        """SHA-256 of all that the result depends on beside the plan."""
        digest = hashlib.sha256()
        for row in itertools.chain(self.rows, [None], self.others):
            digest.update(repr(row).encode(errors="replace"))
        return digest.hexdigest()


def read_material(
    sources: Sequence[str], others: Sequence[str], columns: Mapping[str, str], column: str | None
) -> Material:
    """Reads the prompts of all sources.

    Raises:
        DataError: one of them cannot be read, or has no prompts.
    """
    skips, extra = Skips(), () if column is None else (column,)
    found = (row for source in sources for row in read_prompts(source, columns, extra=extra, skips=skips))
    rows = list(track(found, unit="prompt", label="read"))
    if not rows:
        raise DataError(f"{', '.join(sources)}: no row has a prompt")
    return Material(list(sources), rows, [row for other in others for row in read_prompts(other, skips=skips)], skips)

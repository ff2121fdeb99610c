"""Groups of near-duplicates as people read them: a survivor, and the rows that went because of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rows:
    """What is told of rows; every sequence has one entry a row, and is only read at the rows of groups."""

    prompts: Sequence[str]
    ids: Sequence[str] | None = None
    sources: Sequence[str] | None = None

    def member(self, row: int, cosine: float) -> Member:
        """The row as part of a group."""
        return Member(
            row=row,
            prompt=str(self.prompts[row]),
            cosine=cosine,
            id=None if self.ids is None else self.ids[row],
            source=None if self.sources is None else self.sources[row],
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A row of a group.

    Attributes:
        row: its number in the data set (of a survivor by `--against`: in that other one).
        prompt: its text.
        cosine: to the group's survivor; 1.0 for the survivor itself.
        id: of the row, where it has one.
        source: where it came from, where that is known.
    """

    row: int
    prompt: str
    cosine: float
    id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A survivor and the rows that went because of it, the nearest first."""

    survivor: Member
    removed: tuple[Member, ...]

    @property
    def lowest(self) -> float:
        """The cosine of the row that went on the weakest ground."""
        return min(member.cosine for member in self.removed)

    def to_dict(self) -> dict[str, Any]:
        """The group as plain data for JSON."""
        return {
            "size": 1 + len(self.removed),
            "survivor": _plain(self.survivor),
            "removed": [_plain(member) for member in self.removed],
        }


class Found(Protocol):
    """What is read of `img2prompt.pairs.dedup.Duplicates`."""

    @property
    def keep(self) -> NDArray[np.bool_]: ...  # (N,)
    @property
    def survivor(self) -> NDArray[np.int64]: ...  # (N,)
    @property
    def cosine(self) -> NDArray[np.float32]: ...  # (N,)


def groups_of(found: Found, rows: Rows, other: Rows | None = None) -> Iterator[Group]:
    """The groups one by one, the largest first, so that a million of them need no memory.

    Args:
        found: which of N rows stay, and for each of the others its survivor and the cosine to it.
        rows: the N rows.
        other: where the survivors are rows of another data set (`against`), that one.
    """
    removed = np.flatnonzero(~found.keep)  # (R,)
    survivor, cosine = found.survivor[removed], found.cosine[removed]
    order = np.lexsort((removed, -cosine, survivor))
    removed, survivor, cosine = removed[order], survivor[order], cosine[order]
    names, starts, sizes = np.unique(survivor, return_index=True, return_counts=True)
    for group in np.lexsort((names, -sizes)).tolist():
        members = range(int(starts[group]), int(starts[group] + sizes[group]))
        yield Group(
            (rows if other is None else other).member(int(names[group]), 1.0),
            tuple(rows.member(int(removed[i]), float(cosine[i])) for i in members),
        )


def _plain(member: Member) -> dict[str, Any]:
    return {name: value for name, value in asdict(member).items() if value is not None}

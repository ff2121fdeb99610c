"""What a removal of near-duplicates did, to be read: every group as JSON lines, the summary as JSON, a curve, a page.

report.json     facts, curve, how large the groups are, how near their members
groups.jsonl    every group, the largest first: who survived, and each row that went with its cosine
curve.png       survivors over thresholds
report.html     all of this to look at; of the groups the largest and the most doubtful
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import OutputError
from img2prompt.pairs.atomic import fresh_file, write_atomically

SHOWN = 500  # groups on the page of either kind: the largest, and those with the lowest cosines

Curve = Sequence[tuple[float, int]]  # threshold, survivors; in any order


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


def write_report(folder: Path, groups: Iterable[Group], curve: Curve, facts: Mapping[str, Any]) -> Path:
    """Writes the four files; returns the page's path.

    Args:
        folder: made when it does not exist; may hold other files.
        groups: read once and not held, such as `groups_of(found, Rows(prompts, ids, sources))`.
        curve: pairs of threshold and number of survivors; empty when it was not computed.
        facts: plain data. Known to the page: `rows` and `survivors` (numbers, needed), `threshold` (needed), `keep`
            (the rule, such as "longest"), `method`, `recall` (0..1, None when exact) and `recall_sample` (rows it was
            measured on), `sentence_model`, `seconds`, `sources` (list), `against` (list or None), `settings` and
            `versions` (mappings). What else is there is shown by its name.

    Raises:
        OutputError: a file cannot be written.
    """
    summary = _Summary()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with fresh_file(folder / "groups.jsonl") as fresh, fresh.open("wb") as file:
            for group in groups:
                summary.add(group)
                file.write(_json(group.to_dict()) + b"\n")
        report = {"facts": dict(facts), "curve": [list(point) for point in sorted(curve)], **summary.to_dict()}
        write_atomically(folder / "report.json", _json(report, indent=1) + b"\n")
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}; make room or choose another folder") from error
    return folder / "report.html"


class _Summary:
    """Counts groups as they come and holds those that the page shows."""

    def __init__(self) -> None:
        self.sizes: Counter[int] = Counter()  # rows of a group, the survivor among them -> groups
        self.cosines: Counter[float] = Counter()  # lower edge of a bin of 0.01 -> rows that went
        self._largest: list[tuple[int, int, Group]] = []  # heaps; the number of the group decides between equals
        self._doubtful: list[tuple[float, int, Group]] = []

    def add(self, group: Group) -> None:
        number = self.sizes.total()
        self.sizes[1 + len(group.removed)] += 1
        self.cosines.update(min(int(member.cosine * 100 + 1e-6), 100) / 100 for member in group.removed)
        _push(self._largest, (len(group.removed), -number, group))
        _push(self._doubtful, (-group.lowest, -number, group))

    def shown(self) -> list[Group]:
        """Groups for the page in the order they came; none twice."""
        chosen = {-number: group for _, number, group in (*self._largest, *self._doubtful)}
        return [chosen[number] for number in sorted(chosen)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "groups": self.sizes.total(),
            "removed": self.cosines.total(),
            "group_sizes": {str(size): count for size, count in sorted(self.sizes.items())},
            "cosines": {f"{edge:.2f}": count for edge, count in sorted(self.cosines.items())},
        }


def _push(heap: list[Any], item: tuple[Any, ...]) -> None:
    """Keeps the SHOWN largest items."""
    if len(heap) < SHOWN:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)


def _plain(member: Member) -> dict[str, Any]:
    return {name: value for name, value in asdict(member).items() if value is not None}


def _json(data: Mapping[str, Any], indent: int | None = None) -> bytes:
    # A lone surrogate is no UTF-8, but its escape is JSON.
    return json.dumps(data, ensure_ascii=False, indent=indent).encode(errors="backslashreplace")

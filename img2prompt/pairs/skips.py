"""What a long run left out: how many of each kind, and the first of each; its memory does not grow with the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from img2prompt.pairs.fetch import printable
from img2prompt.results import Failed

SHOWN = 3  # examples of a kind that one line names
LISTED = 20  # examples of a kind that are kept
MAX_CHARS = 300  # of an example's source and of its error: a prompt of a megabyte must not become a log line


class Skips:
    """Counts of left-out rows by kind, with first examples. Picklable and small; sums of parts equal the whole.

    Attributes:
        counts: kind -> rows.
        examples: kind -> its first rows, at most `LISTED`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Failed]] = {}

    def add(self, kind: str, source: object, error: object) -> None:
        """Counts one row.

        Args:
            kind: class name of an error, or a reason in CamelCase, e.g. "NoPrompt".
            source: where the row came from.
            error: one line: what was wrong with it.
        """
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < LISTED:
            kept.append(Failed(_line(source), _line(error), kind))

    def merge(self, other: Skips) -> None:
        """Adds what another one counted; its examples come after those here."""
        self.counts.update(other.counts)
        for kind, rows in other.examples.items():
            kept = self.examples.setdefault(kind, [])
            kept.extend(rows[: LISTED - len(kept)])

    @property
    def total(self) -> int:
        """Rows of all kinds."""
        return self.counts.total()

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Skips) and (self.counts, self.examples) == (other.counts, other.examples)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Skips({dict(self.counts.most_common())})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `skipped` (kind -> rows) and `skipped_first` (source, error and kind of the first)."""
        first = [row.to_dict() for rows in self.examples.values() for row in rows]
        return {"skipped": dict(self.counts.most_common()), "skipped_first": first}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Skips:
        """What `to_dict` gave."""
        skips = cls()
        for row in facts["skipped_first"]:
            skips.examples.setdefault(row["kind"], []).append(Failed(row["source"], row["error"], row["kind"]))
        skips.counts.update(facts["skipped"])
        return skips

    def lines(self) -> Iterator[str]:
        """A line a kind, the most frequent first, with its first examples."""
        for kind, count in self.counts.most_common():
            named = [f"{row.source}: {row.error}" for row in self.examples.get(kind, [])[:SHOWN]]
            more = f"; and {count - len(named)} more" if named and count > len(named) else ""
            yield f"{count} {kind}{': ' if named else ''}{'; '.join(named)}{more}"


def _line(value: object) -> str:
    """One line of bounded length that no terminal obeys."""
    text = printable(str(value)[: MAX_CHARS + 1])
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"

"""What stderr says after the last picture of a prediction."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict

from img2prompt.presets import Located
from img2prompt.results import Failed, Prediction

SHOWN = 3  # pictures that one line names; the rest is counted


class Tally:
    """Counts rows as they come; its memory does not grow with them."""

    def __init__(self, located: Located | None, *, by_default: bool) -> None:
        """
        Args:
            located: the model; None: there is none.
            by_default: the user did not choose it.
        """
        self.skipped = 0
        self._located = located
        self._by_default = by_default
        self._origins: Counter[str] = Counter()
        self._outside = 0
        self._strangers: list[str] = []  # the first of them
        self._failures: Counter[str] = Counter()  # kind -> how many
        self._named: defaultdict[str, list[str]] = defaultdict(list)  # kind -> the first of them

    @property
    def failed(self) -> int:
        """Pictures without a prompt."""
        return self._failures.total()

    def count(self, row: Prediction | Failed) -> None:
        """Takes one row into account."""
        if isinstance(row, Failed):
            self._failures[row.kind] += 1
            if len(self._named[row.kind]) < SHOWN:
                self._named[row.kind].append(f"{row.source}: {row.error}")
            return
        self._origins[row.origin] += 1
        if row.in_domain is False:
            self._outside += 1
            if len(self._strangers) < SHOWN:
                self._strangers.append(row.source)

    def remarks(self) -> None:
        """Says when the bundled model was only the fallback, and when pictures lie outside of the model's world."""
        captioned = self._origins["captioner"]
        if self._located is None or not captioned:
            return
        name, preset = self._located.name, self._located.preset
        if self._by_default and preset is not None and not preset.general:
            _say(
                f"note: the bundled model {name} knows {preset.knows};"
                " for pictures of any kind get a general one: img2prompt pull coca-l14"
            )
        if self._outside:
            which, more = ", ".join(self._strangers), self._outside - len(self._strangers)
            others = f" and {more} more" if more else ""
            _say(f"note: outside what preset {name} knows, do not trust the prompt: {which}{others}")

    def close(self) -> None:
        """Prints the final count, failures by kind."""
        _say(
            f"{self._origins['captioner']} predicted, {self._origins['metadata']} read from metadata,"
            f" {self.skipped} skipped, {self.failed} failed"
        )
        for kind, count in self._failures.most_common():
            more = f"; and {count - SHOWN} more" if count > SHOWN else ""
            _say(f"  {count} {kind}: {'; '.join(self._named[kind])}{more}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)

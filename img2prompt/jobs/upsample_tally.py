"""What stderr says after the last prompt was made rich."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict

from img2prompt.results import Failed, Upsampled

SHOWN = 3  # prompts that one line names; the rest is counted
_LONGEST = 100  # characters of a prompt that is named


class UpsampleTally:
    """Counts rows as they come; its memory does not grow with them."""

    def __init__(self) -> None:
        self.skipped = 0
        self.outcomes: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # terms of negative prompts that a prompt asks for
        self._failures: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._named: defaultdict[str, list[str]] = defaultdict(list)

    @property
    def failed(self) -> int:
        """Prompts without a result."""
        return self._failures.total()

    def count(self, row: Upsampled | Failed, name: str) -> None:
        """Takes one row into account."""
        if isinstance(row, Failed):
            self._failures[row.kind] += 1
            self._example(row.kind, f"{name}: {row.error}")
            return
        self.outcomes[row.outcome] += 1
        if row.outcome == "base":
            reason, particulars = _reason(row.why or "no reason given")
            self._reasons[reason] += 1
            self._example(reason, f"{name}: {particulars}" if particulars else name)

    def close(self) -> None:
        """Prints the counts, reasons and failures with their first examples."""
        counts = self.outcomes
        _say(
            f"{counts['upsampled']} upsampled, {counts['trimmed']} trimmed to fit, {counts['base']} kept as they were,"
            f" {self.skipped} skipped, {self.failed} failed"
        )
        for reason, count in self._reasons.most_common():
            _say(f"  {count} kept: {reason} - {self._examples(reason, count)}")
        for kind, count in self._failures.most_common():
            _say(f"  {count} {kind}: {self._examples(kind, count)}")
        if self.left_out:
            terms = ", ".join(term for term, _ in self.left_out.most_common(SHOWN))
            _say(
                f"  left out of negative prompts, since the prompt asks for it, {self.left_out.total()} times: {terms}"
            )

    def _example(self, key: str, text: str) -> None:
        if len(self._named[key]) < SHOWN:
            line = " ".join(text.split())
            self._named[key].append(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")

    def _examples(self, key: str, count: int) -> str:
        more = f"; and {count - SHOWN} more" if count > SHOWN else ""
        return "; ".join(self._named[key]) + more


def _reason(why: str) -> tuple[str, str]:
    """The kind of a reason, without its numbers, and its particulars."""
    last = re.sub(r"^none of \d+ answers? would do; the last: ", "", why)
    kind, mark, rest = re.split(r"([:(])", f"{last}:", maxsplit=1)
    rest = rest.removesuffix(":")  # ours, so that there is always something to split at
    rest = rest.removesuffix(")") if mark == "(" else rest
    return re.sub(r"\d+", "N", kind).strip(), rest.strip()


def _say(line: str) -> None:
    print(line, file=sys.stderr)

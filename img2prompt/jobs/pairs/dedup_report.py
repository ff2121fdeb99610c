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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from img2prompt.errors import OutputError
from img2prompt.jobs.pairs.dedup_page import dedup_page
from img2prompt.jobs.pairs.groups import Found, Group, Member, Rows, groups_of
from img2prompt.pairs.atomic import fresh_file, write_atomically

__all__ = ["Found", "Group", "Member", "Rows", "groups_of", "write_report"]

SHOWN = 500  # groups on the page of either kind: the largest, and those with the lowest cosines

Curve = Sequence[tuple[float, int]]  # threshold, survivors; in any order


def write_report(folder: Path, groups: Iterable[Group], curve: Curve, facts: Mapping[str, Any]) -> Path:
    """Writes the four files; returns the page's path.

    Args:
        folder: made when it does not exist; may hold other files.
        groups: read once and not held, such as `groups_of(found, Rows(prompts, ids, sources))`.
        curve: pairs of threshold and number of survivors; empty when it was not computed.
        facts: plain data. Known to the page: `rows` and `survivors` (numbers, needed), `threshold` (needed), `keep`
            (the rule, such as "longest"), `method`, `recall` (0..1, None when exact) and `recall_pairs` (as many it
            was measured on), `sentence_model`, `seconds`, `sources` (list), `against` (list or None), `settings` and
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
        if curve:
            _draw_curve(folder / "curve.png", curve, facts)
        html = dedup_page(report, summary.shown())
        write_atomically(folder / "report.html", html.encode())
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}; make room or choose another folder") from error
    return folder / "report.html"


def _draw_curve(path: Path, curve: Curve, facts: Mapping[str, Any]) -> None:
    from matplotlib.figure import Figure  # without pyplot: no global state, and no display is looked for
    from matplotlib.ticker import PercentFormatter

    points = sorted(curve)
    thresholds, shares = [at for at, _ in points], [survivors / max(facts["rows"], 1) for _, survivors in points]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(thresholds, shares, "o-", color="#0b5a75", markersize=4)
    axes.axvline(facts["threshold"], color="#b4540a", linestyle="--", label=f"chosen: {facts['threshold']:g}")
    axes.set(xlabel="cosine threshold", ylabel="prompts that stay", title=f"Survivors of {facts['rows']:,} prompts")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with fresh_file(path) as fresh:
        figure.savefig(fresh, format="png", dpi=130, metadata={"Software": None})


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
        self.cosines.update(min(int(member.cosine * 100 + 1e-4), 100) / 100 for member in group.removed)
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


def _json(data: Mapping[str, Any], indent: int | None = None) -> bytes:
    # A lone surrogate is no UTF-8, but its escape is JSON.
    return json.dumps(data, ensure_ascii=False, indent=indent).encode(errors="backslashreplace")

"""What a round trip says at its end: a table of scores between floor and ceiling, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
SHOWN = 3  # failures of a kind that are named
_NOTHING = "-"


def table(summary: Row) -> list[str]:
    """Lines of text: a row a metric, a column a kind of prompt; each score with its way from floor to ceiling."""
    metrics: Mapping[str, Row] = summary["metrics"]
    kinds = list(dict.fromkeys(kind for row in metrics.values() for kind in row["kinds"]))
    head = ["", "floor", *kinds, "ceiling"]
    lines = [[_arrow(name, row), _number(row["floor"]), *(_score(row, k) for k in kinds), _number(row["ceiling"])]
             for name, row in metrics.items()]  # fmt: skip
    title = f"{summary['images']} picture{'s' * (summary['images'] != 1)}, {summary['seeds']} of each prompt"
    if not metrics:
        return [title, "no picture could be compared"]
    made_of = " | ".join(dict.fromkeys(row["ceiling_from"] for row in metrics.values()))
    explained = [
        "mean score, and in brackets how far it is from the floor (another picture's prompt) to the ceiling",
        f"({made_of}), with its interval of 95 %; v: less is better",
    ]
    return [title, *explained, "", *_aligned([head, *lines]), *_tests(metrics)]


def remarks(summary: Row) -> list[str]:
    """Lines for stderr: metrics that were not usable, then failures by kind."""
    skipped = summary["skipped_metrics"]
    why = "summary.json says why, and what brings them"
    lines = [f"not measured here: {', '.join(skipped)}; {why}"] if skipped else []
    failed: Sequence[Row] = summary["failed"]
    for kind, count in Counter(row["kind"] for row in failed).most_common():
        named = [f"{row['source']}: {row['error']}" for row in failed if row["kind"] == kind][:SHOWN]
        more = f"; and {count - SHOWN} more" if count > SHOWN else ""
        lines.append(f"failed: {count} {kind}: {'; '.join(named)}{more}")
    return lines


def _tests(metrics: Mapping[str, Row]) -> list[str]:
    pairs = list(dict.fromkeys((test["a"], test["b"]) for row in metrics.values() for test in row["tests"]))
    lines: list[str] = []
    for a, b in pairs:
        rows = [["", f"{a} - {b}", "95 %", "p"]]
        for name, row in metrics.items():
            test = next((test for test in row["tests"] if (test["a"], test["b"]) == (a, b)), None)
            if test is not None:
                span = f"{_signed(test['low'])} to {_signed(test['high'])}"
                rows.append([_arrow(name, row), _signed(test["difference"]), span, _p(test["p"])])
        lines += ["", *_aligned(rows)]
    return lines


def _arrow(name: str, row: Row) -> str:
    return name if row["higher_is_better"] else f"{name} v"


def _score(row: Row, kind: str) -> str:
    if kind not in row["kinds"]:
        return _NOTHING
    way = row["fractions"].get(kind) or {}
    told = _way(way) if way.get("mean") is not None else ""
    return f"{_number(row['kinds'][kind]['mean'])}{told}"


def _way(way: Row) -> str:
    ends = [None if way[end] is None else round(100 * way[end]) for end in ("low", "high")]
    span = "" if None in ends else f", {ends[0]} to {ends[1]}"
    return f" ({round(100 * way['mean'])} %{span})"


def _number(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:+.3f}"


def _p(value: float | None) -> str:
    return _NOTHING if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]

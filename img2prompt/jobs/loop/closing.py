"""What a round trip says at its end: a table of scores between floor and ceiling, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from img2prompt.jobs.loop.negated import SUFFIX

Row = Mapping[str, Any]
SHOWN = 3  # failures of a kind that are named
_NOTHING = "-"


def table(summary: Row) -> list[str]:
    """Lines of text: scores by kind of prompt on their way from floor to ceiling, then what differs from predicted."""
    metrics: Mapping[str, Row] = summary["metrics"]
    title = f"{summary['images']} picture{'s' * (summary['images'] != 1)}, {summary['seeds']} of each prompt"
    if not metrics:
        return [title, "no picture could be compared"]
    made_of = ", ".join(dict.fromkeys(row["ceiling_from"] for row in metrics.values()))
    kinds = list(dict.fromkeys(kind for row in metrics.values() for kind in row["kinds"]))
    if made_of == "true prompt":
        kinds = [kind for kind in kinds if kind != "true"]  # it is the ceiling
    shown = [kind for kind in kinds if any(row["kinds"].get(kind, {}).get("n") for row in metrics.values())]
    lines = [["", "floor", "ceiling", *shown]]
    for name, row in metrics.items():
        ends = [_number(row["floor"]), _number(row["ceiling"])]
        lines.append([_arrow(name, row), *ends, *(_score(row, kind) for kind in shown)])
    return [
        f"{title}; floor: another picture's prompt, ceiling: {made_of}",
        "mean scores, and how many % of the way from floor to ceiling they are, with the interval of 95 %",
        "(v: less is better)",
        "",
        *aligned(lines),
        *_tests(metrics),
    ]


def remarks(summary: Row) -> list[str]:
    """Lines for stderr: metrics that were not usable, what the models do not know, then failures by kind."""
    skipped = summary["skipped_metrics"]
    why = "summary.json says why, and what brings them"
    lines = [f"not measured here: {', '.join(skipped)}; {why}"] if skipped else []
    for kind, found in (summary.get("negated") or {}).items():
        name = kind.removesuffix(SUFFIX)
        what = f"got a negative one and new pictures ({kind})" if found["negated"] else "showed anything to negate"
        lines.append(f"negative prompts: {found['negated'] or 'none'} of {found['prompts']} {name} prompts {what}")
    if undefined := summary.get("undefined_metrics"):
        counts = ", ".join(f"{name} of {count}" for name, count in undefined.items())
        lines.append(f"pictures without a number: {counts}; null in results.jsonl")
    if outside := summary.get("outside_domain"):
        more = f" and {len(outside) - SHOWN} more" if len(outside) > SHOWN else ""
        named = ", ".join(outside[:SHOWN])
        lines.append(f"note: outside what the captioner knows, do not trust the prompt: {named}{more}")
    outcomes = summary.get("outcomes") or {}
    if kept := outcomes.get("base"):
        lines.append(
            f"note: upsampling left {kept} of {sum(outcomes.values())} prompts as they were; results.jsonl says why"
        )
    for one in summary.get("judge", {}).get("failures", ()):
        lines.append(f"no verdict: {one['count']} {one['kind']}: {one['error']}")
    failed: Sequence[Row] = summary["failed"]
    for kind, count in Counter(row["kind"] for row in failed).most_common():
        first = [f"{row['source']}: {row['error']}" for row in failed if row["kind"] == kind][:SHOWN]
        more = f"; and {count - SHOWN} more" if count > SHOWN else ""
        lines.append(f"failed: {count} {kind}: {'; '.join(first)}{more}")
    return lines


def _tests(metrics: Mapping[str, Row]) -> list[str]:
    kinds = list(dict.fromkeys(test["a"] for row in metrics.values() for test in row["tests"] if test["n"]))
    if not kinds:
        return []
    negated = [kind for kind in kinds if kind.endswith(SUFFIX)]
    lines = [["", *kinds]]
    for name, row in metrics.items():
        tests = {test["a"]: test for test in row["tests"]}
        lines.append([_arrow(name, row), *(_test(tests.get(kind)) for kind in kinds)])
    return [
        "",
        "difference to the predicted prompt, and the p of a paired test, corrected for the metrics (Holm)",
        *([f"(of {' and '.join(negated)}: to the same prompt without)"] if negated else []),
        "",
        *aligned(lines),
    ]


def _test(test: Row | None) -> str:
    if test is None or test["difference"] is None:
        return _NOTHING
    if test["difference"] == test["low"] == test["high"] == 0:
        return "the same"
    return f"{test['difference']:+.3f} ({_p(test['p_holm'])})"


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


def _p(value: float | None) -> str:
    return _NOTHING if value is None else "p <0.001" if value < 0.001 else f"p {value:.3f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns below each other: the first to the left, the others to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]

"""What the text-first experiment says at its end: base against upsampled prompts, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from img2prompt.jobs.loop.closing import aligned

Row = Mapping[str, Any]
_HEAD = ("", "another prompt", "base", "upsampled", "difference", "95 %", "p (Holm)")


def table(summary: Row) -> list[str]:
    """Lines of text: a row a metric, and the judge."""
    many = f"{summary['images']} prompt{'s' * (summary['images'] != 1)}, {summary['seeds']} pictures of each kind"
    rows: list[tuple[str, ...]] = [_HEAD]
    rows += [
        _line(name if found["higher_is_better"] else f"{name} v", found) for name, found in summary["metrics"].items()
    ]
    judge = summary.get("judge") or {}
    if judge.get("kinds"):
        rows.append(_line(f"judge {judge['name']}", judge))
    if len(rows) == 1:
        return [many, "nothing could be measured"]
    said = "how well pictures show the base prompt; difference: upsampled - base; v: less is better"
    return [many, said, "", *aligned(rows)]


def _line(name: str, found: Row) -> tuple[str, ...]:
    kinds = found["kinds"]
    test: Row = next((test for test in found["tests"] if test["a"] == "upsampled"), {})
    span = f"{_signed(test['low'])} to {_signed(test['high'])}" if test.get("low") is not None else "-"
    p = test.get("p_holm", test.get("p"))  # a judge is one test alone
    told = "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"
    means = [(kinds.get(kind) or {}).get("mean") for kind in ("base", "upsampled")]
    return (name, _number(found.get("floor")), *map(_number, means), _signed(test.get("difference")), span, told)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"

"""What a run found: results.jsonl, a row an image, and summary.json, made of nothing but these rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.jobs.loop.negated import base_of
from img2prompt.jobs.loop.scoring import CEILING, TRUE
from img2prompt.metrics import METRICS, estimate, fraction_over, holm, paired_test

Row = dict[str, Any]
BASE = "predicted"  # what every other kind is tested against


def summarise(rows: Sequence[Row], seeds: int, asked: Sequence[str], base: str = BASE) -> Row:
    """The scores of a run, all from its rows.

    Args:
        rows: of results.jsonl.
        seeds: pictures of a prompt.
        asked: kinds that were to be compared, in order.
        base: the kind that every other is tested against; one with a negative prompt against the same without.

    Returns:
        images, seeds, outside_domain (sources that the captioner does not know the like of), outcomes (of upsampling,
        how many each), failed, undefined_metrics (of how many pictures a metric gives no number) and metrics, as in
        summary.json. Of each test `p` is as it was found, and `p_holm` corrected for the metrics that test the same two
        kinds.
    """
    compared = [row for row in rows if row["scores"]]
    metrics = {name: _metric(name, compared, seeds, asked, base) for name in METRICS if is_scored(compared, name)}
    _correct(metrics)
    return {
        "images": sum(bool(row["prompts"]) for row in rows),
        "seeds": seeds,
        "outside_domain": [row["source"] for row in rows if row["prompts"].get(BASE, {}).get("in_domain") is False],
        "outcomes": dict(Counter(row["prompts"]["upsampled"]["outcome"] for row in rows if _upsampled(row))),
        "failed": [failed for row in rows for failed in row["failed"]],
        "undefined_metrics": _undefined(compared),
        "metrics": metrics,
    }


def scores_row(scores: Mapping[str, Mapping[str, Any]]) -> tuple[Row, Row]:
    """Scores by metric and kind -> by kind and metric, and those of the ceiling where it is one of its own."""
    kinds: Row = {}
    for metric, values in scores.items():
        for kind, row in values.items():
            kinds.setdefault(kind, {})[metric] = row
    return kinds, kinds.pop(CEILING, {})


def is_scored(rows: Sequence[Mapping[str, Any]], metric: str) -> bool:
    """Whether any picture was measured by a metric."""
    return any(metric in scores for row in rows for scores in (row.get("scores") or {}).values())


def _undefined(rows: Sequence[Row]) -> dict[str, int]:
    """Metric -> of how many pictures that are there it gives no number."""
    counts: Counter[str] = Counter()
    for row in rows:
        for kind, scores in row["scores"].items():
            pictures = (row.get("pictures") or {}).get(kind, ())
            for metric, values in scores.items():
                pairs = zip(pictures, values, strict=False)
                counts[metric] += sum("file" in picture and value is None for picture, value in pairs)
    return {name: counts[name] for name in METRICS if counts[name]}


def _upsampled(row: Row) -> bool:
    return "outcome" in row["prompts"].get("upsampled", {})


def _metric(name: str, rows: Sequence[Row], seeds: int, asked: Sequence[str], base: str) -> Row:
    about = METRICS[name]
    found = {kind for row in rows for kind in row["scores"]}
    kinds = [kind for kind in asked if kind in found]
    tables = {kind: _table(rows, kind, name, seeds) for kind in (*kinds, "floor")}
    ceilings = _ceilings(rows, name, seeds)
    both = ~(np.isnan(tables["floor"]).all(axis=1) | np.isnan(ceilings).all(axis=1))  # (N,), so that they are a pair
    both = both if both.any() else np.ones(len(rows), bool)  # only one of them is known: that one is told
    return {
        "range": [_finite(value) for value in about.range],
        "higher_is_better": about.higher_is_better,
        "source": about.source,
        "compares": about.kind,
        "kinds": {kind: estimate(tables[kind]).to_dict() for kind in kinds},
        "floor": estimate(tables["floor"][both]).to_dict()["mean"],
        "ceiling": estimate(ceilings[both]).to_dict()["mean"],
        "ceiling_from": _told(Counter(row["ceiling_from"] for row in rows)),
        "fractions": {
            kind: fraction_over(
                tables[kind], tables["floor"], ceilings, higher_is_better=about.higher_is_better
            ).to_dict()
            for kind in kinds
        },
        "tests": [
            {"a": kind, "b": other, **paired_test(tables[kind], tables[other]).to_dict()}
            for kind in kinds
            if (other := base_of(kind, base)) != kind and other in tables
        ],
    }


def _correct(metrics: Mapping[str, Row]) -> None:
    """Gives every test its `p_holm`: several metrics ask the same of two kinds, and one may be so by chance."""
    asked: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for name, found in metrics.items():
        for test in found["tests"]:
            asked[(test["a"], test["b"])][name] = test
    for tests in asked.values():
        corrected = holm({name: test["p"] for name, test in tests.items() if test["n"]})
        for name, test in tests.items():
            test["p_holm"] = corrected.get(name, test["p"])


def _table(rows: Sequence[Row], kind: str, metric: str, seeds: int) -> NDArray[np.float64]:
    """Scores (N,S) of a kind; NaN where there is none."""
    return np.array([_padded(row["scores"].get(kind, {}).get(metric), seeds) for row in rows], np.float64)


def _ceilings(rows: Sequence[Row], metric: str, seeds: int) -> NDArray[np.float64]:
    """Scores (N,S) of the ceilings, each of whatever is known of its image."""
    found = [row["scores"].get("true", {}) if row["ceiling_from"] == TRUE else row["ceiling"] for row in rows]
    return np.array([_padded(scores.get(metric), seeds) for scores in found], np.float64)


def _padded(values: Sequence[float | None] | None, seeds: int) -> list[float]:
    known = [np.nan if value is None else value for value in values or ()]
    return [*known, *[np.nan] * (seeds - len(known))]


def _told(counts: Counter[str]) -> str:
    """ "true prompt", or how many of each."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

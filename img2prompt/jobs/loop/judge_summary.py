"""What a judge's verdicts say together, and how far the automatic metrics agree with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.jobs.loop.negated import base_of
from img2prompt.jobs.loop.summary import is_scored
from img2prompt.metrics import METRICS, estimate, paired_test

Row = Mapping[str, Any]
Array = NDArray[np.float64]

FEWEST = 5  # pictures and rows below which no agreement is told
_RESAMPLES = 400


def summarise_verdicts(rows: Sequence[Row], seeds: int, base: str, name: str, same: frozenset[str]) -> dict[str, Any]:
    """The `judge` of summary.json.

    Args:
        rows: of results.jsonl.
        seeds: pictures of a prompt.
        base: the kind of prompt that every other is tested against, but for those with negative prompts.
        name: of the judge.
        same: metrics that the judge is itself; agreement with them says nothing.

    Returns:
        name, range, kinds with means, tests, agreement by metric, failed: verdicts that were asked for and not given,
        and failures: of each kind how many, with the first one's words.
    """
    rows = [row for row in rows if row.get("judged")]
    found = list(dict.fromkeys(kind for row in rows for kind in row["judged"]))
    tables = {kind: _table([row["judged"].get(kind) for row in rows], seeds) for kind in found}
    kinds = [kind for kind in found if not np.isnan(tables[kind]).all()]
    verdicts = [one for row in rows for several in row["judged"].values() for one in several]
    failed = [one for one in verdicts if "error" in one and one.get("kind") != "NoPicture"]
    names = [metric for metric in METRICS if metric not in same and is_scored(rows, metric)]
    return {
        "name": name,
        "range": [0.0, 1.0],
        "higher_is_better": True,
        "kinds": {kind: estimate(tables[kind]).to_dict() for kind in kinds},
        "tests": [
            {"a": kind, "b": other, **paired_test(tables[kind], tables[other]).to_dict()}
            for kind in kinds
            if (other := base_of(kind, base)) != kind and kind != "floor" and other in kinds
        ],
        "agreement": {metric: told for metric in names if (told := agreement(rows, metric)) is not None},
        "failed": len(failed),
        "failures": [
            {"kind": kind, "count": count, "error": next(one["error"] for one in failed if one.get("kind") == kind)}
            for kind, count in Counter(one.get("kind") for one in failed).most_common()
        ],
    }


def agreement(rows: Sequence[Row], metric: str) -> dict[str, Any] | None:
    """Rank correlations of a metric with the verdicts over all pictures; None: too few of them, or all alike.

    Distances are turned round, so that 1 always means that both see the same order. Intervals come from a bootstrap
    over rows, whose pictures belong together (Field and Welsh, "Bootstrapping clustered data", 2007).

    Source: Spearman, 1904; Kendall, "A new measure of rank correlation", 1938 (tau-b).
    """
    from scipy.stats import kendalltau, spearmanr

    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    pairs = [np.array(_pairs(row, metric, sign)).reshape(-1, 2) for row in rows]  # (pictures, 2) each
    pairs = [some for some in pairs if len(some)]
    every = np.concatenate(pairs) if pairs else np.empty((0, 2))
    if len(every) < FEWEST or (every == every[0]).all(axis=0).any():
        return None
    told: dict[str, Any] = {"n": len(every)}
    for name, correlate in (("spearman", spearmanr), ("kendall", kendalltau)):
        told[name] = float(correlate(every[:, 0], every[:, 1])[0])
        told[f"{name}_interval"] = _interval(pairs, correlate) if len(pairs) >= FEWEST else None
    return told


def _interval(pairs: Sequence[Array], correlate: Callable[..., Any]) -> list[float] | None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(_RESAMPLES):
        drawn = np.concatenate([pairs[i] for i in rng.integers(0, len(pairs), len(pairs))])
        if not (drawn == drawn[0]).all(axis=0).any():  # all alike: no order to agree on
            found.append(float(correlate(drawn[:, 0], drawn[:, 1])[0]))
    return [float(end) for end in np.quantile(found, (0.025, 0.975))] if found else None


def _pairs(row: Row, metric: str, sign: float) -> list[tuple[float, float]]:
    found = []
    for kind, verdicts in row["judged"].items():
        scores = ((row.get("scores") or {}).get(kind) or {}).get(metric) or []
        for verdict, score in zip(verdicts, scores, strict=False):
            if score is not None and verdict.get("score") is not None:
                found.append((sign * score, float(verdict["score"])))
    return found


def _table(verdicts: Sequence[Sequence[Row] | None], seeds: int) -> Array:
    """Scores (N,S); NaN where there is no verdict."""
    table = np.full((len(verdicts), seeds), np.nan)
    for number, several in enumerate(verdicts):
        for place, one in enumerate((several or ())[:seeds]):
            table[number, place] = np.nan if one.get("score") is None else one["score"]
    return table

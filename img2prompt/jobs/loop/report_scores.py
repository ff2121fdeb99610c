"""Scores of a run on its page: between floor and ceiling, tested against each other, and for each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_run import (
    PLOTTED,
    Run,
    is_number,
    kind_name,
    metric_name,
    ordered,
    percent,
    rounded,
    written,
)
from img2prompt.jobs.pages import Section
from img2prompt.jobs.tracks import Mark, track

SIGNIFICANT = 0.05
TEST_COLUMNS = (
    Column("says"),
    Column("difference", "number", "{:+.3f}"),
    Column("95 % interval"),
    Column("p"),
    Column("n", "number"),
)


def scores_section(run: Run) -> Section | None:
    """Every metric between its floor and its ceiling."""
    metrics = [(name, found) for name, found in run.metrics.items() if found.get("kinds")]
    if not metrics:
        return None
    tracks = [drawn for name, found in metrics if (drawn := _track(name, found))]
    known = {str(found["ceiling_from"]) for _, found in metrics if found.get("ceiling_from")}
    if not tracks:
        title, note = "Scores", ""
    elif known:
        best = "one prompt, from another seed" if known == {"another seed"} else "the true prompt"
        title = "From floor to ceiling"
        note = f"0 % is as far off as pictures of another picture's prompt, 100 % as near as pictures of {best}."
    else:
        title, note = "Scores", "How well pictures show the base prompt. The floor is pictures of another prompt."
    note += " Bars are 95 % intervals over pictures and seeds." if tracks else ""
    return Section(title, Markup("").join([*tracks, _in_numbers(run, metrics, folded=bool(tracks))]), note)


def tests_section(run: Run) -> Section | None:
    """Differences between kinds of prompts, and whether they can be chance."""
    shown = tests_of([(metric_name(name), found) for name, found in run.metrics.items()])
    if not shown:
        return None
    body = Markup("").join(drawn for (kind, _), drawn in shown.items() if kind in PLOTTED)
    if others := [drawn for (kind, _), drawn in shown.items() if kind not in PLOTTED]:
        folds = Markup('<details class="data wide-data"><summary>other prompts</summary>{}</details>')
        body += folds.format(Markup("").join(others))
    corrected = any("p_holm" in test for found in run.metrics.values() for test in found.get("tests") or [])
    note = f"Paired: the same {'pictures' if run.has_originals else 'prompts'}, and the same noise on both sides."
    if corrected:
        note += " Each p is corrected for the metrics beside it (Holm)."
    return Section("Is the difference real?", body, note)


def tests_of(scored: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[tuple[str, str], Markup]:
    """Tables of paired tests by the two kinds of prompts that they compare.

    Args:
        scored: names and parts of the summary that hold `tests`.
    """
    rows: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for name, found in scored:
        for test in found.get("tests") or []:
            if is_number(test.get("difference")):
                rows.setdefault((test["a"], test["b"]), []).append([name, *cells_of_test(test, found)])
    columns = [Column("metric"), *TEST_COLUMNS]
    return {pair: _pair(columns, pair, some) for pair, some in rows.items()}


def cells_of_test(test: Mapping[str, Any], found: Mapping[str, Any]) -> list[Any]:
    """What a paired test found, as the cells of TEST_COLUMNS.

    Args:
        test: one of `tests` in the summary, whose difference is known.
        found: the metric's part of the summary.
    """
    span = f"{written(test.get('low'))} to {written(test.get('high'))}"
    return [_says(test, found), rounded(test["difference"]), span, _p_value(test), test.get("n")]


def _pair(columns: Sequence[Column], pair: tuple[str, str], rows: Sequence[Sequence[Any]]) -> Markup:
    caption = f"{kind_name(pair[0])} − {kind_name(pair[1])}"
    return table(columns, rows, caption=caption[0].upper() + caption[1:], sortable=False)


def sets_section(run: Run) -> Section | None:
    """Distances between whole sets of pictures."""
    sets = {kind: values for kind, values in (run.summary.get("sets") or {}).items() if values}
    if not sets:
        return None
    names = sorted({name for values in sets.values() for name in values})
    columns = [Column("pictures of"), *(Column(name.upper(), "number", "{:,.3f}") for name in names)]
    rows = [[kind_name(kind), *(_number(sets[kind].get(name)) for name in names)] for kind in ordered(set(sets))]
    note = "Distance between all originals and all regenerated pictures; lower is closer. Small sets make it large."
    return Section("Sets of pictures", table(columns, rows, caption="Whole sets", sortable=False), note)


def _track(name: str, found: Mapping[str, Any]) -> Markup | None:
    kinds, fractions = found.get("kinds") or {}, found.get("fractions") or {}
    floor, ceiling = found.get("floor"), found.get("ceiling")
    known = any(is_number((fractions.get(kind) or {}).get("mean")) for kind in PLOTTED)
    if not known and not found.get("ceiling_from"):
        return scored_track(metric_name(name), kinds, (floor, _best(found)), direction(found))
    marks = []
    for kind in PLOTTED:
        of, raw = fractions.get(kind) or {}, kinds.get(kind) or {}
        if not is_number(of.get("mean")):
            continue
        low, high = (of[end] if is_number(of.get(end)) else None for end in ("low", "high"))
        between = f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""
        figures = percent(of["mean"]) + between
        marks.append(Mark(kind_name(kind), of["mean"], low, high, figures, written(raw.get("mean"))))
    if not marks:
        return None
    ends = {"floor": f"floor {written(floor)}", "ceiling": f"ceiling {written(ceiling)}"}
    return track(metric_name(name), marks, note=direction(found), **ends)


def scored_track(title: str, kinds: Mapping[str, Any], ends: tuple[Any, Any], note: str) -> Markup | None:
    """Mean scores of kinds of prompts between a floor and the best that is possible; None where there are no ends."""
    floor, best = ends
    if not is_number(floor) or not is_number(best) or floor == best:
        return None
    marks = []
    for kind in PLOTTED:
        of = kinds.get(kind) or {}
        if not is_number(of.get("mean")):
            continue
        mean, low, high = (
            (of[k] - floor) / (best - floor) if is_number(of.get(k)) else None for k in ("mean", "low", "high")
        )
        between = f" ({written(of['low'])} to {written(of['high'])})" if low is not None and high is not None else ""
        marks.append(Mark(kind_name(kind), mean or 0.0, low, high, written(of["mean"]) + between))
    names = {"floor": f"floor {written(floor)}", "ceiling": f"best possible {written(best)}"}
    return track(title, marks, note=note, **names) if marks else None


def _best(found: Mapping[str, Any]) -> float | None:
    ends = found.get("range") or (None, None)
    best = ends[1] if found.get("higher_is_better", True) else ends[0]
    return best if is_number(best) else None


def _in_numbers(run: Run, metrics: Sequence[tuple[str, Mapping[str, Any]]], *, folded: bool = True) -> Markup:
    kinds = [kind for kind in run.kinds if any(kind in found["kinds"] for _, found in metrics)]
    names = ["floor", *(kind_name(kind) for kind in kinds), "ceiling"]
    columns = [Column("metric"), *(Column(name, "number", "{:,.3f}") for name in names)]
    rows = []
    for name, found in metrics:
        means = [_number((found["kinds"].get(kind) or {}).get("mean")) for kind in kinds]
        rows.append([metric_name(name), _number(found.get("floor")), *means, _number(found.get("ceiling"))])
    scores = table(columns, rows, caption="Mean scores", sortable=False)
    facts = [
        (metric_name(name), _range(found.get("range")), direction(found), found.get("source", ""))
        for name, found in metrics
    ]
    heads = [Column("metric"), Column("range"), Column("direction"), Column("source")]
    both = scores + table(heads, facts, caption="What the metrics are", sortable=False)
    if not folded:
        return both
    return Markup('<details class="data wide-data"><summary>as numbers, with sources</summary>{}</details>').format(
        both
    )


def corrected_p(test: Mapping[str, Any]) -> Any:
    """The p of a test, corrected where other metrics ask the same; that of a judge stands alone."""
    return test.get("p_holm", test.get("p"))


def _says(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a test says, in words."""
    p = corrected_p(test)
    if not is_number(p) or p >= SIGNIFICANT:
        return "no difference shown"
    a_is_closer = (test["difference"] > 0) == bool(found.get("higher_is_better", True))
    return f"{kind_name(test['a'] if a_is_closer else test['b'])} is {_good(found)}"


def _p_value(test: Mapping[str, Any]) -> str:
    p = corrected_p(test)
    return "–" if not is_number(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def direction(found: Mapping[str, Any]) -> str:
    """Which way a metric is better, in words."""
    return f"{'higher' if found.get('higher_is_better', True) else 'lower'} is {_good(found)}"


def _good(found: Mapping[str, Any]) -> str:
    """Pictures come closer to an original; they show a text better, and a judge finds them better."""
    return "better" if found.get("compares") == "image-text" or "agreement" in found else "closer"


def _range(ends: Any) -> str:
    low, high = ends if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
    return f"{f'{low:g}' if is_number(low) else '−∞'} to {f'{high:g}' if is_number(high) else '∞'}".replace("-", "−")


def span_of(ends: Any, between: str = " to ") -> str:
    """Both ends of an interval, written."""
    return between.join(written(end) for end in ends) if isinstance(ends, list | tuple) else "–"


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None

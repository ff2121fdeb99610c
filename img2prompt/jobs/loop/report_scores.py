"""Scores of a run on its page: between floor and ceiling, tested against each other, and for each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_pictures import anchor
from img2prompt.jobs.loop.report_run import (
    PLOTTED,
    Run,
    is_number,
    kind_name,
    metric_name,
    ordered,
    percent,
    prompt_name,
    score_of,
    text_of,
    title_of,
    written,
)
from img2prompt.jobs.pages import Section
from img2prompt.jobs.tracks import Mark, track

SIGNIFICANT = 0.05
TABLED = 2000  # rows of the table of all pictures


def scores_section(run: Run) -> Section | None:
    """Every metric between its floor and its ceiling."""
    metrics = [(name, found) for name, found in run.metrics.items() if found.get("kinds")]
    if not metrics:
        return None
    tracks = [drawn for name, found in metrics if (drawn := _track(name, found))]
    parts = [*tracks, _in_numbers(run, metrics)] if tracks else [_in_numbers(run, metrics, folded=False)]
    note = ""
    if tracks:
        ceiling = {str(found.get("ceiling_from")) for _, found in metrics if found.get("ceiling_from")}
        near = "of the true prompt" if ceiling != {"another seed"} else "of one prompt, from another seed"
        note = (
            f"0 % is as far off as pictures of another picture's prompt, 100 % as near as pictures {near}."
            " Bars are 95 % intervals over pictures and seeds."
        )
    return Section("From floor to ceiling" if tracks else "Scores", Markup("").join(parts), note)


def tests_section(run: Run) -> Section | None:
    """Differences between kinds of prompts, and whether they can be chance."""
    rows: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for name, found in run.metrics.items():
        for test in found.get("tests") or []:
            if not is_number(test.get("difference")):
                continue
            span = f"{written(test.get('low'))} to {written(test.get('high'))}"
            row = (metric_name(name), _says(test, found), test["difference"], span, _p_value(test), test.get("n"))
            rows.setdefault((test["a"], test["b"]), []).append(row)
    if not rows:
        return None
    columns = [
        Column("metric"),
        Column("says"),
        Column("difference", "number", "{:+.3f}"),
        Column("95 % interval"),
        Column("p"),
        Column("n", "number"),
    ]
    tables = [
        table(columns, some, caption=f"{kind_name(a)} − {kind_name(b)}".capitalize(), sortable=False)
        for (a, b), some in rows.items()
    ]
    count = sum(map(len, rows.values()))
    note = "Paired: the same pictures, and the same noise under both prompts."
    if count > 1:
        note += f" {count} tests stand beside each other, so a single p just below {SIGNIFICANT:g} says little."
    return Section("Is the difference real?", Markup("").join(tables), note)


def judge_section(run: Run) -> Section | None:
    """What the judge gave each kind of prompt, and whether the metrics agree with it."""
    judge = run.summary.get("judge")
    if not judge:
        return None
    kinds = judge.get("kinds") or {}
    given = [
        (kind_name(kind), of.get("mean"), f"{written(of.get('low'))} to {written(of.get('high'))}", of.get("n"))
        for kind, of in ((kind, kinds[kind]) for kind in ordered(set(kinds)))
    ]
    agreement = [
        (metric_name(name), of.get("spearman"), _span(of.get("spearman_interval")), of.get("kendall"), of.get("n"))
        for name, of in (judge.get("agreement") or {}).items()
    ]
    number = "{:.3f}"
    parts = []
    if given:
        columns = [Column("prompt"), Column("mean", "number", number), Column("95 % interval"), Column("n", "number")]
        parts.append(table(columns, given, caption="Verdicts", sortable=False))
    if agreement:
        columns = [
            Column("metric"),
            Column("Spearman", "number", "{:+.2f}"),
            Column("95 % interval"),
            Column("Kendall", "number", "{:+.2f}"),
            Column("n", "number"),
        ]
        parts.append(table(columns, agreement, caption="Agreement with the metrics"))
    failed = judge.get("failed") or 0
    note = f"{judge.get('name', 'judge')}, from {_span(judge.get('range'), ' to ')}." + (
        f" {failed:,} pictures got no verdict." if failed else ""
    )
    return Section("The judge", Markup("").join(parts), note) if parts else None


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


def table_section(run: Run, linked: int) -> Section | None:
    """Every picture with its scores, to be sorted.

    Args:
        run: the run.
        linked: rows whose pictures are on the page.
    """
    leading = run.leading
    if leading is None or len(run.rows) < 2:
        return None
    others = [name for name, found in run.metrics.items() if found.get("kinds") and name != leading]
    folded = Markup("").join(_of_all(run, name, linked) for name in others)
    body = _of_all(run, leading, linked)
    if folded:
        body += Markup('<details class="data wide-data"><summary>by the other metrics</summary>{}</details>').format(
            folded
        )
    note = f"Means over seeds. The first {TABLED:,} rows; all are in results.jsonl." if len(run.rows) > TABLED else ""
    return Section("All in one table", body, note or "Means over seeds; a click on a heading sorts.", wide=True)


def _of_all(run: Run, metric: str, linked: int) -> Markup:
    rows = run.rows[:TABLED]
    kinds = [kind for kind in run.kinds if any(score_of(row, kind, metric) is not None for row in rows)]
    pairs = "upsampled" in kinds and run.subject in kinds
    names = [kind_name(kind) for kind in kinds] + (["gained"] if pairs else [])
    columns = [Column("picture"), Column(prompt_name(run.subject), "prompt")]
    columns += [Column(name, "number", "{:,.3f}") for name in names]
    lines = []
    for place, row in enumerate(rows):
        scores: list[float | None] = [score_of(row, kind, metric) for kind in kinds]
        if pairs:
            rich, own = scores[kinds.index("upsampled")], scores[kinds.index(run.subject)]
            scores.append(rich - own if rich is not None and own is not None else None)
        name: str | Markup = title_of(row, place)
        if place < linked:
            name = Markup('<a href="#{}">{}</a>').format(anchor(place), name)
        lines.append([name, text_of(row, run.subject), *scores])
    return table(columns, lines, caption=f"{metric_name(metric)}, {_direction(run.metrics[metric])}")


def _track(name: str, found: Mapping[str, Any]) -> Markup | None:
    fractions = found.get("fractions") or {}
    marks = []
    for kind in PLOTTED:
        of, raw = fractions.get(kind) or {}, (found.get("kinds") or {}).get(kind) or {}
        if not is_number(of.get("mean")):
            continue
        low, high = (of[end] if is_number(of.get(end)) else None for end in ("low", "high"))
        between = f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""
        figures = percent(of["mean"]) + between
        marks.append(Mark(kind_name(kind), of["mean"], low, high, figures, written(raw.get("mean"))))
    if not marks:
        return None
    ends = {"floor": f"floor {written(found.get('floor'))}", "ceiling": f"ceiling {written(found.get('ceiling'))}"}
    return track(metric_name(name), marks, note=_direction(found), **ends)


def _in_numbers(run: Run, metrics: Sequence[tuple[str, Mapping[str, Any]]], *, folded: bool = True) -> Markup:
    kinds = [kind for kind in run.kinds if any(kind in found["kinds"] for _, found in metrics)]
    columns = [Column("metric"), *(Column(kind_name(kind), "number", "{:,.3f}") for kind in kinds)]
    rows = [
        [metric_name(name), *(_number((found["kinds"].get(kind) or {}).get("mean")) for kind in kinds)]
        for name, found in metrics
    ]
    means = table(columns, rows, caption="Mean scores", sortable=False)
    facts = [
        (metric_name(name), _range(found.get("range")), _direction(found), found.get("source", ""))
        for name, found in metrics
    ]
    heads = [Column("metric"), Column("range"), Column("direction"), Column("source")]
    both = means + table(heads, facts, caption="What the metrics are", sortable=False)
    if not folded:
        return both
    return Markup('<details class="data wide-data"><summary>as numbers, with sources</summary>{}</details>').format(
        both
    )


def _says(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a test says, in words."""
    p = test.get("p")
    if not is_number(p) or p >= SIGNIFICANT:
        return "no difference shown"
    a_is_closer = (test["difference"] > 0) == bool(found.get("higher_is_better", True))
    return f"{kind_name(test['a'] if a_is_closer else test['b'])} is closer"


def _p_value(test: Mapping[str, Any]) -> str:
    p = test.get("p")
    return "–" if not is_number(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _direction(found: Mapping[str, Any]) -> str:
    return "higher is closer" if found.get("higher_is_better", True) else "lower is closer"


def _range(ends: Any) -> str:
    low, high = ends if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
    return f"{f'{low:g}' if is_number(low) else '−∞'} to {f'{high:g}' if is_number(high) else '∞'}".replace("-", "−")


def _span(ends: Any, between: str = " to ") -> str:
    return between.join(written(end) for end in ends) if isinstance(ends, list | tuple) else "–"


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None

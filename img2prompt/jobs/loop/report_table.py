"""All pictures of a run in one table, by each metric, and their means by category."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_pictures import anchor
from img2prompt.jobs.loop.report_run import (
    PLOTTED,
    Row,
    Run,
    kind_name,
    metric_name,
    prompt_name,
    score_of,
    text_of,
    title_of,
)
from img2prompt.jobs.loop.report_scores import direction
from img2prompt.jobs.pages import Section

TABLED = 2000  # rows of the table of all pictures


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
    return table(columns, lines, caption=f"{metric_name(metric)}, {direction(run.metrics[metric])}")


def categories_section(run: Run) -> Section | None:
    """Mean scores by the categories that a benchmark puts its prompts into."""
    by_category: dict[str, list[Row]] = defaultdict(list)
    for row in run.rows:
        if row.get("category"):
            by_category[str(row["category"])].append(row)
    leading = run.leading
    if leading is None or len(by_category) < 2:
        return None
    kinds = [kind for kind in run.kinds if kind in PLOTTED]
    lines = []
    for category, rows in by_category.items():
        means = [_mean(rows, kind, leading) for kind in kinds]
        gained = means[-1] - means[0] if len(means) > 1 and None not in (means[0], means[-1]) else None  # type: ignore[operator]
        lines.append([category, len(rows), *means, gained])
    columns = [Column("category"), Column("prompts", "number")]
    columns += [Column(kind_name(kind), "number", "{:,.3f}") for kind in kinds] + [
        Column("gained", "number", "{:+.3f}")
    ]
    note = f"Mean {metric_name(leading)}, {direction(run.metrics[leading])}."
    return Section("By category", table(columns, lines, caption="Categories"), note)


def _mean(rows: list[Row], kind: str, metric: str) -> float | None:
    found = [score for row in rows if (score := score_of(row, kind, metric)) is not None]
    return fmean(found) if found else None

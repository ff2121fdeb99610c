"""What the judge said on a run's page: its verdicts, and how far the metrics agree with them."""

from __future__ import annotations

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_run import Run, metric_name
from img2prompt.jobs.loop.report_scores import scored_track, span_of, tests_of
from img2prompt.jobs.pages import Section


def judge_section(run: Run) -> Section | None:
    """What the judge gave each kind of prompt, and whether the metrics agree with it."""
    judge = run.summary.get("judge")
    if not judge:
        return None
    low, high = judge.get("range") or (0.0, 1.0)
    drawn = scored_track("Verdicts", judge.get("kinds") or {}, (low, high), "higher is better")
    agreement = [
        (metric_name(name), of.get("spearman"), span_of(of.get("spearman_interval")), of.get("kendall"), of.get("n"))
        for name, of in (judge.get("agreement") or {}).items()
    ]
    parts = [drawn] if drawn else []
    if tests := tests_of([(f"{judge.get('name')}", judge)]):
        parts += [Markup("<h3></h3>"), *tests.values()]
    if agreement:
        columns = [
            Column("metric"),
            Column("Spearman", "number", "{:+.2f}"),
            Column("95 % interval"),
            Column("Kendall", "number", "{:+.2f}"),
            Column("n", "number"),
        ]
        parts.append(table(columns, agreement, caption="Agreement with the metrics, over all pictures"))
    if failures := judge.get("failures"):
        rows = [(one.get("kind"), one.get("error"), one.get("count")) for one in failures]
        columns = [Column("kind"), Column("the first of them"), Column("pictures", "number")]
        parts.append(table(columns, rows, caption="No verdict", sortable=False))
    failed = judge.get("failed") or 0
    note = f"{judge.get('name', 'judge')}: how well pictures show what their prompt asks for." + (
        f" {failed:,} pictures got no verdict." if failed else ""
    )
    return Section("The judge", Markup("").join(parts), note) if parts else None

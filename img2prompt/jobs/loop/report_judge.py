"""What the judge said on a run's page: its verdicts, and how far the metrics agree with them."""

from __future__ import annotations

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_run import PLOTTED, Run, is_number, kind_name, metric_name
from img2prompt.jobs.loop.report_scores import TEST_COLUMNS, cells_of_test, scored_track, span_of
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
    tests = [test for test in judge.get("tests") or [] if test["a"] in PLOTTED and is_number(test.get("difference"))]
    if tests:
        rows = [[f"{kind_name(t['a'])} − {kind_name(t['b'])}", *cells_of_test(t, judge)] for t in tests]
        columns = [Column("compared"), *TEST_COLUMNS]
        parts += [Markup("<h3></h3>"), table(columns, rows, caption="Paired tests", sortable=False)]
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
        missing = [(one.get("kind"), one.get("error"), one.get("count")) for one in failures]
        columns = [Column("kind"), Column("the first of them"), Column("pictures", "number")]
        parts.append(table(columns, missing, caption="No verdict", sortable=False))
    failed = judge.get("failed") or 0
    asked = "true prompt, or the predicted one where it is not known" if run.has_originals else "base prompt"
    note = f"{judge.get('name', 'judge')}, asked how well pictures show the {asked}."
    note += f" {failed:,} pictures got no verdict." if failed else ""
    return Section("The judge", Markup("").join(parts), note) if parts else None

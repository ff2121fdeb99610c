"""How a run ends, whatever it compared: its three files, then a table on stdout and what went wrong on stderr."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from img2prompt.jobs.loop.closing import remarks
from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.judge import metrics_of
from img2prompt.jobs.loop.judge_summary import summarise_verdicts


def finish(run: RunFolder, rows: Sequence[Row], found: Row, base: str, options: argparse.Namespace) -> Row:
    """Writes results.jsonl, summary.json and report.html; returns the summary.

    Args:
        run: the run.
        rows: of results.jsonl.
        found: what the rows say together.
        base: the kind of prompt that every other is tested against.
        options: with seeds, judge ("none" or None: nobody was asked) and no_report.

    Raises:
        OutputError: one of the files cannot be written.
    """
    lines = [json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") + b"\n" for row in rows]
    run.write("results.jsonl", b"".join(lines))
    summary = {"config": run.config, **found}
    if options.judge not in (None, "none"):
        same = metrics_of(options.judge)
        summary["judge"] = summarise_verdicts(rows, options.seeds, base, options.judge, same)
    run.write("summary.json", (_json(summary) + "\n").encode())
    if not options.no_report:
        from img2prompt.jobs.loop.report import write_report

        write_report(run.root)
    return summary


def tell(summary: Row, table: Callable[[Row], Sequence[str]], options: argparse.Namespace) -> None:
    """Prints what was found, what went wrong, and where to look.

    Args:
        summary: of the run.
        table: its lines for people.
        options: with json, no_report and output.
    """
    print(_json(summary) if options.json else "\n".join(table(summary)))
    for line in remarks(summary):
        print(line, file=sys.stderr)
    print(options.output / ("summary.json" if options.no_report else "report.html"), file=sys.stderr)


def _json(summary: Any) -> str:
    return json.dumps(summary, indent=1, ensure_ascii=False)

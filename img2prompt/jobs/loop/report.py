"""The page of a run: one file that shows the originals beside what came of their prompts, and how close that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from img2prompt.errors import OutputError
from img2prompt.jobs.loop.report_judge import judge_section
from img2prompt.jobs.loop.report_notes import (
    how_section,
    left_out_section,
    negated_section,
    refined_section,
    upsampled_section,
)
from img2prompt.jobs.loop.report_pictures import ends_section, pictures_section
from img2prompt.jobs.loop.report_run import (
    Run,
    is_number,
    kind_name,
    metric_name,
    percent,
    prompt_name,
    read_run,
    title_of,
    written,
)
from img2prompt.jobs.loop.report_scores import (
    SIGNIFICANT,
    corrected_p,
    scores_section,
    sets_section,
    tests_section,
)
from img2prompt.jobs.loop.report_table import categories_section, table_section
from img2prompt.jobs.loop.report_thumbnails import Thumbnails
from img2prompt.jobs.pages import page
from img2prompt.pairs.atomic import write_atomically

FEW = 3  # originals that are shown ahead of all scores


def write_report(folder: Path) -> Path:
    """Makes report.html of a run's results.jsonl, summary.json and pictures alone; returns its path.

    The page holds everything it shows: the first 400 originals with at most 6,000 pictures, the smaller the more there
    are, so that it stays below some 25 MB; the scores of the first 2,000.

    Raises:
        DataError: the folder holds no finished run.
        OutputError: the page cannot be written.
    """
    html = report_page(read_run(folder))
    path = folder / "report.html"
    try:
        write_atomically(path, html.encode())
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; make room and run the same command again") from error
    return path


def report_page(run: Run) -> str:
    """The HTML of a run."""
    thumbnails = Thumbnails(run)
    pictures = pictures_section(run, thumbnails) if run.rows else None
    few = len(run.rows) <= FEW
    sections = [
        pictures if few else None,
        scores_section(run),
        tests_section(run),
        judge_section(run),
        categories_section(run),
        sets_section(run),
        refined_section(run),
        negated_section(run),
        ends_section(run, thumbnails),
        None if few else pictures,
        table_section(run, thumbnails.shown),
        upsampled_section(run),
        left_out_section(run),
        how_section(run),
    ]
    return page(
        _title(run),
        [section for section in sections if section is not None],
        kicker="Round trip" if run.has_originals else "Base against upsampled",
        lead=_lead(run),
        headline=_headline(run),
    )


def _title(run: Run) -> str:
    count = len(run.rows)
    if count == 1:
        return title_of(run.rows[0], 0)
    return f"{count:,} pictures, there and back" if run.has_originals else f"{count:,} prompts, plain and rich"


def _lead(run: Run) -> str:
    """What the leading metric says of the run, in a sentence or two."""
    if run.leading is None:
        return "No metric could be computed; the pictures are below."
    found = run.metrics[run.leading]
    shares = found.get("fractions") or {}
    if not run.has_originals:
        return " ".join([*_plain_lead(run, found), *_tested(run, found)])
    reached = [
        f"{percent(shares[kind]['mean'])} with the {kind_name(kind)}"
        for kind in (run.subject, "upsampled", "refined")
        if is_number((shares.get(kind) or {}).get("mean"))
    ]
    best = "another seed of one prompt" if found.get("ceiling_from") == "another seed" else "the true prompt"
    scale = f"By {metric_name(run.leading)}, where 0 % is an unrelated prompt and 100 % {best}, pictures come"
    words = [f"{scale} {_joined(reached)} prompt."] if reached else []
    return " ".join([*words, *_tested(run, found)])


def _plain_lead(run: Run, found: Mapping[str, Any]) -> list[str]:
    """Scores as they are, where no picture is the ceiling."""
    means = {kind: of.get("mean") for kind, of in (found.get("kinds") or {}).items() if is_number(of.get("mean"))}
    told = [f"{written(means[kind])} for the {prompt_name(kind)}" for kind in ("base", "upsampled") if kind in means]
    return (
        [f"How well pictures show the base prompt, by {metric_name(str(run.leading))}: {_joined(told)}."]
        if told
        else []
    )


def _tested(run: Run, found: Mapping[str, Any]) -> list[str]:
    test = next((t for t in found.get("tests") or [] if {t["a"], t["b"]} == {run.subject, "upsampled"}), None)
    return [_verdict(test, found)] if test else []


def _verdict(test: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    p = corrected_p(test)
    if not is_number(p) or not is_number(test.get("difference")):
        return "There are too few pictures to tell whether upsampling helps."
    if p >= SIGNIFICANT:
        return f"Upsampling makes no difference that shows (p = {p:.2f})."
    closer = (test["difference"] > 0) == bool(found.get("higher_is_better", True))
    helps = closer == (test["a"] == "upsampled")
    return f"Upsampling {'helps' if helps else 'hurts'} (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})."


def _headline(run: Run) -> dict[str, str]:
    made = sum("file" in one for row in run.rows for several in (row.get("pictures") or {}).values() for one in several)
    figures = {"originals" if run.has_originals else "prompts": f"{len(run.rows):,}", "pictures made": f"{made:,}"}
    shares = (run.metrics.get(run.leading or "") or {}).get("fractions") or {}
    for kind in (run.subject, "upsampled", "refined"):
        if is_number((shares.get(kind) or {}).get("mean")):
            figures[f"of the way, {kind_name(kind)}"] = percent(shares[kind]["mean"])
    failed = len(run.summary.get("failed") or [])
    if failed:
        figures["failed"] = f"{failed:,}"
    return figures


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

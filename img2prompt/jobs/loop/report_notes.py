"""What a run's page says beside pictures and scores: what became of prompts, what is missing, how it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, table
from img2prompt.jobs.loop.report_run import Run, kind_name, metric_name, written
from img2prompt.jobs.pages import Section, facts

FIRST = 50  # failures that are listed


def upsampled_section(run: Run) -> Section | None:
    """What became of the prompts that were to be made rich."""
    said = [row["prompts"]["upsampled"] for row in run.rows if (row.get("prompts") or {}).get("upsampled")]
    outcomes = Counter(str(one["outcome"]) for one in said if one.get("outcome"))
    if not outcomes:
        return None
    words = {"upsampled": "made rich", "trimmed": "made rich, trimmed to fit", "base": "the base stands"}
    counts = {words.get(name, name): f"{count:,} of {len(said):,}" for name, count in outcomes.most_common()}
    tokens = [one["tokens"] for one in said if isinstance(one.get("tokens"), int)]
    if tokens:
        counts["tokens"] = f"{median(tokens):.0f} in the median, {max(tokens)} at most"
    drifts = [one["drift"] for one in said if isinstance(one.get("drift"), Mapping)]
    if drifts:
        kept = sum(not drift.get("lost") and not drift.get("contradicted") for drift in drifts)
        counts["every fact kept"] = f"{kept:,} of {len(drifts):,}"
    why = Counter(str(one["why"]) for one in said if one.get("why"))
    body = facts(counts)
    if why:
        columns = [Column("why the base stands"), Column("prompts", "number")]
        body += Markup("<h3></h3>") + table(columns, why.most_common(10), caption="Fallen back")
    return Section("Made rich", body)


def refined_section(run: Run) -> Section | None:
    """What choosing among candidates by what they regenerate brought."""
    refined = run.summary.get("refined")
    if not refined:
        return None
    shown = {name: written(value) if isinstance(value, float) else value for name, value in refined.items()}
    if isinstance(refined.get("metric"), str):
        shown["metric"] = metric_name(refined["metric"])
    return Section("Refined", facts(_plain(shown)), "Candidates and edits, chosen by what they regenerate.")


def negated_section(run: Run) -> Section | None:
    """How many prompts were drawn once more with a negative one."""
    negated = run.summary.get("negated")
    if not negated:
        return None
    counts = {
        kind_name(kind): f"{found.get('negated', 0):,} of {found.get('prompts', 0):,} prompts"
        for kind, found in negated.items()
    }
    note = (
        "Where most pictures of a prompt show what it does not ask for, it is drawn again from the same noise with a"
        " negative prompt that names this; elsewhere the pictures are the same. They are compared with the very"
        " pictures that the faults were found in: a part of what is gained may be chance, since any change makes the"
        " worst pictures better on average."
    )
    return Section("Negative prompts", facts(counts), note)


def left_out_section(run: Run) -> Section | None:
    """Metrics that could not be computed, and everything that failed, each with its reason."""
    parts = []
    skipped = run.summary.get("skipped_metrics") or {}
    if skipped:
        reasons = [(metric_name(name), why) for name, why in skipped.items()]
        columns = [Column("metric"), Column("why")]
        parts.append(table(columns, reasons, caption="Metrics that were not computed", sortable=False))
    undefined = run.summary.get("undefined_metrics") or {}
    if undefined:
        columns = [Column("metric"), Column("pictures without a number", "number")]
        counts = [(metric_name(name), count) for name, count in undefined.items()]
        parts.append(table(columns, counts, caption="Scores that could not be had", sortable=False))
    failed = [
        (str(one.get("source", "")), one.get("kind"), one.get("error")) for one in run.summary.get("failed") or []
    ]
    if failed:
        columns = [Column("what"), Column("kind"), Column("what is wrong")]
        caption = "Failed" + (f", the first {FIRST} of {len(failed):,}" if len(failed) > FIRST else "")
        parts.append(table(columns, failed[:FIRST], caption=caption))
    outside = run.summary.get("outside_domain") or []
    if outside:
        caption = f"Unlike what the captioner knows: {len(outside):,}; their prompts are guesses"
        parts.append(table([Column("picture")], [[name] for name in outside[:FIRST]], caption=caption))
    pictures = Counter(
        (kind_name(kind), str(one.get("kind")), str(one.get("error")))
        for row in run.rows
        for kind, several in (row.get("pictures") or {}).items()
        for one in several
        if "error" in one
    )
    if pictures:
        listed = [(*key, count) for key, count in pictures.most_common(FIRST)]
        columns = [Column("prompt"), Column("kind"), Column("what is wrong"), Column("pictures", "number")]
        parts.append(table(columns, listed, caption="Pictures that could not be made"))
    return Section("Left out", Markup("<h3></h3>").join(parts)) if parts else None


def how_section(run: Run) -> Section:
    """The configuration."""
    config = run.summary.get("config") or {}
    asked = config.get("run") if isinstance(config.get("run"), Mapping) else None
    body = facts(_plain(asked or {name: value for name, value in config.items() if not isinstance(value, Mapping)}))
    rest = {name: value for name, value in config.items() if name != "run" and (asked or isinstance(value, Mapping))}
    for name, value in rest.items():
        if value:
            inner = facts(_plain(value if isinstance(value, Mapping) else {name: value}))
            body += Markup('<details class="data"><summary>{}</summary>{}</details>').format(
                name.replace("_", " "), inner
            )
    return Section("How it was made", body, "The same settings and seeds give the same pictures.")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names in words; what is empty is left out."""
    return {name.replace("_", " "): value for name, value in values.items() if value not in (None, "", [], {})}

"""One round trip on the page: the original, and beside it each prompt with the pictures that came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from markupsafe import Markup

from img2prompt.jobs.blocks import Column, figure, table
from img2prompt.jobs.loop.report_changes import changes, marked, shown
from img2prompt.jobs.loop.report_run import (
    Row,
    Run,
    compared_with,
    is_number,
    kind_name,
    metric_name,
    ordered,
    prompt_name,
    score_of,
    text_of,
    title_of,
    written,
)
from img2prompt.jobs.loop.report_thumbnails import ORIGINAL_PX, Thumbnails


def trip(run: Run, place: int, thumbnails: Thumbnails) -> Markup:
    """An original with every prompt and the pictures of each."""
    row = run.rows[place]
    name = title_of(row, place)
    kinds = ordered(set(row.get("prompts") or {}))
    others = [kind for kind in kinds if kind.startswith("candidate") or kind == "floor"]
    rows = Markup("").join(_kind(run, row, kind, thumbnails) for kind in kinds if kind not in others)
    if others:
        inner = Markup("").join(_kind(run, row, kind, thumbnails) for kind in others)
        count = len(others) - ("floor" in others)
        names = [f"{count} other candidate{'s' if count > 1 else ''}"] if count else []
        title = " and ".join([*names, *(["the floor: another picture's prompt"] if "floor" in others else [])])
        rows += Markup('<details class="data others"><summary>{}</summary>{}</details>').format(title, inner)
    original = thumbnails.of(row.get("original"), f"original, {name}", "original", least_px=ORIGINAL_PX)
    left = Markup('<div class="origin">{}</div>').format(figure(original)) if original else Markup("")
    if row.get("original") and not original:
        left = Markup('<div class="origin">{}</div>').format(_missing("not there", "original"))
    failed = Markup("").join(
        Markup('<p class="note fault">{}: {}</p>').format(one.get("kind"), one.get("error"))
        for one in row.get("failed") or []
    )
    return Markup('<div class="trip{}">{}<div class="kinds"><h3>{}</h3>{}{}{}</div></div>').format(
        "" if left else " text-first", left, name, failed, rows, _scores(run, row)
    )


def _kind(run: Run, row: Row, kind: str, thumbnails: Thumbnails) -> Markup:
    """A prompt and its pictures."""
    other = compared_with(row, kind)
    said = marked(text_of(row, other), text_of(row, kind)) if other else _plain(text_of(row, kind))
    pictures = (row.get("pictures") or {}).get(kind) or []
    scores = ((row.get("scores") or {}).get(kind) or {}).get(run.leading or "") or []
    again = (row.get("again") or {}).get(kind) or []
    figures = []
    for number, picture in enumerate(pictures):
        score = scores[number] if number < len(scores) else None
        read = again[number] if number < len(again) else None
        alt = f"{prompt_name(kind)}, seed {picture.get('seed')}" + (f"; it reads as: {read}" if read else "")
        found = thumbnails.of(picture.get("file"), alt, written(score) if score is not None else "")
        figures.append(figure(found) if found else _missing(picture.get("kind") or "not there", picture.get("error")))
    return Markup(
        '<div class="kind"><div class="said"><h4>{}</h4>{}{}</div><div class="strip">{}</div></div>\n'
    ).format(kind_name(kind), said, _about(row, kind, other), Markup("").join(figures))


def _about(row: Row, kind: str, other: str | None) -> Markup:
    """What is known of a prompt, in one line."""
    said: Mapping[str, Any] = (row.get("prompts") or {}).get(kind) or {}
    drift, faults = said.get("drift") or {}, (row.get("faults") or {}).get(kind) or {}
    parts = [
        "marked against the true prompt" if other == "true" else "",
        f"confidence {said['confidence']:.2f}" if isinstance(said.get("confidence"), float) else "",
        "unlike what the captioner knows" if said.get("in_domain") is False else "",
        f"{said['tokens']} tokens" if said.get("tokens") else "",
        "trimmed to fit" if said.get("outcome") == "trimmed" else "",
        f"the base stands: {said.get('why')}" if said.get("outcome") == "base" else "",
        f"lost: {', '.join(map(str, drift['lost']))}" if drift.get("lost") else "",
        f"contradicted: {', '.join(map(str, drift['contradicted']))}" if drift.get("contradicted") else "",
        f"missing in most pictures: {', '.join(map(str, faults['missing']))}" if faults.get("missing") else "",
        f"negative prompt: {said['negative']}" if said.get("negative") else "",
        "nothing to negate: the same pictures" if "negative" in said and not said["negative"] else "",
        f"shown besides: {', '.join(map(str, faults['extra']))}" if faults.get("extra") else "",
    ]
    line = " · ".join(part for part in parts if part)
    return Markup('<p class="note">{}</p>').format(line) if line else Markup("")


def _scores(run: Run, row: Row) -> Markup:
    """All scores of a row, what the captioner read in its pictures and what the judge said, folded away."""
    kinds = [kind for kind in ordered(set(row.get("scores") or {})) if row["scores"][kind]]
    names = [name for name in run.metrics if any(score_of(row, kind, name) is not None for kind in kinds)]
    lines: list[list[Any]] = [[metric_name(name), *(score_of(row, kind, name) for kind in kinds)] for name in names]
    judged: Mapping[str, Any] = row.get("judged") or {}
    if judged and kinds:
        lines.append(["judge", *(_mean_verdict(judged.get(kind)) for kind in kinds)])
    parts = []
    if lines:
        columns = [Column("mean over seeds"), *(Column(kind_name(kind), "number", "{:,.3f}") for kind in kinds)]
        parts.append(table(columns, lines, caption="Scores", sortable=False))
    for kind, texts in (row.get("again") or {}).items():
        parts.append(_list(f"Read in the pictures of the {prompt_name(kind)}", [text for text in texts or [] if text]))
    for kind, verdicts in judged.items():
        told = [one for one in verdicts or [] if isinstance(one, Mapping) and (one.get("why") or one.get("error"))]
        parts.append(_list(f"Judged of the {prompt_name(kind)}", [_verdict(one) for one in told]))
    trials = ((row.get("prompts") or {}).get("refined") or {}).get("trials") or []
    parts.append(_list("Tried while refining", [f"{written(t.get('likeness'))}: {t.get('text')}" for t in trials]))
    if not any(parts):
        return Markup("")
    return Markup('<details class="data"><summary>in numbers and words</summary>{}</details>').format(
        Markup("").join(parts)
    )


def _mean_verdict(verdicts: Any) -> float | None:
    found = [float(one["score"]) for one in verdicts or [] if isinstance(one, Mapping) and is_number(one.get("score"))]
    return fmean(found) if found else None


def _verdict(verdict: Mapping[str, Any]) -> str:
    if "error" in verdict:
        return f"no verdict: {verdict['error']}"
    return f"{written(verdict.get('score'))}: {verdict.get('why')}"


def _list(title: str, texts: Sequence[str]) -> Markup:
    if not texts:
        return Markup("")
    lines = Markup("").join(Markup('<li class="prompt" dir="auto">{}</li>').format(text) for text in texts)
    return Markup('<h4>{}</h4><ol class="plain">{}</ol>').format(title, lines)


def _plain(text: str) -> Markup:
    return shown(changes(text, text))


def _missing(kind: Any, why: Any) -> Markup:
    return Markup('<figure class="missing"><div>no picture</div><figcaption>{}</figcaption></figure>').format(
        ": ".join(str(part) for part in (kind, why) if part)
    )

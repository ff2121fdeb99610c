"""Pictures of a run on its page: the original beside what came of each prompt, seed by seed."""

from __future__ import annotations

from markupsafe import Markup

from img2prompt.jobs.blocks import Card, Item, browse, grid
from img2prompt.jobs.loop.report_run import (
    Run,
    kind_name,
    metric_name,
    prompt_name,
    score_of,
    text_of,
    title_of,
    written,
)
from img2prompt.jobs.loop.report_thumbnails import Thumbnails
from img2prompt.jobs.loop.report_trip import trip
from img2prompt.jobs.pages import Section, columns
from img2prompt.progress import track

ENDS = 3  # best and worst pictures that are shown ahead of all


def pictures_section(run: Run, thumbnails: Thumbnails) -> Section:
    """Every picture of the run, a list to search, order and turn."""
    items = [
        Item(trip(run, place, thumbnails), _keys(run, place), anchor=anchor(place))
        for place in track(range(thumbnails.shown), total=thumbnails.shown, unit="row", label="report")
    ]
    note = Markup("In prompts, words that <ins>came</ins> and words that <del>went</del> are marked.")
    note += " Pictures in one column started from the same noise."
    if run.leading:
        note += f" Below each picture: its {metric_name(run.leading)}."
    if thumbnails.shown < len(run.rows):
        note += Markup(" The first {:,} of {:,}; all are in the folder of the run.").format(
            thumbnails.shown, len(run.rows)
        )
    if len(items) == 1:
        return Section("The picture" if run.has_originals else "The prompt", items[0].body, note, wide=True)
    title = "Every picture" if run.has_originals else "Every prompt"
    return Section(title, browse(items, _orders(run), label="prompts"), note, wide=True)


def ends_section(run: Run, thumbnails: Thumbnails) -> Section | None:
    """The pictures that came closest, and those that stayed farthest away."""
    metric = run.leading
    if metric is None or len(run.rows) < 4:
        return None
    higher = bool(run.metrics[metric].get("higher_is_better", True))
    scores = [(score_of(row, run.subject, metric), place) for place, row in enumerate(run.rows)]
    scored = [(score, place) for score, place in scores if score is not None]
    scored.sort(reverse=higher)
    count = min(ENDS, len(scored) // 2)
    if not count:
        return None
    best, worst = scored[:count], scored[-count:][::-1]
    sides = [
        Markup("<h3>{}</h3>\n{}").format(title, grid([_end(run, thumbnails, *one) for one in some], large=True))
        for title, some in (("Best", best), ("Worst", worst))
    ]
    note = f"By {metric_name(metric)} of the pictures of the {prompt_name(run.subject)}, mean over seeds."
    return Section("Best and worst", columns(*sides), note, wide=True)


def anchor(place: int) -> str:
    """The name that links lead to the pictures of a row by."""
    return f"p{place + 1}"


def _end(run: Run, thumbnails: Thumbnails, score: float, place: int) -> Card:
    row = run.rows[place]
    kinds = [kind for kind in (run.subject, "upsampled", "refined") if kind in (row.get("pictures") or {})]
    chosen = [(row.get("original"), "original")]
    chosen += [(row["pictures"][kind][0].get("file"), kind_name(kind)) for kind in kinds if row["pictures"][kind]]
    found = [thumbnails.of(file, f"{name}, {title_of(row, place)}", name) for file, name in chosen]
    note = f"{metric_name(str(run.leading))} {written(score)} · {title_of(row, place)}"
    return Card([picture for picture in found if picture], text_of(row, run.subject), note)


def _keys(run: Run, place: int) -> dict[str, float]:
    """Numbers to order the list by; higher is closer."""
    row = run.rows[place]
    keys: dict[str, float] = {"place": -place}
    if run.leading:
        sign = 1 if run.metrics[run.leading].get("higher_is_better", True) else -1
        own, rich = (score_of(row, kind, run.leading) for kind in (run.subject, "upsampled"))
        keys["close"] = sign * own if own is not None else -1e9
        keys["gain"] = sign * (rich - own) if rich is not None and own is not None else -1e9
    return keys


def _orders(run: Run) -> dict[str, tuple[str, bool]]:
    orders = {"as they came": ("place", True)}
    if run.leading:
        orders |= {"best first": ("close", True), "worst first": ("close", False)}
        if "upsampled" in run.kinds:
            orders |= {"upsampling helped most": ("gain", True), "upsampling hurt most": ("gain", False)}
    return orders

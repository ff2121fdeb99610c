"""The page of `img2prompt pairs stats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from img2prompt.jobs.blocks import Card, Column, grid, table, thumbnail
from img2prompt.jobs.figures import bins, curve, histogram
from img2prompt.jobs.pages import Section, columns, facts, page

if TYPE_CHECKING:
    from img2prompt.pairs.profile import Example

LISTED = 20  # words and phrases
SIZES = 8  # of pictures that are listed


def stats_page(found: Mapping[str, Any], examples: Sequence[Example]) -> str:
    """The HTML of what was counted.

    Args:
        found: as `Profile.to_dict` gives it, with `near_duplicates`, `skipped` and `skipped_first`.
        examples: pairs to show.
    """
    prompts, pictures, rows = found["prompts"], found["pictures"], found["rows"]
    names = list(found["sources"])
    headline = {"rows": f"{rows:,}"}
    if pictures["distinct"]:
        headline["different pictures"] = f"{pictures['distinct']:,}"
    headline |= {
        "different prompts": f"{prompts['distinct_folded']:,}",
        "words in the median prompt": f"{prompts['words'].get('median', 0):,}",
        "over 77 CLIP tokens": f"{prompts['tokens']['over_77_share']:.1%}",
    }
    sections = [
        _examples(found, examples),
        _lengths(prompts),
        _words(found),
        _repeats(found),
        _pictures(found),
        _sources(found),
        _left_out(found),
    ]
    return page(
        " and ".join(_short(name) for name in names) if len(names) <= 2 else f"{len(names)} sources of pairs",
        [section for section in sections if section is not None],
        kicker="Prompt-image pairs" if pictures["distinct"] else "Prompts",
        headline=headline,
    )


def _examples(found: Mapping[str, Any], examples: Sequence[Example]) -> Section | None:
    if not examples:
        return None
    several = len(found["sources"]) > 1
    cards = [
        # The prompt beside it says what the picture shows; read out twice it would only be noise.
        Card([thumbnail(e.image, f"picture of row {e.id}")], e.prompt, _short(e.source) if several else "")
        for e in examples
    ]
    note = f"{len(cards)} pairs, drawn at random from {found['rows']:,}."
    return Section("Examples", grid(cards), note, wide=True)


def _lengths(prompts: Mapping[str, Any]) -> Section:
    kinds = {"tokens": "CLIP tokens", "words": "Words", "characters": "Characters"}
    marks = {"tokens": (78.0, "77, the rest is cut")}
    sample = prompts["tokens"]["sample"]
    tokens, *others = (
        histogram(bins(_counts(prompts[kind])), caption=f"{name} of a prompt", unit=kind, mark=marks.get(kind))
        for kind, name in kinds.items()
    )
    at = ("least", "5 %", "median", "95 %", "most")
    summary = table(
        [Column(""), *(Column(name, "number") for name in at), Column("mean", "number", "{:,.1f}")],
        [[name, *(prompts[kind].get(a, 0) for a in at), prompts[kind]["mean"]] for kind, name in kinds.items()],
        caption="In numbers",
        sortable=False,
    )
    note = f"CLIP reads 77 tokens, its start and end included. Tokens were counted in {sample:,} prompts."
    return Section("Length of the prompts", Markup("").join([tokens, columns(*others), summary]), note)


def _words(found: Mapping[str, Any]) -> Section | None:
    lists = [("top_words", "Words", "word"), ("top_phrases", "Phrases", "phrase")]
    tables = [
        table(
            [Column(name), Column("", "bar"), Column("times", "number")],
            [(text, count, count) for text, count in found[key][:LISTED]],
            caption=caption,
        )
        for key, caption, name in lists
        if found[key]
    ]
    error = max(found["counts_too_small_by_up_to"].values())
    note = "Without English function words. A phrase is not listed where it is nearly always part of a longer one." + (
        f" Rare texts were forgotten on the way: counts may be too small by up to {error:,}." if error else ""
    )
    return Section("Words and phrases", columns(*tables), note) if tables else None


def _repeats(found: Mapping[str, Any]) -> Section:
    prompts, near, parts = found["prompts"], found["near_duplicates"], []
    again = prompts["repeated_rows"]
    if near and near["sample"]:
        points = [(at, stay / near["sample"]) for at, stay in near["curve"]]
        caption = "Prompts that stay when near-duplicates go"
        parts.append(curve(points, caption=caption, names=("cosine threshold", "stay")))
    parts.append(
        facts(
            {
                "different prompts": prompts["distinct"],
                "but for case and white space": prompts["distinct_folded"],
                "rows that repeat one": f"{again:,} ({again / found['rows']:.1%})",
                "sentence model": near and near["sentence_model"],
            }
        )
    )
    if prompts["most_repeated"]:
        columns_ = [Column("prompt", "prompt"), Column("rows", "number")]
        parts.append(Markup("<h3></h3>") + table(columns_, prompts["most_repeated"][:10], caption="Most repeated"))
    note = ""
    if near:
        note = f"Cosines of sentence embeddings, in {near['sample']:,} prompts." + (
            " That is a sample: among all rows more prompts have a neighbour, so fewer stay."
            if near["sample"] < found["rows"]
            else ""
        )
    return Section("Repeats and near-duplicates" if near else "Repeats", Markup("").join(parts), note)


def _pictures(found: Mapping[str, Any]) -> Section | None:
    pictures = found["pictures"]
    if not pictures["distinct"]:
        return None
    parts = []
    if pictures["shorter_side_px"]["histogram"]:
        shorter = _counts(pictures["shorter_side_px"])
        if len(shorter) > 1:
            parts.append(histogram(bins(shorter), caption="Shorter side", unit="px"))
        formats = [
            (kind, of["count"], of["count"], of["mean_bytes"] / 1024) for kind, of in pictures["formats"].items()
        ]
        heads = [Column("", "bar"), Column("pictures", "number")]
        by_format = table(
            [Column("format"), *heads, Column("mean KiB", "number", "{:,.0f}")], formats, caption="Formats"
        )
        sizes = [(size.replace("x", "×"), count, count) for size, count in list(pictures["sizes"].items())[:SIZES]]
        more = pictures["different_sizes"] - len(sizes)
        caption = f"Sizes{f', and {more:,} others' if more else ''}"
        parts.append(columns(by_format, table([Column("pixels"), *heads], sizes, caption=caption)))
    of = {"not readable": pictures["unreadable"] or None, "only as URLs, not fetched": pictures["urls"] or None}
    if any(of.values()):
        parts.append(facts(of))
    return Section("Pictures", Markup("").join(parts), f"The headers of {pictures['sample']:,} pictures were read.")


def _sources(found: Mapping[str, Any]) -> Section | None:
    if len(found["sources"]) < 2:
        return None
    rows = [(name, count, count, count / found["rows"]) for name, count in found["sources"].items()]
    heads = [Column("source"), Column("", "bar"), Column("rows", "number"), Column("share", "number", "{:.1%}")]
    return Section("Sources", table(heads, rows[:100], caption="Rows by source"))


def _left_out(found: Mapping[str, Any]) -> Section | None:
    if not found["skipped"]:
        return None
    counts = table(
        [Column("kind"), Column("rows", "number")], list(found["skipped"].items()), caption="Left out, by kind"
    )
    first = [(row["kind"], row["source"], row["error"]) for row in found["skipped_first"]]
    examples = table([Column("kind"), Column("where"), Column("what is wrong")], first, caption="The first of them")
    return Section("Left out", Markup("{}<h3></h3>{}").format(counts, examples))


def _counts(lengths: Mapping[str, Any]) -> dict[int, int]:
    return {int(length): count for length, count in lengths["histogram"].items()}


def _short(name: str) -> str:
    """The last part of a path."""
    return Path(name).name or name

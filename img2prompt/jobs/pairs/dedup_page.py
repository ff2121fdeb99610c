"""The page of a removal of near-duplicates: what went, why that threshold, and the groups to look through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from img2prompt.jobs.blocks import Column, Item, browse, table
from img2prompt.jobs.figures import bins, curve, histogram
from img2prompt.jobs.pages import Section, columns, facts, page, prompt
from img2prompt.jobs.pairs.groups import Group, Member

MOST_MEMBERS = 40  # of a group on the page
AT_ONCE = 6  # of them that need no click
SIZES = ((2, 2), (3, 3), (4, 4), (5, 9), (10, 19), (20, 49), (50, 99), (100, 999))  # rows of a group, in the table

NAMES = {  # fact -> its name on the page; what is not here is called by its own
    "keep": "who survives",
    "threshold": "threshold",
    "method": "method",
    "recall": "measured recall",
    "sentence_model": "sentence model",
    "sources": "sources",
    "against": "against",
    "seconds": "time",
    "near_others": "of these near those",
    "left_out": "left out",
}
FOLDED = ("settings", "versions")  # facts that few want to read
_PARTS = re.compile(r"\s+|\S+")
_WORD = re.compile(r"\w+")
IN_HEADLINE = ("rows", "survivors", "removed")


def dedup_page(report: Mapping[str, Any], groups: Sequence[Group]) -> str:
    """The HTML of a report.

    Args:
        report: what report.json holds.
        groups: those to show, the largest first.
    """
    known: Mapping[str, Any] = report["facts"]
    rows, survivors = int(known["rows"]), int(known["survivors"])
    threshold = float(known["threshold"])
    lead = (
        f"Each of the {report['removed']:,} that went is at cosine {threshold:g} or more to one that stays, listed"
        " with it below; words that the one that stays does not have are marked."
    )
    sections = [
        _curve(report["curve"], rows, threshold),
        _numbers(report, threshold),
        _how(known),
        _groups(report, groups),
    ]
    return page(
        f"{survivors:,} of {rows:,} prompts stay",
        [section for section in sections if section is not None],
        kicker="Near-duplicate prompts",
        lead=lead,
        headline={
            "went": f"{report['removed']:,}",
            "of all prompts": f"{report['removed'] / max(rows, 1):.1%}",
            "groups": f"{report['groups']:,}",
            "in the largest": f"{max(map(int, report['group_sizes']), default=0):,}",
            "cosine threshold": f"{threshold:g}",
        },
    )


def _curve(points: Iterable[Sequence[float]], rows: int, threshold: float) -> Section | None:
    shares = [(float(at), survivors / max(rows, 1)) for at, survivors in points]
    if not shares:
        return None
    return Section(
        "Choosing the threshold",
        curve(shares, caption="Prompts that stay", names=("cosine threshold", "stay"), chosen=threshold),
        "A steep stretch means many prompts are about that near to each other. The chosen threshold is marked.",
    )


def _numbers(report: Mapping[str, Any], threshold: float) -> Section | None:
    if not report["groups"]:
        return None
    sizes = {int(size): int(count) for size, count in report["group_sizes"].items()}
    largest = max(sizes)
    spans = [*SIZES, (1000, largest)]
    rows = [
        (f"{low:,}" if low == high else f"{low:,} to {high:,}", groups, groups, went)
        for low, high in spans
        if (groups := sum(count for size, count in sizes.items() if low <= size <= high))
        and (went := sum((size - 1) * count for size, count in sizes.items() if low <= size <= high))
    ]
    by_size = table(
        [Column("rows"), Column("", "bar"), Column("groups", "number"), Column("went", "number")],
        rows,
        caption="Groups by size",
        sortable=False,
    )
    near = {round(100 * float(edge)): int(count) for edge, count in report["cosines"].items()}
    by_cosine = histogram(
        bins(near),
        caption="Rows that went",
        unit="cosine to the survivor",
        write=lambda hundredths: f"{hundredths / 100:.2f}",
    )
    return Section(
        "The groups",
        columns(by_size, by_cosine),
        f"A group is a survivor and the rows that went because of it. Much just above {threshold:g} means that a little"
        " higher threshold would keep much more.",
    )


def _how(known: Mapping[str, Any]) -> Section:
    shown = {name: known.get(name) for name in NAMES} | {n: v for n, v in known.items() if n not in IN_HEADLINE}
    if shown.get("recall") is not None:
        sample = f", of {shown['recall_pairs']:,} near pairs of a sample" if shown.get("recall_pairs") else ""
        shown["recall"] = f"{shown['recall']:.5f}{sample}"
    shown.pop("recall_pairs", None)
    if isinstance(shown.get("seconds"), int | float):
        shown["seconds"] = f"{shown['seconds']:,.1f} s"
    folded = {name: shown.pop(name) for name in FOLDED if shown.get(name)}
    settled = {NAMES.get(n, n.replace("_", " ")): value for n, value in shown.items() if value not in (None, [], {}, 0)}
    more = Markup('<details class="data"><summary>settings and versions</summary>{}</details>').format(facts(folded))
    return Section("How", facts(settled) + more if folded else facts(settled))


def _groups(report: Mapping[str, Any], groups: Sequence[Group]) -> Section | None:
    if not groups:
        return None
    total = report["groups"]
    what = (
        f"All {total:,} groups."
        if len(groups) == total
        else f"{len(groups):,} of {total:,} groups: the largest, and those with the lowest cosines."
    )
    return Section(
        "Groups to look through",
        browse(
            [Item(_group(group), {"size": 1 + len(group.removed), "lowest": group.lowest}) for group in groups],
            {
                "largest first": ("size", True),
                "lowest cosine first": ("lowest", False),
                "highest cosine first": ("lowest", True),
            },
            label="in the prompts",
        ),
        Markup("{} Every group is in <a href='groups.jsonl'>groups.jsonl</a>.").format(what),
        wide=True,
    )


def _group(group: Group) -> Markup:
    where = _where(group.survivor.source, group.survivor.id, group.survivor.row)
    own = set(_folded(group.survivor.prompt))
    lines = [_member(member, own) for member in group.removed[:MOST_MEMBERS]]
    if len(group.removed) > MOST_MEMBERS:
        # Of a long list the ends are told: the nearest are alike anyhow, the farthest are where a removal may be wrong.
        half, rest = MOST_MEMBERS // 2, len(group.removed) - MOST_MEMBERS
        lines[half:] = [Markup('<li><span></span><span class="note">{:,} more between these</span></li>').format(rest)]
        lines += [_member(member, own) for member in group.removed[-half:]]
    if len(lines) > AT_ONCE + 2:
        more = Markup('<li><details><summary>{:,} more</summary><ul class="members">{}</ul></details></li>')
        inner = Markup("").join(lines[AT_ONCE // 2 : -AT_ONCE // 2])
        lines[AT_ONCE // 2 : -AT_ONCE // 2] = [more.format(len(group.removed) - AT_ONCE, inner)]
    return Markup('{}<p class="note">stays · {} · {} went</p><ul class="members">{}</ul>').format(
        prompt(group.survivor.prompt), where, f"{len(group.removed):,}", Markup("").join(lines)
    )


def _member(member: Member, own: set[str]) -> Markup:
    """A row that went, with the words marked that its survivor does not have."""

    def write(text: str) -> Markup:
        parts = (
            Markup("<mark>{}</mark>").format(part)
            if part.strip() and not own.issuperset(_folded(part))
            else escape(part)
            for part in _PARTS.findall(text)
        )
        return Markup("").join(parts)

    shown = prompt(member.prompt, tag="div", write=write)
    return Markup('<li><span class="cosine">{:.3f}</span>{}</li>').format(member.cosine, shown)


def _folded(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _where(source: str | None, name: str | None, row: int) -> str:
    name = f"row {row:,}" if name is None else name
    return name if not source or name.startswith(source) else f"{source}, {name}"

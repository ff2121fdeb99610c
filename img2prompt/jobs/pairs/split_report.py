"""What `img2prompt pairs split` says of a division: rows of each side, and what sides tell of others."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.fetch import printable
from img2prompt.pairs.pinning import LEFT_OUT
from img2prompt.pairs.prompts import PromptRow, folded
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.split import NO_SIDE, SIDES, THRESHOLDS, leakage

_LARGEST = 5  # clusters that a report names
_NEAREST = 5  # pairs of two sides that it names
_CHARS = 70  # of a prompt in the text

Benchmarks = Mapping[str, tuple[Sequence[str], NDArray[np.float32]]]  # file -> prompts, embeddings (M,D)


@dataclass(frozen=True)
class Divided:
    """Rows and their sides.

    Attributes:
        rows: (N) what was divided.
        labels: (N,) clusters.
        sides: (N,) places in `SIDES`, or `NO_SIDE`.
        pinned: (N,) sides of the rows that an earlier division had.
        gone: rows of the earlier division that are not among the rows.
    """

    rows: Sequence[PromptRow]
    labels: NDArray[np.int64]
    sides: NDArray[np.int64]
    pinned: NDArray[np.int64]
    gone: int


def report_of(divided: Divided, skips: Skips) -> dict[str, Any]:
    """Rows, clusters and shares as plain data."""
    rows, labels, sides = divided.rows, divided.labels, divided.sides
    sizes = np.bincount(labels)
    largest = np.argsort(-sizes, kind="stable")[:_LARGEST]
    first = {label: place for place, label in reversed(list(enumerate(labels.tolist())))}
    strata = {source: Counter[int]() for source in dict.fromkeys(row.source for row in rows)}
    for row, side in zip(rows, sides.tolist(), strict=True):
        strata[row.source][side] += 1
    old = int((divided.pinned != NO_SIDE).sum())
    return {
        "rows": len(rows),
        "clusters": len(np.unique(labels)),
        "sides": {
            name: {
                "rows": int((sides == side).sum()),
                "share": float((sides == side).mean()),
                "clusters": len(np.unique(labels[sides == side])),
            }
            for side, name in [*enumerate(SIDES), (NO_SIDE, LEFT_OUT)]
        },
        "sources": {
            source: {name: counts[side] for side, name in [*enumerate(SIDES), (NO_SIDE, LEFT_OUT)]}
            for source, counts in strata.items()
        },
        "largest_clusters": [
            {"rows": int(sizes[label]), "side": _named(sides[first[label]]), "prompt": rows[first[label]].prompt}
            for label in largest.tolist()
        ],
        "previous": {"rows": old, "new": len(rows) - old, "gone": divided.gone} if old or divided.gone else None,
        **skips.to_dict(),
    }


def leakage_report(
    prompts: Sequence[str],
    emb: NDArray[np.float32],
    sides: NDArray[np.int64],
    threshold: float,
    benchmarks: Benchmarks,
) -> dict[str, Any]:
    """How near the sides come to each other and to the benchmarks, as plain data."""
    texts = {side: [prompts[row] for row in np.flatnonzero(sides == side).tolist()] for side in range(len(SIDES))}
    filled = [side for side in texts if texts[side]]
    between = [
        {
            "of": SIDES[b],
            "near": SIDES[a],
            **_compared((texts[a], emb[sides == a]), (texts[b], emb[sides == b]), threshold),
        }
        for a, b in combinations(filled, 2)
    ]
    outside = [
        {"of": path, "near": SIDES[side], **_compared((texts[side], emb[sides == side]), benchmark, threshold)}
        for path, benchmark in benchmarks.items()
        for side in filled
    ]
    return {"leakage": between, "benchmarks": outside}


def _compared(
    known: tuple[Sequence[str], NDArray[np.float32]], asked: tuple[Sequence[str], NDArray[np.float32]], threshold: float
) -> dict[str, Any]:
    """The rows that are asked about, and how many of them have a known row near."""
    found = leakage(known[1], asked[1], sorted({*THRESHOLDS, threshold}))
    same = {folded(text) for text in known[0]}
    return {
        "rows": found.rows,
        "same_text": sum(folded(text) in same for text in asked[0]),
        "counts": {f"{t:g}": count for t, count in zip(found.thresholds, found.counts, strict=True)},
        "max_cosine": found.max_cosine,
        "mean_cosine": found.mean_cosine,
        "nearest": [
            {"prompt": asked[0][i], "near": known[0][j], "cosine": cosine} for i, j, cosine in found.worst[:_NEAREST]
        ],
    }


def report_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as text."""
    yield f"{report['rows']:,} rows in {report['clusters']:,} clusters; the largest:"
    yield from _table(
        [[f"{c['rows']:,}", c["side"], _short(c["prompt"])] for c in report["largest_clusters"] if c["rows"] > 1], "rll"
    )
    yield ""
    left_out = report["sides"][LEFT_OUT]["rows"]
    names = [*SIDES, LEFT_OUT] if left_out else [*SIDES]
    total = [f"{report['sides'][name]['rows']:,} ({report['sides'][name]['share']:.1%})" for name in names]
    sources = report["sources"].items()
    yield from _table(
        [["source", *names], ["all", *total]]
        + [
            [_short_path(source), *_shares([counts[name] for name in names])]
            for source, counts in sources
            if len(sources) > 1
        ]
    )
    if report["previous"]:
        old = report["previous"]
        yield f"{old['rows']:,} rows kept the sides they had, {old['new']:,} are new, {old['gone']:,} are gone"
    if left_out:
        yield f"{left_out:,} new rows are left out: they are near earlier rows of several sides"
    for title, key in (("leakage: rows that are near a row of another side", "leakage"), ("benchmarks", "benchmarks")):
        if report.get(key):
            yield ""
            yield from _leak_lines(title, report[key])
    near = [c for c in report.get("benchmarks", ()) if c["counts"][f"{report['config']['threshold']:g}"]]
    if near:
        files = " ".join(shlex.quote(file) for file in dict.fromkeys(c["of"] for c in near))
        yield f"  to remove what is near: img2prompt pairs dedup SOURCE... OUT --only-against --against {files}"


def _leak_lines(title: str, compared: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    thresholds = list(compared[0]["counts"])
    head = [title, "rows", *(f"≥ {t}" for t in thresholds), "same text", "nearest"]
    rows = [
        [f"{_file(c['of'])} near {c['near']}", f"{c['rows']:,}", *(f"{n:,}" for n in c["counts"].values()),
         f"{c['same_text']:,}", f"{c['max_cosine']:.3f}"]
        for c in compared
    ]  # fmt: skip
    yield from _table([head, *rows])
    first = max(compared, key=lambda c: float(c["max_cosine"]))
    for pair in first["nearest"][:2]:
        yield f"  {pair['cosine']:.3f}  {_short(pair['prompt'])}  |  {_short(pair['near'])}"


def _shares(counts: Sequence[int]) -> list[str]:
    total = sum(counts)
    return [f"{count:,} ({count / total:.1%})" for count in counts]


def _named(side: int) -> str:
    return LEFT_OUT if side == NO_SIDE else SIDES[side]


def _file(source: str) -> str:
    return _short(Path(source).name or source)


def _short_path(source: str) -> str:
    """A source by its end, which tells it from others in the same folder."""
    return _short(source[::-1])[::-1]


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _CHARS else line[: _CHARS - 1] + "…"


def _table(rows: Sequence[Sequence[str]], align: str = "") -> Iterator[str]:
    """Rows as lines with columns below each other: the first to the left, the others to the right unless `align` says
    otherwise, a letter a column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align or "l" + "r" * (len(widths) - 1)
    for row in rows:
        cells = (c.ljust(w) if s == "l" else c.rjust(w) for c, w, s in zip(row, widths, sides, strict=True))
        yield "  ".join(cells).rstrip()

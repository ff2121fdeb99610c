"""Reports of an evaluation: what one source's pictures scored, as data for JSON and as a table to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from img2prompt.results import Failed

WORST = 5  # cases in a report
LENGTHS = (5, 10, 20, 40)  # words of true prompts: the most of each group; the last group is open
MOST_GROUPS = 12  # lines of groups in the table; JSON holds all

ROWS: dict[str, tuple[str, str]] = {  # metric -> its line in the table and how its value is written
    "mean_cosine": ("MiniLM cosine, mean", "{:.3f}"),
    "bleu": ("BLEU-4", "{:.3f}"),
    "cider_d": ("CIDEr-D, of 10", "{:.2f}"),
    "identical_share": ("identical prompts", "{:.1%}"),
    "object_precision": ("object precision", "{:.3f}"),
    "object_recall": ("object recall", "{:.3f}"),
    "object_f1": ("object F1", "{:.3f}"),
    "count_accuracy": ("count accuracy", "{:.3f}"),
    "colour_binding": ("colour binding", "{:.3f}"),
    "size_accuracy": ("size accuracy", "{:.3f}"),
    "relation_accuracy": ("relation accuracy", "{:.3f}"),
    "setting_accuracy": ("setting accuracy", "{:.3f}"),
    "style_accuracy": ("style accuracy", "{:.3f}"),
    "time_accuracy": ("time accuracy", "{:.3f}"),
    "weather_accuracy": ("weather accuracy", "{:.3f}"),
    "mean_confidence": ("confidence, mean", "{:.3f}"),
    "in_domain_share": ("inside the model's world", "{:.1%}"),
    "confidence_auroc": ("AUROC of confidence, first source against this", "{:.3f}"),
    "ms_per_image": ("ms an image, warm", "{:.0f}"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """How the pictures of one kind did."""

    images: int
    mean_cosine: float


@dataclass(frozen=True, slots=True)
class Report:
    """How the predictions of one source did.

    Attributes:
        label: of the source, for the head of its column.
        images: that were predicted.
        failed: pictures that could not be used.
        metrics: name -> value; NaN where nothing was asked (such as the sizes of scenes without sizes).
        cosine_interval: 95 % bootstrap interval of the mean cosine; None without predictions.
        rows: one dict a predicted picture: name, prompts, words, cosine, origin, and of a captioner prompt, confidence
            and in_domain, of an estimated embedding nearest (the true prompt of all in the source that is closest).
    """

    label: str
    images: int
    failed: tuple[Failed, ...]
    metrics: dict[str, float]
    cosine_interval: tuple[float, float] | None
    rows: list[dict[str, Any]] = field(repr=False)

    @property
    def worst(self) -> list[dict[str, Any]]:
        """The rows with the lowest cosines."""
        return sorted(self.rows, key=lambda row: float(row["cosine"]))[:WORST]

    @property
    def by_length(self) -> dict[str, Group]:
        """Mean cosine by words of the true prompt, in the order of LENGTHS; lengths without pictures are left out."""
        groups = _grouped((length_name(row["words"]), row["cosine"]) for row in self.rows)
        return {name: groups[name] for name in map(length_name, (*LENGTHS, LENGTHS[-1] + 1)) if name in groups}

    @property
    def by_origin(self) -> dict[str, Group]:
        """Mean cosine by where the rows came from, sorted; empty when the data does not say, or names one place."""
        groups = _grouped((row["origin"], row["cosine"]) for row in self.rows if row["origin"] is not None)
        return dict(sorted(groups.items())) if len(groups) > 1 else {}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON, in which NaN is null."""
        return {
            "source": self.label,
            "images": self.images,
            "failed": [failed.to_dict() for failed in self.failed],
            "metrics": {name: None if math.isnan(value) else value for name, value in self.metrics.items()},
            "mean_cosine_interval": self.cosine_interval,
            "by_length": {name: asdict(group) for name, group in self.by_length.items()},
            "by_origin": {name: asdict(group) for name, group in self.by_origin.items()},
            "worst": self.worst,
            "rows": self.rows,
        }


def length_name(words: int) -> str:
    """The group of prompts of so many words."""
    lowest = 0
    for most in LENGTHS:
        if words <= most:
            return f"{lowest}-{most} words"
        lowest = most + 1
    return f"{lowest} or more words"


def _grouped(pairs: Iterable[tuple[str, float]]) -> dict[str, Group]:
    values: dict[str, list[float]] = {}
    for name, cosine in pairs:
        values.setdefault(name, []).append(cosine)
    return {name: Group(len(found), float(np.mean(found))) for name, found in values.items()}


def table(reports: Sequence[Report]) -> Iterator[str]:
    """Lines of the readable table: one column a source, one line a metric or group; then the worst cases."""
    rows: list[tuple[str, list[str]]] = [
        ("", [report.label for report in reports]),
        ("images", [str(report.images) for report in reports]),
        ("failed", [str(len(report.failed)) for report in reports]),
    ]
    for metric, (label, form) in ROWS.items():
        if any(metric in report.metrics for report in reports):
            rows.append((label, [_cell(report.metrics, metric, form) for report in reports]))
        if metric == "mean_cosine" and any(report.cosine_interval for report in reports):
            rows.append(("  95 % interval", [_interval(report.cosine_interval) for report in reports]))
            rows.extend(_group_rows([report.by_length for report in reports], "prompts of {}"))
            rows.extend(_group_rows([report.by_origin for report in reports], "from {}"))
    left = max(len(label) for label, _ in rows)
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(reports))]
    for label, cells in rows:
        yield (label.ljust(left) + "".join("  " + c.rjust(w) for c, w in zip(cells, widths, strict=True))).rstrip()
    for report in reports:
        if report.worst:
            yield f"\nworst of {report.label}, by cosine"
        for row in report.worst:
            yield f"  {row['cosine']:.3f}  {row['name']}"
            yield f"         said: {row['prompt']}" if "prompt" in row else f"         near: {row['nearest']}"
            yield f"         true: {row['prompts'][0]}"


def _group_rows(groups: Sequence[Mapping[str, Group]], label: str) -> Iterator[tuple[str, list[str]]]:
    """One line a group; none when a single group holds everything."""
    names = list(dict.fromkeys(name for one in groups for name in one))
    if len(names) > 1:
        for name in sorted(names, key=_natural)[:MOST_GROUPS]:
            cells = [f"{one[name].mean_cosine:.3f}" if name in one else "-" for one in groups]
            yield f"  {label.format(name)}", cells


def _natural(name: str) -> tuple[int, str]:
    """Lengths by number, other names by letter."""
    digits = name.split("-")[0].split()[0] if name else ""
    return (int(digits) if digits.isdecimal() else -1, name)


def _cell(metrics: Mapping[str, float], name: str, form: str) -> str:
    value = metrics.get(name, math.nan)
    return "-" if math.isnan(value) else form.format(value)


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else "{:.3f}-{:.3f}".format(*interval)

"""What an evaluation looks like: one PNG with the cosines, the lengths and the worst cases."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from img2prompt.jobs.reports import LENGTHS, WORST, Report, length_name
from img2prompt.pairs.atomic import fresh_file

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH_IN, CHART_IN, STRIP_IN = 13.0, 3.6, 4.2
BINS = 40
LINE_CHARACTERS, MOST_CHARACTERS = 30, 110  # of a prompt under its picture


def draw_evaluation(path: Path, reports: Sequence[Report], strips: Sequence[Sequence[Image]]) -> None:
    """Draws histograms of the cosines, their means by prompt length, and a strip of worst cases a source.

    Args:
        path: of the PNG, which appears whole or not at all.
        reports: one a source.
        strips: the pictures of each report's `worst`.

    Raises:
        OSError: as the system says.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, and no display is looked for

    shown = [(report, strip) for report, strip in zip(reports, strips, strict=True) if strip]
    figure = Figure(figsize=(WIDTH_IN, CHART_IN + STRIP_IN * len(shown)), layout="constrained")
    charts, *rows = np.atleast_1d(
        figure.subfigures(1 + len(shown), 1, height_ratios=[CHART_IN, *[STRIP_IN] * len(shown)])  # type: ignore[arg-type]
    )
    left, right = charts.subplots(1, 2)
    _draw_histogram(left, reports)
    _draw_lengths(right, reports)
    for row, (report, strip) in zip(rows, shown, strict=True):
        _draw_strip(row, report, strip)
    with fresh_file(path) as fresh, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a prompt in a script that the font does not have
        figure.savefig(fresh, format="png", dpi=100, metadata={"Software": None})


def _draw_histogram(axes: Any, reports: Sequence[Report]) -> None:
    found = [(report, [row["cosine"] for row in report.rows]) for report in reports if report.rows]
    lowest = min((min(cosines) for _, cosines in found), default=0.0)
    for report, cosines in found:
        label = f"{report.label}: {report.metrics['mean_cosine']:.3f}, {report.images} pictures"
        weights = np.full(len(cosines), 1 / len(cosines))
        reach = (min(lowest, 0.0), 1.0)
        axes.hist(cosines, BINS, range=reach, weights=weights, histtype="stepfilled", alpha=0.45, label=label)
    axes.set(xlabel="cosine with the true prompt", ylabel="share of pictures", title="Cosines")
    _finish(axes)


def _draw_lengths(axes: Any, reports: Sequence[Report]) -> None:
    names = [length_name(most) for most in (*LENGTHS, LENGTHS[-1] + 1)]
    used = [name for name in names if any(name in report.by_length for report in reports)]
    width = 0.8 / max(len(reports), 1)
    for i, report in enumerate(reports):
        groups = [(used.index(name), group) for name, group in report.by_length.items()]
        places = [place + (i - (len(reports) - 1) / 2) * width for place, _ in groups]
        bars = axes.bar(places, [group.mean_cosine for _, group in groups], width, alpha=0.6)
        axes.bar_label(bars, [f"n={group.images}" for _, group in groups], fontsize=7)
    axes.set_xticks(range(len(used)), used, fontsize=8)
    axes.set(ylabel="mean cosine", title="By length of the true prompt" + ", the same colours" * (len(reports) > 1))
    axes.margins(y=0.12)
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="upper left")


def _draw_strip(figure: Any, report: Report, strip: Sequence[Image]) -> None:
    figure.suptitle(f"worst of {report.label}", fontsize=11)
    for axes, row, image in zip(figure.subplots(1, WORST), report.worst, strip, strict=False):
        axes.imshow(image)
        axes.set_anchor("N")
        axes.set_title(f"{row['cosine']:.3f}", fontsize=10)
        said = f"said: {_short(row['prompt'])}" if "prompt" in row else f"near: {_short(row['nearest'])}"
        words = "\n".join(
            "\n".join(textwrap.wrap(line, LINE_CHARACTERS)) for line in (said, f"true: {_short(row['prompts'][0])}")
        )
        axes.set_xlabel(words, fontsize=8, parse_math=False)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _short(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS].rstrip()}..."

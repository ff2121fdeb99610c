"""Pictures of a run, drawn with matplotlib's objects, so that no global figure or window is involved."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d9822b", "#3a8a5f", "#6b7280"
SMOOTHED_FROM = 60  # points of a curve from which a running mean is drawn over it


@dataclass(frozen=True, slots=True)
class Card:
    """One validation picture of the sheet.

    Attributes:
        picture: (H,W,3) uint8.
        cosine: of the prediction to the true prompt's embedding.
        prompt: the true one.
        nearest: training prompts nearest to the prediction, with their cosine to it.
    """

    picture: np.ndarray
    cosine: float
    prompt: str
    nearest: list[tuple[str, float]]


def draw_training(history: Sequence[Mapping[str, Any]], cosines: NDArray[np.float64]) -> Figure:
    """Loss, validation cosine, histogram of the last validation's cosines, learning rate.

    Args:
        history: lines of metrics.jsonl.
        cosines: (M,) of the last validation.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(12, 8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))  # inches
    ((loss, cosine), (histogram, rate)) = figure.subplots(2, 2)
    for axes, title in ((loss, "Loss"), (cosine, "Validation cosine"), (rate, "Learning rate")):
        _style(axes, title)
        axes.set_xlabel("step")
    _style(histogram, "Cosines of the last validation")
    _curve(loss, history, "train/loss", BLUE, "training")
    _curve(loss, history, "val/loss", ORANGE, "validation")
    _cosine(cosine, history)
    _histogram(histogram, cosines)
    _curve(rate, history, "lr", BLUE, "highest (head)", smooth=False)
    lowest = [record for record in history if record.get("lr_lowest") != record.get("lr")]
    _curve(rate, lowest, "lr_lowest", ORANGE, "lowest", smooth=False)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        if len(axes.get_lines()) > 1:
            axes.legend(frameon=False)
    return figure


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


def _points(history: Sequence[Mapping[str, Any]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps (P,) and values (P,) where a metric was logged and finite."""
    pairs = [(record["step"], record[name]) for record in history if record.get(name) is not None]
    steps, values = np.array(pairs, float).reshape(-1, 2).T
    return steps, values


def _curve(
    axes: Axes, history: Sequence[Mapping[str, Any]], name: str, colour: str, label: str, *, smooth: bool = True
) -> None:
    steps, values = _points(history, name)
    if len(steps) == 0:
        return
    if smooth and len(steps) >= SMOOTHED_FROM:
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        width = len(steps) // 30
        kernel = np.ones(2 * width + 1)
        values = np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
    axes.plot(steps, values, color=colour, linewidth=1.8, label=label, marker="o" if len(steps) < 15 else None, ms=4)


def _cosine(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """The mean with its best point, over the median and the tenth percentile."""
    _curve(axes, history, "val/cosine", GREEN, "mean", smooth=False)
    _curve(axes, history, "val/cosine_p10", GREY, "worst tenth is below", smooth=False)
    steps, values = _points(history, "val/cosine")
    if len(steps) == 0:
        return
    best = int(values.argmax())
    axes.plot(steps[best], values[best], "o", color=GREEN, ms=9, mfc="none", mew=2)
    axes.set_title(f"best mean {values[best]:.4f} at step {steps[best]:.0f}", loc="right", fontsize=10, color=GREEN)
    axes.legend(frameon=False, loc="lower right")


def _histogram(axes: Axes, cosines: NDArray[np.float64]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("cosine to the true prompt")
    axes.set_ylabel("pictures")
    cosines = cosines[np.isfinite(cosines)]
    if len(cosines) == 0:
        return
    low = min(0.0, float(np.floor(cosines.min() * 10) / 10))
    axes.hist(cosines, bins=np.linspace(low, 1, 41).tolist(), color=BLUE, alpha=0.85)
    for value, name, style in ((cosines.mean(), "mean", "-"), (np.median(cosines), "median", "--")):
        axes.axvline(value, color=ORANGE, linestyle=style, linewidth=1.6, label=f"{name} {value:.3f}")
    axes.set_xlim(low, 1)
    axes.set_title(f"{len(cosines):,} pictures", loc="right", fontsize=10, color=GREY)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="upper left" if cosines.mean() > (1 + low) / 2 else "upper right")


def draw_sheet(best: Sequence[Card], worst: Sequence[Card]) -> Figure:
    """The best pictures on the left, the worst on the right."""
    from matplotlib.figure import Figure

    lines = max(len(best), len(worst), 1)
    height = 1.9 * lines + 0.6
    figure = Figure(figsize=(16, height), facecolor="white")
    top = 1 - 0.55 / height
    for column, (title, cards, colour) in enumerate((("Best", best, GREEN), ("Worst", worst, ORANGE))):
        left = 0.01 + 0.5 * column
        figure.text(left, 1 - 0.15 / height, title, fontsize=15, fontweight="bold", color=colour, va="top")
        for i, card in enumerate(cards):
            place = (left, top - (i + 1) * 1.9 / height, 0.48, 1.9 / height)
            _card(figure, card, place, colour)
    return figure


def _card(figure: Figure, card: Card, place: tuple[float, float, float, float], colour: str) -> None:
    """Picture on the left, words on the right of a place (left, bottom, width, height) of the figure."""
    left, bottom, width, height = place
    inches = figure.get_size_inches()
    side = 1.75 / inches[0]
    axes = figure.add_axes((left, bottom + 0.04 * height, side, 0.92 * height))
    axes.imshow(card.picture)
    axes.set_axis_off()
    axes.set_anchor("NW")
    text = figure.add_axes((left + side + 0.008, bottom, width - side - 0.008, 0.96 * height))
    text.set_axis_off()
    text.set_xlim(0, 1)
    text.set_ylim(0, 1)
    plain: dict[str, Any] = {"va": "top", "ha": "left", "parse_math": False}  # a prompt may hold dollar signs
    text.text(
        0, 1, f"{card.cosine:.3f}".replace("-", "\N{MINUS SIGN}"), fontsize=13, fontweight="bold", color=colour, **plain
    )
    text.text(0.14, 0.985, shown(card.prompt, 66, 3), fontsize=9.5, color="black", linespacing=1.25, **plain)
    text.text(0, 0.58, "nearest training prompts", fontsize=8, color=GREY, **plain)
    for i, (prompt, cosine) in enumerate(card.nearest):
        y = 0.48 - i * 0.17
        text.text(0, y, f"{cosine:.3f}", fontsize=8.5, color=GREY, **plain)
        text.text(0.14, y, shown(prompt, 74, 1), fontsize=8.5, color="#374151", **plain)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font has not; shown as boxes
        figure.savefig(path, format="png", dpi=110)


def shown(text: str, width: int, lines: int) -> str:
    """A text in at most so many lines of so many characters, without anything that does not print."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text[:2000]).split())
    parts = textwrap.wrap(clean, width, max_lines=lines, placeholder=" …", break_long_words=True)
    return "\n".join(parts)

"""Figures of a page as inline SVG: a histogram and a curve. Drawn twice, for wide and for narrow windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

SIZES = {"broad": (720, 240), "narrow": (340, 220)}  # class in the style sheet -> width and height in px
TOP, RIGHT, BOTTOM, LEFT = 22, 14, 40, 46  # px around the field where the data is drawn


@dataclass(frozen=True, slots=True)
class Bins:
    """Counts of whole numbers, in bins of one width.

    Attributes:
        first: the lowest number of the first bin.
        width: numbers in a bin.
        counts: of each bin; the last one holds everything above it too, where `open_end` says so.
        open_end: see `counts`.
    """

    first: int
    width: int
    counts: tuple[int, ...]
    open_end: bool

    def names(self, write: Callable[[float], str]) -> list[str]:
        """What each bin holds, such as "10-14", and the last "95 or more"."""
        starts = [self.first + self.width * i for i in range(len(self.counts))]
        ends = [f"-{write(start + self.width - 1)}" if self.width > 1 else "" for start in starts]
        names = [f"{write(start)}{end}" for start, end in zip(starts, ends, strict=True)]
        return [*names[:-1], f"{write(starts[-1])} or more"] if self.open_end else names


def whole(number: float) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,.0f}"


def bins(counts: Mapping[int, int], *, most: int = 40) -> Bins:
    """At most so many bins of a round width; a long thin tail goes into the last one.

    Args:
        counts: number -> how often it occurs; not empty.
        most: bins.
    """
    ordered = sorted(counts)
    total, seen, high = sum(counts.values()), 0, ordered[0]
    for high in ordered:
        seen += counts[high]
        if seen >= 0.995 * total:
            break
    low = ordered[0]
    if ordered[-1] <= low + 2 * (high - low):
        high = ordered[-1]  # the tail is short: show it
    width = next(step for step in _steps() if high // step - low // step < most)
    first = low // width * width
    heights = [0] * (high // width - low // width + 1)
    for number, count in counts.items():
        heights[min(number // width - low // width, len(heights) - 1)] += count
    return Bins(first, width, tuple(heights), ordered[-1] >= first + width * len(heights))


def histogram(
    data: Bins,
    *,
    caption: str,
    unit: str,
    mark: tuple[float, str] | None = None,
    write: Callable[[float], str] = whole,
) -> Markup:
    """Bars over numbers.

    Args:
        data: the bins.
        caption: what is counted.
        unit: of the numbers, under their axis.
        mark: a number to draw a line at, and what it is.
        write: how the numbers are written.
    """
    names = data.names(write)
    middle = 0.5 if data.width == 1 else 0.0  # a bar of one number has it under its middle

    def draw(width: int, height: int) -> Markup:
        field = _Field(width, height, (data.first, data.first + data.width * len(data.counts)), (0, max(data.counts)))
        bars = Markup("").join(
            _bar(field, data.first + data.width * i, data.width, count, f"{name} {unit}: {count:,}")
            for i, (name, count) in enumerate(zip(names, data.counts, strict=True))
        )
        shown = [x for x in _ticks(data.first, field.x_range[1], 8 if width > 400 else 5) if x < field.x_range[1]]
        shown = [x for x in shown if x == round(x)]  # between whole numbers there is nothing
        axis = field.axis([x + middle for x in shown], [write(x) for x in shown], unit, names[-1] * data.open_end)
        marked = mark is not None and data.first < mark[0] < field.x_range[1]
        return Markup("").join([field.rules(whole), bars, axis, field.mark(*mark) if mark and marked else ""])

    return _figure(draw, caption, [unit, "count"], [[n, f"{c:,}"] for n, c in zip(names, data.counts, strict=True)])


def curve(
    points: Sequence[tuple[float, float]],
    *,
    caption: str,
    names: tuple[str, str],
    form: str = "{:.0%}",
    chosen: float | None = None,
) -> Markup:
    """A line through points at fractions such as thresholds, with their values.

    Args:
        points: at least one.
        caption: what is shown.
        names: of the two axes.
        form: how a value is written.
        chosen: the place of a point to stress.
    """
    points = sorted(points)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low = min(ys) - 0.15 * (max(ys) - min(ys) or abs(ys[0]) or 1)

    def draw(width: int, height: int) -> Markup:
        field = _Field(width, height, (xs[0], xs[-1] if xs[-1] > xs[0] else xs[0] + 1), (max(low, 0), max(ys)))
        path = " ".join(f"{field.x(x):.1f},{field.y(y):.1f}" for x, y in points)
        parts = [field.rules(form.format), Markup('<polyline class="line" points="{}"/>').format(path)]
        for x, y in points:
            is_chosen = chosen is not None and abs(x - chosen) < 1e-9
            parts.append(
                Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{:.2f}: {}</title></circle>').format(
                    "chosen" if is_chosen else "dot", field.x(x), field.y(y), 5 if is_chosen else 3.5, x, form.format(y)
                )
            )
            if is_chosen:
                parts.append(field.label(x, y, form.format(y)))
        shown = xs if len(xs) <= (16 if width > 400 else 6) else xs[:: math.ceil(len(xs) / (16 if width > 400 else 6))]
        parts.append(field.axis(shown, [f"{x:.2f}" for x in shown], names[0], ""))
        return Markup("").join(parts)

    return _figure(draw, caption, list(names), [[f"{x:.2f}", form.format(y)] for x, y in points])


@dataclass(frozen=True, slots=True)
class _Field:
    """Where data lies on a drawing of so many pixels."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / ((high - low) or 1) * (self.height - TOP - BOTTOM)

    def rules(self, form: Callable[[float], str]) -> Markup:
        """Level lines with their values."""
        return Markup("").join(
            Markup(
                '<line class="rule" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/>'
                '<text x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>'
            ).format(LEFT, self.width - RIGHT, self.y(y), LEFT - 8, self.y(y) + 4, form(y))
            for y in _ticks(*self.y_range, 5)
        )

    def axis(self, places: Sequence[float], texts: Sequence[str], name: str, end: str) -> Markup:
        """The level axis: its line, numbers, name, and what the last bar holds."""
        base = self.height - BOTTOM
        parts = [
            Markup('<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, self.width - RIGHT, base, base),
            Markup('<text x="{}" y="{}">{}</text>').format(LEFT, self.height - 4, name),
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(self.width - RIGHT, self.height - 4, end),
        ]
        parts += [
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(self.x(x), base + 17, text)
            for x, text in zip(places, texts, strict=True)
        ]
        return Markup("").join(parts)

    def mark(self, place: float, name: str) -> Markup:
        """A line upright at a number."""
        x, right = self.x(place), self.x(place) > 0.7 * self.width
        return Markup(
            '<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
            '<text class="marked" x="{3:.1f}" y="{4}" text-anchor="{5}">{6}</text>'
        ).format(
            x, TOP - 12, self.height - BOTTOM, x - 6 if right else x + 6, TOP - 4, "end" if right else "start", name
        )

    def label(self, x: float, y: float, text: str) -> Markup:
        """A value above its point."""
        return Markup('<text class="marked" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            self.x(x), self.y(y) - 11, text
        )


def _bar(field: _Field, start: float, width: float, count: int, title: str) -> Markup:
    left, right, top = field.x(start), field.x(start + width), field.y(count)
    gap = 1 if right - left > 4 else 0
    height = max(field.height - BOTTOM - top, 1.0 if count else 0.0)  # one in a million is still to be seen
    return Markup(
        '<rect class="fill" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    ).format(left + gap / 2, field.height - BOTTOM - height, right - left - gap, height, title)


def _figure(
    draw: Callable[[int, int], Markup], caption: str, names: Sequence[str], rows: Sequence[Sequence[str]]
) -> Markup:
    """The drawing in its sizes, and its numbers as a table for who cannot or will not see it."""
    drawings = Markup("").join(
        Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>\n').format(
            name, width, height, caption, draw(width, height)
        )
        for name, (width, height) in SIZES.items()
    )
    heads = Markup("").join(Markup('<th scope="col" class="number">{}</th>').format(name) for name in names)
    lines = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup('<td class="number">{}</td>').format(v) for v in row))
        for row in rows
    )
    return Markup(
        '<figure class="plot"><figcaption>{}</figcaption>\n{}<details class="data"><summary>as numbers</summary>'
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></details></figure>\n"
    ).format(caption, drawings, heads, lines)


def _steps() -> Sequence[int]:
    return [digit * 10**power for power in range(12) for digit in (1, 2, 5)]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, some `about` of them."""
    span = (high - low) or 1
    rough = span / about
    scale = 10 ** math.floor(math.log10(rough))
    step = next(scale * digit for digit in (1, 2, 5, 10) if scale * digit >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]

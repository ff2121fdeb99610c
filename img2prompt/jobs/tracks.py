"""Shares of the way from a floor to a ceiling, drawn: a track, and on it each mean with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

LOW, HIGH = -0.2, 1.2  # shares at the ends of a drawing, beyond floor and ceiling; the style sheet places their names
WIDE = 1000  # units of a drawing from end to end; it is stretched to the width that there is
TALL = 20


@dataclass(frozen=True, slots=True)
class Mark:
    """A mean on a track.

    Attributes:
        name: what was measured.
        share: of the way from floor (0) to ceiling (1).
        low: end of its interval; None: not known.
        high: the other end.
        figures: the share and its interval in words.
        note: the score itself.
    """

    name: str
    share: float
    low: float | None
    high: float | None
    figures: str
    note: str = ""


def track(title: str, marks: Sequence[Mark], *, floor: str, ceiling: str, note: str = "") -> Markup:
    """Marks on one track below each other, as a list that reads well without the drawing too.

    Args:
        title: what is measured.
        marks: at least one.
        floor: what is written at the left end.
        ceiling: at the right end.
        note: a few words beside the title.
    """
    line = Markup(
        '<li><span class="name">{}</span>{}<span class="figures"><span>{}</span>'
        '<span class="note">{}</span></span></li>\n'
    )
    lines = Markup("").join(line.format(mark.name, _drawn(mark), mark.figures, mark.note) for mark in marks)
    return Markup(
        '<div class="track-of"><h3>{} <span class="note">{}</span></h3>\n'
        '<p class="ends"><span>{}</span><span>{}</span></p>\n<ul>{}</ul></div>\n'
    ).format(title, note, floor, ceiling, lines)


def _drawn(mark: Mark) -> Markup:
    parts = [_bar("track", 0, 1, 4), _line("end", 0, TALL - 6), _line("end", 1, TALL - 6)]
    if mark.low is not None and mark.high is not None:
        parts.append(_bar("span", mark.low, mark.high, TALL - 8))
    parts.append(_line("mean", mark.share, TALL))
    drawing = Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>')
    return drawing.format(WIDE, TALL, Markup("").join(parts))


def _bar(kind: str, low: float, high: float, height: float) -> Markup:
    left, right = sorted((_x(low), _x(high)))
    return Markup('<rect class="{}" x="{:.1f}" width="{:.1f}" y="{:g}" height="{:g}"/>').format(
        kind, left, max(right - left, 1), (TALL - height) / 2, height
    )


def _line(kind: str, share: float, height: float) -> Markup:
    return Markup('<line class="{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:g}" y2="{3:g}"/>').format(
        kind, _x(share), (TALL - height) / 2, (TALL + height) / 2
    )


def _x(share: float) -> float:
    """Where a share lies; what is beyond the drawing lies at its end."""
    return WIDE * (min(max(share, LOW), HIGH) - LOW) / (HIGH - LOW)

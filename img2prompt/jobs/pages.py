"""Reports to look at: one HTML file that holds all it shows and loads nothing, light and dark, wide and narrow.

Every helper gives `Markup`; any other text that is put into one is escaped there, whoever wrote it. Beyond that a page
forbids itself, by a content security policy, every script but its own and whatever lies outside of the file. Characters
that control a terminal, turn the direction of text or cannot be encoded are shown by their codes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from img2prompt._version import __version__

CUT = 320  # characters of a prompt that are shown at once in lists
# C0 and C1 controls but tab and newline, marks and overrides of direction, BOM, noncharacters, lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        body: what stands in it.
        note: a sentence under the heading.
        wide: heading above the body at any width, for pictures and long lists.
    """

    title: str
    body: Markup
    note: str | Markup = ""
    wide: bool = False


def page(
    title: str,
    sections: Iterable[Section],
    *,
    kicker: str = "",
    lead: str | Markup = "",
    headline: Mapping[str, str] | None = None,
) -> str:
    """The whole HTML file.

    Args:
        title: the heading, and the name of the window.
        sections: in their order.
        kicker: a few words above the title: what kind of report this is.
        lead: a sentence or two below it.
        headline: label -> figure, the few numbers that matter most.
    """
    style, script = _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_sha(style)}'; script-src '{_sha(script)}'; base-uri 'none'"
    )
    figures = Markup("").join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in (headline or {}).items()
    )
    html = Markup(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="{}">\n'
        "<title>{}</title>\n<style>{}</style>\n</head>\n"
        '<body>\n<main class="sheet">\n<header>\n{}<h1>{}</h1>\n{}{}</header>\n{}'
        "<footer>img2prompt {}</footer>\n</main>\n<script>{}</script>\n</body>\n</html>\n"
    ).format(
        policy,
        title,
        Markup(style),
        Markup('<p class="kicker">{}</p>\n').format(kicker) if kicker else "",
        title,
        Markup('<p class="lead">{}</p>\n').format(lead) if lead else "",
        Markup('<dl class="headline">{}</dl>\n').format(figures) if figures else "",
        Markup("").join(_section(section) for section in sections),
        __version__,
        Markup(script),
    )
    return visible(html)


def visible(text: str) -> str:
    """`text` with signs in the place of characters that cannot be seen, would turn its direction or be encoded."""
    return _UNSEEN.sub(_sign, text)


def prompt(text: str, *, cut: int = CUT, tag: str = "p", write: Callable[[str], Markup] = escape) -> Markup:
    """A prompt as an element of its own; a long one opens on demand.

    Args:
        text: the prompt.
        cut: characters that are shown at once.
        tag: of the element.
        write: gives its parts as HTML, such as with some words marked.
    """
    body = write(text)
    if len(text) > cut + 80:  # a rest of a few words is not worth a click
        head = text[:cut].rsplit(" ", 1)[0] if " " in text[cut // 2 : cut] else text[:cut]
        more = '<details class="more"><summary>… {:,} characters more</summary>{}</details>'
        body = Markup("{}" + more).format(write(head), len(text) - len(head), write(text[len(head) :]))
        tag = "div"
    return Markup('<{0} class="prompt" dir="auto">{1}</{0}>').format(Markup(tag), body)


def facts(rows: Mapping[str, Any]) -> Markup:
    """Names and what is known of them; a list becomes lines, a mapping "name: value" lines, None is left out."""
    return Markup('<dl class="facts">{}</dl>\n').format(
        Markup("").join(
            Markup("<dt>{}</dt><dd>{}</dd>").format(name, Markup("<br>").join(_lines(value)))
            for name, value in rows.items()
            if value is not None
        )
    )


def columns(*parts: Markup) -> Markup:
    """Parts beside each other where there is room."""
    return Markup('<div class="columns">{}</div>\n').format(
        Markup("").join(Markup("<div>{}</div>\n").format(part) for part in parts)
    )


def _section(section: Section) -> Markup:
    return Markup('<section{}>\n<div><h2>{}</h2>\n{}</div>\n<div class="matter">\n{}</div>\n</section>\n').format(
        Markup(' class="wide"') if section.wide else "",
        section.title,
        Markup('<p class="note">{}</p>\n').format(section.note) if section.note else "",
        section.body,
    )


def _lines(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name}: {', '.join(_lines(part))}" for name, part in value.items()]
    if isinstance(value, list | tuple):
        return [", ".join(_lines(part)) for part in value]
    return [f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)]


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the signs for control characters: ␛ for an escape
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


@cache
def _part(name: str) -> str:
    return resources.files("img2prompt.jobs").joinpath(name).read_text(encoding="utf-8")


def _sha(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"

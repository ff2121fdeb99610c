"""What the sections of a page are made of: tables, pictures with prompts, long lists to search."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup
from PIL import Image

from img2prompt.jobs.pages import prompt


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        kind: "text"; "prompt", set as such; "number", to the right and sorted as one, None as a dash that comes last;
            "bar", the value as a bar, whose full length is the column's largest value.
        form: how a number is written.
    """

    name: str
    kind: Literal["text", "prompt", "number", "bar"] = "text"
    form: str = "{:,}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture inside a page: its data URI, size in pixels, what is said instead of it, and a line below it."""

    uri: str
    width_px: int
    height_px: int
    alt: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One or more pictures side by side, such as an original and what was made of it, with their prompt and a note."""

    pictures: Sequence[Picture]
    prompt: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of a long list, the numbers it can be sorted by, and the name that links on the page lead to it by."""

    body: Markup
    keys: Mapping[str, float]
    anchor: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, caption: str, sortable: bool = True) -> Markup:
    """A table with headings, which a click on them sorts."""
    largest = [
        max((abs(row[place]) for row in rows), default=0) if column.kind == "bar" else 0
        for place, column in enumerate(columns)
    ]
    heads = (Markup('<th scope="col"{}>{}</th>').format(_kind(c), c.name) for c in columns)
    lines = (
        Markup("<tr>{}</tr>\n").format(
            Markup("").join(_cell(c, value, most) for c, value, most in zip(columns, row, largest, strict=True))
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll" role="region" aria-label="{0}" tabindex="0"><table{1}><caption>{0}</caption>\n'
        "<thead><tr>{2}</tr></thead>\n<tbody>\n{3}</tbody></table></div>\n"
    ).format(
        caption,
        Markup(' class="sortable"') if sortable and len(rows) > 1 else "",
        Markup("").join(heads),
        Markup("").join(lines),
    )


def thumbnail(image: Image.Image, alt: str, *, most_px: int = 320, caption: str = "") -> Picture:
    """An RGB picture for a page, its longer side at most `most_px`, as WebP of some 10 kB."""
    small = image.copy()
    small.thumbnail((most_px, most_px))
    sink = io.BytesIO()
    small.save(sink, "WEBP", quality=78, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(sink.getvalue()).decode('ascii')}"
    return Picture(uri, small.width, small.height, alt, caption)


def figure(picture: Picture) -> Markup:
    """A picture with its caption."""
    return Markup('<figure><img src="{}" width="{}" height="{}" alt="{}" loading="lazy">{}</figure>').format(
        picture.uri,
        picture.width_px,
        picture.height_px,
        picture.alt,
        Markup("<figcaption>{}</figcaption>").format(picture.caption) if picture.caption else "",
    )


def grid(cards: Iterable[Card], *, large: bool = False) -> Markup:
    """Pictures with their prompts; `large` for cards of several pictures."""
    return Markup('<ul class="grid{}">{}</ul>\n').format(
        " large" if large else "", Markup("").join(_card(card) for card in cards)
    )


def browse(items: Iterable[Item], sorts: Mapping[str, tuple[str, bool]], *, label: str) -> Markup:
    """A long list with a search box, an order to choose and pages; complete and readable without scripts too.

    Args:
        items: in the order of the first of `sorts`.
        sorts: what an order is called -> the key of the items, and whether the largest comes first.
        label: what is searched, such as "groups".
    """
    options = Markup("").join(
        Markup('<option value="{} {}">{}</option>').format(key, -1 if largest else 1, name)
        for name, (key, largest) in sorts.items()
    )
    entries = Markup("").join(
        Markup('<li class="item"{}{}>{}</li>\n').format(
            Markup(' id="{}"').format(item.anchor) if item.anchor else "",
            Markup("").join(Markup(' data-{}="{:g}"').format(Markup(key), value) for key, value in item.keys.items()),
            item.body,
        )
        for item in items
    )
    return Markup(
        '<div class="browse"><div class="controls" hidden>'
        '<label class="search">Search {}<input type="search" autocomplete="off"></label>'
        "<label>Order<select>{}</select></label>"
        '<div class="turn"><button type="button" aria-label="previous page">←</button><output></output>'
        '<button type="button" aria-label="next page">→</button></div></div>\n'
        '<ol class="items">\n{}</ol></div>\n'
    ).format(label, options, entries)


def _card(card: Card) -> Markup:
    pictures = Markup("").join(figure(picture) for picture in card.pictures)
    note = Markup('<p class="note">{}</p>').format(card.note) if card.note else ""
    return Markup('<li class="card"><div class="pictures">{}</div>{}{}</li>\n').format(
        pictures, prompt(card.prompt, cut=180), note
    )


def _kind(column: Column) -> Markup:
    return Markup(' class="{}"').format(column.kind) if column.kind in ("number", "bar") else Markup("")


def _cell(column: Column, value: Any, largest: float) -> Markup:
    if column.kind == "prompt":
        return Markup("<td>{}</td>").format(prompt(str(value), tag="div"))
    if column.kind == "text":
        return Markup("<td><bdi>{}</bdi></td>").format(value)
    if column.kind == "number" and value is None:
        return Markup('<td class="number" data-value="">–</td>')
    if column.kind == "number":
        return Markup('<td class="number" data-value="{}">{}</td>').format(
            value, column.form.format(value).replace("-", "−")
        )
    share = 100 * abs(value) / largest if largest else 0
    return Markup(
        '<td class="bar"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/><rect class="fill" width="{:.2f}" height="8"/></svg></td>'
    ).format(share)

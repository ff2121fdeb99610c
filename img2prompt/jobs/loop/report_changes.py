"""What changed from one prompt to another, word by word: new words are underlined, lost ones struck through."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from markupsafe import Markup

Kind = Literal["same", "new", "lost"]

CUT = 480  # characters of a prompt that are shown at once
MOST_WORDS = 2000  # of a prompt that are compared; a longer one differs from its first change to its last as a whole
_TOKENS = re.compile(r"\s+|\w+(?:['’-]\w+)*|[^\w\s]")
_TAGS: dict[Kind, str] = {"same": "{}", "new": "<ins>{}</ins>", "lost": "<del>{}</del>"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that both prompts have, that only the new one has, or that it lost."""

    kind: Kind
    text: str


def changes(old: str, new: str) -> list[Piece]:
    """The pieces of both texts in reading order: "same" and "new" join to `new`, "same" and "lost" to `old`.

    A word is compared as it is written. Between two changed words white space and punctuation count as changed too, so
    that a phrase that was replaced is one piece of either kind.
    """
    before, after = _TOKENS.findall(old), _TOKENS.findall(new)
    start = _shared(before, after)
    end = _shared(before[start:][::-1], after[start:][::-1])
    pieces = [Piece("same", "".join(after[:start]))]
    pieces += _compared(before[start : len(before) - end], after[start : len(after) - end])
    pieces.append(Piece("same", "".join(after[len(after) - end :])))
    return list(_tidy(piece for piece in pieces if piece.text))


def marked(old: str, new: str, *, tag: str = "p") -> Markup:
    """The new prompt as an element of a page, with what changed from the old one marked; a long one opens on demand."""
    return shown(changes(old, new), tag=tag)


def shown(pieces: Sequence[Piece], *, tag: str = "p") -> Markup:
    """Pieces as an element of a page."""
    head, rest = _cut(pieces)
    body = _markup(head)
    if rest:
        length = sum(len(piece.text) for piece in rest)
        more = Markup('<details class="more"><summary>… {:,} characters more</summary>{}</details>')
        body, tag = body + more.format(length, _markup(rest)), "div"
    return Markup('<{0} class="prompt" dir="auto">{1}</{0}>').format(Markup(tag), body)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens two texts have in common at their start."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _compared(before: list[str], after: list[str]) -> Iterator[Piece]:
    if max(len(before), len(after)) > MOST_WORDS:
        yield from (Piece("lost", "".join(before)), Piece("new", "".join(after)))
        return
    # White space finds no match by itself, it only joins one: every text has the same.
    matcher = SequenceMatcher(str.isspace, before, after, autojunk=False)
    for name, i, i_end, j, j_end in matcher.get_opcodes():
        if name == "equal":
            yield Piece("same", "".join(after[j:j_end]))
        else:
            yield from (Piece("lost", "".join(before[i:i_end])), Piece("new", "".join(after[j:j_end])))


def _tidy(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Runs of changes with nothing but white space and punctuation between them, made one change each."""
    found = list(pieces)
    bridges = {i for i in range(1, len(found) - 1) if _is_bridge(found, i)}
    numbered = ((i, piece) for i, piece in enumerate(found))
    for same, run in groupby(numbered, lambda pair: pair[1].kind == "same" and pair[0] not in bridges):
        parts = [piece for _, piece in run]
        for kind in ("same",) if same else ("lost", "new"):
            text = "".join(piece.text for piece in parts if piece.kind in ("same", kind))
            if text:
                yield Piece(kind, text)  # type: ignore[arg-type]


def _is_bridge(pieces: Sequence[Piece], place: int) -> bool:
    """Whether a piece without a word stands where words were lost and others came."""
    near = {piece.kind for piece in (*pieces[max(place - 2, 0) : place], *pieces[place + 1 : place + 3])}
    return pieces[place].kind == "same" and not re.search(r"\w", pieces[place].text) and {"lost", "new"} <= near


def _cut(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The pieces that are shown at once, and the rest."""
    if sum(len(piece.text) for piece in pieces) <= CUT + 120:  # a rest of a few words is not worth a click
        return list(pieces), []
    room = CUT
    for place, piece in enumerate(pieces):
        if len(piece.text) > room:
            end = piece.text.rfind(" ", 0, room) + 1 or room
            halves = Piece(piece.kind, piece.text[:end]), Piece(piece.kind, piece.text[end:])
            return [*pieces[:place], halves[0]], [halves[1], *pieces[place + 1 :]]
        room -= len(piece.text)
    return list(pieces), []


def _markup(pieces: Iterable[Piece]) -> Markup:
    return Markup("").join(Markup(_TAGS[piece.kind]).format(piece.text) for piece in pieces)

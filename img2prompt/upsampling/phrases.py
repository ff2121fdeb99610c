"""The noun phrases of a text: a noun with its number, its colours, and whether it is denied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from img2prompt.upsampling.meanings import (
    COUNTS,
    GROUPS,
    ING_NOUNS,
    NEGATING_PHRASES,
    NEGATIONS,
    SIDE_WORDS,
    VAGUE,
    colour_of,
)
from img2prompt.upsampling.tagging import Word

_STOP = frozenset(".!?;:,()")
_ADJECTIVES = ("JJ", "VBN", "VBG")
_COLOURING = frozenset(("colored", "coloured", "color", "colour", "hued", "tinted", "toned"))


@dataclass(frozen=True, slots=True)
class Phrase:
    """One noun with what is said directly before it.

    `count` is a number that is said; None where none is, or a vague one. `article` is for "a" and "an".
    """

    head: Word
    start: int  # places among the words
    end: int
    modifiers: frozenset[str] = frozenset()  # keys of the nouns before the head
    colours: frozenset[str] = frozenset()
    count: int | None = None
    article: bool = False
    vague: bool = False
    negated: bool = False

    @property
    def keys(self) -> frozenset[str]:
        """Of all its nouns: of "a parrot perches" the last is none, which the tags do not tell."""
        return self.modifiers | {self.head.key}

    @property
    def is_name(self) -> bool:
        """A name rather than a thing."""
        return self.head.tag.startswith("NNP")


@dataclass(slots=True)
class _Open:
    """A noun phrase that is being read."""

    start: int = 0
    nouns: list[Word] = field(default_factory=list)
    colours: set[str] = field(default_factory=set)
    count: int | None = None
    article: bool = False
    vague: bool = False
    used: bool = False
    coloured: Word | None = None  # the last word for a colour
    adjective: tuple[int, Word] | None = None  # the last one and its place
    opened: bool = False  # by an article or the like


def phrases_in(words: Sequence[Word]) -> list[Phrase]:
    """The noun phrases in order."""
    return list(_Chunker(words).phrases())


class _Chunker:
    """Reads words one by one; a noun phrase ends where a word cannot belong to it."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self.negated = _negated_places(words)
        self.open = _Open()
        self.carried: _Open | None = None  # the number of "a pair of" waits for its noun

    def phrases(self) -> Iterator[Phrase]:
        """See `phrases_in`."""
        for place, word in enumerate(self.words):
            if not self._takes(place, word):
                yield from self._close(place)
                self._takes(place, word)
        yield from self._close(len(self.words))

    def _takes(self, place: int, word: Word) -> bool:
        """Whether the word belongs to the phrase that is open."""
        now, low = self.open, word.text.lower()
        colour = colour_of(low) or colour_of(low.split("-")[0])
        if low in ("and", ",") and now.used and not now.nouns and _is_adjective(self._word(place + 1)):
            return True  # "red and blue balls", "two glossy, white urns"
        if now.nouns and self._ends(place, word, colour):
            return False
        if not now.used:
            if _is_doing(low) and place and self.words[place - 1].tag.startswith("NN"):
                return False
            now.start = place
        fresh = self._read(place, word, colour)
        now.used = now.used or fresh
        return fresh

    def _ends(self, place: int, word: Word, colour: str | None) -> bool:
        """Whether a phrase that has its noun ends before the word."""
        low, after = word.text.lower(), self._word(place + 1)
        if low in SIDE_WORDS and after.text.lower() == "of":
            return True  # "a dog right of a cat"
        if not word.tag.startswith("NN") and not (colour and after.tag.startswith("NN")):
            return True
        return word.sentence != self.open.nouns[-1].sentence or _is_doing(low)

    def _read(self, place: int, word: Word, colour: str | None) -> bool:
        """Takes what a word says into the open phrase; False: nothing that belongs there."""
        now, low = self.open, word.text.lower()
        if word.tag in ("DT", "PRP$", "PDT", "WP$") or low in VAGUE:
            fresh = now.opened = not now.used
            now.article, now.vague = low in ("a", "an", "another"), now.vague or low in VAGUE
            return fresh
        if (number := number_of(low)) is not None:
            now.count, now.article = number, False
        elif colour is not None and (not word.tag.startswith("NN") or not now.nouns):
            now.coloured = word
            now.colours.add(colour)
        elif word.tag.startswith("NN"):
            now.nouns.append(word)
        elif word.tag.startswith(_ADJECTIVES):
            now.adjective = (place, word) if word.tag == "JJ" else now.adjective
        else:
            return low in _COLOURING or (now.used and word.tag.startswith("RB"))
        return True

    def _close(self, place: int) -> Iterator[Phrase]:
        now, self.open = self.open, _Open()
        if not now.nouns and now.article and now.coloured and now.coloured.key == "orange":
            now.nouns, now.colours = [now.coloured], now.colours - {"orange"}  # the fruit
        if not now.nouns and now.opened and now.adjective and now.adjective[0] == place - 1:
            now.nouns = [now.adjective[1]]  # "a glossy exterior": a noun that the tags take for an adjective
        if not now.nouns:
            return
        *before, head = now.nouns
        followed_by_of = place < len(self.words) and self.words[place].text.lower() == "of"
        if followed_by_of and (head.key in GROUPS or now.vague):
            times = (now.count or 1) * GROUPS[head.key] if head.key in GROUPS else None  # "two pairs of boots"
            self.carried = _Open(count=times, vague=times is None)
            return
        carried, self.carried = self.carried or _Open(), None
        if before and before[0].key in GROUPS:  # "a dozen eggs"
            carried = _Open(count=GROUPS[before[0].key])
        count = now.count if now.count is not None else carried.count
        plausible = count is None or count == 1 or head.plural
        yield Phrase(
            head,
            now.start,
            place,
            frozenset(word.key for word in before) - GROUPS.keys(),
            frozenset(now.colours),
            count if plausible else None,
            now.article and carried.count is None,
            now.vague or carried.vague,
            now.start in self.negated or place - 1 in self.negated,
        )

    def _word(self, place: int) -> Word:
        return self.words[place] if place < len(self.words) else Word("", "", "", -1)


def number_of(word: str) -> int | None:
    """The number that a word says; None: none."""
    if word.isdecimal() and len(word) < 4:
        return int(word)
    return COUNTS.get(word)


def _is_doing(word: str) -> bool:
    """After a noun: "a robot cooking pancakes"."""
    return word.endswith("ing") and len(word) > 5 and word not in ING_NOUNS


def _is_adjective(word: Word) -> bool:
    return word.tag.startswith("JJ") or colour_of(word.text.lower()) is not None


def _negated_places(words: Sequence[Word]) -> frozenset[int]:
    """Places of the words that a negation reaches: up to the next mark, verb or other preposition."""
    places: set[int] = set()
    for place, word in enumerate(words):
        two = f"{word.text} {words[place + 1].text}".lower() if place + 1 < len(words) else ""
        first = place + 1 if word.text.lower() in NEGATIONS else place + 2 if two in NEGATING_PHRASES else None
        if first is None:
            continue
        for other in range(first, min(first + 8, len(words))):
            here = words[other]
            if here.text in _STOP or here.sentence != word.sentence or here.tag in ("VBZ", "VBP", "VBD"):
                break
            if other > first and here.tag in ("IN", "TO") and here.text.lower() not in ("of",):
                break
            places.add(other)
    return frozenset(places)

"""What any English prompt says: things, numbers, colours, what stands where, what is not there, names, quotes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from img2prompt.upsampling.meanings import FRAMES
from img2prompt.upsampling.phrases import Phrase, phrases_in
from img2prompt.upsampling.relations import Relation, relations_in, sides_in
from img2prompt.upsampling.tagging import Word, unquoted, words_in

_TITLE_SHARE = 0.6  # of capitalised words, from which on capitals say nothing


@dataclass(frozen=True)
class Reading:
    """A text as it was read.

    Attributes:
        text: the whole.
        quotes: what stands in it between quotation marks, verbatim.
        words: the others, with marks.
        phrases: its noun phrases.
        relations: of things in space.
        sides: things on the left or right of the picture.
    """

    text: str
    quotes: tuple[str, ...]
    words: tuple[Word, ...]
    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...]
    sides: dict[str, str]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where each word stands, by its key; parts of hyphenated words too."""
        found: dict[str, list[int]] = {}
        for place, word in enumerate(self.words):
            for key in {word.key, *word.key.split("-"), word.text.lower()}:
                found.setdefault(key, []).append(place)
        return found

    @cached_property
    def denied(self) -> frozenset[int]:
        """Places of the words inside negated noun phrases."""
        return frozenset(place for p in self.phrases if p.negated for place in range(p.start, p.end))

    @cached_property
    def things(self) -> tuple[Phrase, ...]:
        """Noun phrases that name a thing which is there."""
        return tuple(p for p in self.phrases if not p.negated and not p.is_name and p.head.key not in FRAMES)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Words of names, in lower case: capitalised where a common word would not be."""
        words = [word for word in self.words if word.text[:1].isalpha()]
        capitals = sum(word.text[0].isupper() for word in words)
        if capitals > 1 and capitals > _TITLE_SHARE * len(words):
            return ()
        first: dict[int, Word] = {}
        for word in words:
            first.setdefault(word.sentence, word)
        named = [w for w in words if w.text[0].isupper() and w.tag.startswith("NNP") and w is not first[w.sentence]]
        starts = [w for w in first.values() if w.tag.startswith("NNP") and self._name_follows(w)]
        return tuple(dict.fromkeys(_bare(word.text) for word in (*starts, *named)))

    def _name_follows(self, word: Word) -> bool:
        place = self.words.index(word)
        after = self.words[place + 1] if place + 1 < len(self.words) else None
        return after is not None and (after.tag.startswith("NNP") or after.tag in ("VBG", "VBZ", "POS"))


@lru_cache(maxsize=4096)
def read(text: str) -> Reading:
    """Reads the first 5,000 words of a text.

    The time grows with their number, but for relations and sides: each of these looks through every phrase, so that
    part grows with the square, and 5,000 words bound it.
    """
    rest, quotes = unquoted(text)
    words = words_in(rest)
    phrases = phrases_in(words)
    return Reading(
        text, quotes, tuple(words), tuple(phrases), tuple(relations_in(words, phrases)), sides_in(words, phrases)
    )


def _bare(name: str) -> str:
    return re.sub(r"['’]s$", "", name.lower())

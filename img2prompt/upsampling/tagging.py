"""English text -> its words with their parts of speech. The only importer of textblob.

Parts of speech are those of the Penn Treebank, by the lexicon that textblob brings along.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from img2prompt.upsampling.meanings import BOTH_NUMBERS, IRREGULAR, colour_of

_QUOTED = re.compile(r'"([^"\n]{1,300})"|“([^”\n]{1,300})”|«([^»\n]{1,300})»|(?<!\w)[\'‘]([^\'’\n]{1,300})[\'’](?!\w)')
_TOKEN = re.compile(r"\w+(?:['’]\w+)*(?:-\w+(?:['’]\w+)*)*|[.!?;:,()]")
_END = frozenset(".!?")
_MOST_WORDS = 5000  # of a text that are read: a book in a cell must not hold up the rest
_KEEPS_S = ("ss", "us", "is", "'s", "’s")  # no plurals, whatever follows from the ending alone
_SAME = frozenset(("gas", "atlas", "canvas", "christmas", "texas"))


@dataclass(frozen=True, slots=True)
class Word:
    """One word or mark of a text."""

    text: str
    key: str  # lower-case singular
    tag: str
    sentence: int

    @property
    def plural(self) -> bool:
        """More than one, to judge by its form."""
        low = self.text.lower()
        return self.key != low or low in BOTH_NUMBERS or low in ("pants", "trousers", "glasses")


def unquoted(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without what stands in quotes, and that."""
    quotes = tuple(next(filter(None, match.groups())).strip() for match in _QUOTED.finditer(text))
    return _QUOTED.sub(" , ", text), tuple(quote for quote in quotes if re.search(r"\w", quote))


def words_in(text: str) -> list[Word]:
    """The words and marks of a text in order."""
    words: list[Word] = []
    for number, tokens in enumerate(_sentences(text)):
        words += [Word(token, key_of(token), tag, number) for token, tag in _tagged(tokens)]
    return words


@lru_cache(maxsize=1 << 16)
def key_of(word: str) -> str:
    """A word in lower case and the singular."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 3 or word in _SAME or word in BOTH_NUMBERS:
        return word
    if "-" in word:
        first, _, last = word.rpartition("-")
        return f"{first}-{key_of(last)}"
    if not word.endswith("s"):  # irregular plurals: geese, cacti
        return str(_textblob().inflect.singularize(word)) if word in _PLURALS else word
    return word if word.endswith(_KEEPS_S) else str(_textblob().inflect.singularize(word))


_PLURALS = frozenset(("geese", "mice", "teeth", "feet", "oxen", "cacti", "octopi", "fungi"))


def _sentences(text: str) -> Iterator[list[str]]:
    sentence: list[str] = []
    for number, match in enumerate(_TOKEN.finditer(text)):
        if number >= _MOST_WORDS:
            break
        sentence += _parts(match[0])
        if match[0] in _END:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _parts(token: str) -> list[str]:
    """ "red-colored" and "navy-blue" as two words, other hyphens as they are."""
    first, hyphen, rest = token.partition("-")
    return [first, rest] if hyphen and "-" not in rest and (colour_of(first.lower()) or colour_of(rest)) else [token]


def _tagged(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Tokens with their tags. After an article or adjective, before anything else, stands a noun: that is put right."""
    found = [(str(token), str(tag)) for token, tag, *_ in _textblob().parser.find_tags(list(tokens))]
    for place, (token, tag) in enumerate(found):
        before = found[place - 1] if place else ("", "")
        after = found[place + 1][1] if place + 1 < len(found) else "."
        nominal = before[1] in ("DT", "PRP$", "CD") or before[1].startswith("JJ")
        if (
            nominal
            and tag in ("VB", "VBP", "VBZ", "UH", "IN")
            and after[:2] in (".", ",", "IN", "VB", "CC", "TO", "NN")
        ):
            tag = "NNS" if token.endswith("s") and not token.endswith("ss") else "NN"
        elif before[1] == "NN" and tag in ("VB", "VBP"):
            tag = "NN"  # "a teddy bear": a verb would have its ending
        elif before[1] == "NN" and tag == "VBZ" and place > 1 and found[place - 2][1] == "CD":
            tag = "NNS"  # "two teddy bears": a number stands before several
        elif before[1] == "NNS" and tag == "NN" and before[0].lower() not in ("sports", "arms"):
            tag = "VBP"  # "two dogs chase a ball"
        yield token, tag


@cache
def _textblob() -> Any:
    return importlib.import_module("textblob.en")  # slow to import, and not needed for the storybook world

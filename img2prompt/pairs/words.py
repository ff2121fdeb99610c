"""The words of a prompt, and the phrases that are made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

# Scripts that are written without spaces: each character of them counts as a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w+(?:['’]\w+)*")
_BREAK = re.compile(r"[,.;:!?|()\[\]{}<>\"“”\n/]+")  # no phrase reaches over these
LONGEST = 4  # words of a phrase
MOST_WORDS = 2000  # of a prompt that are made into phrases; a book in a cell must not fill the table
ALIKE = 0.75  # of a phrase's occurrences inside a longer one: then the longer one tells all

_FUNCTION_WORDS = """
a about above after all also an and any are as at back be been before behind being below beside between both but
by can could did do does down each either for from had has have having he her here hers him his how i if in
inside into is it it's its itself just like many me more most my near next no nor not of off on one onto or
other others our out outside over own s same several she so some such t than that the their them then there
these they this those through to together too toward towards under up upon us very was we were what when where
which while who whose will with within without would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


def words_of(text: str) -> list[str]:
    """Runs of letters and digits without regard to case; of Chinese characters and Japanese kana every one."""
    return WORD.findall(text.casefold())


def telling(words: Iterable[str]) -> Iterator[str]:
    """The words that say something by themselves: no English function words, no single letters or digits."""
    return (word for word in words if word not in FUNCTION_WORDS and (len(word) > 1 or ord(word) > 0x2FF))


def phrases_of(text: str) -> Iterator[str]:
    """Every run of two to four words that begins and ends with a telling one and crosses no punctuation."""
    left = MOST_WORDS
    for part in _BREAK.split(text.casefold()):
        words = WORD.findall(part)[:left]
        left -= len(words)
        bare = [word in FUNCTION_WORDS for word in words]
        for start in range(len(words) - 1):
            if bare[start]:
                continue
            for end in range(start + 2, min(start + LONGEST, len(words)) + 1):
                if not bare[end - 1]:
                    yield " ".join(words[start:end])


def whole_phrases(counts: Mapping[str, int], most: int) -> list[tuple[str, int]]:
    """The most frequent phrases, without parts of longer ones that occur nearly as often ("trending on artstation")."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: 20 * most]
    kept: list[tuple[str, int]] = []
    for phrase, count in ordered:
        inside = f" {phrase} "
        if not any(inside in f" {other} " and n >= ALIKE * count and other != phrase for other, n in ordered):
            kept.append((phrase, count))
    return kept[:most]

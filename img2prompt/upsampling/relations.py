"""Which thing stands where to which other, as a text says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from img2prompt.upsampling.meanings import RELATIONS, SIDES
from img2prompt.upsampling.phrases import Phrase
from img2prompt.upsampling.tagging import Word

_PRONOUNS = frozenset(("it", "they", "them", "this", "these", "which", "that", "one", "its", "their"))
_LONGEST = max(len(phrase.split()) for phrase in (*RELATIONS, *SIDES))
_CLAUSE_ENDS = frozenset(",;:.!?")
_NEAREST = 12  # things that may be meant on one side
_ADDING = frozenset(("with", "and", "while"))

Stated = tuple[str, str, str]  # head of the one, relation, head of the other


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as it is told: which things may be meant on each side, the likeliest first."""

    name: str
    subjects: tuple[Phrase, ...]
    others: tuple[Phrase, ...]
    words: str  # as the text has it
    flipped: bool

    def stated(self) -> Iterator[Stated]:
        """Every reading of it, in canonical form."""
        for subject in (key for phrase in self.subjects for key in phrase.keys):
            for other in (key for phrase in self.others for key in phrase.keys):
                if subject != other:
                    yield canonical(subject, self.name, other, self.flipped)


def canonical(subject: str, name: str, other: str, flipped: bool = False) -> Stated:
    """The one form of a relation that can be told from both sides."""
    if name == "beside":
        subject, other = sorted((subject, other))
    if name == "under":
        name, flipped = "above", not flipped
    return (other, name, subject) if flipped else (subject, name, other)


def relations_in(words: Sequence[Word], phrases: Sequence[Phrase]) -> list[Relation]:
    """The relations of things in space, in order."""
    found: list[Relation] = []
    place = 0
    while place < len(words):
        length, phrase = _phrase_at(words, place)
        if length:
            if phrase in RELATIONS:
                found += _read(words, phrases, place, length, phrase)
            place += length
        else:
            place += 1
    return found


def sides_in(words: Sequence[Word], phrases: Sequence[Phrase]) -> dict[str, str]:
    """Things that stand on the left or right of the picture, by their heads."""
    sides: dict[str, str] = {}
    for place in range(len(words)):
        length, phrase = _phrase_at(words, place)
        if phrase not in SIDES or _text(words, place + length) == "of":
            continue
        before = [p for p in _of_sentence(words, phrases, place) if p.end <= place]
        after = [p for p in _of_sentence(words, phrases, place) if p.start >= place + length]
        opens = place == 0 or words[place - 1].text in _CLAUSE_ENDS or not before
        chosen = after[:1] if opens else before[-1:]
        sides |= {p.head.key: SIDES[phrase] for p in chosen}
    return sides


def _read(words: Sequence[Word], phrases: Sequence[Phrase], place: int, length: int, phrase: str) -> Iterator[Relation]:
    name, flipped = RELATIONS[phrase]
    sentence = _of_sentence(words, phrases, place)
    before = [p for p in reversed(sentence) if p.end <= place and not _is_side(p)]
    after = [p for p in sentence if p.start >= place + length and not _is_side(p)]
    next_word = _text(words, place + length)
    if next_word in ("it", "them") or not after or after[0].start > place + length + 5:
        others = before[1:] + _earlier(words, phrases, place)  # "a house with a tree behind it", "... and a kite above"
        subjects = before[:1] + after[:1]
    else:
        others = after[:1] + _joined(words, after)
        subjects = before + (_earlier(words, phrases, place) if _has_pronoun(words, place) else [])
        if before and _is_added(words, before[0], place):
            subjects = before[:1]
    if after and (not before or (place and words[place - 1].text in _CLAUSE_ENDS)):
        subjects = subjects + [p for p in after[1:] if not _mark_between(words, after[0].end, p.start, 2)]
    if subjects and others:
        yield Relation(name, tuple(subjects[:_NEAREST]), tuple(others[:_NEAREST]), phrase, flipped)


def _is_added(words: Sequence[Word], phrase: Phrase, place: int) -> bool:
    """Whether a thing is brought in for the relation alone: "..., with a penguin left of the cats"."""
    first = phrase.start
    return phrase.end == place and first > 1 and words[first - 2].text == "," and _text(words, first - 1) in _ADDING


def _joined(words: Sequence[Word], after: Sequence[Phrase]) -> list[Phrase]:
    """What "and" joins to the first thing: "on a plate and a napkin"."""
    if len(after) > 1 and after[1].start - after[0].end == 1 and _text(words, after[0].end) == "and":
        return [after[1]]
    return []


def _earlier(words: Sequence[Word], phrases: Sequence[Phrase], place: int) -> list[Phrase]:
    """Things of the sentence before, the first of them first: a pronoun may mean them."""
    sentence = words[place].sentence
    return [p for p in phrases if sentence - 2 <= words[p.start].sentence < sentence and not _is_side(p)]


def _has_pronoun(words: Sequence[Word], place: int) -> bool:
    sentence = words[place].sentence
    return any(w.sentence == sentence and w.text.lower() in _PRONOUNS for w in words[max(place - 30, 0) : place])


def _is_side(phrase: Phrase) -> bool:
    return phrase.head.key in ("left", "right", "top", "front", "side", "middle", "center", "background", "foreground")


def _of_sentence(words: Sequence[Word], phrases: Sequence[Phrase], place: int) -> list[Phrase]:
    return [p for p in phrases if words[p.start].sentence == words[place].sentence and not p.negated]


def _mark_between(words: Sequence[Word], start: int, end: int, most: int) -> bool:
    return sum(word.text in _CLAUSE_ENDS for word in words[start:end]) >= most


def _text(words: Sequence[Word], place: int) -> str:
    return words[place].text.lower() if place < len(words) else ""


def _phrase_at(words: Sequence[Word], place: int) -> tuple[int, str]:
    """The longest known phrase that begins at a place: how many words it has; 0: none."""
    if words[place].text.lower() not in _openers():
        return 0, ""
    for length in range(min(_LONGEST, len(words) - place), 0, -1):
        phrase = " ".join(word.text.lower() for word in words[place : place + length])
        if phrase in RELATIONS or phrase in SIDES:
            return length, phrase
    return 0, ""


@cache
def _openers() -> frozenset[str]:
    return frozenset(phrase.split()[0] for phrase in (*RELATIONS, *SIDES))

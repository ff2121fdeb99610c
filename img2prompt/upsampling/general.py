"""What a rewritten prompt lost or changed of its base, for prompts about anything.

Words of the same sense are tolerated, and plurals and shades of a colour; a word of a wider sense ("animal" for "dog")
is not. Whatever the base leaves open may be filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from img2prompt.results import Drift
from img2prompt.upsampling.facts import Reading, read
from img2prompt.upsampling.meanings import BOTH_NUMBERS, FRAMES, SHADES, SYNONYMS, WEAK
from img2prompt.upsampling.phrases import Phrase
from img2prompt.upsampling.relations import Relation, Stated, canonical
from img2prompt.upsampling.tagging import key_of

_NEAR = 8  # words on which a colour is told of a thing without a noun between: "the car, painted a deep red"


def compare(base: str, rewritten: str) -> Drift:
    """The facts of the base that the rewritten prompt does not keep."""
    truth, said = read(base), read(rewritten)
    lost: list[str] = []
    wrong: list[str] = []
    for thing in truth.things:
        mentions = _mentions(thing, said)
        if not mentions or not _modified(thing, said):
            lost.append(_called(thing))
            continue
        phrases = [p for p in said.phrases if not p.negated and any(p.start <= place < p.end for place in mentions)]
        wrong += _miscounted(thing, truth, phrases)
        for colour in sorted(thing.colours):
            if not _has_colour(thing, colour, said, phrases, mentions):
                other = {c for p in phrases for c in p.colours} - SHADES.get(colour, frozenset()) - thing.colours
                line = f"{colour} {_called(thing)}"
                if other:
                    wrong.append(f"{line}, said to be {' and '.join(sorted(other))}")
                else:
                    lost.append(line)
    lost += _lost_relations(truth, said)
    lost += _lost_negations(truth, said)
    lost += [f"the text “{quote}”" for quote in truth.quotes if _verbatim(quote) not in _verbatim(rewritten)]
    known = said.places.keys() | {word for quote in said.quotes for word in re.findall(r"\w+", quote.casefold())}
    lost += [f"the name {name}" for name in truth.names if name not in known and key_of(name) not in known]
    return Drift(tuple(dict.fromkeys(lost)), tuple(dict.fromkeys(wrong)), checker="general")


def senses(key: str) -> frozenset[str]:
    """A word and those of the same sense."""
    return SYNONYMS.get(key, frozenset()) | {key}


def _called(thing: Phrase) -> str:
    return " ".join((*sorted(thing.modifiers), thing.head.key))


def _mentions(thing: Phrase, said: Reading) -> list[int]:
    """Where a text affirms a thing."""
    places = {place for key in senses(thing.head.key) for place in said.places.get(key, ())}
    return sorted(places - said.denied)


def _modified(thing: Phrase, said: Reading) -> bool:
    """Whether the nouns before the head are said too: "fire" of "fire hydrant"."""
    return all(any(sense in said.places for sense in senses(word)) for word in thing.modifiers - FRAMES)


def _miscounted(thing: Phrase, truth: Reading, phrases: list[Phrase]) -> Iterator[str]:
    """What is said of how many there are, where it cannot be what the base says."""
    told = [p for p in truth.things if p.head.key == thing.head.key and (p.article or p.vague or p.count)]
    if len(told) > 1:  # "a red cup and a blue cup": each is one of them
        return
    numbers = [p.count for p in phrases if p.count is not None]
    one = thing.article or thing.count == 1
    many = thing.head.plural and thing.head.key not in BOTH_NUMBERS and thing.count is None
    # In "a flower meadow" the article is not the flower's.
    singles = sum(p.article or p.count == 1 for p in phrases if not many or p.head.key in senses(thing.head.key))
    name = _called(thing)
    if thing.count is not None and thing.count > 1:
        sums = thing.count == sum(p.count or 1 for p in phrases if p.article or p.count)
        if not (thing.count in numbers or sums) or max(numbers, default=0) > thing.count:
            yield f"{thing.count} {name}" + (f", said to be {max(numbers)}" if numbers else "")
    elif one and phrases and not singles and not any(_may_be_one(p) for p in phrases):
        yield f"1 {name}, said to be {max(numbers)}" if numbers else f"1 {name}, said to be several"
    elif many and singles and not any(p.head.plural or (p.count or 1) > 1 or p.vague for p in phrases):
        yield f"several {name}, said to be 1"


def _may_be_one(phrase: Phrase) -> bool:
    single = not phrase.head.plural or phrase.head.key in BOTH_NUMBERS
    return phrase.count in (None, 1) and single and not phrase.vague


def _has_colour(thing: Phrase, colour: str, said: Reading, phrases: list[Phrase], mentions: list[int]) -> bool:
    shades = SHADES.get(colour, frozenset((colour,)))
    if any(p.colours & shades for p in phrases):
        return True
    for phrase in phrases:  # a shade that is no colour by itself stands directly before its noun: "an olive jacket"
        if any(word.text.lower() in shades or word.key in shades for word in said.words[phrase.start : phrase.end]):
            return True
    places = [place for shade in shades for place in said.places.get(shade, ())]
    return any(_tells_of(mention, place, said, thing) for mention in mentions for place in places)


def _tells_of(mention: int, place: int, said: Reading, thing: Phrase) -> bool:
    """Whether a colour that stands alone, or at a part of the thing, tells of it: "the car is red", "its red paint"."""
    if said.words[mention].sentence != said.words[place].sentence:
        owner = next((p for p in said.phrases if p.start <= place < p.end), None)
        start = said.words[place].sentence
        pronoun = any(w.sentence == start and w.text.lower() in ("it", "its", "their", "they") for w in said.words)
        own = owner is None or not _is_thing(owner, thing)
        return pronoun and own and 0 < start - said.words[mention].sentence <= 2
    between = range(min(mention, place) + 1, max(mention, place))
    if len(between) > _NEAR:
        return False
    owner = next((p for p in said.phrases if p.start <= place < p.end), None)
    if owner is None:  # a predicate: no other thing comes in between
        return place > mention and not any(
            p.start in between and not p.article and p.head.key not in FRAMES and place - p.end < mention - p.end
            for p in said.phrases
        )
    return owner.start > mention and said.words[owner.start].text.lower() in ("its", "their", "his", "her")


def _is_thing(owner: Phrase, thing: Phrase) -> bool:
    """Whether a phrase names something else that has its own colours."""
    return owner.article and owner.head.key != thing.head.key


def _lost_relations(truth: Reading, said: Reading) -> Iterator[str]:
    stated = _stated(said)
    for relation in truth.relations:
        subject, other = relation.subjects[0], relation.others[0]
        if not all(end in truth.things for end in (subject, other)) or subject.head.key == other.head.key:
            continue
        # In "a girl reading a book under a tree" both the girl and the book are there.
        asked = {fact for one in relation.subjects[:2] for fact in _asked(relation, one.head.key, other.head.key)}
        if asked & stated or _by_sides(relation, subject.head.key, other.head.key, said.sides):
            continue
        ends = (_plain(subject.head.key), _plain(other.head.key))
        elsewhere = any({s, o} == set(ends) and name not in WEAK | {relation.name} for s, name, o in stated)
        turned = canonical(ends[1], relation.name, ends[0], relation.flipped)
        elsewhere = elsewhere or (turned in stated and turned not in asked)
        if relation.name not in WEAK or elsewhere:
            yield f"{subject.head.key} {relation.words} {other.head.key}"


def _asked(relation: Relation, subject: str, other: str) -> set[Stated]:
    """The relations that state the fact."""
    subject, other = _plain(subject), _plain(other)
    asked = {canonical(subject, relation.name, other, relation.flipped)}
    if relation.name == "under":  # what lies under a thing bears it
        asked.add(canonical(other, "on", subject, relation.flipped))
    return asked


def _stated(said: Reading) -> set[Stated]:
    every = {reading for relation in said.relations for reading in relation.stated()}
    return {canonical(_plain(subject), name, _plain(other)) for subject, name, other in every}


def _plain(key: str) -> str:
    """One word for all of the same sense."""
    return min(senses(key))


def _by_sides(relation: Relation, subject: str, other: str, sides: dict[str, str]) -> bool:
    """Whether "a dog on the left, a cat on the right" says it."""
    if relation.name != "left of":
        return False
    left, right = (other, subject) if relation.flipped else (subject, other)
    on = {_plain(key): side for key, side in sides.items()}
    return on.get(_plain(left)) == "left" or on.get(_plain(right)) == "right"


def _lost_negations(truth: Reading, said: Reading) -> Iterator[str]:
    """Things that are not to be there, where that is not said."""
    denied = {said.words[place].key for place in said.denied}
    for thing in truth.phrases:
        if thing.negated and thing.head.key not in FRAMES and not senses(thing.head.key) & denied:
            less = {f"{thing.head.key}less", f"{thing.head.key}-free"}
            if not less & said.places.keys():
                yield f"no {_called(thing)}"


def _verbatim(text: str) -> str:
    """White space and the shape of quotation marks do not count."""
    return re.sub(r"[’‘`]", "'", " ".join(text.split()))

"""From prompts back to facts: which objects, how many, what colour and size, where, and in which style.

One pass over the words, longest known phrase first, in time linear in the length of the text. Unknown words are
passed over, so any text at all can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from img2prompt.pairs.storybook.lexicon import LEXICON, LONGEST, Meaning
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.vocabulary import RELATIONS

CANONICAL_RELATIONS: frozenset[str] = frozenset({"left of", "above", "behind", "on"})
_TOKEN = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)?|[.!?]|[,;:()\[\]{}|/\n]")
_SENTENCE_ENDS = frozenset(".!?")
_UNKNOWN = Meaning("unknown")
_BREAK = Meaning("break")
_REACH = 3  # unknown words after which an adjective or a relation no longer waits for its noun


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a prompt says of one kind of object; `count` is None for "several", `size` for the usual size."""

    kind: str
    count: int | None = 1
    colours: frozenset[str] = frozenset()
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a prompt says. Time and weather are "day" and "clear" when it is silent about them."""

    objects: tuple[ObjectFacts, ...] = ()  # kinds distinct, sorted by kind
    relations: frozenset[tuple[str, str, str]] = frozenset()  # (kind, relation of CANONICAL_RELATIONS, kind)
    setting: str | None = None
    time: str = "day"
    weather: str = "clear"
    style: str | None = None

    def of(self, kind: str) -> ObjectFacts | None:
        """What is said of a kind, or None."""
        return next((thing for thing in self.objects if thing.kind == kind), None)


def facts_of(scene: Scene) -> Facts:
    """The facts that a complete prompt of the scene states."""
    kinds = [group.kind for group in scene.groups]
    things = [
        ObjectFacts(group.kind, group.count, frozenset([group.colour] if group.colour else []), group.size)
        for group in scene.groups
    ]
    return Facts(
        objects=tuple(sorted(things, key=lambda thing: thing.kind)),
        relations=frozenset(_canonical(kinds[r.subject], r.name, kinds[r.other]) for r in scene.relations),
        setting=scene.setting,
        time=scene.time,
        weather=scene.weather,
        style=scene.style,
    )


def parse(prompt: str) -> Facts:
    """Reads the facts out of any text.

    The first count, size, setting and style said of something stand; colours add up. "several" gives no count, a bare
    plural neither, a bare singular is one. Unlike "digital art", every other style is specific and goes before it.
    """
    reader = _Reader()
    for meaning in _meanings(prompt):
        reader.read(meaning)
    return reader.facts()


def _canonical(subject: str, relation: str, other: str) -> tuple[str, str, str]:
    if relation in CANONICAL_RELATIONS:
        return subject, relation, other
    return other, RELATIONS[relation], subject


def unread_words(prompt: str) -> list[str]:
    """The words that `parse` passes over."""
    return [token for token, meaning in _phrases(prompt) if meaning is _UNKNOWN and token.isalnum()]


def _meanings(prompt: str) -> Iterator[Meaning]:
    """The meanings of the known phrases, longest first; sentence ends, breaks and unknown words in between."""
    yield from (meaning for _, meaning in _phrases(prompt))
    yield Meaning("end")


def _phrases(prompt: str) -> Iterator[tuple[str, Meaning]]:
    """Each phrase or token with its meaning."""
    tokens = _TOKEN.findall(prompt.lower())
    i = 0
    while i < len(tokens):
        for length in range(min(LONGEST.get(tokens[i], 0), len(tokens) - i), 0, -1):
            meaning = LEXICON.get(tuple(tokens[i : i + length]))
            if meaning is not None:
                yield " ".join(tokens[i : i + length]), meaning
                i += length
                break
        else:
            token = tokens[i]
            yield token, Meaning("end") if token in _SENTENCE_ENDS else _BREAK if token == "\n" else _UNKNOWN
            i += 1


@dataclass(slots=True)
class _Thing:
    """What has been read of a kind so far."""

    counts: list[int | None] = field(default_factory=list)  # as said; the first stands
    bare_plural: bool = False
    colours: set[str] = field(default_factory=set)
    size: str | None = None

    def facts(self, kind: str) -> ObjectFacts:
        count = self.counts[0] if self.counts else None if self.bare_plural else 1
        return ObjectFacts(kind, count, frozenset(self.colours), self.size)


class _Reader:
    """Reads meanings one by one. Adjectives wait for their noun, relations for their second noun."""

    def __init__(self) -> None:
        self.things: dict[str, _Thing] = {}
        self.relations: set[tuple[str, str, str]] = set()
        self.said: dict[str, list[str]] = {"setting": [], "time": [], "weather": [], "style": []}
        self.mentioned: list[str] = []  # the kinds of this sentence, in order
        self.waiting: tuple[str, str] | None = None  # a relation and its subject
        self.negated = self.copula = False
        self._forget()

    def _forget(self) -> None:
        """Drops the adjectives that wait for a noun."""
        self.count: list[int | None] = []
        self.colours: list[str] = []
        self.size: str | None = None
        self.unknown = 0

    def read(self, meaning: Meaning) -> None:
        """Takes in one meaning."""
        role, value = meaning.role, meaning.value
        if role in self.said:
            self.said[role].append(str(value))
            if role == "setting":
                self._break()
        elif role == "kind":
            self._noun(str(value), meaning.plural)
        elif role == "relation":
            self._break()
            self.waiting = (self.mentioned[-1], str(value)) if self.mentioned else None
        elif role == "colour":
            self.colours.append(str(value))
        elif role == "size":
            self.size = str(value)
        elif role in ("article", "count"):
            self._tell_colours()
            self._forget()
            self.count = [] if role == "article" and value is None else [value if isinstance(value, int) else None]
        else:
            self._small_word(role)

    def _small_word(self, role: str) -> None:
        if role == "unknown":
            self.unknown += 1
            if self.unknown > _REACH:
                self._break()
        elif role == "join":
            self.waiting = None
            if not self.colours:  # "red and blue" goes on
                self._forget()
        elif role == "pronoun":
            if self.waiting and len(self.mentioned) > 1:  # "a cat with a dog behind it"
                self._relate(self.mentioned[-2])
            self._break()
        elif role != "comma" or not (self.count and (self.size or self.colours)):  # "two tiny, yellow ducks" goes on
            self._break()
            self.negated, self.copula = role == "negation", role == "copula" and bool(self.mentioned)
            if role == "end":
                self.mentioned = []

    def _break(self) -> None:
        """Ends a noun phrase: what still waits waits in vain."""
        self._tell_colours()
        self.waiting, self.negated = None, False
        self._forget()

    def _tell_colours(self) -> None:
        """Gives the colours said after a noun to it, as in "the car is red"."""
        if self.copula and self.colours:
            self.things[self.mentioned[-1]].colours.update(self.colours)
        self.copula = False

    def _noun(self, kind: str, plural: bool) -> None:
        if self.negated:
            self._break()
            return
        thing = self.things.setdefault(kind, _Thing())
        thing.counts += self.count
        thing.bare_plural |= plural and not self.count
        thing.colours.update(self.colours)
        thing.size = thing.size or self.size
        self._relate(kind)
        self.mentioned.append(kind)
        self.copula = False
        self._forget()

    def _relate(self, other: str) -> None:
        """Ends the relation that waits, if one does."""
        if self.waiting and self.waiting[0] != other:
            subject, relation = self.waiting
            self.relations.add(_canonical(subject, relation, other))
        self.waiting = None

    def facts(self) -> Facts:
        """All that was read."""
        settings, styles = self.said["setting"], self.said["style"]
        return Facts(
            objects=tuple(thing.facts(kind) for kind, thing in sorted(self.things.items())),
            relations=frozenset(self.relations),
            setting=settings[0] if settings else None,
            time=next((time for time in self.said["time"] if time != "day"), "day"),
            weather=next((weather for weather in self.said["weather"] if weather != "clear"), "clear"),
            style=next((style for style in styles if style != "digital art"), styles[0] if styles else None),
        )

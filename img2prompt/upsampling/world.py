"""The storybook world, the only one that the bundled upsampler knows: what is outside of it, and how it says things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.drift import lost_facts
from img2prompt.pairs.storybook.grammar import BRIEF_RELATIONS, NUMBERS
from img2prompt.pairs.storybook.imagine import imagine
from img2prompt.pairs.storybook.lexicon import LEXICON
from img2prompt.pairs.storybook.parse import parse
from img2prompt.pairs.storybook.scene import Relation, Scene
from img2prompt.pairs.storybook.setting_phrases import SETTING_WORDS, TIME_WORDS, WEATHER_WORDS
from img2prompt.pairs.storybook.style_phrases import MODIFIERS, STYLE_WORDS
from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS, SIZES
from img2prompt.pairs.words import telling, words_of


@dataclass(frozen=True, slots=True)
class World:
    """What a model knows.

    Attributes:
        outside: why a prompt is none of the world, in one line; None: it is one.
        usual: whether a prompt of the world is said as those that the model learned from.
        restated: a prompt of the world and a seed -> the same facts, said so; what the prompt leaves open, the seed
            decides.
    """

    outside: Callable[[str], str | None]
    usual: Callable[[str], bool]
    restated: Callable[[str, int], str]


_NAMED = 3  # unknown words that a reason names


def outside_storybook(prompt: str) -> str | None:
    """Why a prompt is none of the storybook world, in one line; None: it is one."""
    unknown = list(dict.fromkeys(word for word in telling(words_of(prompt)) if word not in _words()))
    if unknown:
        more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        return f"outside the storybook world: it has no {', '.join(map(repr, unknown[:_NAMED]))}{more}"
    if not parse(prompt).objects:
        return "outside the storybook world: none of its objects is named"
    return None


def beyond_storybook(prompt: str) -> str | None:
    """As `outside_storybook`, and also what the world has words but no pictures for, such as seven cats."""
    why = outside_storybook(prompt)
    if why is None and (lost := lost_facts(prompt, restated_storybook(prompt, 0))):
        why = f"outside the storybook world: it cannot show {', '.join(lost)}"
    return why


def usual_storybook(prompt: str) -> bool:
    """Whether setting, style and relations that join all objects are named, in the words of `describe` alone."""
    facts = parse(prompt)
    whole = facts.setting is not None and facts.style is not None and len(facts.relations) >= len(facts.objects) - 1
    return whole and all(word in _told_words() for word in words_of(prompt))


def restated_storybook(prompt: str, seed: int) -> str:
    """A short prompt of a scene in which the facts of this one hold."""
    return describe(_joined(imagine(parse(prompt), seed)), "short")


def _joined(scene: Scene) -> Scene:
    """The scene with every group in a relation: short prompts of this world leave none of several unplaced."""
    placed = {place for relation in scene.relations for place in (relation.subject, relation.other)} or {0}
    relations = list(scene.relations)
    for group in range(len(scene.groups)):
        if group not in placed:
            relations.append(Relation(group, ("left of", "right of")[scene.seed % 2], min(placed)))
            placed.add(group)
    return replace(scene, relations=tuple(relations))


@cache
def _words() -> frozenset[str]:
    """The words of short prompts, and what the parser reads beside them."""
    return _told_words() | {word for phrase in LEXICON for word in phrase}


@cache
def _told_words() -> frozenset[str]:
    """Every word that `describe` makes short prompts of."""
    phrases = [*KINDS, *(kind.plural for kind in KINDS.values()), *COLOURS, *SIZES, *NUMBERS, "a an the and with"]
    phrases += [*BRIEF_RELATIONS, *MODIFIERS, *TIME_WORDS.values()]
    phrases += [place for words in SETTING_WORDS.values() for place in words.places]
    phrases += [text for words in STYLE_WORDS.values() for text in (*words.of, *words.after)]
    phrases += [text for words in WEATHER_WORDS.values() for text in words]
    return frozenset(word for phrase in phrases for word in words_of(phrase))


STORYBOOK = World(beyond_storybook, usual_storybook, restated_storybook)

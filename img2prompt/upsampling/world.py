"""The storybook world, the only one that the bundled upsampler knows: what is outside of it, and how it says things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.imagine import imagine
from img2prompt.pairs.storybook.lexicon import LEXICON
from img2prompt.pairs.storybook.parse import parse
from img2prompt.pairs.storybook.setting_phrases import SETTING_WORDS, TIME_WORDS, WEATHER_WORDS
from img2prompt.pairs.storybook.style_phrases import MODIFIERS, STYLE_WORDS
from img2prompt.pairs.words import telling, words_of


@dataclass(frozen=True, slots=True)
class World:
    """What a model knows.

    Attributes:
        outside: why a prompt is none of the world, in one line; None: it is one.
        restated: a prompt of the world and a seed -> the same facts in the words that the model learned from; what
            the prompt leaves open, the seed decides.
    """

    outside: Callable[[str], str | None]
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


@cache
def _words() -> frozenset[str]:
    """Every word that short prompts of the world are made of, and what its parser reads beside them."""
    phrases = [" ".join(phrase) for phrase in LEXICON]
    phrases += [place for words in SETTING_WORDS.values() for place in words.places]
    phrases += [text for words in STYLE_WORDS.values() for text in (*words.of, *words.after)]
    phrases += [*MODIFIERS, *TIME_WORDS.values(), *(text for words in WEATHER_WORDS.values() for text in words)]
    return frozenset(word for phrase in phrases for word in words_of(phrase))


def restated_storybook(prompt: str, seed: int) -> str:
    """A short prompt of a scene in which the facts of this one hold."""
    return describe(imagine(parse(prompt), seed), "short")


STORYBOOK = World(outside_storybook, restated_storybook)

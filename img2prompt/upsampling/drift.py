"""What rewritten prompts did to their bases: DRIFT_CHECKS, one row a way to look.

Each row makes a check, of the language model that it may ask; a check takes base and rewritten prompts, one for one,
and gives a `Drift` for each. A rewritten prompt that could not be looked at is not "kept": its drift says why in
`unchecked`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError
from img2prompt.metrics import cosines
from img2prompt.pairs.storybook.drift import lost_facts, made_up
from img2prompt.pairs.storybook.parse import unread_words
from img2prompt.pairs.storybook.setting_phrases import SETTING_WORDS, WEATHER_WORDS
from img2prompt.pairs.storybook.style_phrases import MODIFIERS, STYLE_WORDS
from img2prompt.pairs.words import FUNCTION_WORDS
from img2prompt.results import Drift
from img2prompt.upsampling.general import compare
from img2prompt.upsampling.world import outside_storybook

if TYPE_CHECKING:
    from img2prompt.models.chat import ChatBackend
    from img2prompt.models.sentence import SentenceEncoder

Check = Callable[[Sequence[str], Sequence[str]], list[Drift]]

# Facts that are words of the storybook world without being facts to its parser: negations and vague places.
_BEYOND = re.compile(r"\b(no|not|without|next|beside|near|between|among|around|across|through|into|inside)\b|[\"“«]")


def open_check(name: str, *, backend: ChatBackend | None = None, encoder: SentenceEncoder | None = None) -> Check:
    """A check by its name.

    Args:
        name: of DRIFT_CHECKS.
        backend: the language model that "llm" asks.
        encoder: fills in the cosine of base and rewritten prompt; None: it stays open.

    Raises:
        ConfigError: there is no such check, or it needs a language model and none was given.
    """
    row = DRIFT_CHECKS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, DRIFT_CHECKS, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no drift check {name!r}{meant} (there are {', '.join(DRIFT_CHECKS)})")
    check = row(backend)
    return check if encoder is None else _with_cosine(check, encoder)


def by_storybook(bases: Sequence[str], rewritten: Sequence[str]) -> list[Drift]:
    """By the parser of the storybook world: exact there, blind to anything else. Objects may not be made up."""
    return [
        Drift(tuple(lost_facts(*pair)), tuple(f"made up: {kind}" for kind in made_up(*pair)), checker="storybook")
        for pair in zip(bases, rewritten, strict=True)
    ]


def by_general(bases: Sequence[str], rewritten: Sequence[str]) -> list[Drift]:
    """By parts of speech and rules, for prompts about anything; see `general.compare`."""
    return [compare(base, text) for base, text in zip(bases, rewritten, strict=True)]


def by_world(bases: Sequence[str], rewritten: Sequence[str]) -> list[Drift]:
    """By the storybook's parser where the base says nothing that it cannot read, else by the general rules."""
    return [
        (by_storybook if in_storybook(base) else by_general)([base], [text])[0]
        for base, text in zip(bases, rewritten, strict=True)
    ]


def in_storybook(prompt: str) -> bool:
    """Whether the storybook's parser reads every fact of a prompt: each word that it passes over could be one."""
    told = _scenery().sub(" ", prompt.lower())
    if _BEYOND.search(told) or outside_storybook(prompt) is not None:
        return False
    return FUNCTION_WORDS.issuperset(unread_words(told))


@cache
def _scenery() -> re.Pattern[str]:
    """The world's own phrases around its objects, such as "among the stars" and "watercolor painting of"."""
    phrases = {place for words in SETTING_WORDS.values() for place in words.places} | set(MODIFIERS)
    phrases |= {text for words in STYLE_WORDS.values() for text in (*words.of, *words.after)}
    phrases |= {text for texts in WEATHER_WORDS.values() for text in texts if text}
    longest_first = sorted(map(re.escape, phrases), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest_first)})\b")


def _by_model(backend: ChatBackend | None) -> Check:
    from img2prompt.upsampling.asking import by_model

    if backend is None:
        raise ConfigError("the drift check llm asks a language model, and none was given; take auto or general")
    return by_model(backend)


DRIFT_CHECKS: dict[str, Callable[[ChatBackend | None], Check]] = {
    "auto": lambda backend: by_world,
    "storybook": lambda backend: by_storybook,
    "general": lambda backend: by_general,
    "llm": _by_model,
}


def _with_cosine(check: Check, encoder: SentenceEncoder) -> Check:
    """The same check, whose drifts also say how near the two texts are as sentences."""

    def measured(bases: Sequence[str], rewritten: Sequence[str]) -> list[Drift]:
        drifts = check(bases, rewritten)
        if not drifts:
            return drifts
        emb = encoder.encode_many([*bases, *rewritten])  # (2N,D)
        near = cosines(emb[: len(bases)], emb[len(bases) :])  # (N,)
        return [dataclasses.replace(drift, cosine=float(c)) for drift, c in zip(drifts, near, strict=True)]

    return measured

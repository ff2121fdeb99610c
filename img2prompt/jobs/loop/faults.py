"""What regenerated pictures show wrongly, by what is predicted of them: things that are missing, others too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from img2prompt.pairs.storybook.drift import lost_facts, made_up
from img2prompt.pairs.storybook.parse import parse
from img2prompt.pairs.words import telling, words_of


def faults_of(prompt: str, said: Sequence[str | None]) -> dict[str, Any]:
    """What most pictures of a prompt show wrongly, and the negative prompt that follows.

    Args:
        prompt: that they were made from.
        said: what is predicted of each; None: nothing is.

    Returns:
        missing, extra: facts of the storybook world where all texts are of it, else words; negative: a text or None.
    """
    from img2prompt.upsampling.negative import from_comparison

    known = [text for text in said if text is not None]
    missing, extra = missing_in(prompt, known), _most(known, (_extra(prompt, text) for text in known))
    return {"missing": missing, "extra": extra, "negative": from_comparison(prompt, missing=missing, extra=extra)}


def missing_in(prompt: str, said: Sequence[str]) -> list[str]:
    """What a prompt asks for and most of the predictions of its pictures do not say."""
    return _most(said, (_missing(prompt, text) for text in said))


def _most(said: Sequence[str], found: Iterable[Iterable[str]]) -> list[str]:
    """What was found in more than half of the texts, in the order of its first appearance."""
    counts = Counter(thing for things in found for thing in dict.fromkeys(things))
    return [thing for thing, count in counts.items() if 2 * count > len(said)]


def _missing(prompt: str, said: str) -> list[str]:
    if _of_the_world(prompt, said):
        return [fact.removeprefix("setting ").removeprefix("style ") for fact in lost_facts(prompt, said)]
    return _words_beyond(said, prompt)


def _extra(prompt: str, said: str) -> list[str]:
    return made_up(prompt, said) if _of_the_world(prompt, said) else _words_beyond(prompt, said)


def _of_the_world(*texts: str) -> bool:
    return all(parse(text).objects for text in texts)


def _words_beyond(known: str, text: str) -> list[str]:
    """Telling words of a text that another one does not have."""
    there = set(words_of(known))
    return [word for word in dict.fromkeys(telling(words_of(text))) if word not in there]

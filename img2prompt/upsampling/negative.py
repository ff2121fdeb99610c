"""Negative prompts: what a picture shall not show. They never name what the prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from img2prompt.upsampling.facts import read
from img2prompt.upsampling.general import senses
from img2prompt.upsampling.meanings import SHADES
from img2prompt.upsampling.tagging import key_of

# Faults of pictures, not contents. Words for media ("cartoon", "text") stay out: a prompt may ask for these.
STOCK = (
    "blurry",
    "out of focus",
    "low quality",
    "jpeg artifacts",
    "noise",
    "watermark",
    "signature",
    "cropped",
    "deformed",
    "disfigured",
    "extra limbs",
    "extra fingers",
    "poorly drawn hands",
    "duplicate",
)
_MOST_TERMS = 20
_WORD = re.compile(r"\w+(?:-\w+)*")
# Of terms of several words these say the fault; the rest says of what: "extra limbs" is denied by "limbs" as well.
_SMALL = frozenset(("of", "a", "an", "the", "and", "in", "on", "no", "not", "without", "with", "to"))


@dataclass(frozen=True, slots=True)
class Negative:
    """A negative prompt and what was left out of it; `text` is None where nothing remains."""

    text: str | None
    left_out: tuple[str, ...] = ()  # terms that the prompt asks for


def negative_for(prompt: str, wanted: str | None) -> Negative:
    """The negative prompt that goes with a prompt.

    Args:
        prompt: the positive one, base or rich.
        wanted: "stock", a text of terms with commas between them, or "none" or None for no negative prompt.
    """
    if wanted is None or wanted.strip().lower() in ("", "none"):
        return Negative(None)
    terms = STOCK if wanted.strip().lower() == "stock" else _terms(wanted)
    return _without_asked(prompt, terms)


def from_comparison(
    prompt: str, *, missing: Iterable[str] = (), extra: Iterable[str] = (), wanted: str | None = None
) -> str | None:
    """A negative prompt from what the comparison found wrong.

    Args:
        prompt: what the next pictures are asked for.
        missing: what the original shows and the regenerated pictures lack; never negated, in whatever words.
        extra: what the regenerated pictures show and nobody asked for, the worst first.
        wanted: as for `negative_for`; its terms come after those of `extra`.

    Returns:
        Terms with commas between them; None: there is nothing to negate.
    """
    base = negative_for(prompt, wanted).text
    terms = [*(" ".join(term.split()) for term in extra), *_terms(base or "")]
    return _without_asked(". ".join((prompt, *missing)), terms).text


def _without_asked(asked: str, terms: Iterable[str]) -> Negative:
    wanted = _wanted_words(asked)
    kept: list[str] = []
    left_out: list[str] = []
    for term in dict.fromkeys(" ".join(term.split()).strip(" ,") for term in terms):
        if term:
            (left_out if _words(term) & wanted else kept).append(term)
    text = ", ".join(kept[:_MOST_TERMS])
    return Negative(text or None, tuple(left_out))


def _wanted_words(prompt: str) -> frozenset[str]:
    """Every word that the prompt affirms, with shades of its colours; what it denies itself is not among them."""
    reading = read(prompt)
    keys = {word.key for place, word in enumerate(reading.words) if place not in reading.denied}
    keys |= {word for quote in reading.quotes for word in _words(quote)}
    keys |= {part for key in keys for part in key.split("-")}
    shades = {shade for key in keys for shade in SHADES.get(key, ())}
    return frozenset(keys | shades) - _SMALL


def _words(term: str) -> frozenset[str]:
    """The words of a term, with those of the same sense."""
    found = {word.lower() for word in _WORD.findall(term)}
    found |= {part for word in found for part in word.split("-")}
    found |= {key_of(word) for word in found}
    return frozenset(sense for word in found for sense in senses(word)) - _SMALL


def _terms(text: str) -> list[str]:
    return [term for term in re.split(r"[,;\n]+", text) if term.strip()]

"""What a judge said, read from text that may be anything: fenced, thought aloud, cut off, or no JSON at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from img2prompt.results import Failed

MOST_REQUIREMENTS = 60  # that are read of an answer
_MOST_CHARACTERS = 300  # of a sentence that is kept
_WORDS: dict[str, float] = {
    **dict.fromkeys(("yes", "true", "met", "full", "fully", "y", "present", "correct"), 1.0),
    **dict.fromkeys(("partly", "partial", "partially", "somewhat", "unclear"), 0.5),
    **dict.fromkeys(("no", "false", "not met", "unmet", "missing", "n", "absent", "wrong"), 0.0),
}
# So common that sharing them does not make a requirement one of the prompt.
_COMMON = frozenset(re.findall(r"\w+", "a an the of in on at and or with to is are it its as by for from there"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well a picture shows what its prompt asks for."""

    score: float  # 0..1, higher is better
    why: str = ""  # in a sentence
    met: tuple[tuple[str, float], ...] = ()  # requirement and how far it is met, 0..1
    unrequested: tuple[str, ...] = ()  # seen and not asked for; counts for nothing

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        return asdict(self)


def read_verdict(text: str, prompt: str) -> Verdict | Failed:
    """The verdict in a judge's answer: the share of the prompt's requirements that is met.

    A requirement that has no word in common with the prompt is not the prompt's, so it is not counted.

    Returns:
        A Failed row of kind "Malformed" where there is no verdict in the text.
    """
    if not text.strip():
        return _malformed(prompt, "an empty answer")
    rows = [row for row in _objects(text) if isinstance(row.get("requirements"), list)]
    if not rows:
        return _malformed(prompt, f"no verdict in {_line(text)!r}")
    row = rows[-1]  # whoever thinks aloud says the last word last
    asked = [one for item in row["requirements"][:MOST_REQUIREMENTS] if (one := _requirement(item))]
    if not asked:
        return _malformed(prompt, "no requirement with yes, partly or no")
    own = _words(prompt)
    met = tuple(one for one in asked if not own or own & _words(one[0]))
    if not met:
        return _malformed(prompt, "none of its requirements is of the prompt")
    score = math.fsum(share for _, share in met) / len(met)
    unrequested = row.get("unrequested")
    seen = tuple(_line(item) for item in unrequested if isinstance(item, str)) if isinstance(unrequested, list) else ()
    why = row.get("why")
    return Verdict(score, _line(why) if isinstance(why, str) else _missing(met), met, seen[:MOST_REQUIREMENTS])


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Every JSON object in a text that does not lie inside of another one that could be read."""
    decoder, place = json.JSONDecoder(), 0
    for _ in range(200):  # a text of nothing but braces is not searched for ever
        place = text.find("{", place)
        if place < 0:
            return
        try:
            found, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if isinstance(found, dict):
            yield found


def _requirement(item: Any) -> tuple[str, float] | None:
    if not isinstance(item, Mapping) or not isinstance(item.get("asked"), str) or not item["asked"].strip():
        return None
    share = _share(item.get("met"))
    return None if share is None else (_line(item["asked"]), share)


def _share(met: Any) -> float | None:
    """How far a requirement is met: a word, a truth value or a number from 0 to 1."""
    if isinstance(met, bool):
        return float(met)
    if isinstance(met, int | float):
        return float(met) if 0 <= met <= 1 else None
    return _WORDS.get(met.strip().strip(".").lower()) if isinstance(met, str) else None


def _words(text: str) -> set[str]:
    """Words without endings of the plural, so that "foxes" is of a prompt with a "fox"."""
    words = re.findall(r"\w+", text.casefold())
    return {re.sub(r"(?<=\w{3})(es|s)$", "", word) for word in words if word not in _COMMON}


def _missing(met: tuple[tuple[str, float], ...]) -> str:
    missing = [asked for asked, share in met if share < 1]
    return f"not fully there: {', '.join(missing)}"[:_MOST_CHARACTERS] if missing else "everything is there"


def _malformed(prompt: str, why: str) -> Failed:
    return Failed(prompt, f"the judge's answer cannot be read: {why}", "Malformed")


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARACTERS]

"""A language model as judge of drift: asked in a template, answered in JSON, and never believed where it is unclear."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from img2prompt.results import Drift, Failed
from img2prompt.upsampling.templates import FOLDER

if TYPE_CHECKING:
    from img2prompt.models.chat import Answer, ChatBackend

TEMPLATE = FOLDER / "drift.md"
_BASE, _REWRITTEN = "{base}", "{rewritten}"
_MOST_FACTS = 20  # of an answer that are kept
_MOST_CHARACTERS = 200  # of one of them


def by_model(backend: ChatBackend) -> Callable[[Sequence[str], Sequence[str]], list[Drift]]:
    """A drift check that asks `backend`; what it fails to answer, or answers in another form, stays unchecked."""

    def check(bases: Sequence[str], rewritten: Sequence[str]) -> list[Drift]:
        from img2prompt.models.chat import Sampling

        chats = [question(base, text) for base, text in zip(bases, rewritten, strict=True)]
        answers = backend.answer_many(chats, Sampling(max_tokens=400), [0] * len(chats)) if chats else []
        return [_read(answer, f"llm {backend.name}") for answer in answers]

    return check


def question(base: str, rewritten: str) -> list[dict[str, str]]:
    """The messages that ask about one pair, handed over as JSON text: nothing in a prompt can end it."""
    system, _, request = TEMPLATE.read_text(encoding="utf-8").partition("## Request")
    system = system.partition("## System")[2].strip()
    filled = request.strip()
    # One after the other by place, so that a prompt that holds "{rewritten}" is not filled in.
    before, _, rest = filled.partition(_BASE)
    between, _, after = rest.partition(_REWRITTEN)
    told = [json.dumps(text, ensure_ascii=False) for text in (base, rewritten)]
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{before}{told[0]}{between}{told[1]}{after}"},
    ]


def _read(answer: Answer | Failed, checker: str) -> Drift:
    if isinstance(answer, Failed):
        return Drift(checker=checker, unchecked=answer.error)
    found = _last_object(answer.text)
    if found is None:
        return Drift(checker=checker, unchecked="the model's answer holds no JSON object with lost and contradicted")
    return Drift(_facts(found["lost"]), _facts(found["contradicted"]), checker=checker)


def _last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object of the asked form: a model may think aloud, or repeat the form, before it answers."""
    decoder, found, place = json.JSONDecoder(), None, text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found = value if _is_asked(value) else found
        place = text.find("{", end)
    return found


def _is_asked(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), list) and all(isinstance(fact, str) for fact in value[name])
        for name in ("lost", "contradicted")
    )


def _facts(facts: list[str]) -> tuple[str, ...]:
    told = (" ".join(fact.split())[:_MOST_CHARACTERS] for fact in facts)
    return tuple(dict.fromkeys(filter(None, told)))[:_MOST_FACTS]

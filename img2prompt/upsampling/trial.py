"""One prompt on its way to a rich one: what its answers were worth so far."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from img2prompt.models.chat import Answer
from img2prompt.results import Drift, Failed, Upsampled
from img2prompt.upsampling.answers import read_answer
from img2prompt.upsampling.limits import TokenCounter, trim

# Kinds of Failed that asking again does not change: the prompt keeps its base.
LASTING = frozenset({"PromptTooLong", "OutOfMemory", "Refused"})
UNCHECKED = "its facts could not be checked"  # begins a reason that another run may not find again
_TIGHTER = 0.9  # of the length that would just have fitted is asked for next
_LEAST_TOKENS = 16  # that are asked for


@dataclass(frozen=True, slots=True)
class Candidate:
    """What an answer gave, before its facts were looked at."""

    prompt: str
    tokens: int
    dropped: str = ""  # what was cut off, or "" though the model had not come to an end
    trouble: str = ""  # its length, where it had to be cut


class Trial:
    """A prompt, its seed, and what became of them.

    Args:
        base: the short prompt.
        seed: of the first attempt; later ones derive theirs from it.
        counter: of the text encoder that will read the result; it holds the limit.
        about: model and template, as a result has them.
    """

    def __init__(self, base: str, seed: int, counter: TokenCounter, about: dict[str, Any]) -> None:
        self.base, self.seed, self.counter, self._about = base, seed, counter, about
        self.asked_limit = counter.limit  # tokens that the next request names
        self.trouble = ""  # what was wrong with the last answer
        self.attempts = 0
        self.seconds = 0.0
        self.done: Upsampled | Failed | None = None
        self._reserve: Upsampled | None = None  # good, but cut

    def draw_seed(self) -> int:
        """Of this attempt."""
        if self.attempts == 1:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed} {self.attempts}".encode()).digest()[:4], "big") >> 1

    def read(self, answer: Answer | Failed) -> Candidate | None:
        """The prompt in an answer, cut where it is too long; None: there is none, and the trial has noted why."""
        if isinstance(answer, Failed):
            if answer.kind in LASTING:
                self.fall_back(answer.error)
            else:  # what got no answer is to be asked another time
                self.done = Failed(self.base, answer.error, answer.kind)
            return None
        found = read_answer(answer.text, self.base)
        if found.trouble:
            self.trouble = found.trouble
            return None
        limit, tokens = self.counter.limit, self.counter.length(found.prompt)
        if answer.finished and tokens <= limit:
            return Candidate(found.prompt, tokens)
        self.asked_limit = max(min(self.asked_limit, int(_TIGHTER * limit * limit / max(tokens, limit))), _LEAST_TOKENS)
        # Where the model did not come to an end, its last sentence is no whole one.
        most = limit if answer.finished or tokens > limit else tokens - 1
        kept, dropped = trim(found.prompt, most, self.counter.count)
        if not kept:
            self.trouble = "it was too long"
            return None
        return Candidate(kept, self.counter.count(kept), dropped, "it was too long")

    def judge(self, candidate: Candidate, drift: Drift, min_cosine: float | None) -> None:
        """Takes a candidate that kept the facts, or notes what was wrong with it."""
        found = [candidate.trouble, _told(drift, min_cosine)]
        self.trouble = "; ".join(filter(None, found))
        if found[1]:
            return
        cut = bool(candidate.trouble)
        result = self._result(
            prompt=candidate.prompt,
            outcome="trimmed" if cut else "upsampled",
            tokens=candidate.tokens,
            drift=drift,
            dropped=candidate.dropped,
        )
        if cut:
            self._reserve = self._reserve or result
        else:
            self.done = result

    def fall_back(self, why: str) -> None:
        """Ends with the base, cut only where it is longer than what the encoder reads."""
        kept, dropped = trim(self.base, self.counter.limit, self.counter.count)
        tokens = self.counter.count(kept)
        self.done = self._result(prompt=kept, outcome="base", tokens=tokens, dropped=dropped, why=why)

    def ended(self) -> Upsampled | Failed:
        """The result after the last attempt: the best that was found."""
        if self._reserve is not None and not (isinstance(self.done, Upsampled) and self.done.outcome == "upsampled"):
            self.done = replace(self._reserve, attempts=self.attempts)
        if self.done is None:
            answers = "1 answer" if self.attempts == 1 else f"{self.attempts} answers"
            self.fall_back(f"none of {answers} would do; the last: {self.trouble}")
        assert self.done is not None
        if isinstance(self.done, Upsampled):
            self.done = replace(self.done, seconds=round(self.seconds, 4))
        return self.done

    def _result(self, **found: Any) -> Upsampled:
        return Upsampled(
            base=self.base,
            token_limit=self.counter.limit,
            seed=self.seed,
            attempts=self.attempts,
            **self._about,
            **found,
        )


def _told(drift: Drift, min_cosine: float | None) -> str:
    """What is wrong with an answer by its drift, in words that a model understands too; "": nothing."""
    lost = f"it lost: {', '.join(drift.lost)}" if drift.lost else ""
    wrong = f"it says otherwise: {', '.join(drift.contradicted)}" if drift.contradicted else ""
    unseen = f"{UNCHECKED} ({drift.unchecked})" if drift.unchecked else ""
    away = ""
    if min_cosine is not None and drift.cosine is not None and drift.cosine < min_cosine:
        away = f"it is about something else (cosine {drift.cosine:.2f}, at least {min_cosine:.2f} is asked for)"
    return "; ".join(filter(None, (lost, wrong, unseen, away)))

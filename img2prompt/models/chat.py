"""Messages, answers, and what any back end of a chat has to offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from img2prompt.results import Failed

Chat = Sequence[Mapping[str, str]]  # messages, each with "role" ("system", "user", "assistant") and "content"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        max_tokens: longest answer.
        temperature: of the softmax; 0 takes the likeliest token.
        top_p: smallest probability that the tokens drawn from have together (Holtzman et al. 2020, arXiv:1904.09751).
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said."""

    text: str
    tokens: int  # without the end
    finished: bool  # the model came to an end by itself


class ChatBackend(Protocol):
    """Anything that answers messages: a model on this machine, an endpoint, a program."""

    @property
    def name(self) -> str:
        """Of the model, as results have it."""
        ...

    @property
    def batch_size(self) -> int:
        """Chats that are best asked together."""
        ...

    def settings(self) -> dict[str, Any]:
        """Plain data that, with chat, sampling and seed, settles an answer: model, fingerprint, precision, ..."""
        ...

    def answer_many(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> list[Answer | Failed]:
        """An answer for each chat from its own seed, whatever it is asked together with.

        What cannot be asked, or gets no answer, is a Failed row; the others are not touched by it.
        """
        ...

"""Chat models behind an OpenAI-compatible endpoint: OpenAI, vLLM, Ollama, LM Studio, llama.cpp, `transformers serve`.

The only importer of openai, whose client waits and tries again as the server asks (Retry-After) or ever longer.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from img2prompt.errors import ConfigError
from img2prompt.extras import need
from img2prompt.models.chat import Answer, Chat, Sampling
from img2prompt.results import Failed

_log = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"
_CONNECT_S = 10.0
_MOST_CHARACTERS = 100_000  # of an answer: what comes after it is not read
_OPTIONAL = ("seed", "top_p", "temperature")  # parameters that some models do not take
_NAMES = {"max_tokens": "max_completion_tokens"}  # parameters that newer models have under another name
# Kinds of failure that every further request would meet too: the rest of the chats is not asked.
HOPELESS = frozenset({"EndpointDown", "NotAllowed", "NoSuchModel", "NotAnEndpoint"})


class EndpointChat:
    """Answers chats through an endpoint; a `ChatBackend`.

    The key is OPENAI_API_KEY; servers that ask for none need none. An endpoint's seed is a wish: equal requests give
    equal answers as far as the server keeps its word.

    Args:
        model: its name at the server.
        endpoint: address, e.g. "http://localhost:11434/v1"; None: OPENAI_BASE_URL, or OpenAI itself.
        concurrency: requests at once.
        timeout_s: of one request.
        tries: of one request, the first included.
        more: what every request holds beside the messages, such as `response_format`; what the server does not know is
            left out from then on.

    Raises:
        MissingExtra: openai is not installed.
        ConfigError: the address is none, or OpenAI is asked without a key.
    """

    def __init__(
        self,
        model: str,
        endpoint: str | None = None,
        *,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        tries: int = 5,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._openai = need("openai", "endpoint")
        self.name, self.concurrency = model, concurrency
        address, key = address_and_key(endpoint)
        self._client = self._openai.OpenAI(
            api_key=key,
            base_url=address,
            max_retries=tries - 1,
            timeout=self._openai.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s)),
        )
        self.address = without_password(str(self._client.base_url))
        self._tries, self._timeout_s = tries, timeout_s
        self._more = dict(more or {})
        self._absent: set[str] = set()  # parameters that the model turned down
        self._lock = threading.Lock()
        self._down = False  # the last call found nobody there

    @property
    def batch_size(self) -> int:
        """Chats that are best asked together: enough to keep every connection busy."""
        return 2 * self.concurrency

    def settings(self) -> dict[str, Any]:
        """What settles an answer beside chat, sampling and seed, as far as an address can."""
        return {"endpoint": self.address}

    def answer_many(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> list[Answer | Failed]:
        """An answer for each chat, or why there is none.

        Where the server is down, or turns the key or the model's name down, the rest is not asked any more; a later
        call then knocks once before it asks for more.
        """
        if not chats:
            return []
        first: list[Answer | Failed] = []
        if self._down:
            first = [self._ask(self._client.with_options(max_retries=0), chats[0], sampling, seeds[0])]
            self._down = _is_hopeless(first[0])
            if self._down:
                return [_same(first[0], chat) for chat in chats]
        stop: list[Answer | Failed] = []
        answered = bool(first)

        def ask(chat: Chat, seed: int) -> Answer | Failed:
            nonlocal answered
            if stop:
                return _same(stop[0], chat)
            answer = self._ask(self._client, chat, sampling, seed)
            answered |= isinstance(answer, Answer)
            # A single odd page between good answers is that prompt's failure; a server that is gone is everybody's.
            if _is_hopeless(answer) and (not answered or getattr(answer, "kind", "") == "EndpointDown"):
                stop.append(answer)
            return answer

        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="endpoint")
        try:
            answers = first + list(pool.map(ask, chats[len(first) :], seeds[len(first) :]))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C does not wait for what was not asked yet
        self._down = bool(stop)
        return answers

    def _ask(self, client: Any, chat: Chat, sampling: Sampling, seed: int) -> Answer | Failed:
        wanted = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed % 2**31,
            **self._more,
        }
        while True:
            absent = set(self._absent)
            renamed = {_NAMES[name] if name in _NAMES and name in absent else name: v for name, v in wanted.items()}
            given = {name: value for name, value in renamed.items() if name not in absent}
            try:
                found = client.chat.completions.create(model=self.name, messages=list(chat), **given)
            except self._openai.BadRequestError as error:
                if self._leaves_out(error, given) or self._absent != absent:
                    continue
                return self._failed(chat, error)
            except (self._openai.OpenAIError, ValueError) as error:  # ValueError: what came is no JSON
                return self._failed(chat, error)
            return self._read(chat, found)

    def _leaves_out(self, error: Any, given: dict[str, Any]) -> bool:
        """Whether the server turned a parameter down that it can do without; from now on it is not sent."""
        named = str(getattr(error, "param", None) or "")
        text = str(error)
        if not any(
            word in text.lower() for word in ("unsupported", "not support", "unexpected", "unknown", "unrecognized")
        ):
            return False
        for parameter in (*_NAMES, *_OPTIONAL, *self._more):
            if parameter in given and (named == parameter or (not named and f"'{parameter}'" in text)):
                with self._lock:
                    if parameter not in self._absent:
                        instead = f", {_NAMES[parameter]} instead" if parameter in _NAMES else ""
                        _log.warning("%s: %s takes no %s%s", self.address, self.name, parameter, instead)
                        self._absent.add(parameter)
                return True
        return False

    def _read(self, chat: Chat, found: Any) -> Answer | Failed:
        """The answer in what the server sent, which may be anything."""
        choices = getattr(found, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(choice, "message", None)
        if message is None:
            # A page in HTML comes as text; a server's own error, sent as success, as an object without choices.
            said = getattr(found, "error", None) or (found if isinstance(found, str) else "")
            line = _line(said) if said else "neither choices nor an error"
            return Failed(
                chat[-1]["content"],
                f"{self.address}: no chat endpoint answers there ({line}); does the address end in /v1?",
                "NotAnEndpoint",
            )
        reason = getattr(choice, "finish_reason", None)
        refusal = getattr(message, "refusal", None)
        if refusal or reason == "content_filter":
            why = _line(refusal) if refusal else "its content filter stopped the answer"
            return Failed(chat[-1]["content"], f"{self.name} refused: {why}", "Refused")
        text = message.content if isinstance(message.content, str) else ""
        used = getattr(getattr(found, "usage", None), "completion_tokens", None)
        whole = len(text) <= _MOST_CHARACTERS
        return Answer(text[:_MOST_CHARACTERS].strip(), int(used or 0), whole and reason != "length")

    def _failed(self, chat: Chat, error: Exception) -> Failed:
        api, tried = self._openai, f"{self._tries} tries" if self._tries > 1 else "1 try"
        said = _line(getattr(error, "message", None) or error)
        kinds: dict[type[Exception], tuple[str, str]] = {  # the first that fits; narrower ones stand first
            api.APITimeoutError: ("TimedOut", f"no answer within {self._timeout_s:g} s in {tried}; raise the time-out"),
            api.APIConnectionError: ("EndpointDown", f"no connection in {tried}; is the server running?"),
            api.RateLimitError: (
                "RateLimited",
                f"still too many requests after {tried} ({said}); ask with less concurrency, or run again later",
            ),
            api.AuthenticationError: ("NotAllowed", f"the key was turned down ({said}); set OPENAI_API_KEY"),
            api.PermissionDeniedError: ("NotAllowed", f"the key may not do this ({said})"),
            api.NotFoundError: ("NoSuchModel", f"no model {self.name} there, or no chat endpoint ({said})"),
            api.BadRequestError: _bad_request(said),
            api.InternalServerError: ("ServerError", f"the server failed in {tried} ({said})"),
            api.APIStatusError: ("ServerError", f"the server refused ({said})"),
        }
        kind, why = next(
            (row for fits, row in kinds.items() if isinstance(error, fits)),
            ("NotAnEndpoint", f"no chat endpoint ({said})"),
        )
        return Failed(chat[-1]["content"], f"{self.address}: {why}", kind)


def _is_hopeless(answer: Answer | Failed) -> bool:
    return isinstance(answer, Failed) and answer.kind in HOPELESS


def _same(answer: Answer | Failed, chat: Chat) -> Failed:
    """The same failure, of a chat that was not asked."""
    assert isinstance(answer, Failed)
    return replace(answer, source=chat[-1]["content"])


def _bad_request(said: str) -> tuple[str, str]:
    low = said.lower()
    if "context" in low and ("length" in low or "window" in low or "size" in low):
        return "PromptTooLong", f"the prompt is too long for the model ({said})"
    if "content" in low and ("filter" in low or "policy" in low):
        return "Refused", f"the server refused ({said})"
    return "BadRequest", f"the server does not understand the request ({said})"


def _line(text: object) -> str:
    """The first line of what a server said, bounded, without marks of a web page."""
    lines = str(text).replace("<", " <").strip().splitlines()
    return " ".join(lines[0].split())[:160] if lines else "no reason given"


def address_and_key(endpoint: str | None) -> tuple[str, str]:
    """Where requests go and the key that goes with them; "none" for servers that ask for none.

    Args:
        endpoint: address of the server; None: OPENAI_BASE_URL, or OpenAI itself.

    Raises:
        ConfigError: the address is none, or OpenAI is asked without a key.
    """
    address = endpoint or os.environ.get("OPENAI_BASE_URL")
    key = os.environ.get("OPENAI_API_KEY")
    if not address and not key:
        raise ConfigError("OPENAI_API_KEY is not set; set it, or name a server of your own with --endpoint")
    address = address or _OPENAI
    if urlsplit(address).scheme not in ("http", "https"):
        raise ConfigError(f"endpoint {without_password(address)}: write http://HOST:PORT/v1")
    return address, key or "none"


def without_password(address: str) -> str:
    """An address as results may have it: without user, password and query."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

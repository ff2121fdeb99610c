"""A DSPy program as a back end of the upsampler."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from img2prompt.errors import ModelError
from img2prompt.models.chat import Answer, Chat, Sampling
from img2prompt.models.dspy_program import CHAINS, Measure, RichPrompt, dspy, load_program, open_model
from img2prompt.models.endpoint import address_and_key, without_password
from img2prompt.results import Failed

_FIELDS = re.compile(
    r"^(?P<prompt>.*?)\n<limit>(?P<limit>\d+)</limit>(?:\n<trouble>(?P<trouble>.*)</trouble>)?\s*$", re.S
)
_FAILED: tuple[tuple[str, str], ...] = (  # dspy's error -> the kind of a failed row
    ("LMTransportError", "EndpointDown"),
    ("LMAuthError", "NotAllowed"),
    ("LMBillingError", "NotAllowed"),
    ("LMUnsupportedModelError", "NoSuchModel"),
    ("LMRateLimitError", "RateLimited"),
    ("LMTimeoutError", "TimedOut"),
    ("ContextWindowExceededError", "PromptTooLong"),
)
_ANSWER = "AdapterParseError"


class DspyChat:
    """Answers the requests of the template "fields" with a DSPy program; a `ChatBackend`.

    Args:
        spec: a file with a `program_text`, or the name of a model for a program as it comes.
        endpoint: address of the server; None: OPENAI_BASE_URL, or OpenAI itself.
        measure: chooses among the chains.
        concurrency: prompts at once.
        timeout_s: of one request.
        tries: of one request, the first included.

    Raises:
        MissingExtra: dspy is not installed.
        ModelError: the file is no program.
        ConfigError: the address is none, or OpenAI is asked without a key.
    """

    def __init__(
        self,
        spec: str,
        endpoint: str | None,
        measure: Measure,
        *,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        tries: int = 5,
    ) -> None:
        path = Path(spec)
        self._hash = "unchanged"
        if path.suffix == ".json":
            if not path.is_file():
                raise ModelError(f"{path}: no such file; make it with: img2prompt upsample --optimise {path} ...")
            self._program, self._model, self._hash = load_program(path, measure)
        else:
            self._program, self._model = RichPrompt(measure, CHAINS), spec
        self.name, self.concurrency = f"dspy {self._model}", concurrency
        self._lm = open_model(self._model, endpoint, timeout_s=timeout_s, tries=tries)
        self._address = without_password(address_and_key(endpoint)[0])

    @property
    def batch_size(self) -> int:
        """Prompts that are best asked together."""
        return 2 * self.concurrency

    def settings(self) -> dict[str, Any]:
        """What settles an answer beside prompt, sampling and seed."""
        told = {"program": self._hash, "chains": self._program.chains, "dspy": dspy.__version__}
        return told | {"endpoint": self._address, "lm": self._model}

    def answer_many(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> list[Answer | Failed]:
        """An answer for each; what got none is a Failed row."""
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._answer, chats, [sampling] * len(chats), seeds))

    def _answer(self, chat: Chat, sampling: Sampling, seed: int) -> Answer | Failed:
        asked = chat[-1]["content"]
        fields = _FIELDS.match(asked)
        if fields is None:
            raise ModelError("a DSPy program takes the template fields, which hands it prompt, limit and trouble")
        prompt = fields["prompt"].strip()
        try:
            with dspy.context(lm=self._lm):
                found = self._program(
                    base_prompt=prompt,
                    token_limit=int(fields["limit"]),
                    trouble=fields["trouble"] or "",
                    temperature=sampling.temperature,
                    seed=seed,
                )
        except dspy.utils.exceptions.DSPyError as error:
            return _failed(prompt, error)
        text = " ".join((found.rich_prompt or "").split())
        return Answer(text, len(text.split()), True)


def _failed(prompt: str, error: Exception) -> Answer | Failed:
    """An answer in another form is an empty one, which is asked for again; the rest is a failure."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if _ANSWER in kinds:
        return Answer("", 0, True)
    kind = next((ours for theirs, ours in _FAILED if theirs in kinds), "EndpointError")
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return Failed(prompt, line[:300], kind)

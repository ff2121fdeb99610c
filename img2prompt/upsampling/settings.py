"""How prompts are upsampled, and how a language model is reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from img2prompt.errors import ConfigError


@dataclass(frozen=True, slots=True)
class UpsampleSettings:
    """What settles an answer beside the model, the prompt and the seed. Variants of a prompt are other seeds.

    Attributes:
        template: a name of `templates.TEMPLATES` or a file; None: the back end's own.
        target: the text encoder that will read the prompt: a name of `limits.TOKEN_COUNTERS`, or a folder with a
            tokenizer.
        token_limit: most tokens of a prompt, start and end included; None: all that the target reads.
        attempts: how often a prompt is asked before what is too long is cut, or the base stands.
        temperature: of the draws, 0 takes the likeliest token; None: the back end's usual one.
        answer_tokens: of the longest answer, by the model's own count and with what it thinks aloud; None: the
            usual number of the back end.
        top_p: smallest probability that the tokens drawn from have together.
        check: what looks for lost facts, a name of `drift.DRIFT_CHECKS`; None: the back end's own.
        min_cosine: least cosine of base and answer as sentences, -1..1; None: it is not looked at.

    Raises:
        ConfigError: a value is out of its range.
    """

    template: str | None = None
    target: str = "clip"
    token_limit: int | None = None
    attempts: int = 3
    temperature: float | None = None
    answer_tokens: int | None = None
    top_p: float = 0.95
    check: str | None = None
    min_cosine: float | None = 0.3

    def __post_init__(self) -> None:
        """Looks at every range once, where it is made."""
        for name in ("attempts", "answer_tokens"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name.replace('_', ' ')} {value}: must be 1 or more")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(f"temperature {self.temperature}: must be 0 to 2")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p {self.top_p}: must be over 0 and at most 1")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ConfigError(f"least cosine {self.min_cosine}: must be -1 to 1")


@dataclass(frozen=True, slots=True)
class BackEndSettings:
    """How a back end is reached and run; each takes what it has a use for.

    Attributes:
        device: where a local model computes: "cpu", "cuda", "cuda:1", "auto".
        batch_size: prompts that a local model answers together.
        bits: 4 or 8 loads a local model's weights so, through bitsandbytes; None: as they are.
        endpoint: address of an OpenAI-compatible server, e.g. http://localhost:11434/v1; None: OPENAI_BASE_URL, or
            OpenAI itself.
        concurrency: requests to an endpoint at once.
        timeout_s: of one request.
        tries: of one request that is turned down or gets no answer, the first included.
        cache: a file that keeps answers for the next time; "default": the one in the user's folder for caches;
            None: none.

    Raises:
        ConfigError: a value is out of its range.
    """

    device: str = "auto"
    batch_size: int = 16
    bits: int | None = None
    endpoint: str | None = None
    concurrency: int = 8
    timeout_s: float = 120.0
    tries: int = 5
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        """Looks at every range once, where it is made."""
        for name in ("batch_size", "concurrency", "tries"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name.replace('_', ' ')} {getattr(self, name)}: must be 1 or more")
        if self.bits not in (None, 4, 8):
            raise ConfigError(f"bits {self.bits}: 4 or 8 are possible")
        if not self.timeout_s > 0:
            raise ConfigError(f"time-out of {self.timeout_s} s: must be over 0")

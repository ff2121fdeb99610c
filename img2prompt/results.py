"""What the rooms hand to each other: frozen results and the protocols of exchangeable parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

STYLES = ("short", "long", "tags")  # the manners in which a captioner that was trained for it writes prompts


@dataclass(frozen=True, slots=True)
class Failed:
    """An item of a batch that could not be processed; counted and written, never raised."""

    source: str
    error: str  # one line, without the source
    kind: str  # class name of the error, e.g. "ImageTruncated"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EmbeddedPrompt:
    """A prompt that a generator left inside an image file; absent facts are None."""

    prompt: str
    negative_prompt: str | None = None
    generator: str | None = None  # e.g. "ComfyUI", "AUTOMATIC1111", "InvokeAI"
    model: str | None = None
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    width_px: int | None = None
    height_px: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One caption that a captioner proposes."""

    prompt: str
    log_likelihood: float  # sum over tokens, natural log, end token included; <= 0
    token_count: int  # tokens in the sum
    score: float | None = None  # what the ranking used, higher is better; None: not ranked
    scores: dict[str, float] | None = None  # the parts of `score` by their names, see ranking.SCORES; None: not ranked

    @property
    def mean_log_likelihood(self) -> float:
        """Of a token, natural log: compares captions of any length."""
        return self.log_likelihood / max(self.token_count, 1)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A known prompt whose picture looks like the one that was asked about."""

    prompt: str
    cosine: float  # of the two pictures' features
    id: str  # of the row in the data set that the bank was built from


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prompt of one image."""

    source: str
    prompt: str
    origin: str  # "metadata" | "captioner"
    negative_prompt: str | None = None
    candidates: tuple[Candidate, ...] = ()  # best first
    confidence: float | None = None  # 0..1; None for metadata
    in_domain: bool | None = None  # False: the picture looks unlike what the model knows
    preset: str | None = None
    embedded: EmbeddedPrompt | None = None
    nearest: tuple[Neighbour, ...] = ()  # known prompts, nearest first; empty without a bank
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Generated:
    """A picture that a generator made from a prompt, and how."""

    image: Image
    made: EmbeddedPrompt  # its prompt, seed, steps, ...: what a file of the picture says of itself
    sampler: str | None = None  # in the words of web interfaces, e.g. "DPM++ 2M Karras"
    read: str | None = None  # the start of the prompt, as far as the text encoder had room; None: it read all
    checked: bool = False  # a safety checker looked at the picture and let it pass


@dataclass(frozen=True, slots=True)
class Drift:
    """What a rewritten prompt did to its base."""

    lost: tuple[str, ...] = ()  # facts of the base that it does not state, in words
    contradicted: tuple[str, ...] = ()  # what it states otherwise or makes up against the rules, in words
    cosine: float | None = None  # of the two texts' sentence embeddings; None: not measured
    checker: str = ""  # what looked: a row of the drift checks
    unchecked: str | None = None  # why nothing could be looked at, in one line; None: it was

    @property
    def kept(self) -> bool:
        """It was looked at; nothing was lost and nothing contradicted."""
        return self.unchecked is None and not self.lost and not self.contradicted


@dataclass(frozen=True, slots=True)
class Upsampled:
    """A rich prompt that was made of a short one, and how."""

    base: str
    prompt: str  # the rich one; the base itself where none held
    outcome: str  # "upsampled" | "trimmed": too long, cut at the end of a sentence or clause | "base": fell back
    tokens: int  # of `prompt`, start and end included, by the tokenizer of the text encoder that will read it
    token_limit: int
    model: str
    template: str  # name and hash of the template
    seed: int
    attempts: int = 1
    drift: Drift | None = None  # of `prompt`; None where the base stands
    dropped: str = ""  # text that was cut off the end
    why: str | None = None  # why the base stands, in one line
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data for JSON."""
        return asdict(self)


class Captioner(Protocol):
    """Proposes captions for images."""

    def caption_many(
        self, images: Sequence[Image], *, candidates: int = 1, style: str = "short", seed: int = 0
    ) -> list[tuple[Candidate, ...]]:
        """`candidates` captions for each image, best first, independent of how images are batched."""
        ...


class Regressor(Protocol):
    """Estimates the sentence embedding of a picture's prompt."""

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Rows (B,D) of unit length, D of the sentence model; independent of how images are batched."""
        ...


class Generator(Protocol):
    """Makes pictures from prompts."""

    @property
    def batch_size(self) -> int:
        """Pictures that are made at once; it may shrink when memory runs out."""
        ...

    def settings(self) -> dict[str, Any]:
        """Plain data that, with prompt and seed, settles a picture: model, size, steps, ..."""
        ...

    @property
    def takes_negatives(self) -> bool:
        """Whether it heeds negative prompts."""
        ...

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> list[Generated | Failed]:
        """One picture for each prompt, from its own seed alone, whatever stands beside it in a batch.

        Equal seeds start from equal noise, so prompts can be compared on it. A negative prompt says what its picture
        shall not show; None: as the generator was opened.
        """
        ...


class Upsampler(Protocol):
    """Makes rich prompts of short ones."""

    def settings(self) -> dict[str, Any]:
        """Plain data that, with prompt and seed, settles an answer: model, template, limit, ..."""
        ...

    def upsample_many(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Upsampled | Failed]:
        """A rich prompt for each, from its own seed alone. What cannot be made rich keeps its base and says why."""
        ...

"""From a picture to its prompt: what the file says, else the best that the captioner says, with a confidence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, ImageError, Img2PromptError
from img2prompt.pairs.images import DEFAULT_LIMITS, Limits, Source
from img2prompt.presets import Located, best_available, resolve
from img2prompt.reading import Opened, Reader
from img2prompt.results import STYLES, EmbeddedPrompt, Failed, Prediction, Regressor
from img2prompt.tracing import past

if TYPE_CHECKING:
    from img2prompt.companions import Companions
    from img2prompt.models.generation import CocaCaptioner
    from img2prompt.rating import Asked, Rater

MOST_RANKED = 64


class Predictor:
    """Predicts prompts; loads its model when the first picture needs it.

    A predictor without a model (`Predictor.metadata_only()`) reads what generators left in files, and imports no torch.
    """

    def __init__(
        self,
        located: Located | None,
        *,
        device: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        companions: Companions | None = None,
        precision: str = "auto",
    ) -> None:
        """Most callers want `from_preset`.

        Args:
            located: the captioner; None: read metadata only.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            limits: how much one image may cost.
            companions: what stands beside the captioner; None: what the preset brings.
            precision: of the captioner: "auto" (bfloat16 where the processor multiplies it), "float32", "bfloat16".
        """
        self.located = located
        self.limits = limits
        self._device, self._precision = device, precision
        self._companions = companions

    @classmethod
    def from_preset(
        cls,
        preset: str | None = None,
        *,
        device: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        regressor: str | Path | Regressor | None = None,
        bank: str | Path | None = None,
        rank: int | None = None,
        precision: str = "auto",
    ) -> Predictor:
        """A predictor with a model that is on this machine.

        Args:
            preset: a preset's name, a model folder, or "hf-hub:OWNER/NAME"; None: the best preset on this machine.
            device: as for `Predictor`.
            limits: how much one image may cost.
            regressor: what candidates are compared to, a folder or a model; None: the preset's own, if it has one.
            bank: a folder of known prompts, of which each prediction then names the nearest.
            rank: candidates to choose the prompt from, 1 to 64; None: as many as the model's weights were fitted for,
                which needs a sentence model; 1: the captioner's own choice, the fastest.
            precision: as for `Predictor`.

        Raises:
            PresetError: there is no such model, or it was not pulled; nothing is downloaded.
            ConfigError: `rank` is out of range.
        """
        from img2prompt.companions import Companions

        if rank is not None and not 1 <= rank <= MOST_RANKED:
            raise ConfigError(f"rank {rank}: 1 to {MOST_RANKED} are possible")
        located = best_available() if preset is None else resolve(preset)
        companions = Companions(regressor, bank, rank)
        return cls(located, device=device, limits=limits, companions=companions, precision=precision)

    @classmethod
    def metadata_only(cls, *, limits: Limits = DEFAULT_LIMITS) -> Predictor:
        """A predictor that only reads the prompts that are in the files."""
        return cls(None, limits=limits)

    def predict(
        self,
        source: Source,
        *,
        candidates: int = 1,
        style: str = "short",
        seed: int = 0,
        ignore_metadata: bool = False,
    ) -> Prediction:
        """The prompt of one picture.

        Args:
            source: a path, bytes, a binary file object, an http(s) URL, "-" for stdin, or a Pillow image.
            candidates: how many captions to propose.
            style: "short", "long" or "tags".
            seed: of the sampling of candidates.
            ignore_metadata: do not look for a prompt in the file.

        Raises:
            ImageError: the picture cannot be used.
            MetadataError: without a model, the file holds no prompt, or a hostile one.
            PresetError, ModelError: the model's files are damaged.
        """
        asked = _asked(candidates, style, seed)
        opened = self._reader(ignore_metadata).open(source)
        row = next(self._rows([opened], asked))
        if isinstance(row, Failed):
            assert opened.error is not None
            raise opened.error
        return row

    def predict_many(
        self,
        sources: Iterable[Source],
        *,
        batch_size: int = 16,
        candidates: int = 1,
        style: str = "short",
        seed: int = 0,
        ignore_metadata: bool = False,
    ) -> Iterator[Prediction | Failed]:
        """Streams one row a source, in order; a source that cannot be used gives a Failed row.

        Takes no more sources than it needs to keep the model busy, and keeps no row: memory does not grow with their
        number. A picture's prompt does not depend on what else is in its batch.

        Args:
            sources: as for `predict`.
            batch_size: pictures that the model sees at once.
            candidates: as for `predict`.
            style: as for `predict`.
            seed: as for `predict`; every picture starts from it.
            ignore_metadata: as for `predict`.
        """
        asked = _asked(candidates, style, seed)
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size}: at least 1 is needed")
        held: list[Opened] = []  # rows in order, of which `waiting` need the model
        waiting = 0
        for opened in self._reader(ignore_metadata).open_many(sources, 2 * batch_size):
            held.append(opened)
            waiting += opened.image is not None
            # Rows that are ready go out at once while nothing before them waits for the model.
            if waiting in (0, batch_size) or len(held) >= 8 * batch_size:
                yield from self._rows(held, asked)
                held, waiting = [], 0
        yield from self._rows(held, asked)

    def _reader(self, ignore_metadata: bool) -> Reader:
        return Reader(self.limits, metadata=not ignore_metadata, pixels=self.located is not None)

    def _rows(self, held: list[Opened], asked: Asked) -> Iterator[Prediction | Failed]:
        captioned = self._caption([o for o in held if o.image is not None], asked)
        for opened in held:
            if opened.error is not None:
                with past("predict", opened.seconds, source=opened.name) as step:
                    step.fail(str(opened.error))
                yield _failed(opened.name, opened.error)
            elif opened.embedded is not None:
                yield _traced(_from_metadata(opened, opened.embedded), asked)
            else:
                yield _traced(next(captioned), asked)

    @property
    def captioner(self) -> CocaCaptioner:
        """The model, loaded on first use."""
        return self.rater.models.captioner

    @cached_property
    def rater(self) -> Rater:
        """The captioner with its companions; each is loaded on first use."""
        from img2prompt.companions import Models
        from img2prompt.rating import Rater

        if self.located is None:
            raise ConfigError("this predictor reads metadata only; make one with Predictor.from_preset")
        return Rater(Models(self.located, self._device, self._companions, self._precision))

    def _caption(self, opened: list[Opened], asked: Asked) -> Iterator[Prediction]:
        if not opened or self.located is None:
            return
        images = [o.image for o in opened if o.image is not None]
        self.rater.models.prepare()  # loading is not part of a picture's seconds
        start = time.perf_counter()
        seen = self.rater.see(images, asked)
        confidences, nearest = self.rater.judge(seen), self.rater.nearest(images)
        seconds = (time.perf_counter() - start) / len(opened)
        for o, row, known, (confidence, in_domain) in zip(opened, seen.rows, nearest, confidences, strict=True):
            yield Prediction(
                source=o.name,
                prompt=row[0].prompt,
                origin="captioner",
                candidates=row,
                confidence=confidence,
                in_domain=in_domain,
                preset=self.located.name,
                nearest=known,
                seconds=o.seconds + seconds,
            )


def _asked(candidates: int, style: str, seed: int) -> Asked:
    from img2prompt.rating import Asked

    if style not in STYLES:
        raise ConfigError(f"style {style!r}: choose from {', '.join(STYLES)}")
    if not 1 <= candidates <= MOST_RANKED:
        raise ConfigError(f"candidates {candidates}: 1 to {MOST_RANKED} are possible")
    return Asked(candidates, style, seed)


def _traced(row: Prediction, asked: Asked) -> Prediction:
    with past("predict", row.seconds, source=row.source, preset=row.preset, **asdict(asked)) as step:
        step.set(prompt=row.prompt, origin=row.origin, confidence=row.confidence, in_domain=row.in_domain)
    return row


def _from_metadata(opened: Opened, embedded: EmbeddedPrompt) -> Prediction:
    return Prediction(
        source=opened.name,
        prompt=embedded.prompt,
        origin="metadata",
        negative_prompt=embedded.negative_prompt,
        embedded=embedded,
        seconds=opened.seconds,
    )


def _failed(name: str, error: Img2PromptError) -> Failed:
    reason = error.reason if isinstance(error, ImageError) else str(error).removeprefix(f"{name}: ")
    return Failed(source=name, error=reason, kind=type(error).__name__)

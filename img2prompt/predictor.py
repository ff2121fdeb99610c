"""From a picture to its prompt: what the file says, else what the captioner says, with a confidence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, ImageError, Img2PromptError
from img2prompt.pairs.images import DEFAULT_LIMITS, Limits, Source
from img2prompt.presets import Located, best_available, resolve
from img2prompt.reading import Opened, Reader
from img2prompt.results import STYLES, Candidate, EmbeddedPrompt, Failed, Prediction

if TYPE_CHECKING:
    from img2prompt.confidence import Calibration
    from img2prompt.models.generation import Captions, CocaCaptioner

MODEL_BATCH = 4096  # `predict_many` decides how many pictures go together; the captioner takes what it is given


class Predictor:
    """Predicts prompts; loads its model when the first picture needs it.

    A predictor without a model (`Predictor.metadata_only()`) reads what generators left in files, and imports no torch.
    """

    def __init__(self, located: Located | None, *, device: str = "auto", limits: Limits = DEFAULT_LIMITS) -> None:
        """Most callers want `from_preset`.

        Args:
            located: the model; None: read metadata only.
            device: "auto", "cpu", "cuda", "cuda:1", "mps".
            limits: how much one image may cost.
        """
        self.located = located
        self.limits = limits
        self._device = device

    @classmethod
    def from_preset(
        cls, preset: str | None = None, *, device: str = "auto", limits: Limits = DEFAULT_LIMITS
    ) -> Predictor:
        """A predictor with a model that is on this machine.

        Args:
            preset: a preset's name, a model folder, or "hf-hub:OWNER/NAME"; None: the best preset on this machine.
            device: as for `Predictor`.
            limits: how much one image may cost.

        Raises:
            PresetError: there is no such model, or it was not pulled; nothing is downloaded.
        """
        return cls(best_available() if preset is None else resolve(preset), device=device, limits=limits)

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
        _check(candidates, style, 1)
        opened = self._reader(ignore_metadata).open(source)
        if opened.error is not None:
            raise opened.error
        if opened.embedded is not None:
            return _from_metadata(opened, opened.embedded)
        return next(self._caption([opened], candidates, style, seed))

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
        _check(candidates, style, batch_size)
        held: list[Opened] = []  # rows in order, of which `waiting` need the model
        waiting = 0
        for opened in self._reader(ignore_metadata).open_many(sources, 2 * batch_size):
            held.append(opened)
            waiting += opened.image is not None
            # Rows that are ready go out at once while nothing before them waits for the model.
            if waiting in (0, batch_size) or len(held) >= 8 * batch_size:
                yield from self._rows(held, candidates, style, seed)
                held, waiting = [], 0
        yield from self._rows(held, candidates, style, seed)

    def _reader(self, ignore_metadata: bool) -> Reader:
        return Reader(self.limits, metadata=not ignore_metadata, pixels=self.located is not None)

    def _rows(self, held: list[Opened], candidates: int, style: str, seed: int) -> Iterator[Prediction | Failed]:
        captioned = self._caption([o for o in held if o.image is not None], candidates, style, seed)
        for opened in held:
            if opened.error is not None:
                yield _failed(opened.name, opened.error)
            elif opened.embedded is not None:
                yield _from_metadata(opened, opened.embedded)
            else:
                yield next(captioned)

    @cached_property
    def captioner(self) -> CocaCaptioner:
        """The model, loaded on first use."""
        from img2prompt.models.coca import load_coca
        from img2prompt.models.generation import CocaCaptioner, fast_dtype

        if self.located is None:
            raise ConfigError("this predictor reads metadata only; make one with Predictor.from_preset")
        device = _usable(self._device)
        loaded = load_coca(self.located.source, device=device, dtype=fast_dtype(device))
        return CocaCaptioner(loaded, batch_size=MODEL_BATCH)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What is known about the model's world; None: nothing."""
        from img2prompt.confidence import load_calibration

        return None if self.located is None else load_calibration(self.located.folder)

    def _caption(self, opened: list[Opened], candidates: int, style: str, seed: int) -> Iterator[Prediction]:
        if not opened or self.located is None:
            return
        images = [o.image for o in opened if o.image is not None]
        captioner = self.captioner  # loading it is not part of a picture's seconds
        start = time.perf_counter()
        try:
            captions = captioner.describe_many(images, candidates=candidates, style=style, seed=seed)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise ConfigError(f"out of memory with {len(images)} pictures at once; use a smaller batch size") from error
        confidences = self._confidences(captions)
        seconds = (time.perf_counter() - start) / len(opened)
        for o, row, (confidence, in_domain) in zip(opened, captions.candidates, confidences, strict=True):
            row = _ranked(_cleaned(candidate) for candidate in row)
            yield Prediction(
                source=o.name,
                prompt=row[0].prompt,
                origin="captioner",
                candidates=row,
                confidence=confidence,
                in_domain=in_domain,
                preset=self.located.name,
                seconds=o.seconds + seconds,
            )

    def _confidences(self, captions: Captions) -> list[tuple[float, bool | None]]:
        """Confidence of each picture's best caption, and whether the picture belongs to the model's world."""
        import numpy as np

        per_token = np.array([max(candidate.mean_log_likelihood for candidate in row) for row in captions.candidates])
        if self.calibration is None:
            return [(float(p), None) for p in np.exp(np.minimum(per_token, 0))]
        evidence = self.calibration.evidence(captions.features.double().numpy(), per_token)
        scores = self.calibration.confidence(evidence)
        return [(float(score), bool(score >= self.calibration.threshold)) for score in scores]


def _usable(device: str) -> str:
    """The device to run on; "auto" takes CUDA when there is one."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {device!r}: not usable here ({reason}); try --device cpu") from error
    return device


def _check(candidates: int, style: str, batch_size: int) -> None:
    if style not in STYLES:
        raise ConfigError(f"style {style!r}: choose from {', '.join(STYLES)}")
    if not 1 <= candidates <= 64:
        raise ConfigError(f"candidates {candidates}: 1 to 64 are possible")
    if batch_size < 1:
        raise ConfigError(f"batch size {batch_size}: at least 1 is needed")


def _ranked(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Best first, with the scores that say so: beams and samples come from one model, so they compare."""
    scored = [replace(candidate, score=candidate.mean_log_likelihood) for candidate in candidates]
    return tuple(sorted(scored, key=lambda candidate: candidate.mean_log_likelihood, reverse=True))


def _cleaned(candidate: Candidate) -> Candidate:
    """A byte-level vocabulary can spell control characters; nobody wants them on a terminal."""
    if candidate.prompt.isprintable():
        return candidate
    text = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in candidate.prompt).split())
    return replace(candidate, prompt=text)


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

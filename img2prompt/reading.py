"""Pictures on their way to the model: one read serves the prompt in the file and the pixels, ahead of the model."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from img2prompt.errors import Img2PromptError, MetadataError
from img2prompt.pairs.images import Limits, Source, name_of, open_image, read_bytes
from img2prompt.pairs.metadata import read_prompt
from img2prompt.results import EmbeddedPrompt

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

DECODERS = 2  # threads that read and decode pictures while the model runs
# A picture that waits for the model is reduced by a whole factor to no less than this on its short side: more than any
# captioner sees, and a batch of 64-megapixel pictures fits into memory.
KEPT_PX = 512


@dataclass(frozen=True, slots=True)
class Opened:
    """A source after reading: exactly one of `image`, `embedded` and `error` is there."""

    name: str
    seconds: float
    image: Image.Image | None = None
    embedded: EmbeddedPrompt | None = None
    error: Img2PromptError | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """How sources are read."""

    limits: Limits
    metadata: bool = True  # look for a prompt in the file first
    pixels: bool = True  # decode the picture when the file holds no prompt; False: that is an error

    def open(self, source: Source) -> Opened:
        """Reads one source; errors are in the result."""
        start, name = time.perf_counter(), name_of(source)
        image = embedded = error = None
        try:
            if not hasattr(source, "getbands"):  # a Pillow image has no file bytes any more
                source = read_bytes(source, self.limits, name=name)
                embedded = self._read_prompt(source, name) if self.metadata else None
            if embedded is None:
                if not self.pixels:
                    raise MetadataError(f"{name}: the file holds no prompt; let a model caption it")
                image = _kept(open_image(source, self.limits, name=name))
        except Img2PromptError as problem:
            error = problem
        return Opened(name, time.perf_counter() - start, image, embedded, error)

    def open_many(self, sources: Iterable[Source], ahead: int) -> Iterator[Opened]:
        """Reads and decodes on threads, at most `ahead` sources before they are asked for; keeps the order."""
        pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="img2prompt-decode")
        queue: deque[Future[Opened]] = deque()
        try:
            for source in sources:
                queue.append(pool.submit(self.open, source))
                if len(queue) >= ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read_prompt(self, data: bytes, name: str) -> EmbeddedPrompt | None:
        try:
            return read_prompt(data, self.limits, name=name)
        except MetadataError as error:
            if not self.pixels:
                raise
            log.warning("%s; captioned instead", error)
            return None


def _kept(image: Image.Image) -> Image.Image:
    factor = min(image.size) // KEPT_PX
    return image.reduce(factor) if factor > 1 else image

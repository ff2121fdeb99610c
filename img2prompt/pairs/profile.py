"""What a stream of pairs holds, counted in one pass; pictures and token lengths are looked at on a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from img2prompt.errors import ImageError
from img2prompt.pairs.counting import Distinct, Reservoir, TopCounter, quantiles
from img2prompt.pairs.decoding import measure
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.images import DEFAULT_LIMITS, open_image, read_bytes
from img2prompt.pairs.making.clip_tokens import CONTEXT_TOKENS, count_tokens
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.words import phrases_of, telling, whole_phrases, words_of

EXAMPLES = 20  # pairs that are shown
EXAMPLE_PX = 320
LISTED = 30  # words, phrases and repeated prompts
SHARES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
MAX_CHARS = 20_000  # of a prompt that is split into words; what is longer is no prompt


@dataclass(frozen=True, slots=True)
class Example:
    """A pair to be shown: a small picture, RGB, and its prompt."""

    image: Image.Image
    prompt: str
    source: str
    id: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much is looked at closely.

    Attributes:
        prompts: whose tokens are counted and whose neighbours are looked for.
        pictures: whose headers are read.
        examples: that are shown.
        seed: of the choice.
    """

    prompts: int = 20_000
    pictures: int = 2_000
    examples: int = EXAMPLES
    seed: int = 0


@dataclass
class _Lengths:
    """Prompts by a length."""

    counts: Counter[int] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        total = self.counts.total()
        at = dict(zip(SHARES, quantiles(self.counts, SHARES.values()), strict=True)) if total else {}
        mean = sum(length * count for length, count in self.counts.items()) / max(total, 1)
        return {"mean": mean, **at, "histogram": {str(n): count for n, count in sorted(self.counts.items())}}


class Profile:
    """Counts pairs as they come. Memory: eight bytes a row and prompt, and what the samples hold.

    Attributes:
        rows: so far.
        skips: pictures of the sample that cannot be used.
        prompts: the sample of prompts.
        examples: the pairs to be shown.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.rows = 0
        self.skips = Skips()
        self.prompts: Reservoir[str] = Reservoir(sampling.prompts, sampling.seed)
        self._examples: Reservoir[Example | None] = Reservoir(sampling.examples, sampling.seed + 1)
        self._pictures: Reservoir[tuple[str, int, int, int] | None] = Reservoir(sampling.pictures, sampling.seed + 2)
        self._sources: Counter[str] = Counter()
        self._words, self._characters = _Lengths(), _Lengths()
        self._top_words, self._top_phrases, self._repeated = TopCounter(), TopCounter(), TopCounter(100_000)
        self._distinct, self._folded, self._seen = Distinct(), Distinct(), Distinct()
        self._urls = 0

    @property
    def examples(self) -> list[Example]:
        """The pairs to be shown, in the order they came."""
        return [example for example in self._examples.items if example is not None]

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a row of `stream_rows`, or one with `prompt` and `source` alone."""
        prompt, source = str(row["prompt"]), str(row.get("source") or "")
        self.rows += 1
        self._sources[source] += 1
        self._count_text(prompt)
        if (place := self.prompts.place()) is not None:
            self.prompts.put(place, prompt)
        image = row.get("image")
        if image is not None:
            self._look(image, prompt, source, str(row.get("id") or self.rows - 1))

    def to_dict(self) -> dict[str, Any]:
        """All that was counted, as plain data for JSON."""
        folded = self._folded.count()
        return {
            "rows": self.rows,
            "sources": dict(self._sources.most_common()),
            "prompts": {
                "distinct": self._distinct.count(),
                "distinct_folded": folded,
                "repeated_rows": self.rows - folded,
                "most_repeated": [pair for pair in self._repeated.top(LISTED) if pair[1] > 1],
                "words": self._words.to_dict(),
                "characters": self._characters.to_dict(),
                "tokens": self._tokens(),
            },
            "top_words": self._top_words.top(LISTED),
            "top_phrases": [p for p in whole_phrases(self._top_phrases.counts, LISTED) if p[1] > 1],
            "counts_too_small_by_up_to": {
                "words": self._top_words.error,
                "phrases": self._top_phrases.error,
                "most_repeated": self._repeated.error,
            },
            "pictures": self._pictures_dict(),
        }

    def _count_text(self, prompt: str) -> None:
        words = words_of(prompt[:MAX_CHARS])
        self._words.counts[len(words)] += 1
        self._characters.counts[len(prompt)] += 1
        self._top_words.update(telling(words))
        self._top_phrases.update(phrases_of(prompt[:MAX_CHARS]))
        folded = " ".join(prompt.split()).casefold()
        self._distinct.add(prompt)
        self._folded.add(folded)
        self._repeated.update([folded[:MAX_CHARS]])

    def _tokens(self) -> dict[str, Any]:
        lengths = _Lengths(Counter(count_tokens(prompt[:MAX_CHARS]) for prompt in self.prompts.items))
        over = sum(count for length, count in lengths.counts.items() if length > CONTEXT_TOKENS)
        sample = len(self.prompts.items)
        return {"sample": sample, "over_77": over, "over_77_share": over / max(sample, 1), **lengths.to_dict()}

    def _look(self, image: Mapping[str, Any], prompt: str, source: str, name: str) -> None:
        """Takes a picture into the samples where chance wants it; one that is only named by a URL is not fetched."""
        held, path = image.get("bytes"), image.get("path")
        self._seen.add(held if held is not None else str(path))
        if held is None and is_url(path or ""):
            self._urls += 1
            return
        label = str(path or f"{source}: {name}")
        opened: bytes | Path = bytes(held) if held is not None else Path(str(path))
        if (place := self._pictures.place()) is not None:
            self._pictures.put(place, self._measured(opened, label))
        if (place := self._examples.place()) is not None:
            self._examples.put(place, self._example(opened, label, prompt, source, name))

    def _measured(self, opened: bytes | Path, label: str) -> tuple[str, int, int, int] | None:
        try:
            data = read_bytes(opened, name=label)
            return *measure(data, label, DEFAULT_LIMITS.max_pixels), len(data)
        except ImageError as error:
            self.skips.add(type(error).__name__, label, error.reason)
            return None

    def _example(self, opened: bytes | Path, label: str, prompt: str, source: str, name: str) -> Example | None:
        try:
            image = open_image(opened, name=label, least_px=EXAMPLE_PX)
        except ImageError:  # the other sample counts such
            return None
        image.thumbnail((EXAMPLE_PX, EXAMPLE_PX))
        return Example(image, prompt, source, name)

    def _pictures_dict(self) -> dict[str, Any]:
        measured = [found for found in self._pictures.items if found is not None]
        sizes = Counter(f"{width} x {height}" for _, width, height, _ in measured)
        formats: dict[str, dict[str, float]] = {}
        for kind, count in Counter(kind for kind, *_ in measured).most_common():
            mean = sum(size for name, *_, size in measured if name == kind) / count
            formats[kind] = {"count": count, "mean_bytes": mean}
        shorter = _Lengths(Counter(min(width, height) for _, width, height, _ in measured))
        return {
            "distinct": self._seen.count(),
            "urls": self._urls,
            "sample": len(self._pictures.items),
            "unreadable": len(self._pictures.items) - len(measured),
            "formats": formats,
            "sizes": dict(sizes.most_common(LISTED)),
            "different_sizes": len(sizes),
            "shorter_side_px": shorter.to_dict(),
        }

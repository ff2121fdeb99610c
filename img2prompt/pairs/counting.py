"""Counts and samples of streams whose memory does not grow with them."""

from __future__ import annotations

import heapq
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class TopCounter:
    """How often the frequent texts occur; the rare ones are forgotten where they are too many.

    Exact until `limit` different texts have come. Then the rarer half is dropped from time to time, and a count may be
    too small by up to `error` (Manku and Motwani, "Approximate frequency counts over data streams", 2002).

    Attributes:
        counts: text -> at least so often, and at most `error` times more often.
        error: 0 as long as nothing was dropped. Every text that occurred more often than this is in `counts`.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self.counts: Counter[str] = Counter()
        self.error = 0
        self._limit = limit

    def update(self, texts: Iterable[str]) -> None:
        """Counts each of some texts."""
        self.counts.update(texts)
        if len(self.counts) > self._limit:
            kept = heapq.nlargest(self._limit // 2, self.counts.items(), key=lambda item: (item[1], item[0]))
            dropped = self.counts.keys() - {text for text, _ in kept}
            self.error += max(self.counts[text] for text in dropped)
            self.counts = Counter(dict(kept))

    def top(self, most: int) -> list[tuple[str, int]]:
        """The most frequent texts; of equally frequent ones the first of the alphabet."""
        return heapq.nsmallest(most, self.counts.items(), key=lambda item: (-item[1], item[0]))


class Reservoir(Generic[T]):
    """A sample of a stream of unknown length in which every item is equally likely to be (Vitter's algorithm R).

    Args:
        size: items that are kept; a shorter stream is kept whole, in its order.
        seed: of the choice.

    Attributes:
        items: those kept.
        seen: items offered so far.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.items: list[T] = []
        self.seen = 0
        self._size = size
        self._random = random.Random(seed)

    def place(self) -> int | None:
        """Where the next item belongs, None for nowhere: so that an item that costs something is made only if kept."""
        self.seen += 1
        if self.seen <= self._size:
            return self.seen - 1
        place = self._random.randrange(self.seen)
        return place if place < self._size else None

    def put(self, place: int, item: T) -> None:
        """Keeps an item at the place that `place` gave."""
        self.items[place : place + 1] = [item]


class Distinct:
    """How many different values there are; eight bytes for each value that came."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, value: str | bytes) -> None:
        """Counts one value."""
        self._hashes.append(hash(value))  # 64 bits: among ten million values two meet with a chance of 3e-6

    def count(self) -> int:
        """Different values so far."""
        return len(np.unique(np.frombuffer(self._hashes, np.int64))) if self._hashes else 0


def quantiles(counts: Mapping[int, int], shares: Iterable[float]) -> list[int]:
    """The smallest numbers that at least these shares of all do not exceed.

    Args:
        counts: number -> how often; not empty.
        shares: from 0, the least number, to 1, the greatest.
    """
    numbers = np.array(sorted(counts))
    reached = np.cumsum([counts[int(number)] for number in numbers])
    places = [np.searchsorted(reached, max(share * reached[-1], 1)) for share in shares]
    return [int(numbers[min(place, len(numbers) - 1)]) for place in places]

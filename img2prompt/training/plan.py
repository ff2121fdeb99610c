"""Which rows and which manner of caption every batch holds: a pure function of the seed and the batch's number.

Nothing is drawn while training runs, so "resume" only needs the number of the next batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from img2prompt.errors import ConfigError


@dataclass(frozen=True)
class Manner:
    """One way of captioning an image.

    Attributes:
        column: the data set's column with the texts.
        prefix: words that stand before each text and later ask for this manner, e.g. "short:"; "" for none.
    """

    column: str
    prefix: str = ""


@dataclass(frozen=True)
class Phase:
    """A stretch of the training with its own mixture.

    Attributes:
        until: the share of the run at whose end it ends, 0..1.
        weights: manner -> share of the batches; absent manners are not drawn.
    """

    until: float
    weights: dict[str, float]


@dataclass(frozen=True, slots=True)
class Planned:
    """One batch."""

    number: int
    manner: str
    rows: np.ndarray  # (B,) row numbers


class Plan:
    """Batches without end.

    A pool of batches is cut from the epoch's permutation, shared out among the manners drawn for it, and sorted by
    length within each, so that a batch holds texts of like length and pads little; then its batches are shuffled.

    Args:
        lengths: manner -> tokens of every row (N,); 0 where the row has no such text.
        rows: the rows to draw from.
        batch_size: rows of a batch.
        phases: mixtures over the run, in order; the last one must end at 1.
        total: batches of the whole run, to which the phases refer.
        seed: of everything drawn here.
        pool: batches that are sorted by length together.
    """

    def __init__(
        self,
        lengths: Mapping[str, np.ndarray],
        rows: np.ndarray,
        batch_size: int,
        *,
        phases: Sequence[Phase],
        total: int,
        seed: int,
        pool: int = 8,
    ) -> None:
        if len(rows) < batch_size:
            raise ConfigError(f"data.batch_size {batch_size} is larger than the data set of {len(rows)} usable rows")
        self.lengths, self.rows, self.batch_size = lengths, rows, batch_size
        self.phases, self.total, self.seed = tuple(phases), total, seed
        self.batches_per_epoch = len(rows) // batch_size
        self.pool = max(1, min(pool, self.batches_per_epoch))
        self._permutation = lru_cache(maxsize=2)(self._permute)
        self._pool = lru_cache(maxsize=2)(self._make_pool)

    def __getitem__(self, number: int) -> Planned:
        """Batch `number` of the run, 0 the first."""
        epoch, place = divmod(number, self.batches_per_epoch)
        pool, offset = divmod(place, self.pool)
        manner, rows = self._pool(epoch, pool)[offset]
        return Planned(number, manner, rows)

    def since(self, number: int) -> Iterator[Planned]:
        """All batches from `number` on."""
        while True:
            yield self[number]
            number += 1

    def _permute(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 1, epoch)).permutation(self.rows)

    def _weights(self, number: int) -> dict[str, float]:
        share = number / max(1, self.total)
        return next((phase.weights for phase in self.phases if share < phase.until), self.phases[-1].weights)

    def _make_pool(self, epoch: int, pool: int) -> list[tuple[str, np.ndarray]]:
        first = pool * self.pool
        count = min(self.pool, self.batches_per_epoch - first)
        rows = self._permutation(epoch)[first * self.batch_size : (first + count) * self.batch_size]
        rng = np.random.default_rng((self.seed, 2, epoch, pool))
        drawn = []
        for i in range(count):
            weights = self._weights(epoch * self.batches_per_epoch + first + i)
            shares = np.array(list(weights.values()), float)
            drawn.append(str(rng.choice(list(weights), p=shares / shares.sum())))
        batches: list[tuple[str, np.ndarray]] = [("", rows[:0])] * count
        start = 0
        for manner in sorted(set(drawn)):
            places = rng.permutation([i for i, name in enumerate(drawn) if name == manner])
            part = rows[start : start + len(places) * self.batch_size]
            start += len(part)
            part = part[np.argsort(self.lengths[manner][part], kind="stable")]
            for place, batch in zip(places, np.split(part, len(places)), strict=True):
                batches[place] = (manner, batch)
        return batches


class Mixture:
    """Batches without end from several groups of rows, each shown as often as its weight says.

    A group's rows come in one permutation after the other, of which an epoch takes weight x rows: with weight 1 each
    row comes once an epoch, with 0.5 every other one, and none comes again before all others came.

    Args:
        groups: the rows (N,) of every group.
        weights: of the groups; 0 leaves one out.
        batch_size: rows of a batch.
        seed: of everything drawn here.

    Raises:
        ConfigError: an epoch has no whole batch.
    """

    def __init__(self, groups: Sequence[np.ndarray], weights: Sequence[float], batch_size: int, seed: int) -> None:
        self.groups, self.batch_size, self.seed = tuple(groups), batch_size, seed
        self.shares = tuple(round(weight * len(rows)) for weight, rows in zip(weights, groups, strict=True))
        if sum(self.shares) < batch_size:
            raise ConfigError(f"data.batch_size {batch_size} is larger than an epoch of {sum(self.shares)} usable rows")
        self.batches_per_epoch = sum(self.shares) // batch_size
        self._epoch = lru_cache(maxsize=2)(self._draw)
        self._permutation = lru_cache(maxsize=2 * len(groups))(self._permute)

    def __getitem__(self, number: int) -> Planned:
        """Batch `number` of the run, 0 the first."""
        epoch, place = divmod(number, self.batches_per_epoch)
        return Planned(number, "", self._epoch(epoch)[place * self.batch_size : (place + 1) * self.batch_size])

    def since(self, number: int) -> Iterator[Planned]:
        """All batches from `number` on."""
        while True:
            yield self[number]
            number += 1

    def _permute(self, group: int, turn: int) -> np.ndarray:
        return np.random.default_rng((self.seed, 3, group, turn)).permutation(self.groups[group])

    def _draw(self, epoch: int) -> np.ndarray:
        drawn = [np.zeros(0, np.int64)]
        for group, share in enumerate(self.shares):
            size, start = len(self.groups[group]), epoch * share
            while start < (epoch + 1) * share:
                turn, place = divmod(start, size)
                part = self._permutation(group, turn)[place : place + (epoch + 1) * share - start]
                drawn.append(part)
                start += len(part)
        return np.random.default_rng((self.seed, 4, epoch)).permutation(np.concatenate(drawn))

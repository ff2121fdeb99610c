"""Prompt-image pairs as batches for the captioner: which row, which manner, and exactly the same after a resume."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from img2prompt.errors import ConfigError, DataError
from img2prompt.models.tokenizer import CocaTokenizer, train_tokenizer
from img2prompt.pairs.storybook.vocabulary import STYLES
from img2prompt.training.decoding import DecodingLoader
from img2prompt.training.pair_set import Batch, PairSet
from img2prompt.training.pixels import decode_once, default_folder
from img2prompt.training.plan import Manner, Phase, Plan, Planned
from img2prompt.training.texts import tokenise

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where pairs come from.

    Attributes:
        train: folder of shards to learn from.
        validation: folder of shards to validate on; None takes the last `held_out` rows of `train`.
        held_out: rows kept from training when there is no validation folder.
        limit: at most so many training rows; None takes all.
        repeat: how often an epoch shows the training rows of a style or of a number of kinds, e.g.
            {"pencil sketch": 2, "3 kinds": 2}; both factors apply, rows that nothing names come once. For data with
            scenes: what is hard to see needs to be seen more often.
    """

    train: Path
    validation: Path | None = None
    held_out: int = 500
    limit: int | None = None
    repeat: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.held_out < 0 or (self.limit is not None and self.limit < 1):
            raise ConfigError("data.source: held_out must not be negative, and limit is 1 or more")


@dataclass(frozen=True)
class Decoding:
    """How pictures become arrays.

    Attributes:
        cache: decode everything once into a memory-mapped array (small pictures, many epochs); False decodes in
            worker processes as training goes (large pictures, few epochs).
        cache_folder: where such arrays lie; None: the user's cache.
        workers: worker processes without cache.
    """

    cache: bool = True
    cache_folder: Path | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError("data.decoding.workers: must not be negative")


class CaptionPairs(LightningDataModule):
    """Pairs of images and captions in several manners.

    Args:
        source: where pairs come from.
        batch_size: images of a batch.
        manners: name -> column and prefix.
        phases: mixture of the manners over the run.
        decoding: how pictures become arrays.
        seed: of the order of rows and manners.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int = 64,
        manners: dict[str, Manner] | None = None,
        phases: list[Phase] | None = None,
        decoding: Decoding = Decoding(),
        seed: int = 42,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError("data.batch_size: must be 1 or more")
        self.source, self.batch_size, self.decoding, self.seed = source, batch_size, decoding, seed
        self.manners = manners or {"short": Manner("prompt")}
        self.phases = phases or [Phase(1.0, dict.fromkeys(self.manners, 1.0))]
        unknown = {name for phase in self.phases for name in phase.weights} - set(self.manners)
        if unknown:
            raise DataError(f"data.phases: no manner {', '.join(sorted(unknown))} among {', '.join(self.manners)}")
        for shares in (phase.weights.values() for phase in self.phases):
            if not all(map(math.isfinite, shares)) or min(shares, default=0) < 0 or not sum(shares):
                raise ConfigError("data.phases: weights must not be negative, and one of each phase is above 0")
        self.next_batch = 0  # the first batch that has not been trained on
        self.skipped = 0  # pictures that could not be read
        self._sets: dict[str, PairSet] = {}

    def read(self) -> None:
        """Reads the captions; the pictures wait until the model says how large it wants them."""
        if not self._sets:
            train = PairSet.read(self.source.train)
            if self.source.validation is None:
                count = min(self.source.held_out, len(train) // 5)
                self._sets["validation"] = train.part(len(train) - count, len(train))
                train = train.part(0, len(train) - count)
            else:
                self._sets["validation"] = PairSet.read(self.source.validation)
            self._sets["train"] = train.part(0, min(len(train), self.source.limit or len(train)))

    def new_tokenizer(self, vocab_size: int) -> Any:
        """A vocabulary learned from the training captions and prefixes: a `tokenizers.Tokenizer`."""
        self.read()
        columns = self._sets["train"].columns
        texts = [t for manner in self.manners.values() for t in (manner.prefix, *columns.get(manner.column, ())) if t]
        return train_tokenizer(texts, vocab_size)

    def prepare(self, tokenizer: CocaTokenizer, context_length: int, image_px: int, grid: int) -> None:
        """Makes both sets ready for a model.

        Args:
            tokenizer: the model's.
            context_length: tokens that fit.
            image_px: side of the model's pictures.
            grid: patches a side.
        """
        self.read()
        self.pad_id = tokenizer.pad_id
        for pairs in self._sets.values():
            pairs.texts = tokenise(pairs.columns, self.manners, tokenizer, context_length)
            if self.decoding.cache:
                folder = self.decoding.cache_folder or default_folder()
                pairs.pixels = decode_once(pairs.shards, image_px, grid, folder)
            else:
                pairs.image_px = image_px
        usable = [pairs.usable() for pairs in self._sets.values()]
        self.skipped = sum(len(pairs) - len(rows) for pairs, rows in zip(self._sets.values(), usable, strict=True))
        if self.skipped:
            logger.warning("%d rows have no readable picture or no text and are skipped", self.skipped)

    def plan(self, total: int) -> Plan:
        """The training batches of a run of `total` batches."""
        train = self._sets["train"]
        lengths = {name: texts.lengths for name, texts in train.texts.items()}
        rows = repeated(train.usable(), train.columns.get("scene"), self.source.repeat)
        return Plan(lengths, rows, self.batch_size, phases=self.phases, total=total, seed=self.seed)

    def train_dataloader(self) -> Any:
        """Batches from `next_batch` on, without end; the trainer's max_steps ends them."""
        trainer = self.trainer
        if trainer is None or trainer.max_steps < 1:
            raise DataError("trainer.max_steps is needed: the phases and the learning rate are shares of it")
        plan = self.plan(trainer.max_steps * trainer.accumulate_grad_batches)
        train = self._sets["train"]
        if self.decoding.cache:
            return PlannedBatches(lambda: map(self._cut(train), plan.since(self.next_batch)))
        return DecodingLoader(train, self._cut(train), lambda: plan.since(self.next_batch), self.decoding.workers)

    def val_dataloader(self) -> Any:
        """Every validation row once in every manner of the last phase."""
        pairs = self._sets["validation"]
        rows = pairs.usable()
        size = min(self.batch_size, max(1, len(rows)))
        planned = [
            Planned(i, manner, part)
            for manner in self.phases[-1].weights
            for i, part in enumerate(np.split(rows, range(size, len(rows), size)))
        ]
        if self.decoding.cache:
            return PlannedBatches(lambda: map(self._cut(pairs), planned), len(planned))
        return DecodingLoader(pairs, self._cut(pairs), lambda: iter(planned), self.decoding.workers, len(planned))

    def _cut(self, pairs: PairSet) -> Callable[..., Batch]:
        return partial(pairs.cut, self.pad_id)

    def longest(self, manner: str) -> int:
        """Tokens of the longest caption of a manner, start and end included."""
        return int(max(pairs.texts[manner].lengths.max(initial=0) for pairs in self._sets.values()))

    def validation_texts(self, manner: str) -> list[str]:
        """The captions of all validation rows in one manner."""
        return [text or "" for text in self._sets["validation"].columns[self.manners[manner].column]]

    def validation_scenes(self) -> list[str] | None:
        """The scenes of all validation rows, where the data set has them."""
        scenes = self._sets["validation"].columns.get("scene")
        return None if scenes is None else [scene or "" for scene in scenes]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"next_batch": self.next_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.next_batch = int(state["next_batch"])


def repeated(rows: np.ndarray, scenes: Sequence[str | None] | None, times: Mapping[str, int]) -> np.ndarray:
    """The row numbers (N,), each as often as `times` says of its scene's style and number of kinds.

    Raises:
        ConfigError: the data has no scenes; the world knows no such name; a row is to come less than once.
    """
    if not times:
        return rows
    unknown = sorted(set(times) - {*STYLES, *(f"{n} kinds" for n in range(1, 4))})
    if unknown:
        raise ConfigError(f"data.source.repeat: {unknown[0]!r} is neither a style nor one of 1 kinds, 2 kinds, 3 kinds")
    if min(times.values()) < 1:
        raise ConfigError("data.source.repeat: every number must be 1 or more")
    if scenes is None:
        raise ConfigError("data.source.repeat needs data with scenes (`img2prompt storybook` makes such data)")
    read = [json.loads(scenes[row] or "{}") for row in rows]
    names = [(scene.get("style"), f"{len(scene.get('groups', ()))} kinds") for scene in read]
    return np.repeat(rows, [times.get(style, 1) * times.get(kinds, 1) for style, kinds in names])


@dataclass
class PlannedBatches:
    """An iterable that starts anew each time, with a length only when it ends."""

    start: Callable[[], Iterator[Any]]
    length: int | None = None

    def __iter__(self) -> Iterator[Any]:
        return self.start()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("training batches have no end")
        return self.length

"""Short and long texts of the same picture as batches for an upsampler, exactly the same after a resume."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.prompts import read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.training.data import PlannedBatches
from img2prompt.training.plan import Phase, Plan, Planned

logger = logging.getLogger(__name__)

IGNORED = -100  # a label that no loss is computed for, as in transformers


@dataclass(frozen=True)
class TextSource:
    """Where pairs of texts come from: anything that `img2prompt pairs` reads prompts from, with two columns of texts.

    Attributes:
        train: to learn from.
        validation: to validate on; None takes the last `held_out` rows of `train`.
        held_out: rows kept from training when there is no validation source.
        limit: at most so many training rows; None takes all.
        short: the column that is upsampled.
        long: the column of what shall come out.
    """

    train: Path
    validation: Path | None = None
    held_out: int = 500
    limit: int | None = None
    short: str = "short"
    long: str = "long"


@dataclass(frozen=True, slots=True)
class TextBatch:
    """What one training step learns from."""

    number: int  # of the run's batches
    rows: tuple[int, ...]  # row numbers in the data set
    tokens: Tensor  # (B,T) int64: question, answer, end, padding
    labels: Tensor  # (B,T) int64: the token itself within the answer, IGNORED elsewhere

    def to(self, device: torch.device | str, **options: Any) -> TextBatch:
        """The batch on a device."""
        return TextBatch(self.number, self.rows, self.tokens.to(device, **options), self.labels.to(device, **options))


@dataclass(frozen=True, slots=True)
class Chats:
    """Questions and answers as tokens, one after the other."""

    ids: np.ndarray  # int32
    offsets: np.ndarray  # (N+1,)
    questions: np.ndarray  # (N,) tokens before the answer

    def cut(self, planned: Planned, pad_id: int) -> TextBatch:
        """One batch, padded on the right to its longest row."""
        starts = self.offsets[planned.rows]
        lengths = self.offsets[planned.rows + 1] - starts
        tokens = np.full((len(starts), int(lengths.max())), pad_id, np.int64)
        labels = np.full_like(tokens, IGNORED)
        for i, (start, length, asked) in enumerate(zip(starts, lengths, self.questions[planned.rows], strict=True)):
            tokens[i, :length] = self.ids[start : start + length]
            labels[i, asked:length] = tokens[i, asked:length]
        rows = tuple(map(int, planned.rows))
        return TextBatch(planned.number, rows, torch.from_numpy(tokens), torch.from_numpy(labels))


class TextPairs(LightningDataModule):
    """Pairs of a short and a long text.

    Whoever trains calls `prepare` with the model's tokenizer, and after each batch sets `next_batch` to its number + 1.

    Args:
        source: where pairs come from.
        batch_size: pairs of a batch.
        system: what the model is told before each short text; None: nothing.
        seed: of the order of rows.

    Attributes:
        next_batch: the first batch that has not been trained on.
        texts: "train" and "validation" -> (short, long) of every row.
        skips: what was left out, and why.
    """

    def __init__(self, source: TextSource, batch_size: int = 64, system: str | None = None, seed: int = 42) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError("data.batch_size: must be 1 or more")
        self.source, self.batch_size, self.system, self.seed = source, batch_size, system, seed
        self.next_batch = 0
        self.texts: dict[str, list[tuple[str, str]]] = {}
        self.skips = Skips()
        self._chats: dict[str, Chats] = {}
        self._pad_id = 0

    def read(self) -> None:
        """Reads the texts, once.

        Raises:
            DataError: a source is unusable, or nothing is left of it.
        """
        if self.texts:
            return
        train = list(self._pairs(self.source.train))
        if self.source.validation is not None:
            validation = list(self._pairs(self.source.validation))
        else:
            held_out = min(self.source.held_out, len(train) // 2)
            train, validation = train[: len(train) - held_out], train[len(train) - held_out :]
        train = train[: self.source.limit]
        if not train or not validation:
            raise DataError(f"{self.source.train}: no pairs of {self.source.short!r} and {self.source.long!r} are left")
        self.texts = {"train": train, "validation": validation}

    def _pairs(self, path: Path) -> Iterator[tuple[str, str]]:
        named = {"prompt": self.source.short}
        for row in read_prompts(path, columns=named, extra=(self.source.long,), skips=self.skips):
            long = row.extra.get(self.source.long)
            if long and long.strip():
                yield " ".join(row.prompt.split()), " ".join(long.split())
            else:
                self.skips.add("NoLongText", row.id or f"{path}, row {row.number}", f"no text in {self.source.long!r}")

    def chat(self, short: str) -> list[dict[str, str]]:
        """What the model is asked."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": short}]

    def prepare(self, tokenizer: Any, context_length: int) -> None:
        """Tokenises all pairs; those that are longer than the model's context are left out.

        Raises:
            DataError: none is short enough.
        """
        self.read()
        self._pad_id = int(tokenizer.pad_token_id)
        for split, pairs in self.texts.items():
            self._chats[split], kept = self._tokens(pairs, tokenizer, context_length)
            self.texts[split] = kept

    def _tokens(
        self, pairs: Sequence[tuple[str, str]], tokenizer: Any, context_length: int
    ) -> tuple[Chats, list[tuple[str, str]]]:
        asked = tokenizer.apply_chat_template(
            [self.chat(short) for short, _ in pairs], tokenize=False, add_generation_prompt=True
        )
        answers = [long + tokenizer.eos_token for _, long in pairs]
        options = {"add_special_tokens": False, "return_attention_mask": False}
        questions = tokenizer(asked, **options)["input_ids"]
        rows = [q + a for q, a in zip(questions, tokenizer(answers, **options)["input_ids"], strict=True)]
        good = [i for i, row in enumerate(rows) if len(row) <= context_length]
        for i in sorted(set(range(len(rows))) - set(good)):
            self.skips.add("TooLong", pairs[i][0], f"{len(rows[i])} tokens, the model takes {context_length}")
        if not good:
            raise DataError(f"every pair is longer than the {context_length} tokens that the model takes")
        offsets = np.cumsum([0, *(len(rows[i]) for i in good)])
        ids = np.concatenate([np.array(rows[i], np.int32) for i in good])
        return Chats(ids, offsets, np.array([len(questions[i]) for i in good])), [pairs[i] for i in good]

    @property
    def skipped(self) -> int:
        """Rows that are not used."""
        return sum(self.skips.counts.values())

    def train_dataloader(self) -> Any:
        """Batches from `next_batch` on, without end; the trainer's max_steps ends them."""
        lengths = {"": np.diff(self._chats["train"].offsets)}
        rows = np.arange(len(lengths[""]))
        phases = [Phase(1.0, {"": 1.0})]
        plan = Plan(lengths, rows, self.batch_size, phases=phases, total=1, seed=self.seed)
        return PlannedBatches(lambda: self._cut("train", plan.since(self.next_batch)), None)

    def val_dataloader(self) -> Any:
        """Every validation row once, alike in length together."""
        order = np.argsort(np.diff(self._chats["validation"].offsets), kind="stable")
        parts = np.split(order, range(self.batch_size, len(order), self.batch_size))
        planned = [Planned(i, "", part) for i, part in enumerate(parts)]
        return PlannedBatches(lambda: self._cut("validation", iter(planned)), len(planned))

    def _cut(self, split: str, planned: Iterator[Planned]) -> Iterator[TextBatch]:
        return (self._chats[split].cut(batch, self._pad_id) for batch in planned)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"next_batch": self.next_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.next_batch = int(state["next_batch"])

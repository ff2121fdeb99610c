"""The captions of a data set as token arrays in memory, and the batches' token rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from img2prompt.errors import DataError
from img2prompt.models.tokenizer import CocaTokenizer, OwnTokenizer
from img2prompt.training.plan import Manner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of one manner.

    Attributes:
        ids: every row's start, prefix, text and end tokens, one after the other, int32.
        offsets: (N+1,) where each row begins.
        prefix_length: tokens before the text itself: start and prefix.
    """

    ids: np.ndarray
    offsets: np.ndarray
    prefix_length: int

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row (N,); 0 for a row without a text."""
        return np.diff(self.offsets)

    def rows(self, index: np.ndarray, pad_id: int) -> np.ndarray:
        """(B,T) int64, padded to the longest of them."""
        lengths = self.lengths[index]
        out = np.full((len(index), int(lengths.max(initial=0))), pad_id, np.int64)
        for row, start, length in zip(out, self.offsets[index], lengths, strict=True):
            row[:length] = self.ids[start : start + length]
        return out


def tokenise(
    columns: Mapping[str, Sequence[str | None]],
    manners: Mapping[str, Manner],
    tokenizer: CocaTokenizer,
    context_length: int,
) -> dict[str, Texts]:
    """Tokens of every manner's column.

    Args:
        columns: column -> texts of all rows; None or blank: the row has none.
        manners: what to tokenise.
        tokenizer: the model's.
        context_length: longest row, start and end included; longer texts are cut, which is counted and logged.

    Raises:
        DataError: a manner's column is not in the data set.
    """
    texts = {}
    for name, manner in manners.items():
        if manner.column not in columns:
            raise DataError(
                f"manner {name!r}: no column {manner.column!r} in the data, but {', '.join(columns)}; set data.manners"
            )
        prefix = [tokenizer.sot_id, *(tokenizer.encode(manner.prefix) if manner.prefix else ())]
        rows = _encode_many(tokenizer, [text or "" for text in columns[manner.column]])
        room = context_length - len(prefix) - 1
        long = sum(len(row) > room for row in rows)
        if long:
            logger.warning("%d of %d %s captions are cut at %d tokens", long, len(rows), name, context_length)
        whole = [np.array([*prefix, *row[:room], tokenizer.eot_id] if row else [], np.int32) for row in rows]
        offsets = np.cumsum([0, *(len(row) for row in whole)])
        texts[name] = Texts(np.concatenate(whole) if whole else np.zeros(0, np.int32), offsets, len(prefix))
    return texts


def _encode_many(tokenizer: CocaTokenizer, texts: Sequence[str]) -> list[list[int]]:
    if isinstance(tokenizer, OwnTokenizer):  # its Rust side encodes many at once, on all cores
        spaced = [" ".join(text.split()) for text in texts]
        return [encoding.ids for encoding in tokenizer.inner.encode_batch(spaced, add_special_tokens=False)]
    return [tokenizer.encode(text) for text in texts]

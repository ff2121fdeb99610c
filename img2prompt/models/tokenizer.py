"""Tokens of a captioner: CLIP's byte-pair encoding, or a small vocabulary of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from img2prompt.errors import ModelError

PAD, START, END = "<pad>", "<start>", "<end>"  # ids 0, 1, 2: open_clip's CoCa takes 0 for padding unless told otherwise


class CocaTokenizer(Protocol):
    """What decoding and training need of a tokenizer."""

    @property
    def sot_id(self) -> int: ...
    @property
    def eot_id(self) -> int: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without start and end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; stops at the end token, leaves out start and padding."""
        ...


def token_rows(tokenizer: CocaTokenizer, texts: Sequence[str], context_length: int) -> torch.Tensor:
    """Start, tokens, end, padding: the rows that open_clip's own tokenizers give.

    Args:
        tokenizer: the model's tokenizer.
        texts: B texts; a text that is too long is cut and still closed by the end token.
        context_length: T.

    Returns:
        (B,T) int64.
    """
    rows = torch.full((len(texts), context_length), tokenizer.pad_id, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        ids = [tokenizer.sot_id, *tokenizer.encode(text)[: context_length - 2], tokenizer.eot_id]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def _until_end(ids: Sequence[int], tokenizer: CocaTokenizer) -> list[int]:
    kept = []
    for token in ids:
        if token == tokenizer.eot_id:
            break
        if token != tokenizer.sot_id:
            kept.append(int(token))
    return kept


@cache
def _clip_bpe() -> Any:
    from open_clip import SimpleTokenizer  # reads and expands its 49k merges: a second, once

    return SimpleTokenizer()


@dataclass(frozen=True)
class ClipTokenizer:
    """CLIP's lower-cased byte-pair encoding of 49,408 tokens, from open_clip.

    Its padding is 0, which is also the token "!": padding must therefore be cut off before decoding.
    """

    sot_id: int = 49406
    eot_id: int = 49407
    pad_id: int = 0
    vocab_size: int = 49408

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without start and end."""
        ids: list[int] = _clip_bpe().encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` up to the end token."""
        text: str = _clip_bpe().decode(_until_end(ids, self))
        return text.strip()


@dataclass(frozen=True)
class OwnTokenizer:
    """A model's own vocabulary, from a tokenizer.json.

    Attributes:
        inner: the `tokenizers.Tokenizer`; its special tokens are `<pad>`, `<start>` and `<end>`, or as named in
            the tokenizer_config.json beside it.
    """

    inner: Tokenizer
    sot_id: int
    eot_id: int
    pad_id: int
    vocab_size: int

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without start and end."""
        ids: list[int] = self.inner.encode(" ".join(text.split()), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` up to the end token, without special tokens."""
        text: str = self.inner.decode(_until_end(ids, self), skip_special_tokens=True)
        return text.strip()


def own_tokenizer(inner: Tokenizer, names: Sequence[str] = (START, END, PAD)) -> OwnTokenizer:
    """Wraps a `tokenizers.Tokenizer`.

    Args:
        inner: the tokenizer.
        names: its start, end and padding token.

    Raises:
        ModelError: it lacks one of them.
    """
    ids = [token for token in map(inner.token_to_id, names) if token is not None]
    if len(ids) != 3:
        raise ModelError(f"the tokenizer lacks one of {', '.join(names)}; take the model's own tokenizer files")
    return OwnTokenizer(inner, ids[0], ids[1], ids[2], inner.get_vocab_size())


def read_tokenizer(folder: Path) -> OwnTokenizer:
    """The tokenizer of a model folder: tokenizer.json, and the special tokens from tokenizer_config.json.

    Raises:
        ModelError: a file is missing or damaged.
    """
    path = folder / "tokenizer.json"
    try:
        inner = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{error.filename}: {error.strerror}; copy the whole model folder") from error
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise ModelError(f"{path}: damaged tokenizer ({error}); copy the model folder again") from error
    inner.no_padding()
    inner.no_truncation()
    names = [settings.get(key) for key in ("bos_token", "eos_token", "pad_token")]
    texts = [name.get("content") if isinstance(name, dict) else name for name in names]
    return own_tokenizer(inner, [text if isinstance(text, str) else "" for text in texts])


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json as `transformers.AutoTokenizer` reads them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a small lower-casing byte-level BPE with `<pad>` 0, `<start>` 1 and `<end>` 2.

    Byte-level pair encoding (Sennrich et al. 2016; Radford et al. 2019) spells any text, so there is no unknown
    token. A space before each word, the first included, makes a word the same token wherever it stands.

    Args:
        texts: what the vocabulary is learned from.
        vocab_size: at most so many tokens, the 3 special ones and 256 bytes included.

    Raises:
        ModelError: `vocab_size` is below 259.
    """
    if vocab_size < 259:
        raise ModelError(f"vocabulary of {vocab_size} tokens: a byte-level vocabulary needs at least 259")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 1), (END, 2)]
    )
    return tokenizer

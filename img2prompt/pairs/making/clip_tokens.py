"""How many tokens CLIP's text encoder makes of a prompt, counted without torch.

The vocabulary is the file that open_clip brings; the counting is done by the `tokenizers` library, in the same way.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
from functools import cache
from pathlib import Path

import ftfy
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from img2prompt.errors import ConfigError

CONTEXT_TOKENS = 77  # of CLIP's text encoders, start and end included; what is longer is cut off
_MERGES = 49152 - 256 - 2  # of the file's lines; the rest of it was never used
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def count_tokens(prompt: str) -> int:
    """Tokens of a prompt with its start and end, as `open_clip.SimpleTokenizer` makes them before it cuts.

    Raises:
        ConfigError: open_clip's vocabulary is not there.
    """
    return 2 + len(_tokenizer().encode(_cleaned(prompt), add_special_tokens=False).ids)


def _cleaned(prompt: str) -> str:
    """Repaired and lower-cased, as CLIP's texts were; plain ASCII needs no repair."""
    text = prompt if prompt.isascii() else ftfy.fix_text(prompt)
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


@cache
def _tokenizer() -> Tokenizer:
    spec = importlib.util.find_spec("open_clip")  # finds the folder and imports nothing
    path = Path((spec.origin if spec is not None else None) or "").parent / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        raise ConfigError("--tokens: CLIP's vocabulary is not there; pip install open_clip_torch, or give --tokens off")
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    merges = [(pair[0], pair[1]) for line in lines[1 : _MERGES + 1] if len(pair := line.split()) == 2]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge) for merge in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer

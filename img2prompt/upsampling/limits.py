"""How many tokens a prompt has for the text encoder that will read it, and where a prompt that is too long is cut.

Lengths are those of the encoders as pipelines use them; start and end tokens are counted.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from img2prompt import hub
from img2prompt.errors import ConfigError, ModelError, PresetError
from img2prompt.presets import BUNDLED

CHARACTERS_A_TOKEN = 30  # more than any prompt has in the mean
_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model", "added_tokens.json")
_UNSET = 100_000  # tokenizers without a limit name a huge one


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """A text encoder's way of counting.

    Attributes:
        name: of the encoder.
        limit: most tokens that it reads, start and end included.
        count: tokens of a text, start and end included.
        fingerprint: of the tokenizer: another one may count otherwise.
    """

    name: str
    limit: int
    count: Callable[[str], int]
    fingerprint: str

    def length(self, text: str) -> int:
        """Tokens of a text; of one that is far too long a guess over the limit, since counting takes time."""
        if len(text) > self.limit * CHARACTERS_A_TOKEN:
            return max(len(text) // 4, self.limit + 1)
        return self.count(text)


@dataclass(frozen=True, slots=True)
class _Row:
    """One text encoder that has a name."""

    limit: int | None  # None: as its tokenizer says
    about: str
    open: Callable[[], tuple[Callable[[str], int], str, int]]  # -> count, fingerprint, the tokenizer's own limit


def open_counter(target: str, token_limit: int | None = None) -> TokenCounter:
    """The way in which a text encoder counts.

    Args:
        target: a name of TOKEN_COUNTERS, a generator of TARGETS_OF_GENERATORS, a folder with a tokenizer, or one of
            a diffusers pipeline (then of its text encoders the one that reads most).
        token_limit: fewer tokens than the encoder reads; None: all that it reads.

    Raises:
        ConfigError: there is no such encoder, or it reads fewer tokens than that.
        PresetError: its tokenizer is not on this machine.
        ModelError: the tokenizer's files are damaged.
    """
    row = TOKEN_COUNTERS.get(TARGETS_OF_GENERATORS.get(target, target))
    if row is not None:
        count, fingerprint, own = row.open()
        most = row.limit or own
    elif Path(target).is_dir():
        count, fingerprint, most = _of_folder(Path(target))
    else:
        near = difflib.get_close_matches(target, TOKEN_COUNTERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"take a folder or one of {', '.join(TOKEN_COUNTERS)}"
        raise ConfigError(f"{target}: neither a text encoder's name nor a folder; {hint}")
    if token_limit is not None and not 8 <= token_limit <= most:
        raise ConfigError(f"a limit of {token_limit} tokens: {target} reads {most}; take 8 to {most}")
    return TokenCounter(target, token_limit or most, count, fingerprint)


@cache
def _clip() -> tuple[Callable[[str], int], str, int]:
    from img2prompt.models.tokenizer import ClipTokenizer

    tokenizer = ClipTokenizer()
    return (lambda text: len(tokenizer.encode(_plain(text))) + 2), "clip-bpe", 77


# All of them read with the same vocabulary of 32,100 pieces; the first whose file is on this machine serves.
T5_FILES = (
    ("google-t5/t5-small", "tokenizer.json"),
    ("google-t5/t5-base", "tokenizer.json"),
    ("google/flan-t5-small", "tokenizer.json"),
    ("google/flan-t5-base", "tokenizer.json"),
    ("google/flan-t5-xl", "tokenizer.json"),
    ("black-forest-labs/FLUX.1-schnell", "tokenizer_2/tokenizer.json"),
    ("black-forest-labs/FLUX.1-dev", "tokenizer_2/tokenizer.json"),
    ("stabilityai/stable-diffusion-3.5-medium", "tokenizer_3/tokenizer.json"),
)


@cache
def _t5() -> tuple[Callable[[str], int], str, int]:
    found = (hub.cached_file(*place) for place in T5_FILES)
    path = next((path for path in found if path is not None), None)
    if path is None:
        raise PresetError(
            "t5: its tokenizer is not on this machine; get it (1.4 MB) with: hf download google-t5/t5-small"
            " tokenizer.json, or name the folder of a pipeline that has one"
        )
    return _of_file(path)


@cache
def _storybook_diffusion() -> tuple[Callable[[str], int], str, int]:
    folder = BUNDLED / "text2image"
    if not folder.is_dir():
        raise PresetError("storybook-diffusion: its files are missing from the installation; reinstall img2prompt")
    return _of_folder(folder)


def _of_folder(folder: Path) -> tuple[Callable[[str], int], str, int]:
    """The tokenizer in a folder, or in the tokenizer folders of a pipeline."""
    found = [
        path for path in (folder, *sorted(folder.glob("tokenizer*"))) if (path / "tokenizer_config.json").is_file()
    ]
    if not found:
        raise ModelError(f"{folder}: holds no tokenizer_config.json, so it is no tokenizer's folder")
    return max((_of_tokenizer(path) for path in found), key=lambda one: one[2])


def _of_file(path: Path) -> tuple[Callable[[str], int], str, int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise ModelError(f"{path}: damaged tokenizer ({error}); get it again") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return (lambda text: len(tokenizer.encode(_plain(text)).ids)), hub.sha256_of(path)[:16], 512


def _of_tokenizer(folder: Path) -> tuple[Callable[[str], int], str, int]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{folder}: not a tokenizer that transformers reads ({line})") from error
    limit = tokenizer.model_max_length
    digests = [hub.sha256_of(path) for path in sorted(folder.iterdir()) if path.name in _FILES]
    fingerprint = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
    count = lambda text: len(tokenizer(_plain(text), truncation=False, verbose=False)["input_ids"])  # noqa: E731
    return count, fingerprint, int(limit) if limit < _UNSET else 512


def _plain(text: str) -> str:
    """Without lone surrogates, which are no text to a tokenizer."""
    return text.encode("utf-8", "replace").decode()


TOKEN_COUNTERS: dict[str, _Row] = {
    "clip": _Row(77, "CLIP: Stable Diffusion 1 and 2, SDXL", _clip),
    "storybook": _Row(77, "the storybook world, which reads any length; CLIP's limit is kept", _clip),
    "storybook-diffusion": _Row(None, "the bundled text-to-image model", _storybook_diffusion),
    "t5": _Row(256, "T5: Stable Diffusion 3, FLUX.1 schnell", _t5),
    "t5-120": _Row(120, "T5: PixArt-alpha", _t5),
    "t5-300": _Row(300, "T5: PixArt-sigma", _t5),
    "t5-512": _Row(512, "T5: FLUX.1 dev", _t5),
}

# What reads the prompts of a generator; of several text encoders the one that reads most.
TARGETS_OF_GENERATORS: dict[str, str] = {
    "sd-1.5": "clip",
    "sd-2": "clip",
    "sd-2.1": "clip",
    "sd-2.1-base": "clip",
    "sd-turbo": "clip",
    "sdxl": "clip",
    "sdxl-turbo": "clip",
    "pixart-sigma": "t5-300",
    "sd-3.5-medium": "t5",
    "flux-schnell": "t5",
}

_SENTENCE = re.compile(r"[.!?…][\"'”’)\]]*(?=\s|$)|[。！？]")
_CLAUSE = re.compile(r"[;:,—–](?=\s)|\s(?=[—–-]\s)|[，；：、]")
_WORD = re.compile(r"(?=\s)")


def trim(text: str, limit: int, count: Callable[[str], int]) -> tuple[str, str]:
    """The longest beginning of at most `limit` tokens that ends a sentence, else a clause, else a word.

    A sentence's end is given up for a later clause's where it would keep less than half as much.

    Returns:
        What is kept, and what was dropped off the end.
    """
    text = text.strip()
    start = text[: limit * CHARACTERS_A_TOKEN]
    if start == text and count(text) <= limit:
        return text, ""
    kept = [_longest(text, _ends(start, pattern), limit, count) for pattern in (_SENTENCE, _CLAUSE, _WORD)]
    sentence, clause, word = kept
    best = sentence if 2 * len(sentence) >= len(clause) else clause
    best = best or word or _longest(text, range(len(start)), limit, count)
    return best.rstrip(" ,;:—–-，；：、"), text[len(best) :].strip()


def _ends(text: str, pattern: re.Pattern[str]) -> list[int]:
    return [match.end() for match in pattern.finditer(text)]


def _longest(text: str, ends: Sequence[int], limit: int, count: Callable[[str], int]) -> str:
    """The longest beginning that fits; lengths grow with the ends, but for the odd token that two parts share."""
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        if count(text[: ends[middle]].rstrip(" ,;:—–-，；：、")) <= limit:
            low = middle + 1
        else:
            high = middle
    return text[: ends[low - 1]] if low else ""

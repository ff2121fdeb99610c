"""Decoding of CoCa: what several searches ask for goes through the model together, a token a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from img2prompt.errors import ConfigError
from img2prompt.models.beam import BeamSearch, Hypothesis
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.rows import Draw, Rows
from img2prompt.models.sampling import uniforms


class Search(Protocol):
    """Hypotheses of a batch of images that grow by a token a step."""

    @property
    def width(self) -> int:
        """Hypotheses n of an image."""
        ...

    @property
    def newest(self) -> Tensor:
        """The last two tokens of each, (B,n,2)."""
        ...

    def unfinished(self) -> list[int]:
        """Rows whose image needs more tokens; further steps change nothing for the others."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Drops the images of all other rows; what they found stays."""
        ...

    def advance(self, logits: Tensor) -> Tensor | None:
        """Extends each: logits (B,n,V), at first (B,1,V) -> (B,n) which one each continues; None: itself."""
        ...

    def best(self) -> list[tuple[Hypothesis, ...]]:
        """What was found for each image, best first."""
        ...


def decode(
    decoder: CachedDecoder,
    image_tokens: Tensor,
    decoding: Decoding,
    ids: TokenIds,
    *,
    prefix: Sequence[int] = (),
    seeds: Sequence[int] = (),
    drawn_by: Draw | None = None,
) -> list[tuple[Hypothesis, ...]]:
    """Writes captions for encoded images.

    Args:
        decoder: the prepared model.
        image_tokens: (B,S,D) from `CachedDecoder.encode`.
        decoding: settings.
        ids: special tokens.
        prefix: tokens that every caption starts with, after the start token.
        seeds: one an image, for sampling.
        drawn_by: takes the place of the seeded draw.

    Raises:
        ConfigError: more tokens than the model has positions.
    """
    some = decode_together(decoder, image_tokens, [decoding], ids, prefix=prefix, seeds=seeds, drawn_by=drawn_by)
    return some[0]


@torch.inference_mode()
def decode_together(
    decoder: CachedDecoder,
    image_tokens: Tensor,
    decodings: Sequence[Decoding],
    ids: TokenIds,
    *,
    prefix: Sequence[int] = (),
    seeds: Sequence[int] = (),
    drawn_by: Draw | None = None,
) -> list[list[tuple[Hypothesis, ...]]]:
    """Like `decode` with each of several settings of one length, in hardly more time than the longest of them.

    For few images a step costs about the same for one hypothesis and for ten: reading the weights is what takes time.
    """
    lengths = {decoding.max_tokens for decoding in decodings}
    if len(lengths) != 1:
        raise ValueError("decodings that go together have one max_tokens")
    (length,) = lengths
    if length > decoder.context_length:
        raise ConfigError(f"max_tokens is {length}; this model has positions for {decoder.context_length}")
    prompt = [ids.start, *prefix]
    if len(prompt) >= length:
        raise ConfigError(f"the prefix takes {len(prompt)} tokens, all of max_tokens {length}")
    if not len(image_tokens):
        return [[] for _ in decodings]
    start = torch.tensor(prompt, device=image_tokens.device).repeat(len(image_tokens), 1)  # (B,m)
    searches = [_search(decoding, ids, start, seeds, drawn_by) for decoding in decodings]
    _write(decoder, image_tokens, searches, prompt, length)
    return [search.best() for search in searches]


def _search(
    decoding: Decoding, ids: TokenIds, start: Tensor, seeds: Sequence[int], drawn_by: Draw | None
) -> BeamSearch | Rows:
    if decoding.strategy == "beam":
        return BeamSearch(decoding, ids.end, start[0].tolist(), len(start), start.device)
    if decoding.strategy == "greedy" or drawn_by is not None:
        return Rows(decoding, ids, start, drawn_by=drawn_by)
    if len(seeds) != len(start):
        raise ConfigError(f"{len(seeds)} seeds for {len(start)} images; give one for each")
    return Rows(decoding, ids, start, uniforms(seeds, decoding.candidates, decoding.max_tokens).to(start.device))


def _write(
    decoder: CachedDecoder, image_tokens: Tensor, searches: Sequence[Search], prompt: list[int], length: int
) -> None:
    """Lets all searches write until none needs another token."""
    widths = [search.width for search in searches]
    cache = decoder.start(image_tokens, sum(widths), len(prompt), length)
    logits = decoder.read_prompt(cache, prompt)[:, None]  # (B,1,V): all hypotheses are the same then
    parts: Sequence[Tensor] = [logits] * len(searches)
    for written in range(len(prompt) + 1, length + 1):
        parents = [search.advance(part) for search, part in zip(searches, parts, strict=True)]
        unfinished = sorted({row for search in searches for row in search.unfinished()})
        if not unfinished or written == length:
            return
        if any(own is not None for own in parents):
            cache.descend(_joined(parents, widths, cache.alive))
        if 2 * len(unfinished) <= len(cache.alive):  # copying what is left costs less than reading for nobody
            rows = torch.tensor(unfinished, device=image_tokens.device)
            cache.keep(rows)
            for search in searches:
                search.keep(rows)
        tokens = torch.cat([search.newest for search in searches], 1)  # (B,n,2)
        parts = torch.split(decoder.read(cache, tokens[..., 1], tokens[..., 0]), widths, 1)


def _joined(parents: Sequence[Tensor | None], widths: Sequence[int], like: Tensor) -> Tensor:
    """Parents within each search -> parents among all hypotheses, (B,n)."""
    joined, first = [], 0
    for own, width in zip(parents, widths, strict=True):
        itself = torch.arange(width, device=like.device).expand(len(like), -1)
        joined.append(first + (itself if own is None else own))
        first += width
    return torch.cat(joined, 1)

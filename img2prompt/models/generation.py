"""Captions from a CoCa: cached, exact decoding, and the captioner built on it.

With the default `Decoding` the tokens are those of open_clip 3.3.0's `CoCa.generate` for the same weights, greedy,
top-k = 1 and beam search alike, unless two tokens are closer than rounding (a margin of about 1e-4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from img2prompt.errors import ConfigError
from img2prompt.models.beam import Hypothesis
from img2prompt.models.coca import LoadedCoca, encode_images
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.devices import fast_dtype
from img2prompt.models.tokenizer import CocaTokenizer
from img2prompt.models.writing import decode, decode_together
from img2prompt.results import Candidate

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Captions", "CocaCaptioner", "Decoding", "Hypothesis", "TokenIds", "decode", "fast_dtype", "generate"]


def generate(
    loaded: LoadedCoca, images: Tensor, decoding: Decoding | None = None, seeds: int | Sequence[int] = 0
) -> list[tuple[Hypothesis, ...]]:
    """Captions as tokens; for many calls keep a `CocaCaptioner`, which prepares the weights once.

    Args:
        loaded: the model.
        images: (B,3,H,W) from `encode_images`.
        decoding: settings; None: those of open_clip's `generate`.
        seeds: of sampling; one for all images, or one an image.

    Returns:
        For each image `decoding.candidates` hypotheses, best first.

    Raises:
        ConfigError: more tokens than the model has positions.
    """
    decoding = decoding or Decoding()
    many = [seeds] * len(images) if isinstance(seeds, int) else list(seeds)
    decoder, tokenizer = CachedDecoder(loaded.model), loaded.tokenizer
    prefix = tokenizer.encode(decoding.prefix) if decoding.prefix else []
    tokens = _encode(decoder, images)[1]
    return decode(decoder, tokens, decoding, token_ids(tokenizer), prefix=prefix, seeds=many)


def token_ids(tokenizer: CocaTokenizer) -> TokenIds:
    """The special tokens of a tokenizer."""
    return TokenIds(tokenizer.sot_id, tokenizer.eot_id, tokenizer.pad_id)


@torch.inference_mode()
def _encode(decoder: CachedDecoder, images: Tensor) -> tuple[Tensor, Tensor]:
    weight = decoder.model.visual.conv1.weight
    return decoder.encode(images.to(weight.device, weight.dtype))


@dataclass(frozen=True)
class Captions:
    """What a captioner found in B images.

    Attributes:
        candidates: for each image its captions, best first.
        features: (B,D) float32, the pooled image embeddings of unit length, on the CPU.
    """

    candidates: list[tuple[Candidate, ...]]
    features: Tensor


class CocaCaptioner:
    """Proposes captions with a CoCa; implements `results.Captioner`.

    Args:
        loaded: the model; its weights are prepared here once and must not change afterwards.
        decoding: settings; None: a beam search of 3 over log-probabilities, and, when several candidates are asked
            for, nucleus samples beside its result; all candidates of an image differ.
        batch_size: images decoded together.
        compile: compile the decoder's step (pays only after many captions).
    """

    def __init__(
        self, loaded: LoadedCoca, decoding: Decoding | None = None, *, batch_size: int = 16, compile: bool = False
    ) -> None:
        self.loaded, self.decoding, self.batch_size = loaded, decoding, batch_size
        self.decoder = CachedDecoder(loaded.model, compile=compile)
        self.ids = token_ids(loaded.tokenizer)

    def caption_many(
        self, images: Sequence[Image], *, candidates: int = 1, style: str = "short", seed: int = 0
    ) -> list[tuple[Candidate, ...]]:
        """Captions for each image, best first, the same alone or in a batch.

        Args:
            images: B pictures.
            candidates: captions an image.
            style: "short", "long", "tags", as far as the model was trained for them; else it has no effect.
            seed: of sampling.

        Raises:
            ConfigError: the model knows styles, but not this one.
        """
        return self.describe_many(images, candidates=candidates, style=style, seed=seed).candidates

    def describe_many(
        self,
        images: Sequence[Image],
        *,
        candidates: int = 1,
        style: str = "short",
        seed: int = 0,
        least: int | None = None,
    ) -> Captions:
        """Like `caption_many`, with the image embeddings; what samples repeat is replaced up to `least` captions."""
        prefix = self._prefix(style)
        found: list[tuple[Candidate, ...]] = []
        features = [torch.zeros(0, self.loaded.model.visual.output_dim)]
        for first in range(0, len(images), self.batch_size):
            pixels = encode_images(self.loaded, images[first : first + self.batch_size], draft=True)  # (B,3,H,W)
            pooled, tokens = _encode(self.decoder, pixels)
            features.append(pooled.cpu())
            plans, spare = self._plans(candidates)
            rows = self._proposed(plans, tokens, prefix, seed)
            short = [i for i, row in enumerate(rows) if len(row) < min(least or candidates, candidates)]
            if spare is not None and short:  # a picture's own rows decide, so they do not depend on its batch
                for i, more in zip(short, self._proposed([spare], tokens[short], prefix, seed), strict=True):
                    rows[i] = _distinct([*rows[i], *more])
            found += [tuple(row[:candidates]) for row in rows]
        return Captions(found, torch.cat(features))

    def _proposed(self, plans: list[Decoding], tokens: Tensor, prefix: list[int], seed: int) -> list[list[Candidate]]:
        seeds = [seed] * len(tokens)
        runs = decode_together(self.decoder, tokens, plans, self.ids, prefix=prefix, seeds=seeds)
        rows = [[self._candidate(h, 1 + len(prefix)) for run in some for h in run] for some in zip(*runs, strict=True)]
        # What one run proposes stands as it was asked for, repeated samples too.
        return rows if len(plans) == 1 else [_distinct(row) for row in rows]

    def _plans(self, candidates: int) -> tuple[list[Decoding], Decoding | None]:
        """The decodings that together give so many candidates, and what fills up where they repeat each other."""
        given = self.decoding
        if given is not None:
            if given.strategy == "sample" or (candidates <= given.searched_beams and given.strategy != "greedy"):
                return [replace(given, candidates=candidates)], None
            if candidates == 1:
                return [given], None
            return [replace(given, strategy="beam", beams=candidates, groups=1, candidates=candidates)], None
        length = self.decoder.context_length
        best = Decoding(beams=3, groups=1, normalized=True, max_tokens=length, min_tokens=min(5, length - 1))
        if candidates == 1:
            return [best], None
        # Untempered: the best of eight is no better than at a temperature of 0.8, but what they share tells it better.
        sampled = replace(best, strategy="sample", top_p=0.95, temperature=1.0, candidates=candidates - 1)
        return [best, sampled], replace(best, beams=max(best.beams, candidates), candidates=candidates)

    def _prefix(self, style: str) -> list[int]:
        prefixes = self.loaded.prefixes
        text = prefixes.get(style) if prefixes else (self.decoding.prefix if self.decoding else "")
        if text is None:
            raise ConfigError(f"style {style!r}: this model knows {', '.join(sorted(prefixes))}")
        return self.loaded.tokenizer.encode(text) if text else []

    def _candidate(self, hypothesis: Hypothesis, prompt: int) -> Candidate:
        tokens = list(hypothesis.tokens[prompt:])
        if tokens and tokens[-1] == self.ids.pad:
            tokens.pop()
        return Candidate(
            prompt=self.loaded.tokenizer.decode(tokens),
            log_likelihood=min(0.0, sum(hypothesis.log_likelihoods)),
            token_count=len(hypothesis.log_likelihoods),
        )


def _distinct(row: Sequence[Candidate]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for candidate in row:
        found.setdefault(candidate.prompt, candidate)
    return list(found.values())

"""Greedy decoding and sampling over a cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from img2prompt.models.beam import Hypothesis
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.decoding_cache import Cache, CachedDecoder
from img2prompt.models.sampling import draw, log_normalizer, penalize_repetition, top_values

Draw = Callable[[Tensor], Tensor]  # logits (r,V) of the unfinished rows -> tokens (r,)


class Rows:
    """Greedy decoding and sampling: every caption of every image goes its own way."""

    def __init__(
        self, decoder: CachedDecoder, image_tokens: Tensor, decoding: Decoding, ids: TokenIds, prompt: list[int]
    ) -> None:
        self.decoder, self.decoding, self.ids, self.prompt = decoder, decoding, ids, prompt
        self.cache: Cache = decoder.start(image_tokens, decoding.candidates, len(prompt), decoding.max_tokens)
        images, device = len(image_tokens), image_tokens.device
        self.live = torch.arange(images, device=device)
        shape = (images, decoding.candidates, decoding.max_tokens)
        self.tokens = torch.full(shape, ids.pad, device=device)  # (B,n,T), of all images
        self.tokens[:, :, : len(prompt)] = torch.tensor(prompt, device=device)
        self.log_likelihoods = torch.zeros(shape, device=device)
        self.finished = torch.zeros(shape[:2], dtype=torch.bool, device=device)

    def run(self, table: Tensor | None, drawn_by: Draw | None) -> list[tuple[Hypothesis, ...]]:
        """Writes until everything is finished.

        Args:
            table: random numbers from `uniforms` for sampling; None: greedy.
            drawn_by: draws instead.
        """
        logits = self.decoder.read_prompt(self.cache, self.prompt)[:, None]  # (B,1,V)
        logits = logits.expand(-1, self.decoding.candidates, -1)  # (B,n,V)
        for length in range(len(self.prompt), self.decoding.max_tokens):
            chosen = self._next(logits, length, table, drawn_by)
            normalizer = log_normalizer(logits)[..., 0]
            likelihood = logits.gather(2, chosen[..., None])[..., 0] - normalizer
            done = self.finished[self.live]
            chosen = chosen.masked_fill(done, self.ids.pad)
            self.tokens[self.live, :, length] = chosen
            self.log_likelihoods[self.live, :, length] = likelihood.masked_fill(done, 0.0)
            self.finished[self.live] = done | (chosen == self.ids.end) | (chosen == self.ids.pad)
            open_images = ~self.finished[self.live].all(1)  # (B,)
            left = int(open_images.sum())
            if not left or length + 1 == self.decoding.max_tokens:
                break
            if 2 * left <= len(open_images):
                rows = open_images.nonzero()[:, 0]
                self.cache.keep(rows)
                self.live = self.live[rows]
            now = self.tokens[self.live]
            logits = self.decoder.read(self.cache, now[:, :, length], now[:, :, length - 1])
        return self._hypotheses()

    def _next(self, logits: Tensor, length: int, table: Tensor | None, drawn_by: Draw | None) -> Tensor:
        """The next token of every row of the live images, (B,n)."""
        decoding = self.decoding
        if length + 1 == decoding.max_tokens:  # open_clip ends an unfinished caption here
            return torch.full(logits.shape[:2], self.ids.end, device=logits.device)
        scores = logits
        if length < decoding.min_tokens:
            scores = logits.clone()
            scores[..., self.ids.end] = -torch.inf
        scores = penalize_repetition(scores, self.tokens[self.live, :, :length], decoding.repetition_penalty)
        if drawn_by is not None:
            chosen = torch.full(logits.shape[:2], self.ids.pad, device=logits.device)
            going = ~self.finished[self.live]
            chosen[going] = drawn_by(scores[going])
            return chosen
        if table is None:
            return top_values(scores, 1)[1][..., 0]
        random = table.view(-1, decoding.candidates, *table.shape[1:])[self.live, :, length].flatten(0, 1)
        flat = scores.flatten(0, 1)
        settings = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
        return draw(flat, random, **settings).view(logits.shape[:2])  # type: ignore[arg-type]

    def _hypotheses(self) -> list[tuple[Hypothesis, ...]]:
        result, first = [], len(self.prompt)
        for rows, values in zip(self.tokens.tolist(), self.log_likelihoods.tolist(), strict=True):
            found = []
            for tokens, likelihoods in zip(rows, values, strict=True):
                ends = (i + 1 for i in range(first, len(tokens)) if tokens[i] in (self.ids.end, self.ids.pad))
                end = next(ends, len(tokens))
                new = tuple(likelihoods[first:end])
                found.append(Hypothesis(sum(new) / len(new), tuple(tokens[:end]), new))
            result.append(tuple(sorted(found, key=lambda h: -h.score)))
        return result

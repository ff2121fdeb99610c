"""Greedy decoding and sampling, a token a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from img2prompt.models.beam import Hypothesis
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.sampling import draw, log_normalizer, nucleus_draw, penalize_repetition, top_values

Draw = Callable[[Tensor], Tensor]  # logits (r,V) of the unfinished rows -> tokens (r,)


class Rows:
    """Greedy decoding and sampling of a batch: every caption of every image goes its own way.

    Args:
        rules: settings.
        ids: special tokens.
        start: (B,m) the tokens that all captions of an image begin with.
        table: random numbers from `uniforms` for sampling; None: greedy.
        drawn_by: draws instead.
    """

    def __init__(
        self, rules: Decoding, ids: TokenIds, start: Tensor, table: Tensor | None = None, drawn_by: Draw | None = None
    ) -> None:
        self.rules, self.ids, self.first, self.length = rules, ids, start.shape[1], start.shape[1]
        self.table, self.drawn_by = table, drawn_by
        self.live = torch.arange(len(start), device=start.device)  # row -> image
        shape = (len(start), rules.candidates, rules.max_tokens)
        self.tokens = torch.full(shape, ids.pad, device=start.device)  # (B,n,T), of all images
        self.tokens[:, :, : self.first] = start[:, None]
        self.log_likelihoods = torch.zeros(shape, device=start.device)
        self.finished = torch.zeros(shape[:2], dtype=torch.bool, device=start.device)

    @property
    def width(self) -> int:
        """Captions an image."""
        return self.rules.candidates

    @property
    def newest(self) -> Tensor:
        """The last two tokens of every caption of the live images, (B,n,2)."""
        return self.tokens[self.live, :, self.length - 2 : self.length]

    def unfinished(self) -> list[int]:
        """Rows whose image has an open caption."""
        return (~self.finished[self.live].all(1)).nonzero()[:, 0].tolist()

    def keep(self, rows: Tensor) -> None:
        """Drops the images of all other rows; their captions stay."""
        self.live = self.live[rows]

    def advance(self, logits: Tensor) -> None:
        """Another token for every open caption: logits (B,n,V), at the first step (B,1,V)."""
        logits = logits.expand(-1, self.rules.candidates, -1)  # (B,n,V)
        chosen, normalizer = self._next(logits)
        normalizer = log_normalizer(logits) if normalizer is None else normalizer  # (B,n,1)
        likelihood = (logits.gather(2, chosen[..., None]) - normalizer)[..., 0]
        done = self.finished[self.live]
        chosen = chosen.masked_fill(done, self.ids.pad)
        self.tokens[self.live, :, self.length] = chosen
        self.log_likelihoods[self.live, :, self.length] = likelihood.masked_fill(done, 0.0)
        self.finished[self.live] = done | (chosen == self.ids.end) | (chosen == self.ids.pad)
        self.length += 1

    def _next(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """The next token of every caption of the live images, (B,n); the logits' normalizer if it came by the way."""
        decoding, length = self.rules, self.length
        if length + 1 == decoding.max_tokens:  # open_clip ends an unfinished caption here
            return torch.full(logits.shape[:2], self.ids.end, device=logits.device), None
        scores = logits
        if length < decoding.min_tokens:
            scores = logits.clone()
            scores[..., self.ids.end] = -torch.inf
        scores = penalize_repetition(scores, self.tokens[self.live, :, :length], decoding.repetition_penalty)
        if self.drawn_by is not None:
            chosen = torch.full(logits.shape[:2], self.ids.pad, device=logits.device)
            going = ~self.finished[self.live]
            chosen[going] = self.drawn_by(scores[going])
            return chosen, None
        if self.table is None:
            return top_values(scores, 1)[1][..., 0], None
        random = self.table.view(-1, decoding.candidates, *self.table.shape[1:])[self.live, :, length].flatten(0, 1)
        flat = scores.flatten(0, 1)
        temperature, top_k, top_p = decoding.temperature, decoding.top_k, decoding.top_p
        if scores is logits and top_k is None and top_p is not None and top_p < 1.0:
            tokens, normalizer = nucleus_draw(flat, random, temperature, top_p)
            return tokens.view(logits.shape[:2]), normalizer.view(*logits.shape[:2], 1)
        return draw(flat, random, temperature=temperature, top_k=top_k, top_p=top_p).view(logits.shape[:2]), None

    def best(self) -> list[tuple[Hypothesis, ...]]:
        """The captions of each image, likeliest first."""
        result, first = [], self.first
        for rows, values in zip(self.tokens.tolist(), self.log_likelihoods.tolist(), strict=True):
            found = []
            for tokens, likelihoods in zip(rows, values, strict=True):
                ends = (i + 1 for i in range(first, len(tokens)) if tokens[i] in (self.ids.end, self.ids.pad))
                end = next(ends, len(tokens))
                new = tuple(likelihoods[first:end])
                found.append(Hypothesis(sum(new) / len(new), tuple(tokens[:end]), new))
            result.append(tuple(sorted(found, key=lambda h: -h.score)))
        return result

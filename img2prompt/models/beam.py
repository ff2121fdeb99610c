"""Beam search over cached hypotheses, with groups and a diversity penalty (Vijayakumar et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from img2prompt.models.decoding import Decoding
from img2prompt.models.sampling import log_normalizer, penalize_repetition, top_values


@dataclass(frozen=True)
class Hypothesis:
    """Attributes: score (higher is better), tokens from the start token on, and a log-likelihood for each new one."""

    score: float
    tokens: tuple[int, ...]
    log_likelihoods: tuple[float, ...]


@dataclass
class _Heap:
    """The best finished hypotheses of one group of one image."""

    size: int
    found: list[Hypothesis] = field(default_factory=list)
    worst: float = 1e9
    done: bool = False

    def add(self, hypothesis: Hypothesis) -> None:
        if len(self.found) >= self.size and hypothesis.score <= self.worst:
            return
        self.found.append(hypothesis)
        if len(self.found) > self.size:
            scores = [h.score for h in self.found]
            del self.found[scores.index(min(scores))]
        self.worst = min(h.score for h in self.found)


class BeamSearch:
    """The hypotheses of a batch of images; finished images can be dropped while the others go on."""

    def __init__(self, rules: Decoding, eot_id: int, prompt: Sequence[int], images: int, device: torch.device) -> None:
        self.rules, self.eot_id = rules, eot_id
        self.size = rules.searched_beams // rules.searched_groups
        self.heaps = [[_Heap(self.size) for _ in range(rules.searched_groups)] for _ in range(images)]
        self.live = list(range(images))  # row -> image
        self.tokens = torch.tensor(prompt, device=device).expand(images, rules.searched_beams, -1)  # (B,n,T)
        self.log_likelihoods = torch.zeros(images, rules.searched_beams, 0, device=device)
        self.scores = torch.zeros(images, rules.searched_beams, device=device)

    @property
    def width(self) -> int:
        """Hypotheses an image."""
        return self.rules.searched_beams

    @property
    def newest(self) -> Tensor:
        """The last two tokens of every hypothesis, (B,n,2)."""
        return self.tokens[:, :, -2:]

    def unfinished(self) -> list[int]:
        """Rows whose image still searches."""
        return [row for row, image in enumerate(self.live) if not all(heap.done for heap in self.heaps[image])]

    def keep(self, rows: Tensor) -> None:
        """Drops the images of all other rows; what they found stays."""
        self.live = [self.live[row] for row in rows.tolist()]
        self.tokens, self.scores = self.tokens[rows], self.scores[rows]
        self.log_likelihoods = self.log_likelihoods[rows]

    def advance(self, logits: Tensor) -> Tensor:
        """Extends every hypothesis by its best tokens.

        Args:
            logits: (B,n,V); at the first step (B,1,V), since all hypotheses are the same then.

        Returns:
            (B,n) which hypothesis each one continues now; `tokens` has the new token last.
        """
        rules, rows = self.rules, logits.shape[1]
        normalizer = log_normalizer(logits)  # (B,r,1)
        scores = logits - normalizer if rules.normalized else logits
        if self.tokens.shape[2] < rules.min_tokens:
            scores = scores if scores is not logits else scores.clone()
            scores[..., self.eot_id] = -torch.inf
        scores = penalize_repetition(scores, self.tokens[:, :rows], rules.repetition_penalty)
        parents: list[Tensor] = []
        tokens: list[Tensor] = []
        sums: list[Tensor] = []
        likelihoods: list[Tensor] = []
        for group in range(rules.searched_groups):
            first = 0 if rows == 1 else group * self.size
            part = slice(first, first + (1 if rows == 1 else self.size))
            own = scores[:, part]
            if rules.diversity_penalty and tokens:
                taken = torch.zeros_like(own[:, 0]).scatter_add_(1, torch.cat(tokens, 1), _ones(torch.cat(tokens, 1)))
                own = own - rules.diversity_penalty * taken[:, None]
            value, token = top_values(own, min(2 * self.size, own.shape[-1]))  # (B,r,2g)
            before = self.scores[:, part] if rows > 1 else self.scores[:, :1]
            value, where = (value + before[..., None]).flatten(1).topk(2 * self.size, 1)  # (B,2g)
            parent = first + torch.div(where, token.shape[2], rounding_mode="floor")
            token = token.flatten(1).gather(1, where)
            likelihood = logits[torch.arange(len(logits), device=logits.device)[:, None], parent, token]
            likelihood = likelihood - normalizer[..., 0].gather(1, parent)
            chosen = self._choose(group, value, token, parent, likelihood)  # (B,g) positions
            parents.append(parent.gather(1, chosen))
            tokens.append(token.gather(1, chosen))
            sums.append(value.gather(1, chosen))
            likelihoods.append(likelihood.gather(1, chosen))
        return self._extend(torch.cat(parents, 1), torch.cat(tokens, 1), torch.cat(sums, 1), torch.cat(likelihoods, 1))

    def _choose(self, group: int, value: Tensor, token: Tensor, parent: Tensor, likelihood: Tensor) -> Tensor:
        """Keeps finished hypotheses of a group; the positions (B,g) of those that go on."""
        length, chosen = self.tokens.shape[2] + 1, []
        values, tokens, parents = value.tolist(), token.tolist(), parent.tolist()
        for row, image in enumerate(self.live):
            heap, going = self.heaps[image][group], []
            for rank, candidate in enumerate(tokens[row]):
                if candidate != self.eot_id:
                    going.append(rank)
                elif rank < self.size and not heap.done:
                    score = values[row][rank] / length**self.rules.length_penalty
                    heap.add(self._hypothesis(row, parents[row][rank], score, float(likelihood[row, rank])))
                if len(going) == self.size:
                    break
            chosen.append(going)
            best = max(values[row]) / length**self.rules.length_penalty
            heap.done = heap.done or (len(heap.found) >= self.size and heap.worst >= best)
        return torch.tensor(chosen, device=value.device)

    def _hypothesis(self, row: int, beam: int, score: float, last: float | None) -> Hypothesis:
        tokens, likelihoods = self.tokens[row, beam].tolist(), self.log_likelihoods[row, beam].tolist()
        if last is not None:
            tokens, likelihoods = [*tokens, self.eot_id], [*likelihoods, last]
        return Hypothesis(score, tuple(tokens), tuple(likelihoods))

    def _extend(self, parents: Tensor, tokens: Tensor, sums: Tensor, likelihoods: Tensor) -> Tensor:
        def follow(history: Tensor, new: Tensor) -> Tensor:
            kept = history.gather(1, parents[..., None].expand(-1, -1, history.shape[2]))
            return torch.cat([kept, new[..., None]], 2)

        self.tokens = follow(self.tokens, tokens)
        self.log_likelihoods = follow(self.log_likelihoods, likelihoods)
        self.scores = sums
        return parents

    def best(self) -> list[tuple[Hypothesis, ...]]:
        """The best hypotheses of each image, best first; those still open count as they stand."""
        length = self.tokens.shape[2] ** self.rules.length_penalty
        for row, image in enumerate(self.live):
            for group, heap in enumerate(self.heaps[image]):
                if not heap.done:
                    for beam in range(group * self.size, (group + 1) * self.size):
                        heap.add(self._hypothesis(row, beam, float(self.scores[row, beam]) / length, None))
                    heap.done = True
        found = [[h for heap in groups for h in heap.found] for groups in self.heaps]
        return [tuple(sorted(some, key=lambda h: -h.score)[: self.rules.candidates]) for some in found]


def _ones(tokens: Tensor) -> Tensor:
    return torch.ones(tokens.shape, device=tokens.device)

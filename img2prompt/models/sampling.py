"""From logits to the next token: the largest few of a vocabulary, penalties, and seeded draws without a sort."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 128
_TRIALS = 32  # proposals a token before a row is sorted after all


def top_values(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`torch.topk` over the last dimension, faster for a few of many.

    The largest `count` lie within the `count` chunks of largest maximum, so only those are searched: one pass over
    the scores instead of a partial sort (1.1 against 7.2 ms for 4 of 49,408 in 32 rows, one core).

    Args:
        scores: (...,V).
        count: how many, at most V.

    Returns:
        Values and int64 indices (...,count), largest first.
    """
    size = scores.shape[-1]
    if size < 16 * _CHUNK or count > size // (4 * _CHUNK):
        values, indices = scores.topk(count, -1)
        return values, indices
    if size % _CHUNK:
        scores = F.pad(scores, (0, -size % _CHUNK), value=-torch.inf)
    chunks = scores.reshape(*scores.shape[:-1], -1, _CHUNK)  # (...,V/128,128)
    best = chunks.amax(-1).topk(count, -1).indices  # (...,count)
    candidates = chunks.gather(-2, best[..., None].expand(*best.shape, _CHUNK)).flatten(-2)  # (...,count*128)
    values, where = candidates.topk(count, -1)
    return values, best.gather(-1, where // _CHUNK) * _CHUNK + where % _CHUNK


def log_normalizer(logits: Tensor) -> Tensor:
    """log of the sum of exponentials, (...,V) -> (...,1)."""
    largest = logits.amax(-1, keepdim=True)
    return (logits - largest).exp_().sum(-1, keepdim=True).log_().add_(largest)


def penalize_repetition(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divides positive and multiplies negative scores of tokens that were seen (Keskar et al. 2019, CTRL).

    Args:
        scores: (...,V).
        seen: (...,T) token ids.
        penalty: 1 changes nothing.

    Returns:
        (...,V), a copy unless the penalty is 1.
    """
    if penalty == 1.0:
        return scores
    old = scores.gather(-1, seen)
    return scores.scatter(-1, seen, torch.where(old < 0, old * penalty, old / penalty))


def uniforms(seeds: Sequence[int], candidates: int, steps: int) -> Tensor:
    """All random numbers of a decoding, fixed by each image's own seed.

    They depend neither on the other images of a batch nor on their order, so an image and a seed give one text.

    Returns:
        (images * candidates, steps, trials + 1) float64 in [0, 1) on the CPU.
    """
    tables = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        for _ in range(candidates):
            tables.append(torch.rand(steps, _TRIALS + 1, generator=generator, dtype=torch.float64))
    return torch.stack(tables)


def draw(logits: Tensor, random: Tensor, *, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Draws one token a row.

    Top-k, then the nucleus (Holtzman et al. 2020) are cut from the untempered distribution and the temperature
    applies to what remains: open_clip's order.

    Args:
        logits: (R,V) float32.
        random: (R,trials+1) in [0, 1).
        temperature: > 0.
        top_k: keep so many most probable tokens; None: all.
        top_p: keep the smallest set of most probable tokens of at least this probability; None: all.

    Returns:
        (R,) int64.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        values, indices = top_values(logits, top_k)
        return indices.gather(1, _sorted_draw(values, random[:, -1], temperature, top_p)[:, None])[:, 0]
    if top_p is None or top_p >= 1.0:
        weights = ((logits - logits.amax(-1, keepdim=True)) / temperature).exp_()
        return _invert(weights.cumsum(-1), random[:, -1:].to(logits.dtype))[:, 0]
    return nucleus_draw(logits, random, temperature, top_p)[0]


def _invert(cumulative: Tensor, random: Tensor) -> Tensor:
    """Cumulative weights (R,V) and uniforms (R,n) -> the tokens they fall on (R,n)."""
    total = cumulative[:, -1:]
    return torch.searchsorted(cumulative, random * total, right=True).clamp_(max=cumulative.shape[1] - 1)


def _sorted_draw(values: Tensor, random: Tensor, temperature: float, top_p: float | None) -> Tensor:
    """Draws a position among logits (R,n) that are sorted, largest first."""
    weights = ((values - values[:, :1]) / temperature).exp_()
    if top_p is not None and top_p < 1.0:
        probabilities = (values - values[:, :1]).exp_()
        probabilities /= probabilities.sum(-1, keepdim=True)
        above = probabilities.cumsum(-1) - probabilities  # of strictly more probable tokens
        weights = weights.masked_fill_(above >= top_p, 0.0).index_fill_(1, torch.tensor([0], device=values.device), 1.0)
    return _invert(weights.cumsum(-1), random[:, None].to(weights.dtype))[:, 0]


def _row_sums(x: Tensor) -> Tensor:
    """Sums of rows (R,V) -> (R,) float64, the same for a row alone and among others.

    `sum(dtype=float64)` first copies everything to float64, which takes five times as long as adding it up.
    """
    if x.shape[1] % _CHUNK:
        return x.sum(-1, dtype=torch.float64)
    return x.view(len(x), -1, _CHUNK).sum(-1).sum(-1, dtype=torch.float64)


def nucleus_draw(logits: Tensor, random: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """A draw from the nucleus by rejection, which needs no sort of the vocabulary.

    Tokens are proposed from the whole distribution; a proposal is in the nucleus if the tokens more probable than it
    have less than `top_p` together, one pass over the row. A refused proposal also refuses all less probable ones.

    Returns:
        Tokens (R,) and what `log_normalizer` gives, (R,1), which costs nothing here.
    """
    largest = logits.amax(-1, keepdim=True)
    shifted = logits - largest
    weights = shifted.exp_() if temperature == 1.0 else shifted.exp()  # (R,V)
    tempered = weights if temperature == 1.0 else shifted.div_(temperature).exp_()
    total = _row_sums(weights)  # (R,)
    limit = total * top_p
    proposals = _invert(tempered.cumsum(-1), random[:, :-1].to(weights.dtype))  # (R,trials)
    proposed = weights.gather(1, proposals)  # (R,trials)
    chosen = torch.full_like(proposals[:, 0], -1)
    rows = torch.arange(len(logits), device=logits.device)
    open_trials = torch.ones_like(proposals, dtype=torch.bool)
    while len(rows):
        first = open_trials[rows].int().argmax(1)  # the first proposal that nothing is known about
        weight = proposed[rows, first]  # (r,)
        some = weights if len(rows) == len(weights) else weights[rows]
        # Ones and zeros straight into floats: `where` takes six times as long on a CPU.
        more = torch.gt(some, weight[:, None], out=torch.empty_like(some))
        above = _row_sums(more.mul_(some))
        inside = above < limit[rows]
        chosen[rows[inside]] = proposals[rows[inside], first[inside]]
        rows, weight = rows[~inside], weight[~inside]
        open_trials[rows] &= proposed[rows] > weight[:, None]
        rows = rows[open_trials[rows].any(1)]
    rest = (chosen < 0).nonzero()[:, 0]
    if len(rest):
        values, order = logits[rest].sort(descending=True)
        chosen[rest] = order.gather(1, _sorted_draw(values, random[rest, -1], temperature, top_p)[:, None])[:, 0]
    return chosen, total.log().to(logits.dtype)[:, None] + largest

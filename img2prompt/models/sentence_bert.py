"""BERT for short texts without padding: the tokens of all texts in one row, attention over texts of equal length.

sentence-transformers pads every batch to its longest text, after sorting by characters; of prompts a quarter of the
work is then padding. Here texts are sorted by tokens and laid end to end, so the products see real tokens only, and
texts of equal length attend together without a mask.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from img2prompt.models.packed_linear import FeedForward, FloatLinear

_PLAIN = 96  # tokens of a text up to which products and exponentials of their own beat the fused attention (measured)
_SAFE = 80.0  # exponentials of scores so far from zero neither overflow nor vanish in float32


Qkv = TypeVar("Qkv", bound=Callable[[Tensor], Tensor])
Feed = TypeVar("Feed", bound=Callable[[Tensor], Tensor])
OtherQkv = TypeVar("OtherQkv", bound=Callable[[Tensor], Tensor])
OtherFeed = TypeVar("OtherFeed", bound=Callable[[Tensor], Tensor])


@dataclass(frozen=True, slots=True)
class Layer(Generic[Qkv, Feed]):
    """One block, the three products of queries, keys and values in one."""

    qkv: Qkv  # (T,W) -> (T,3W)
    out: FloatLinear
    feed: Feed  # (T,W) -> (T,W), with its residual
    attention_norm: tuple[Tensor, Tensor]  # weight (W,), bias (W,)
    output_norm: tuple[Tensor, Tensor]

    def having(self, qkv: OtherQkv, feed: OtherFeed) -> Layer[OtherQkv, OtherFeed]:
        """The layer with other ways to those results."""
        return Layer(qkv, self.out, feed, self.attention_norm, self.output_norm)


class PackedBert:
    """The hidden states of transformers' `BertModel`, averaged over each text.

    Args:
        model: the `BertModel` whose weights are used; `readable` says whether it is one that this code computes.
        dtype: of the weights and of the arithmetic between the products.

    Attributes:
        layers: its blocks.

    Source: Devlin et al., "BERT: Pre-training of deep bidirectional transformers", NAACL 2019.
    """

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        tables = model.embeddings
        self._words = tables.word_embeddings.weight.detach().to(dtype)  # (V,W)
        places = tables.position_embeddings.weight.detach() + tables.token_type_embeddings.weight.detach()[0]
        self._places = places.to(dtype)  # (512,W)
        self._norm = _norm(tables.LayerNorm, dtype)
        self._heads = int(model.config.num_attention_heads)
        self._eps = float(model.config.layer_norm_eps)
        self.layers: Sequence[Layer[Any, Any]] = [_layer(block, dtype) for block in model.encoder.layer]

    def having(self, layers: Sequence[Layer[Any, Any]]) -> PackedBert:
        """The same with other layers; what they share is not copied."""
        other = copy.copy(self)
        other.layers = layers
        return other

    def embed(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Mean hidden states (B,W), float32, of texts as token ids, which lie in the order of their lengths."""
        groups = [(len(list(same)), length) for length, same in itertools.groupby(texts, key=len)]
        device = self._words.device
        ids = torch.tensor(list(itertools.chain.from_iterable(texts)), device=device)  # (T,)
        places = torch.cat([torch.arange(length, device=device).repeat(count) for count, length in groups])  # (T,)
        x = F.embedding(ids, self._words) + F.embedding(places, self._places)
        x = F.layer_norm(x, x.shape[1:], *self._norm, self._eps)  # (T,W)
        for layer in self.layers:
            x = self._normed(layer.out(self._attention(layer.qkv(x), groups), x), layer.attention_norm)
            x = self._normed(layer.feed(x), layer.output_norm)
        rows = torch.split(x.float(), [count * length for count, length in groups])  # type: ignore[no-untyped-call]
        means = [row.view(count, length, -1).mean(1) for row, (count, length) in zip(rows, groups, strict=True)]
        return torch.cat(means)  # (B,W)

    def _normed(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return F.layer_norm(x, x.shape[1:], *norm, self._eps)

    def _attention(self, qkv: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Every text attends to itself: (T,3W) -> (T,W)."""
        out = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        first = 0
        for count, length in groups:
            rows = slice(first, first + count * length)
            q, k, v = qkv[rows].view(count, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)  # (B,H,L,D) each
            out[rows].view(count, length, self._heads, -1).copy_(attended(q, k, v).transpose(1, 2))
            first += count * length
        return out


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of every text to itself, (B,H,L,D) each -> (B,H,L,D); the queries are scaled already.

    For texts as short as prompts torch's fused attention and its softmax are slow on a processor (1,024 tokens in texts
    of 22, one core: 3.6 ms; so 1.9). Scores near zero need no maximum taken off before the exponential; where some are
    not, or texts are long, the fused one computes all.
    """
    if q.shape[2] <= _PLAIN and q.device.type == "cpu" and q.dtype == torch.float32:
        scores = torch.matmul(q, k.transpose(2, 3))  # (B,H,L,L)
        least, most = torch.aminmax(scores)
        if float(least) > -_SAFE and float(most) < _SAFE:
            weights = scores.exp_()
            return torch.matmul(weights, v).div_(weights.sum(-1, keepdim=True))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def readable(model: Any) -> bool:
    """Whether `PackedBert` computes this transformers model: BERT itself, as an encoder, with the exact GELU."""
    config: Any = getattr(model, "config", None)
    return (
        type(model).__name__ == "BertModel"
        and config.hidden_act == "gelu"
        and not config.is_decoder
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def _layer(block: Any, dtype: torch.dtype) -> Layer[FloatLinear, FeedForward]:
    """The weights of one `BertLayer`, as they are."""

    def joined(*parts: Any, scales: Sequence[float] = (1.0,), gelu: bool = False) -> FloatLinear:
        pairs = list(zip(parts, scales, strict=True))
        weight = torch.cat([part.weight.detach() * scale for part, scale in pairs]).to(dtype)
        return FloatLinear(weight, torch.cat([part.bias.detach() * scale for part, scale in pairs]).to(dtype), gelu)

    own = block.attention.self
    scale = float(own.attention_head_size) ** -0.5
    return Layer(
        qkv=joined(own.query, own.key, own.value, scales=(scale, 1.0, 1.0)),
        out=joined(block.attention.output.dense),
        feed=FeedForward(joined(block.intermediate.dense, gelu=True), joined(block.output.dense)),
        attention_norm=_norm(block.attention.output.LayerNorm, dtype),
        output_norm=_norm(block.output.LayerNorm, dtype),
    )


def _norm(module: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return module.weight.detach().to(dtype), module.bias.detach().to(dtype)

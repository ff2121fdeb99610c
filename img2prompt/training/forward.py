"""CoCa's forward pass for training: the same numbers as open_clip's, without the work that the loss does not use.

open_clip 3.3.0's `CoCa.forward` always runs the contrastive side: it appends a CLS token to every text, builds a
mask per row and head for it, pools and projects both latents, and computes logits at every position, padding too.
With a contrastive weight of 0 none of that reaches the loss. `caption_logits` computes the rest only. Attention
runs straight from the packed projection to `scaled_dot_product_attention`, without the copies of
`nn.MultiheadAttention`, and the pooler's queries, which are the same for every image, are projected once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True, slots=True)
class Seen:
    """What the vision side hands on."""

    patches: Tensor  # (B,P,W) patch tokens after the last block, before the pooler
    tokens: Tensor  # (B,Q,D) what the text decoder attends to


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(B,T,W) -> (B,H,T,W/H), a view."""
    return x.view(*x.shape[:-1], heads, -1).transpose(-3, -2)


def attend(attn: nn.MultiheadAttention, x: Tensor, memory: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """`attn(x, memory or x, memory or x)` for a batch-first module without dropout: (B,T,W) -> (B,T,W)."""
    heads = attn.num_heads
    if memory is None:
        packed = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (B,T,3W)
        q, k, v = (heads_of(part, heads) for part in packed.chunk(3, dim=-1))
    else:
        (w_q, w_k, w_v), (b_q, b_k, b_v) = _projections(attn)
        q = heads_of(F.linear(x, w_q, b_q), heads)
        k = heads_of(F.linear(memory, w_k, b_k), heads)
        v = heads_of(F.linear(memory, w_v, b_v), heads)
        if q.dim() == 3:  # queries without a batch: the same for every row
            q = q.expand(k.shape[0], -1, -1, -1)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)  # (B,H,T,W/H)
    return attn.out_proj(out.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


def _projections(attn: nn.MultiheadAttention) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """Weights and biases of query, key and value, packed or not."""
    biases: tuple[Tensor | None, ...] = (None,) * 3 if attn.in_proj_bias is None else attn.in_proj_bias.chunk(3)
    if attn.in_proj_weight is not None:
        return attn.in_proj_weight.chunk(3), biases
    return (attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight), biases


def run_block(block: Any, x: Tensor, memory: Tensor | None = None, causal: bool = False) -> Tensor:
    """One residual block of open_clip, self-attention or (with `memory`) cross-attention: (B,T,W) -> (B,T,W)."""
    if type(block) is not ResidualAttentionBlock:
        length = x.shape[1]
        mask = torch.full((length, length), float("-inf"), device=x.device).triu_(1) if causal else None
        return block(x, attn_mask=mask)  # type: ignore[no-any-return]
    if memory is not None:
        memory = block.ln_1_kv(memory)
    x = x + block.ls_1(attend(block.attn, block.ln_1(x), memory, causal=causal))
    return x + block.ls_2(block.mlp(block.ln_2(x)))  # type: ignore[no-any-return]


def run_blocks(tower: Any, x: Tensor, *, causal: bool = False) -> Tensor:
    """All blocks of an open_clip `Transformer`, checkpointed where the tower says so."""
    for block in tower.resblocks:
        if tower.grad_checkpointing:
            x = checkpoint(run_block, block, x, None, causal, use_reentrant=False)
        else:
            x = run_block(block, x, None, causal)
    return x


def see(visual: Any, images: Tensor, keep: Tensor | None = None) -> Seen:
    """The vision tower without its contrastive half.

    Args:
        visual: the tower.
        images: normalised (B,3,H,W).
        keep: patch numbers (B,N) of a `VisionTransformer` to look at; None: all.
    """
    if not isinstance(visual, VisionTransformer):
        return _see_any(visual, images)
    x = visual._embeds(images)  # (B,1+P,W)
    if keep is not None:
        x = torch.cat([x[:, :1], x[:, 1:].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))], dim=1)
    x = run_blocks(visual.transformer, x)
    patches = x[:, 1:]
    pool = visual.attn_pool
    has_own = visual.pool_type in ("tok", "avg")  # the first token or query is not for the decoder
    if pool is None:  # the decoder attends to the patches themselves
        tokens = x[:, 1:] if has_own else x
        return Seen(patches, tokens if visual.final_ln_after_pool else visual.ln_post(tokens))
    if visual.attn_pool_contrastive is not None:
        return Seen(patches, _pool(pool, visual.ln_post(x), pool.query))
    # Queries do not see each other, so the others can go without the first, the contrastive one.
    queries = pool.query[1:] if has_own else pool.query
    return Seen(patches, visual.ln_post(_pool(pool, x, queries)))


def _pool(pool: Any, x: Tensor, queries: Tensor) -> Tensor:
    return attend(pool.attn, pool.ln_q(queries), pool.ln_k(x))


def _see_any(visual: Any, images: Tensor) -> Seen:
    """A tower of another build (timm, ResNet): its own forward; its tokens stand for the patches."""
    tokens = visual(images)[1]
    return Seen(tokens, tokens)


def decode(model: Any, seen: Tensor, tokens: Tensor, wanted: Tensor) -> Tensor:
    """Logits of the next token where `wanted` holds.

    Args:
        model: an open_clip CoCa.
        seen: image tokens (B,Q,D).
        tokens: the texts without their last column, start token first (B,T).
        wanted: positions whose logits are needed, bool (B,T), M of them.

    Returns:
        (M,V), in the order of `wanted.nonzero()`.
    """
    text, decoder = model.text, model.text_decoder
    x = text.token_embedding(tokens) + text.positional_embedding[: tokens.shape[1]]
    x = run_blocks(text.transformer, x, causal=True)
    if text.cls_emb is None:
        x = text.ln_final(x)  # open_clip's CoCa normalises the class token only
    for block, cross in zip(decoder.resblocks, decoder.cross_attn, strict=True):
        if decoder.grad_checkpointing:
            x = checkpoint(run_block, block, x, None, True, use_reentrant=False)
            x = checkpoint(run_block, cross, x, seen, False, use_reentrant=False)
        else:
            x = run_block(cross, run_block(block, x, None, True), seen)
    return decoder.ln_final(x[wanted]) @ decoder.text_projection  # type: ignore[no-any-return]

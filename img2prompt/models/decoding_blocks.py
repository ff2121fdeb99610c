"""open_clip's residual attention blocks for new tokens only: attention to the tokens before, and to an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from open_clip.transformer import LayerNorm, ResidualAttentionBlock
from torch import Tensor, nn

from img2prompt.models.packed_linear import PackedLinear

_APART = 16  # numbers between rows whose distance would else be a power of two, which share a place in the cache
_FEW = 8  # tokens of a prompt up to which keys and values are not worth making for one hypothesis


class _Block:
    """What the two kinds of blocks share."""

    def __init__(self, block: ResidualAttentionBlock, queries: int, constant: Tensor | None = None) -> None:
        """Prepares a block.

        Args:
            block: of open_clip.
            queries: rows of the input projection that read the new tokens.
            constant: (D,) what is added to everything that attention gives.
        """
        attn, mlp = block.attn, block.mlp
        self.heads, self.width, self.depth = int(attn.num_heads), int(attn.embed_dim), int(attn.head_dim)
        self.norms = [_norm(block.ln_1), _norm(block.ln_2)]
        self.project = PackedLinear(attn.in_proj_weight[:queries], attn.in_proj_bias[:queries])
        self.out = _scaled(attn.out_proj, block.ls_1, constant)
        # Other activations (QuickGELU) stay modules of their own.
        fused = isinstance(mlp.gelu, nn.GELU) and mlp.gelu.approximate == "none"
        self.activate = None if fused else mlp.gelu
        self.widen = PackedLinear(mlp.c_fc.weight, mlp.c_fc.bias, gelu=fused)
        self.narrow = _scaled(mlp.c_proj, block.ls_2)

    def _rest(self, x: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention: x (R,D), attended (R,D)."""
        x = self.out(attended, x)
        wide = self.widen(self.norms[1](x))
        return self.narrow(wide if self.activate is None else self.activate(wide), x)


class OwnBlock(_Block):
    """Attention to the tokens before."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__(block, 3 * int(block.attn.embed_dim))

    def __call__(self, x: Tensor, kv: Tensor, used: int, mask: Tensor | None) -> Tensor:
        """m new tokens an image: x (B*m,D), kv (2,B,H,slots,d), mask (B|1,1,m,used+m)."""
        batch, new = kv.shape[1], x.shape[0] // kv.shape[1]
        qkv = self.project(self.norms[0](x)).view(batch, new, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
        kv.narrow(3, used, new).copy_(qkv.narrow(0, 1, 2))  # (2,B,H,m,d)
        keys, values = kv.narrow(3, 0, used + new).unbind()
        attended = F.scaled_dot_product_attention(qkv.select(0, 0), keys, values, attn_mask=mask)  # (B,H,m,d)
        return self._rest(x, attended.transpose(1, 2).reshape(x.shape))


class ImageBlock(_Block):
    """Attention to the image tokens.

    The norm before their keys and values differs between layers in gain and bias alone; the gain goes into the
    weights here. What the bias and that of the keys add to a query's scores is the same for every token, so the
    softmax does not see it; what they add to the values comes out of attention as it is, so it joins what follows.

    With one hypothesis an image, keys and values are not worth making: q (x A)^T = (q A^T) x^T and p (x C) = (p x) C,
    so the queries go to the tokens instead (DeepSeek-AI 2024, DeepSeek-V2, 2.1.2), which all layers share and the
    processor's cache holds.
    """

    def __init__(self, block: ResidualAttentionBlock) -> None:
        attn, norm, width = block.attn, block.ln_1_kv, int(block.attn.embed_dim)
        weight = attn.in_proj_weight[width:].detach().float()  # (2D,D)
        constant = weight[width:] @ norm.bias.detach().float() + attn.in_proj_bias[2 * width :].detach().float()
        super().__init__(block, width, constant)
        gained = (weight * norm.weight.detach().float()).to(attn.in_proj_weight.dtype)
        self.epsilon = float(norm.eps)
        heads = gained.view(2, self.heads, self.depth, width).transpose(2, 3)  # (2,H,D,d)
        self.padded = F.pad(heads, (0, 0, 0, _APART)).contiguous()  # (2,H,D+16,d)
        self.image = self.padded[:, :, :width]  # (2,H,D,d)

    def keys(self, normed: Tensor) -> Tensor:
        """Keys and values (2,H,B,S,d) of the image tokens (B,S,D), which were normalised without gain and bias."""
        rows = normed.flatten(0, 1).expand(2 * self.heads, -1, -1)  # (2H,B*S,D)
        return torch.bmm(rows, self.image.flatten(0, 1)).view(2, self.heads, *normed.shape[:2], self.depth)

    def __call__(self, x: Tensor, image: Tensor) -> Tensor:
        """m new tokens an image: x (B*m,D), image: keys and values (2,H,B,S,d), or the normalised tokens (B,S,D)."""
        q = self.project(self.norms[0](x))  # (B*m,D)
        if image.dim() == 3:
            return self._rest(x, self._absorbed(q, image))
        keys, values = image.transpose(1, 2).unbind()  # (B,H,S,d)
        q = q.view(keys.shape[0], -1, self.heads, self.depth).transpose(1, 2)  # (B,H,m,d)
        return self._rest(x, F.scaled_dot_product_attention(q, keys, values).transpose(1, 2).reshape(x.shape))

    def _absorbed(self, q: Tensor, normed: Tensor) -> Tensor:
        """Queries (B*m,D) and tokens (B,S,D) -> (B*m,D)."""
        batch, rows = normed.shape[0], q.shape[0]
        heads = q.view(rows, self.heads, self.depth).transpose(0, 1)  # (H,R,d)
        asked = torch.bmm(heads, self.padded[0].transpose(1, 2))  # (H,R,D+16)
        asked = asked.view(self.heads, batch, -1, self.padded.shape[2])  # (H,B,m,D+16)
        asked = asked.transpose(0, 1).flatten(1, 2)[:, None, :, : self.width]  # (B,1,H*m,D)
        tokens = normed[:, None]  # (B,1,S,D)
        found = F.scaled_dot_product_attention(asked, tokens, tokens, scale=self.depth**-0.5)  # (B,1,H*m,D)
        found = found.view(batch, self.heads, -1, self.width).transpose(0, 1).reshape(self.heads, rows, self.width)
        return torch.bmm(found, self.image[1]).transpose(0, 1).reshape(q.shape)


def prepared(blocks: Sequence[ImageBlock], image_tokens: Tensor, hypotheses: int, prompt: int) -> list[Tensor]:
    """What each layer reads of the image tokens, see `ImageBlock`.

    Args:
        blocks: the layers.
        image_tokens: (B,S,D).
        hypotheses: n of an image that go on.
        prompt: tokens that are read before.
    """
    absorbs = hypotheses == 1 and prompt <= _FEW and image_tokens.device.type == "cpu"
    epsilons = {block.epsilon for block in blocks}
    normed = {epsilon: F.layer_norm(image_tokens, image_tokens.shape[-1:], eps=epsilon) for epsilon in epsilons}
    return [normed[block.epsilon] if absorbs else block.keys(normed[block.epsilon]) for block in blocks]


def _norm(module: nn.Module) -> nn.Module | _Norm:
    return _Norm(module) if type(module) is LayerNorm else module


class _Norm:
    """open_clip's LayerNorm without what a module's call costs."""

    def __init__(self, norm: LayerNorm) -> None:
        self.shape, self.weight, self.bias, self.epsilon = list(norm.normalized_shape), norm.weight, norm.bias, norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, self.shape, self.weight, self.bias, self.epsilon)


def _scaled(linear: nn.Linear, scale: nn.Module, constant: Tensor | None = None) -> PackedLinear:
    """A layer of what comes with a constant (K,), then open_clip's LayerScale where there is one."""
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if constant is not None:
        bias = (bias.float() + weight.float() @ constant).to(bias.dtype)
    if isinstance(scale, nn.Identity):
        return PackedLinear(weight, bias)
    return PackedLinear(scale.gamma.detach()[:, None] * weight, scale.gamma.detach() * bias)  # type: ignore[operator,union-attr]

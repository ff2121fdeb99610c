"""CoCa's text tower and decoder one token at a time, with everything that was computed before kept.

The text tower is causal and its CLS token comes last, so no earlier position ever changes and the cache is exact;
the decoder's keys and values of the image are projected once. Slots, not rows, are cached: slot s of an image holds
the keys and values of one token of one hypothesis, and a mask says which slots a hypothesis descends from. A beam
search then never copies the cache; it only rewrites that mask (B, n, slots).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import CoCa
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from img2prompt.errors import ModelError
from img2prompt.models.decoding_blocks import ImageBlock, OwnBlock, prepared
from img2prompt.models.packed_linear import PackedLinear

_WIDEST = 20_000_000  # bytes of the widest activation of the vision tower


@dataclass
class Cache:
    """What was computed for B images; `used` slots of each are filled.

    Attributes:
        text: keys and values of the text tower's layers, each (2,B,H,slots,d).
        decoder: likewise, of the decoder's self-attention.
        image: what its cross-attention's layers read, (2,H,B,S,d) or (B,S,D), see `ImageBlock`.
        alive: (B,n,slots) bool: the slots that hypothesis j of an image descends from.
        hidden: (B,slots) bool: keys that open_clip's text tower masks.
        used: filled slots.
        position: of the next token.
    """

    text: list[Tensor]
    decoder: list[Tensor]
    image: list[Tensor]
    alive: Tensor
    hidden: Tensor
    used: int = 0
    position: int = 0
    any_hidden: bool = False

    def keep(self, images: Tensor) -> None:
        """Drops all images but those of the given rows."""
        for group in (self.text, self.decoder):
            group[:] = [kv.index_select(1, images) for kv in group]
        kept = {id(image): image.index_select(-3, images) for image in self.image}  # layers may share one
        self.image[:] = [kept[id(image)] for image in self.image]
        self.alive, self.hidden = self.alive[images], self.hidden[images]

    def descend(self, parents: Tensor) -> None:
        """Hypothesis j of image b continues hypothesis `parents` (B,n)[b,j]."""
        self.alive = self.alive.gather(1, parents[:, :, None].expand(-1, -1, self.alive.shape[2]))


class CachedDecoder:
    """The part of a CoCa that writes, prepared for reading one token after the other.

    Weights are referred to and, where another layout is faster, copied: make a new one when they have changed.
    """

    def __init__(self, model: CoCa, *, compile: bool = False) -> None:
        text, decoder = model.text, model.text_decoder
        blocks: list[Any] = [*text.transformer.resblocks, *decoder.resblocks, *decoder.cross_attn]
        if not all(isinstance(block, ResidualAttentionBlock) for block in blocks):
            raise ModelError("this CoCa has custom attention blocks, which cached decoding does not know")
        if getattr(text, "attn_mask", None) is None:
            raise ModelError(
                "this CoCa's text tower is not causal (no_causal_mask), so it cannot be decoded with a cache"
            )
        self.model, self.context_length = model, int(min(text.context_length, decoder.context_length))
        self.text = [OwnBlock(block) for block in text.transformer.resblocks]
        self.decoder = [OwnBlock(block) for block in decoder.resblocks]
        self.cross = [ImageBlock(block) for block in decoder.cross_attn]
        self.vocabulary = PackedLinear(decoder.text_projection.t(), None)
        # With a CLS token, open_clip hides the key after each padding token, for all later queries of that row.
        self.hides_after = int(text.pad_id) if text.cls_emb is not None else None
        # On a CPU, memory beyond 32 MB goes back to the system after every layer and is cleared anew for the next one:
        # 16 pictures of ViT-L-14 take 13.3 s together and 11.8 s by fours.
        places = getattr(model.visual, "positional_embedding", None)  # (S,W)
        self._images_at_once: int | None = None
        if isinstance(places, Tensor) and places.device.type == "cpu":
            self._images_at_once = max(1, _WIDEST // (4 * places.numel() * places.element_size()))
        self._tower = torch.compile(self._through, dynamic=True) if compile else self._through

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B,3,H,W) -> pooled embedding of unit length (B,D) float32, image tokens (B,S,D)."""
        parts = torch.split(images, self._images_at_once) if self._images_at_once and len(images) else (images,)
        pooled, tokens = (torch.cat(some) for some in zip(*map(self.model._encode_image, parts), strict=True))
        pooled = pooled if pooled.dim() == 2 else F.normalize(pooled.mean(1), dim=-1)
        return pooled.float(), tokens

    def start(self, image_tokens: Tensor, hypotheses: int, prompt: int, length: int) -> Cache:
        """An empty cache.

        Args:
            image_tokens: (B,S,D).
            hypotheses: n kept for each image.
            prompt: tokens that all hypotheses share.
            length: tokens at most, the prompt included.
        """
        batch, slots = image_tokens.shape[0], prompt + hypotheses * (length - prompt)

        def room(block: OwnBlock) -> Tensor:
            shape = (2, batch, block.heads, slots, block.width // block.heads)
            return image_tokens.new_empty(shape)

        alive = torch.zeros(batch, hypotheses, slots, dtype=torch.bool, device=image_tokens.device)
        return Cache(
            text=[room(block) for block in self.text],
            decoder=[room(block) for block in self.decoder],
            image=prepared(self.cross, image_tokens, hypotheses, prompt),
            alive=alive,
            hidden=alive[:, 0].clone(),
        )

    def read_prompt(self, cache: Cache, prompt: list[int]) -> Tensor:
        """The same first tokens for every image -> logits of the next, (B,V) float32."""
        tokens = torch.tensor(prompt, device=cache.alive.device).repeat(cache.alive.shape[0], 1)  # (B,m)
        return self.vocabulary(self._read_first(cache, tokens)[:, -1]).float()

    def read_texts(self, cache: Cache, tokens: Tensor) -> Tensor:
        """First tokens (B,m), of each image its own -> logits of what follows each of them, (B,m,V) float32."""
        hidden = self._read_first(cache, tokens)
        return self.vocabulary(hidden.flatten(0, 1)).view(*tokens.shape, -1).float()

    def _read_first(self, cache: Cache, tokens: Tensor) -> Tensor:
        """Tokens (B,m) into an empty cache -> (B,m,D)."""
        new = tokens.shape[1]
        before = torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], 1)
        causal = torch.ones(1, new, new, dtype=torch.bool, device=tokens.device).tril() if new > 1 else None
        hidden = self._advance(cache, tokens, before, torch.arange(new, device=tokens.device), causal)
        cache.alive[:, :, :new] = True
        cache.position = new
        return hidden

    def read(self, cache: Cache, tokens: Tensor, before: Tensor) -> Tensor:
        """One more token for each hypothesis.

        Args:
            cache: its `alive` already descends from the right parents.
            tokens: (B,n).
            before: (B,n) the token before each, of the same hypothesis.

        Returns:
            Logits of the next token, (B,n,V) float32.
        """
        new = tokens.shape[1]
        own = torch.arange(new, device=tokens.device)
        cache.alive[:, own, cache.used + own] = True
        positions = torch.full((new,), cache.position, device=tokens.device)
        mask = cache.alive[:, :, : cache.used + new] if new > 1 else None
        hidden = self._advance(cache, tokens, before, positions, mask)
        cache.position += 1
        return self.vocabulary(hidden.flatten(0, 1)).view(*tokens.shape, -1).float()

    def _advance(self, cache: Cache, tokens: Tensor, before: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """New tokens (B,m) through both towers -> (B,m,D); mask (B|1,m,used+m) says which slots each may see."""
        new, seen = tokens.shape[1], cache.used + tokens.shape[1]
        if self.hides_after is not None:
            padding = before == self.hides_after
            cache.hidden[:, cache.used : seen] = padding
            cache.any_hidden = cache.any_hidden or bool(padding.any())
        text_mask = mask
        if cache.any_hidden:
            shown = ~cache.hidden[:, None, :seen]  # (B,1,L)
            text_mask = shown.expand(-1, new, -1) if mask is None else mask & shown
        dtype = cache.image[0].dtype
        own_bias = _bias(mask, dtype)
        text_bias = own_bias if text_mask is mask else _bias(text_mask, dtype)
        hidden = self._tower(cache, tokens, positions, text_bias, own_bias)
        cache.used = seen
        return hidden

    def _through(
        self, cache: Cache, tokens: Tensor, positions: Tensor, text_bias: Tensor | None, own_bias: Tensor | None
    ) -> Tensor:
        tower, decoder = self.model.text, self.model.text_decoder
        x = (tower.token_embedding(tokens) + tower.positional_embedding[positions]).flatten(0, 1)  # (B*m,D)
        for block, kv in zip(self.text, cache.text, strict=True):
            x = block(x, kv, cache.used, text_bias)
        if tower.cls_emb is None:
            x = tower.ln_final(x)
        for block, kv, cross, image in zip(self.decoder, cache.decoder, self.cross, cache.image, strict=True):
            x = cross(block(x, kv, cache.used, own_bias), image)
        out: Tensor = decoder.ln_final(x.view(*tokens.shape, -1))
        return out


def _bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Which may be seen (B,m,L) -> what is added to the attention's logits (B,1,m,L)."""
    if mask is None:
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)[:, None]

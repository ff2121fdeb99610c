"""Which products of a BERT are computed in bytes, and the texts that say how wide their inputs are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from img2prompt.models.int8_linear import Int8FeedForward, Int8Linear
from img2prompt.models.packed_linear import FeedForward
from img2prompt.models.sentence_bert import PackedBert

# How wide the levels are: the first token, far out in most layers, is better exact than the reason for coarse steps
# among queries, keys and values, while in the feed-forward, with its widest channels divided, it costs nothing to fit.
_QKV_WITHIN, _FEED_WITHIN, _FEED_SPLITS = 0.95, 0.98, 16
CALIBRATION = (  # of the kinds that SAMPLE has, and others: what is decided on SAMPLE is not fitted to it
    "dog",
    "sunset over the sea",
    "an old map of an island, sepia, torn at the edges",
    "a small robot waters a sunflower on a balcony, morning light, 35mm photograph",
    "portrait of an astronaut eating noodles in a crowded diner, neon reflections, film grain, by a window",
    "three blue bowls and two yellow lemons on a wooden table",
    "a snail to the right of a clock",
    "epic dragon over a burning castle, fantasy, intricate, digital painting, concept art, smooth, sharp focus, 8k uhd",
    "masterpiece, best quality, ((1boy)), short hair, <lora:ink_style:0.8>, looking at viewer, white shirt, outdoors",
    "poster for a jazz festival that says 'Blue Hour', art deco, gold on navy",
    "cute kawaii axolotl sticker, die cut, vector, white border, no background",
    "macro shot of dew on a spider's web!!! very very detailed",
    "un chat noir dort sur un piano, affiche vintage",
    "пейзаж с рекой, осень, масло",
    "東京の夜、雨、ネオン",
    "architectural section of a library inside a tree, ink and watercolour wash, annotated, by an unknown engraver",
    "IMG_2041.JPG",
    "http://example.org/pictures/7f3a?size=large",
    "wooden toy train :: studio light :: f/1.8 --ar 3:2 --v 5 --q 2",
    "cyberpunk street food vendor, steam, unreal engine, ray tracing, artstation trending, greg, wlop, 4 k, hyperreal",
    "The picture shows a kitchen in the early evening. On the stove a kettle steams; a grey cat sits on the sill and "
    "looks at the snow outside. The tiles are green, one is cracked, and a child's drawing hangs on the refrigerator. "
    "The light comes from a paper lamp, warm and uneven, as in a film of the seventies.",
    "An aerial photograph of terraced rice fields after rain. Narrow paths run between the ponds, and two farmers in "
    "straw hats walk behind a water buffalo. Clouds are mirrored in the water.",
    "a a a a a a a",
    "(masterpiece:1.4), ultra-detailed, 1 woman, red cloak, wolf, snow, forest, night, moon, embers, depth of field",
    "a photo of a stop sign",
    "a chair made of bread next to a bicycle made of cheese, product photography, pastel background",
)


class _Watched:
    """What computes, and what came into it: (T,K) a call."""

    def __init__(self, layer: Callable[[Tensor], Tensor]) -> None:
        self._layer = layer
        self._inputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self._inputs.append(x)
        return self._layer(x)

    @property
    def seen(self) -> Tensor:
        """(T,K) of all calls."""
        return torch.cat(self._inputs)


class _HalfInt8:
    """A feed-forward whose first product alone is in bytes."""

    def __init__(self, exact: FeedForward, seen: Tensor, within: float, splits: int) -> None:
        self._up, self._down = Int8Linear(exact.up, seen, within, splits), exact.down

    def __call__(self, x: Tensor) -> Tensor:
        return self._down(self._up(x), x)


def in_int8(exact: PackedBert, texts: Sequence[Sequence[int]]) -> PackedBert:
    """The model with bytes where that moves little, fitted to what some texts put into its layers.

    Queries, keys and values are in bytes, and the feed-forward of the inner layers; of the first and the last one,
    through which more tokens go that lie beyond, its first product alone. What follows attention is too little work.

    Args:
        exact: the model, on the CPU, in float32.
        texts: token ids, in the order of their lengths.
    """
    watched = [layer.having(_Watched(layer.qkv), _Watched(layer.feed)) for layer in exact.layers]
    exact.having(watched).embed(texts)
    cheap = []
    for i, (layer, saw) in enumerate(zip(exact.layers, watched, strict=True)):
        kind = Int8FeedForward if 0 < i < len(watched) - 1 else _HalfInt8
        qkv = Int8Linear(layer.qkv, saw.qkv.seen, within=_QKV_WITHIN)
        cheap.append(layer.having(qkv, kind(layer.feed, saw.feed.seen, within=_FEED_WITHIN, splits=_FEED_SPLITS)))
    return exact.having(cheap)

"""Which products of a BERT are computed in bytes, and the texts that say how wide their inputs are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from img2prompt.models.int8_linear import Int8Linear
from img2prompt.models.packed_linear import FloatLinear
from img2prompt.models.sentence_bert import Linear, PackedBert

# Queries, keys and values, and the wide product of each block: two thirds of the work. What comes out of GELU spreads
# too far (alone it moves the worst of 1,024 real prompts to 0.9994), and the product after attention is small.
_IN_BYTES: dict[str, Any] = {"qkv": {"within": 0.95}, "up": {"within": 0.98, "splits": 16}}
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
    """A layer, and what came into it: (T,K) a call."""

    def __init__(self, linear: FloatLinear) -> None:
        self.linear = linear
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        self.inputs.append(x)
        return self.linear(x, plus)


def in_float_and_int8(model: Any, texts: Sequence[Sequence[int]]) -> tuple[PackedBert, PackedBert]:
    """The model as it is, and with bytes where that moves little, fitted to what some texts put into its layers.

    Args:
        model: a `BertModel` on the CPU, in float32.
        texts: token ids, in the order of their lengths.
    """
    watched: dict[str, _Watched] = {}

    def watching(name: str, weight: Tensor, bias: Tensor, gelu: bool) -> Linear:
        watched[name] = _Watched(FloatLinear(weight, bias, gelu))
        return watched[name]

    def cheap(name: str, *_: Any) -> Linear:
        linear, how = watched[name].linear, _IN_BYTES.get(name.rpartition(".")[2])
        return Int8Linear(linear, torch.cat(watched[name].inputs), **how) if how else linear

    PackedBert(model, watching).embed(texts)
    return PackedBert(model, lambda name, *_: watched[name].linear), PackedBert(model, cheap)

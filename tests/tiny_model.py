"""A random captioner of the real class in the real format, small enough to make in a test, and pictures for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 48,
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 12,
        "attentional_pool": True,
        "attn_pooler_queries": 9,
        "attn_pooler_heads": 2,
        "output_tokens": True,
    },
    "text_cfg": {
        "context_length": 24,
        "vocab_size": 400,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "embed_cls": True,
        "output_tokens": True,
    },
    "multimodal_cfg": {
        "context_length": 24,
        "vocab_size": 400,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "attn_pooler_heads": 2,
    },
}


def save_model(folder: Path, seed: int = 1) -> Path:
    """Writes the model folder."""
    from img2prompt.models.coca import new_coca, save_coca, train_tokenizer

    words = ["a red cat on a beach", "two dogs in space, watercolour", "three blue cars at night"] * 3
    config = {"model_cfg": CONFIG, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    return save_coca(new_coca(CONFIG, seed), config, folder, train_tokenizer(words, 400))


def picture(seed: int, px: int = 64) -> Image.Image:
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((px, px))


def save_with_prompt(path: Path, prompt: str, negative: str = "blurry") -> Path:
    """A PNG as AUTOMATIC1111 leaves it, its prompt inside."""
    info = PngInfo()
    parameters = (
        f"{prompt}\nNegative prompt: {negative}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64"
    )
    info.add_text("parameters", parameters)
    picture(7).save(path, pnginfo=info)
    return path

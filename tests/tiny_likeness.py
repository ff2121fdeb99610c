"""Weights of the likeness measures, random, in the real formats and at the real places; small where a format allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from PIL import Image


def add_repository(cache: Path, name: str, write: Callable[[Path], object]) -> Path:
    """A repository in a folder that is laid out as the Hugging Face cache."""
    revision = "0" * 40
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / revision
    snapshot.parent.mkdir(parents=True)
    write(snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    return snapshot


def save_alexnet(hub: Path) -> Path:
    """torchvision's AlexNet; its classifier, which nothing here looks at, is stored as one number a matrix."""
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        shapes = torchvision.models.alexnet().state_dict()
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
        if name.startswith("features")
        else torch.zeros(1).expand(value.shape)
        for name, value in shapes.items()
    }
    return _save(state, hub / "checkpoints" / "alexnet-owt-7be5be79.pth")


def save_inception(hub: Path) -> Path:
    """torch-fidelity's Inception."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = _save({}, hub / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth")
    with torch.random.fork_rng(devices=[]), patch.object(FeatureExtractorInceptionV3, "load_state_dict"):
        torch.manual_seed(1)
        net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
        for name, value in net.named_parameters():
            if value.dim() == 4:  # as large as keeps the signal alive through all layers
                value.data.normal_(std=(2 / value[0].numel()) ** 0.5)
            elif name.endswith("bn.bias"):
                value.data.normal_(std=0.1)
    return _save(net.state_dict(), path)


def save_dreamsim(hub: Path) -> Path:
    """DreamSim's OpenCLIP variant as its archive unpacks: a ViT-B/32 and a LoRA of rank 2 beside it."""
    import torch
    from dreamsim.feature_extraction.vision_transformer import VisionTransformer
    from safetensors.torch import save_file

    folder = hub / "dreamsim"
    numbers = torch.randn(1 << 13, generator=torch.Generator().manual_seed(1))

    def small(shape: torch.Size) -> torch.Tensor:
        """Few random numbers, used many times: 88 million of them would be 350 MB. Of a norm: ones."""
        if len(shape) == 1:
            return torch.ones(1).expand(shape)
        width = shape[-1]
        steps = (*(37 * (place + 1) for place in range(len(shape) - 1)), 1)
        whole = sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
        if whole >= len(numbers):
            steps = (1,) * len(shape)
        return (numbers * width**-0.5).as_strided(shape, steps)

    net = VisionTransformer(patch_size=32, embed_dim=768, depth=1, num_heads=12, qkv_bias=True)
    net.pos_drop = torch.nn.LayerNorm(net.embed_dim)
    names = {name.replace(".0.", f".{block}.", 1): name for block in range(12) for name in net.state_dict()}
    state = {name: small(net.state_dict()[like].shape) for name, like in names.items()}
    _save(
        {"state_dict": {**state, "proj": small(torch.Size((768, 512)))}}, folder / "open_clip_vitb32_pretrain.pth.tar"
    )
    lora = folder / "open_clip_vitb32_single_lora"
    lora.mkdir()
    settings = {"r": 2, "lora_alpha": 0.5, "lora_dropout": 0.3, "bias": "none", "target_modules": ["qkv"]}
    (lora / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": None, **settings})
    )
    generator = torch.Generator().manual_seed(2)
    weights = {}
    for block in range(12):
        place = f"base_model.model.extractor_list.0.model.blocks.{block}.attn.qkv"
        weights[f"{place}.lora_A.weight"] = torch.randn(2, 768, generator=generator) / 28
        weights[f"{place}.lora_B.weight"] = torch.randn(2304, 2, generator=generator)
    save_file(weights, lora / "adapter_model.safetensors")
    return folder


def scenes(count: int, image_px: int = 64, first: int = 0) -> list[Image.Image]:
    """Storybook pictures."""
    from img2prompt.pairs.storybook.render import render
    from img2prompt.pairs.storybook.scene import sample_scene

    return [render(sample_scene(number, "test"), image_px) for number in range(first, first + count)]


def _save(state: object, path: Path) -> Path:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path

"""Random towers of every family, small enough to make in a test, and saved as their libraries save real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img2prompt.models.towers import TowerSpec

# model_args that make timm's real architectures small.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "vit_avg": (
        "vit_small_patch16_224",
        {
            "img_size": 32,
            "patch_size": 8,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "global_pool": "avg",
            "class_token": False,
        },
    ),
    "siglip": (
        "vit_base_patch16_siglip_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "eva": (
        "eva02_tiny_patch14_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "convnext": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}),
}

_TEXT = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "bos_token_id": 0,
    "eos_token_id": 63,
    "pad_token_id": 1,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def random_spec(image_px: int | None = None) -> TowerSpec:
    """The smallest tower that builds at once, without files: for tests of what lies above towers."""
    from img2prompt.models.towers import TowerSpec

    name, arguments = TIMM["vit"]
    return TowerSpec("timm", name, image_px=image_px, config={"model_args": arguments})


def save_timm(folder: Path, kind: str = "vit", seed: int = 1) -> Path:
    """A classifier of timm with 5 classes, as timm pushes it to the hub."""
    import timm
    import torch
    from timm.models import save_for_hf

    name, arguments = TIMM[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(name, num_classes=5, **arguments)
    save_for_hf(net, str(folder), model_args=arguments, safe_serialization=True)
    return folder


def save_transformers(folder: Path, kind: str = "clip", seed: int = 1) -> Path:
    """A model of transformers: clip, clip_vision, siglip, siglip_vision or dinov2."""
    import torch
    import transformers as hf

    clip = {**_VISION, "projection_dim": 24}
    makers: dict[str, Callable[[], Any]] = {
        "clip": lambda: hf.CLIPModel(
            hf.CLIPConfig(text_config={**_TEXT, "projection_dim": 24}, vision_config=clip, projection_dim=24)
        ),
        "clip_vision": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**clip)),
        "siglip": lambda: hf.SiglipModel(
            hf.SiglipConfig(text_config={**_TEXT, "hidden_size": 32}, vision_config=_VISION)
        ),
        "siglip_vision": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**_VISION)),
        "dinov2": lambda: hf.Dinov2Model(
            hf.Dinov2Config(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=32, patch_size=8
            )
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        makers[kind]().save_pretrained(folder)
    if kind == "dinov2":  # as in its real repositories
        colours = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
        (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


def save_open_clip(folder: Path, seed: int = 1, **vision: Any) -> Path:
    """A CLIP of open_clip in its "local-dir" format."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {**OPEN_CLIP, "vision_cfg": {**OPEN_CLIP["vision_cfg"], **vision}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = open_clip.CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), folder / "open_clip_model.safetensors")
    colours = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": colours}))
    return folder


# Name -> (family, what writes the folder): every tower in the real format of its library.
SAVED: dict[str, tuple[str, Callable[[Path], Path]]] = {
    **{f"timm_{kind}": ("timm", lambda folder, kind=kind: save_timm(folder, kind)) for kind in TIMM},
    **{
        f"hf_{kind}": ("transformers", lambda folder, kind=kind: save_transformers(folder, kind))
        for kind in ("clip", "clip_vision", "siglip", "siglip_vision", "dinov2")
    },
    "open_clip": ("open_clip", save_open_clip),
    "open_clip_avg": ("open_clip", lambda folder: save_open_clip(folder, pool_type="avg", final_ln_after_pool=True)),
    "coca": ("open_clip", lambda folder: _save_coca(folder)),
}


def _save_coca(folder: Path) -> Path:
    from tiny_model import save_model

    return save_model(folder)


def add_tokenizer(folder: Path) -> None:
    """A tokenizer of letters beside a CLIP or SigLIP of transformers, whose vocabulary has 64 tokens."""
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = ["<start>", "<pad>", *(f"<{number}>" for number in range(34)), *" abcdefghijklmnopqrstuvwxyz", "<end>"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<0>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", vocabulary["<end>"])]
    )
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<start>", eos_token="<end>", pad_token="<pad>", model_max_length=16
    )
    tokenizer.save_pretrained(folder)

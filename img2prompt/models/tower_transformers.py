"""Vision towers of transformers: CLIP, SigLIP and DINOv2, from a checkpoint of the tower or of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from img2prompt.errors import ConfigError, ModelError, first_lines
from img2prompt.models.quiet import quietly
from img2prompt.models.tower_base import Facts, Tokens, Tower, TowerSpec, find_folder, read_json, resample_positions


@dataclass(frozen=True, slots=True)
class _Kind:
    """One architecture: what transformers calls its parts."""

    model: str  # the class of the tower
    settings: str  # the class of its configuration
    whole: str  # model_type of a checkpoint that holds texts too, with the tower's settings in vision_config
    projection: (
        str | None
    )  # its weight (E,W) in a checkpoint of the whole; "": the class token needs none; None: no texts
    stack: str  # where its blocks are
    mean: tuple[float, float, float]  # where preprocessor_config.json is not beside the weights
    std: tuple[float, float, float]


# model_type -> the row.
_KINDS: dict[str, _Kind] = {
    "clip_vision_model": _Kind(
        "CLIPVisionModel",
        "CLIPVisionConfig",
        "clip",
        "visual_projection.weight",
        "encoder.layers",
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
    "siglip_vision_model": _Kind(
        "SiglipVisionModel",
        "SiglipVisionConfig",
        "siglip",
        "",
        "encoder.layers",
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ),
    "dinov2": _Kind(
        "Dinov2Model",
        "Dinov2Config",
        "dinov2",
        None,
        "encoder.layer",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
}


# What the library raises for a configuration or weights that do not fit.
_REFUSALS = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ZeroDivisionError, OSError)


class TransformersTower(Tower):
    """A vision model of transformers; tokens are its last hidden state after its last norm."""

    def __init__(self, net: nn.Module, facts: Facts, projection: Tensor | None) -> None:
        super().__init__(net, facts, projection)
        self._kind = _KINDS[facts.config["model_type"]]

    @property
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """As in `Tower`."""
        stack = f"net.{self._kind.stack}"
        return [(f"{stack}.{name}", block) for name, block in self.get_submodule(stack).named_children()]

    def forward(self, images: Tensor) -> Tokens:
        """As in `Tower`."""
        net: Any = self.net
        seen = net(pixel_values=images)
        x = seen.last_hidden_state  # (B,T,W)
        if self._kind.whole == "siglip":
            return Tokens(seen.pooler_output, x)
        if self._kind.whole == "clip":  # its class token alone went through this norm in training
            x = net.post_layernorm(x)
        return Tokens(x[:, 0], x[:, 1:])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As in `Tower`."""
        net: Any = self.net
        action = "enable" if enable else "disable"
        # Renamed within transformers 5.
        switch = getattr(net, f"activation_checkpointing_{action}", None) or getattr(
            net, f"gradient_checkpointing_{action}"
        )
        switch(*([{"use_reentrant": False}] if enable else []))

    def _resize(self, image_px: int) -> None:
        embeddings: Any = self.net.embeddings
        side = image_px // self._patch_px
        if self._kind.whole == "dinov2":
            table = embeddings.position_embeddings
            fresh = resample_positions(table.detach()[0], 1, side)[None]
            embeddings.position_embeddings = nn.Parameter(fresh, requires_grad=table.requires_grad)
            return
        table = embeddings.position_embedding.weight
        fresh = resample_positions(table.detach(), int(self._kind.whole == "clip"), side)
        embeddings.position_embedding.weight = nn.Parameter(fresh, requires_grad=table.requires_grad)
        embeddings.position_embedding.num_embeddings = len(fresh)
        embeddings.position_ids = torch.arange(len(fresh), device=fresh.device)[None]
        embeddings.image_size, embeddings.num_patches, embeddings.num_positions = image_px, side * side, len(fresh)


def build_transformers(spec: TowerSpec, class_token: bool) -> TransformersTower:
    """A tower of transformers, as `towers.build_tower` says.

    `spec.source` is a folder or a cached repository with config.json and weights of one of `_KINDS`, or of the whole
    CLIP or SigLIP; `spec.name` may name the model_type that it must be.
    """
    where = spec.source or "the configuration"
    if spec.source is None and not spec.config:
        raise ConfigError("transformers: a tower needs a source, or a config with model_type for random weights")
    folder = None if spec.source is None else find_folder(spec.source, "config.json")
    config = dict(spec.config or {}) if folder is None else read_json(folder / "config.json")
    config, kind = _vision_config(config, where)
    if spec.name and spec.name not in (config["model_type"], kind.whole, kind.model):
        raise ModelError(f"{where}: holds {config['model_type']}, not {spec.name}; correct the name or the source")
    if kind.whole == "siglip":
        config["vision_use_head"] = class_token and config.get("vision_use_head", True)
    colours = {"image_mean": config.pop("image_mean", kind.mean), "image_std": config.pop("image_std", kind.std)}
    if folder is not None and (folder / "preprocessor_config.json").is_file():
        beside = read_json(folder / "preprocessor_config.json")
        colours = {key: beside.get(key) or value for key, value in colours.items()}
    net = _build(kind, config, folder, where)
    settings: Any = net.config
    projection = None if folder is None else _projection(kind, folder, settings.hidden_size)
    facts = Facts(
        width=settings.hidden_size,
        image_px=int(settings.image_size),
        patch_px=int(settings.patch_size),
        mean=colours["image_mean"],
        std=colours["image_std"],
        config={**config, **{key: list(value) for key, value in colours.items()}},
        has_class_token=kind.whole != "siglip" or bool(settings.vision_use_head),
    )
    return TransformersTower(net, facts, projection)


def _vision_config(config: dict[str, Any], where: str) -> tuple[dict[str, Any], _Kind]:
    """The tower's own settings, of the tower's or the whole model's configuration."""
    found = config.get("model_type")
    for model_type, kind in _KINDS.items():
        if found in (model_type, kind.whole):
            own = config.get("vision_config", {}) if found != model_type else config
            # A second copy of the mask token's weight would never learn: it is for pretraining only.
            extra = {"use_mask_token": False} if kind.whole == "dinov2" else {}
            return {**own, **extra, "model_type": model_type}, kind
    known = sorted({*_KINDS, *(kind.whole for kind in _KINDS.values())})
    raise ModelError(f"{where}: model_type {found!r} is not supported; choose one of {', '.join(known)}")


def _build(kind: _Kind, config: dict[str, Any], folder: Path | None, where: str) -> nn.Module:
    import transformers

    make: Any = getattr(transformers, kind.model)
    try:
        settings = getattr(transformers, kind.settings).from_dict(config)
        if folder is None:
            return make(settings)  # type: ignore[no-any-return]
        with quietly():
            net, found = make.from_pretrained(
                folder, config=settings, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
    except (*_REFUSALS, SafetensorError) as error:
        raise ModelError(f"{where}: transformers cannot build this model ({first_lines(error)})") from error
    missing = sorted(found["missing_keys"])
    if missing:  # the library would leave them random
        raise ModelError(f"{where}: {missing[0]} is missing; the weights belong to another architecture")
    return net  # type: ignore[no-any-return]


def _projection(kind: _Kind, folder: Path, width: int) -> Tensor | None:
    """From the class token to the space of texts (W,E), where the checkpoint is of the whole model."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            names = weights.keys()
            if kind.projection in names:
                return weights.get_tensor(kind.projection).float().T.contiguous()  # type: ignore[no-any-return]
            # SigLIP's pooled token lies in the shared space as it is.
            if kind.projection == "" and any(name.startswith("text_model.") for name in names):
                return torch.eye(width)
    return None

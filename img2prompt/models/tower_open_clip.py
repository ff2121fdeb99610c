"""Vision towers of open_clip's CLIP and CoCa, from open_clip's own folders, tags and repositories."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from img2prompt.errors import ConfigError, ModelError, PresetError, first_lines
from img2prompt.models.checkpoint import Checkpoint, find_checkpoint, fit, read_weights
from img2prompt.models.tower_base import Facts, Tokens, Tower, TowerSpec, resample_positions

_PREFIX = "visual."


class OpenClipTower(Tower):
    """A `VisionTransformer` of open_clip; tokens are what it pools, and with an attentional pooler what that gives."""

    @property
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """As in `Tower`."""
        stack = "net.transformer.resblocks"
        return [(f"{stack}.{name}", block) for name, block in self.get_submodule(stack).named_children()]

    def forward(self, images: Tensor) -> Tokens:
        """As in `Tower`."""
        net: Any = self.net
        x = net._embeds(images.to(net.conv1.weight.dtype))  # (B,1+P,W)
        x = net.transformer(x)
        if net.attn_pool is None and net.pool_type == "tok":
            x = x if net.final_ln_after_pool else net.ln_post(x)
            return Tokens(x[:, 0], x[:, 1:])
        if net.attn_pool is None and net.final_ln_after_pool:
            return Tokens(None, x[:, 1:] if net.pool_type == "avg" else x)
        pooled, tokens = net._pool(x)
        return Tokens(pooled if self.has_class_token else None, tokens)

    def finish(self, pooled: Tensor) -> Tensor:
        """As in `Tower`."""
        net: Any = self.net
        if net.attn_pool is None and net.final_ln_after_pool:
            return net.ln_post(pooled)  # type: ignore[no-any-return]
        return pooled

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As in `Tower`."""
        self.net.set_grad_checkpointing(enable)  # type: ignore[operator]

    def _resize(self, image_px: int) -> None:
        net: Any = self.net
        side = image_px // self._patch_px
        table = net.positional_embedding
        fresh = resample_positions(table.detach(), 1, side)
        net.positional_embedding = nn.Parameter(fresh, requires_grad=table.requires_grad)
        net.grid_size, net.image_size = (side, side), (image_px, image_px)


def build_open_clip(spec: TowerSpec, _class_token: bool) -> OpenClipTower:
    """A tower of open_clip, as `towers.build_tower` says.

    `spec.source` is what `load_coca` takes too: a folder, "ARCHITECTURE/TAG", "hf-hub:OWNER/NAME". `spec.name` is an
    architecture of open_clip, for random weights.
    """
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    found = None if spec.source is None else find_open_clip(spec.source)
    where = spec.source or spec.name or "the configuration"
    config = deepcopy(spec.config or {}) if found is None else deepcopy(found.config)
    model_cfg = config.get("model_cfg", config) if config else _named(spec.name)
    model_cfg = {key: model_cfg[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in model_cfg}
    net: Any = _build(model_cfg, where)
    projection: Tensor | None = None
    if found is not None:
        state = {
            name.removeprefix("module.").removeprefix(_PREFIX): value
            for name, value in read_weights(found.weights).items()
            if name.removeprefix("module.").startswith(_PREFIX)
        }
        fit(net, state, found.weights, torch.float32)
        projection = net.proj.detach().clone()
    net.proj = None  # towers end with their tokens
    colours = config.get("preprocess_cfg", {})
    mean, std = colours.get("mean", OPENAI_DATASET_MEAN), colours.get("std", OPENAI_DATASET_STD)
    has_class_token = net.pool_type == "tok" or getattr(net, "attn_pool_contrastive", None) is not None
    facts = Facts(
        width=int(net.ln_post.normalized_shape[0]),
        image_px=int(net.image_size[0]),
        patch_px=int(net.patch_size[0]),
        mean=mean,
        std=std,
        config={"model_cfg": model_cfg, "preprocess_cfg": {"mean": list(mean), "std": list(std)}},
        has_class_token=has_class_token,
        projected="class" if has_class_token else "mean",
    )
    return OpenClipTower(net, facts, projection)


def find_open_clip(source: str) -> Checkpoint:
    """As `checkpoint.find_checkpoint`, also for OWNER/NAME of the hub, and with the activation that tags stand for.

    Raises:
        ModelError, PresetError: it is damaged, or not on this machine.
    """
    import open_clip

    try:
        found = find_checkpoint(source)
    except ModelError:
        if source.startswith((".", "/", "~")) or source.count("/") != 1:
            raise
        try:
            found = find_checkpoint(f"hf-hub:{source}")
        except PresetError as error:
            raise PresetError(
                f"{source}: neither a folder, nor ARCHITECTURE/TAG of open_clip, nor in the cache;"
                f" get it with: img2prompt pull hf-hub:{source}"
            ) from error
    architecture, _, tag = source.replace(":", "/", 1).partition("/")
    # The architecture's file does not say it, but OpenAI's weights were trained with another activation.
    if tag and (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("quick_gelu"):
        found.config["model_cfg"]["quick_gelu"] = True
    return found


def _named(name: str) -> dict[str, Any]:
    import open_clip

    model_cfg = open_clip.get_model_config(name) if name else None
    if model_cfg is None:
        raise ConfigError(f"open_clip: {name or 'no name'}: give a source, or an architecture such as ViT-B-16")
    return dict(model_cfg)


def _build(model_cfg: dict[str, Any], where: str) -> nn.Module:
    from open_clip.model import _build_vision_tower
    from open_clip.transformer import VisionTransformer

    vision = model_cfg.get("vision_cfg")
    if not isinstance(vision, dict) or not isinstance(model_cfg.get("embed_dim"), int):
        raise ModelError(f"{where}: needs embed_dim and vision_cfg; take open_clip_config.json of the model")
    if vision.get("timm_model_name"):
        raise ModelError(
            f"{where}: its tower is timm's {vision['timm_model_name']}; take family timm with that name and its weights"
        )
    try:
        net = _build_vision_tower(model_cfg["embed_dim"], deepcopy(vision), model_cfg.get("quick_gelu", False))
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"{where}: open_clip cannot build this model ({first_lines(error)})") from error
    if not isinstance(net, VisionTransformer):
        raise ModelError(f"{where}: its tower is a {type(net).__name__}; choose a model with a ViT")
    return net  # type: ignore[no-any-return]

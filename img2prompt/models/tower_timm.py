"""Towers of timm: ViT, EVA, SigLIP, ConvNeXt and others that keep their depth in blocks, stages or layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from img2prompt.errors import ConfigError, ModelError, first_lines
from img2prompt.models.checkpoint import weights_in
from img2prompt.models.tower_base import Facts, Tokens, Tower, TowerSpec, find_folder, read_json

_STACKS = ("blocks", "stages", "layers")  # where timm's networks keep their depth


class TimmTower(Tower):
    """A network of timm; tokens are what its `forward_features` gives."""

    def __init__(self, net: Any, facts: Facts) -> None:
        # What comes after the pooling belongs to this class: a norm here, or in a classifier's head for maps.
        in_head = getattr(net.head, "norm", None)
        after = getattr(net, "fc_norm", None) or in_head or nn.Identity()
        if hasattr(net, "fc_norm"):
            net.fc_norm = nn.Identity()
        net.head = nn.Identity()
        super().__init__(net, facts)
        self.after = after
        self._norm_takes_maps = after is in_head

    @property
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """As in `Tower`."""
        stack = _stack(self.net)
        return [(f"net.{stack}.{name}", block) for name, block in getattr(self.net, stack).named_children()]

    def forward(self, images: Tensor) -> Tokens:
        """As in `Tower`."""
        net: Any = self.net
        x = net.forward_features(images.to(next(net.parameters()).dtype))
        if x.dim() == 4:  # a map, whose patches lie in two dimensions
            x = x.flatten(1, 2) if getattr(net, "output_fmt", "NCHW") == "NHWC" else x.flatten(2).transpose(1, 2)
            return Tokens(None, x)
        patches = x[:, net.num_prefix_tokens :]
        if not self.has_class_token:
            return Tokens(None, patches)
        return Tokens(x[:, 0] if net.attn_pool is None else net.pool(x), patches)

    def finish(self, pooled: Tensor) -> Tensor:
        """As in `Tower`."""
        if self._norm_takes_maps:
            return self.after(pooled[..., None, None]).flatten(1)  # type: ignore[no-any-return]
        return self.after(pooled)  # type: ignore[no-any-return]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As in `Tower`."""
        self.net.set_grad_checkpointing(enable)  # type: ignore[operator]

    def _resize(self, image_px: int) -> None:
        if hasattr(self.net, "set_input_size"):  # the others take any size
            self.net.set_input_size(img_size=(image_px, image_px))  # type: ignore[operator]


def build_timm(spec: TowerSpec, class_token: bool) -> TimmTower:
    """A tower of timm, as `towers.build_tower` says.

    `spec.source` is a folder in timm's own format (config.json and weights), or such a repository in the cache.
    """
    where = spec.source or spec.name or "the configuration"
    net, config = _create(spec, where)
    if getattr(net, "attn_pool", None) is not None and not class_token:
        net.attn_pool = None  # its own pooling: without a use for it, it would be weights that never learn
    return TimmTower(net, _facts(net, config, where))


def _create(spec: TowerSpec, where: str) -> tuple[Any, dict[str, Any]]:
    """The network, and its configuration as read or given."""
    import timm

    config = dict(spec.config or {})
    overlay = dict(config.get("pretrained_cfg", {}))
    if spec.source is not None:
        folder = find_folder(spec.source, "config.json")
        config = _read(folder, spec)
        overlay = {**config["pretrained_cfg"], "file": str(weights_in(folder)), "custom_load": False}
    name = spec.name or config.get("architecture", "")
    if not name:
        raise ConfigError("timm: name the architecture, e.g. name: vit_base_patch16_224")
    arguments = dict(config.get("model_args", {}))
    if spec.source is None:
        arguments["num_classes"] = 0
    elif "num_classes" in overlay:  # with another number than the checkpoint's, timm lets any weight be missing
        arguments["num_classes"] = overlay["num_classes"]
    try:
        net = timm.create_model(
            name, pretrained=spec.source is not None, pretrained_cfg_overlay=overlay or None, **arguments
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError, SafetensorError) as error:
        raise ModelError(f"{where}: timm cannot build this model ({first_lines(error)})") from error
    return net, config


def _read(folder: Path, spec: TowerSpec) -> dict[str, Any]:
    """timm's config.json, of today's layout or the older one without parts."""
    config = read_json(folder / "config.json")
    found = config.get("architecture")
    if not isinstance(found, str):
        raise ModelError(f"{folder}: config.json names no architecture, so it is not timm's; choose another family")
    if spec.name and found.partition(".")[0] != spec.name.partition(".")[0]:
        raise ModelError(f"{folder}: holds {found}, not {spec.name}; name the architecture that it holds, or none")
    known = dict(config.get("pretrained_cfg") or config)
    count = config.get("num_classes", known.get("num_classes"))
    fields = ("mean", "std", "input_size", "fixed_input_size", "interpolation", "crop_pct", "classifier", "first_conv")
    overlay = {key: known[key] for key in fields if key in known} | ({} if count is None else {"num_classes": count})
    asked = (spec.config or {}).get("model_args", {})
    return {"architecture": found, "model_args": {**config.get("model_args", {}), **asked}, "pretrained_cfg": overlay}


def _facts(net: Any, config: dict[str, Any], where: str) -> Facts:
    _stack(net, where)
    known = net.pretrained_cfg
    image_px, patch_px = int(known["input_size"][-1]), 1
    patching: Any = getattr(net, "patch_embed", None)
    if getattr(patching, "img_size", None) is not None:
        image_px, patch_px = int(patching.img_size[0]), int(patching.patch_size[0])
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key != "num_classes"}
    if hasattr(net, "set_input_size"):
        arguments["img_size"] = image_px
    kept = {key: list(known[key]) for key in ("mean", "std", "input_size")}
    own = getattr(net, "attn_pool", None) is not None or getattr(net, "cls_token", None) is not None
    return Facts(
        width=int(net.num_features),
        image_px=image_px,
        patch_px=patch_px,
        mean=known["mean"],
        std=known["std"],
        config={"architecture": known["architecture"], "model_args": arguments, "pretrained_cfg": kept},
        has_class_token=own,
    )


def _stack(net: nn.Module, where: str = "timm") -> str:
    found = next((name for name in _STACKS if isinstance(getattr(net, name, None), nn.Module)), None)
    if found is None:
        raise ModelError(f"{where}: {type(net).__name__} has no {', '.join(_STACKS)}; choose a ViT, EVA or ConvNeXt")
    return found

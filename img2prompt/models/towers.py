"""Vision towers of several libraries behind one face: `build_tower` makes any of them from a `TowerSpec`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from img2prompt.errors import ConfigError, ModelError
from img2prompt.models.tower_base import Tokens, Tower, TowerSpec
from img2prompt.models.tower_open_clip import build_open_clip
from img2prompt.models.tower_timm import build_timm
from img2prompt.models.tower_transformers import build_transformers

__all__ = ["TOWERS", "Tokens", "Tower", "TowerSpec", "build_tower"]

# One row a family: what builds a tower at the size it was made for.
TOWERS: dict[str, Callable[[TowerSpec, bool], Tower]] = {
    "timm": build_timm,
    "transformers": build_transformers,
    "open_clip": build_open_clip,
}


def build_tower(spec: TowerSpec, *, class_token: bool = True) -> Tower:
    """A tower with the weights of its source, or random ones (of the global random state); never downloads.

    Args:
        spec: which.
        class_token: whether the class token will be used. Where it comes from weights of its own (SigLIP's attention
            pooling) these are left out if not, since they would never learn.

    Raises:
        ConfigError: the specification is incomplete, or the size does not fit.
        ModelError: files are missing or damaged, hold another architecture or weights that are not finite.
        PresetError: the source is neither a folder nor in the cache.
    """
    if spec.family not in TOWERS:
        raise ConfigError(f"no tower family {spec.family!r}; choose one of {', '.join(TOWERS)}")
    tower = TOWERS[spec.family](spec, class_token)
    if spec.source is not None:
        check_finite(tower, spec.source)
    if spec.image_px is not None:
        tower.resize(spec.image_px)
    return tower.train()  # some libraries give pretrained networks in evaluation mode


def check_finite(model: torch.nn.Module, where: str) -> None:
    """Looks through all weights.

    Raises:
        ModelError: one is NaN or infinite.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"{where}: {name} holds NaN or infinite values; take another checkpoint")

"""What every vision tower is to the rest of the package: pictures in, tokens out, whatever library it comes from."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt import hub
from img2prompt.errors import ConfigError, ModelError, PresetError, first_lines

Colour = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True)
class TowerSpec:
    """Which tower to build.

    Attributes:
        family: a row of `towers.TOWERS`.
        name: the architecture in the words of its library; may be empty where `source` or `config` say it.
        source: where pretrained weights lie: a folder, or the name of a hub repository in this machine's cache;
            None: random weights.
        image_px: side of the pictures; None: the tower's own. Position embeddings are interpolated to another one.
        config: the library's own configuration (timm: architecture, model_args and pretrained_cfg; transformers: its
            config.json; open_clip: its open_clip_config.json), for towers without a source.
    """

    family: str
    name: str = ""
    source: str | None = None
    image_px: int | None = None
    config: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a tower sees of B pictures."""

    class_token: Tensor | None  # (B,W) its own summary, where it has one
    patches: Tensor  # (B,P,W)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a family's builder knows of its tower."""

    width: int
    image_px: int
    patch_px: int  # 1: any side of picture will do
    mean: Sequence[float]
    std: Sequence[float]
    config: dict[str, Any]
    has_class_token: bool
    projected: str = "class"  # the pooling whose result `projection` belongs to


class Tower(nn.Module, ABC):
    """A vision tower without what its library does after the tokens. Subclasses: one a family.

    Attributes:
        width: W, of the tokens.
        image_px: side of the square pictures it takes.
        mean: per channel, of values in 0..1, which pictures are normalised with.
        std: likewise.
        config: rebuilds it without weights, as `TowerSpec.config`.
        has_class_token: whether it has a summary of its own.
        projection: (W,E), from its pooled tokens to the space that it shares with texts; None: it shares none, or it
            was not loaded from a checkpoint that has it. Never saved.
        projected: the pooling whose result the projection belongs to, "class" or "mean".
    """

    projection: Tensor | None

    def __init__(self, net: nn.Module, facts: Facts, projection: Tensor | None = None) -> None:
        super().__init__()
        self.net = net
        self.width, self.image_px, self._patch_px = facts.width, facts.image_px, facts.patch_px
        self.mean, self.std = colour(facts.mean), colour(facts.std)
        self.config, self.has_class_token, self.projected = facts.config, facts.has_class_token, facts.projected
        self.register_buffer("projection", projection, persistent=False)

    @property
    @abstractmethod
    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Name (as in `named_modules`) and module of every block, from input to output."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tokens:
        """Tokens of normalised pictures (B,3,H,W), H = W = image_px."""

    def finish(self, pooled: Tensor) -> Tensor:
        """The norm that a tower has after pooling, where it has one there: (B,W) -> (B,W)."""
        return pooled

    @abstractmethod
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Computes activations again in the backward pass instead of keeping them: less memory, more time."""

    @abstractmethod
    def _resize(self, image_px: int) -> None:
        """What `resize` does to the library's model."""

    def resize(self, image_px: int) -> None:
        """Makes it take pictures of another size; position embeddings are interpolated.

        Raises:
            ConfigError: the size is no multiple of the patch's.
        """
        if image_px < self._patch_px or image_px % self._patch_px:
            raise ConfigError(f"image_px {image_px}: this tower needs a multiple of its patches' {self._patch_px} px")
        if image_px != self.image_px:
            self._resize(image_px)
            self.image_px = image_px

    def depths(self) -> dict[str, int]:
        """Name of each parameter -> how deep it lies: 0 before the first block, 1..n in a block, n+1 after the last."""
        names = [name for name, _ in self.named_parameters()]
        within = {
            name: depth
            for depth, (block, _) in enumerate(self.blocks, start=1)
            for name in names
            if name.startswith(f"{block}.")
        }
        first = next((number for number, name in enumerate(names) if name in within), len(names))
        return {
            name: within.get(name, 0 if number < first else len(self.blocks) + 1) for number, name in enumerate(names)
        }


def colour(values: Sequence[float]) -> Colour:
    """Three numbers, one a channel."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def resample_positions(table: Tensor, prefix: int, side: int) -> Tensor:
    """Position embeddings of a square grid, for another one.

    Args:
        table: (prefix + P, W), row by row.
        prefix: rows at the beginning that belong to no patch.
        side: patches a side that are wanted.

    Returns:
        (prefix + side * side, W), bicubic, computed in float32.
    """
    head, grid = table[:prefix], table[prefix:]
    old = round(len(grid) ** 0.5)
    maps = grid.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1,W,old,old)
    maps = F.interpolate(maps, size=(side, side), mode="bicubic", align_corners=False, antialias=side < old)
    return torch.cat([head, maps.permute(0, 2, 3, 1).reshape(side * side, -1).to(table.dtype)])


def find_folder(source: str, config: str) -> Path:
    """The folder that holds a model's configuration: as it is, or in the hub's cache on this machine.

    Raises:
        ModelError: the folder lacks the configuration.
        PresetError: neither a folder nor in the cache.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / config).is_file():
            raise ModelError(f"{folder}: holds no {config}, so it is no model folder of this family")
        return folder
    repository = source.removeprefix("hf-hub:")
    cached = hub.cached_file(repository, config) if "/" in repository and repository[0] not in "./~" else None
    if cached is None:
        raise PresetError(
            f"{source}: neither a folder nor in the cache; name a folder, or get it with:"
            f" img2prompt pull hf-hub:{repository}"
        )
    return cached.parent


def read_json(path: Path) -> dict[str, Any]:
    """A configuration.

    Raises:
        ModelError: it is missing, or no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({first_lines(error)}); copy the model folder again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not a configuration; copy the model folder again")
    return content

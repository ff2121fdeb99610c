"""From a picture to the sentence embedding of its prompt: a vision tower, a pooling and a head.

A folder of `save_regressor` holds all that is needed, without the hub: regressor.json (what the parts are, with the
tower's configuration in its library's own words) and regressor.safetensors (all weights).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt.errors import ConfigError, ModelError, OutputError, first_lines
from img2prompt.models.checkpoint import fit, read_weights
from img2prompt.models.embedder import VIEWS, EmbeddingRegressor
from img2prompt.models.pooling import POOLINGS
from img2prompt.models.sentence import MINILM
from img2prompt.models.tower_base import read_json
from img2prompt.models.towers import TowerSpec, build_tower, check_finite

__all__ = [
    "HEADS",
    "VIEWS",
    "EmbeddingRegressor",
    "Regressor",
    "RegressorConfig",
    "is_regressor",
    "load_regressor",
    "new_regressor",
    "save_regressor",
]

DESCRIPTION = "regressor.json"
WEIGHTS = "regressor.safetensors"
_FORMAT = 1  # of the description

# One row a head: (width of the tower, hidden, dimensions) -> (B,W) to (B,D).
HEADS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "linear": lambda width, hidden, dimensions: nn.Linear(width, dimensions),
    "mlp": lambda width, hidden, dimensions: nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, dimensions)
    ),
}


@dataclass(frozen=True)
class RegressorConfig:
    """What a regressor consists of.

    Attributes:
        tower: which tower.
        pooling: a row of `POOLINGS`.
        head: a row of `HEADS`.
        hidden: width inside the head "mlp".
        dimensions: D, of the sentence embeddings.
        sentence_model: whose embeddings it estimates.
    """

    tower: TowerSpec
    pooling: str = "mean"
    head: str = "linear"
    hidden: int = 1024
    dimensions: int = 384
    sentence_model: str = MINILM


class Regressor(nn.Module):
    """Tower, pooling and head.

    Attributes:
        config: what it consists of.
        tower, pool, head: the parts, in this order.
    """

    def __init__(self, config: RegressorConfig) -> None:
        """Builds it; random weights come from the global random state (`new_regressor` takes a seed).

        Raises:
            ConfigError, ModelError, PresetError: as `build_tower`; or a name is unknown.
        """
        super().__init__()
        for name, value, rows in (("pooling", config.pooling, POOLINGS), ("head", config.head, HEADS)):
            if value not in rows:
                raise ConfigError(f"no {name} {value!r}; choose one of {', '.join(rows)}")
        if config.hidden < 1 or config.dimensions < 1:
            raise ConfigError(f"hidden {config.hidden} and dimensions {config.dimensions} must be at least 1")
        self.config = config
        self.tower = build_tower(config.tower, class_token=config.pooling == "class")
        if config.pooling == "class" and not self.tower.has_class_token:
            raise ConfigError("pooling class: this tower has no class token; choose mean, gem or attention")
        self.pool = POOLINGS[config.pooling](self.tower.width)
        self.head = HEADS[config.head](self.tower.width, config.hidden, config.dimensions)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees of normalised pictures (B,3,H,W): (B,W)."""
        return self.tower.finish(self.pool(self.tower(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Rows of unit length in float32 (B,D), under autocast too."""
        return self.embed(self.features(images))

    def embed(self, features: Tensor) -> Tensor:
        """From `features` (B,W) to rows of unit length in float32 (B,D)."""
        return F.normalize(self.head(features).float(), dim=-1)


def new_regressor(config: RegressorConfig, seed: int = 42) -> Regressor:
    """A regressor with random weights, but for a tower that has a source.

    Args:
        config: what it consists of.
        seed: of the random weights; the global random state is left as it was.

    Raises:
        ConfigError, ModelError, PresetError: as `Regressor`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Regressor(config)


def is_regressor(folder: str | Path) -> bool:
    """Whether a folder holds what `save_regressor` writes."""
    return (Path(folder).expanduser() / DESCRIPTION).is_file()


def save_regressor(
    model: Regressor, folder: str | Path, extra: Mapping[str, Any] | None = None, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Writes a folder that `load_regressor` reads; files appear whole or not at all, the description last.

    Args:
        model: on any device.
        folder: created if absent; other files in it stay.
        extra: facts for readers of the description, e.g. scores; plain data.
        dtype: of the weights in the file; float16 takes half the bytes.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    tower = TowerSpec(
        model.config.tower.family, model.config.tower.name, None, model.tower.image_px, model.tower.config
    )
    text = {"format": _FORMAT, **asdict(replace(model.config, tower=tower)), "extra": dict(extra or {})}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            save_file(weights, fresh / WEIGHTS, metadata={"format": "pt"})
            (fresh / DESCRIPTION).write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            folder.mkdir(exist_ok=True)
            for name in (WEIGHTS, DESCRIPTION):
                with (fresh / name).open("r+b") as file:
                    os.fsync(file.fileno())
                (fresh / name).chmod(0o644)
                (fresh / name).replace(folder / name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    return folder


def load_regressor(source: str | Path, device: str = "cpu", dtype: torch.dtype | None = None) -> Regressor:
    """Loads a folder of `save_regressor`, in evaluation mode; needs nothing but the folder.

    Args:
        source: the folder.
        device: where the weights go.
        dtype: of the weights; None: float32.

    Raises:
        ModelError: files are missing or damaged, belong to different models, or hold weights that are not finite.
    """
    folder = Path(source).expanduser()
    if not is_regressor(folder):
        raise ModelError(f"{folder}: holds no {DESCRIPTION}, so it is no regressor; train one, or correct the path")
    if not (folder / WEIGHTS).is_file():
        raise ModelError(f"{folder}: holds no {WEIGHTS}; copy the whole folder again")
    config = _read_config(folder / DESCRIPTION)
    try:
        model = new_regressor(config)
    except ConfigError as error:
        raise ModelError(f"{folder / DESCRIPTION}: {error}") from error
    fit(model, dict(read_weights(folder / WEIGHTS)), folder / WEIGHTS, dtype or torch.float32)
    check_finite(model, str(folder / WEIGHTS))
    return model.to(device).eval()


def _read_config(path: Path) -> RegressorConfig:
    content = read_json(path)
    if content.get("format") != _FORMAT:
        raise ModelError(f"{path}: format {content.get('format')!r}, expected {_FORMAT}; update img2prompt")
    try:
        tower = TowerSpec(**content["tower"])
        known = {key: content[key] for key in ("pooling", "head", "hidden", "dimensions", "sentence_model")}
        config = RegressorConfig(tower=tower, **known)
        sizes = (config.hidden, config.dimensions, tower.image_px)
        if not all(isinstance(size, int) for size in sizes) or not isinstance(tower.config, dict):
            raise TypeError("a size is no number, or the tower's configuration no object")
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a regressor's description ({first_lines(error)}); copy it again") from error
    return replace(config, tower=replace(tower, source=None))

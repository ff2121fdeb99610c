"""Pictures as feature vectors, for banks: from a regressor's tower, a captioner, or any other vision tower."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2prompt import presets
from img2prompt.errors import PresetError
from img2prompt.models.coca import LoadedCoca, encode_images, load_coca
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.devices import fast_dtype
from img2prompt.models.regressor import EmbeddingRegressor, Regressor, is_regressor, load_regressor
from img2prompt.models.towers import TOWERS, Tower, TowerSpec, build_tower

if TYPE_CHECKING:
    from PIL.Image import Image

REGRESSOR = "regressor"  # what stands before a preset's name when its regressor is meant
SAMPLED = 256  # numbers of each tensor that a fingerprint looks at


class FeatureEncoder(Protocol):
    """Sees what a picture looks like.

    Attributes:
        name: what `load_features` takes to load it again, from any folder.
        fingerprint: of its weights and of how pictures go in, whatever it is called.
        width: W.
    """

    name: str
    fingerprint: str

    @property
    def width(self) -> int: ...

    def features_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,W) float32 of unit length; NaN where a model gives NaN."""
        ...


class CocaFeatures:
    """The pooled image embeddings of a captioner, those of `Captions.features`."""

    def __init__(self, loaded: LoadedCoca, name: str = "", batch_size: int = 16) -> None:
        self.name, self._loaded, self._batch_size = name or loaded.source, loaded, batch_size
        self._decoder = CachedDecoder(loaded.model)
        self.width = int(loaded.model.visual.output_dim)
        self.fingerprint = fingerprint_of([loaded.model.visual], loaded.image_px, loaded.mean, loaded.std)

    @torch.inference_mode()
    def features_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,W) float32 of unit length."""
        weight = self._loaded.model.visual.conv1.weight
        found = np.zeros((0, self.width), np.float32)
        for first in range(0, len(images), self._batch_size):
            pixels = encode_images(self._loaded, images[first : first + self._batch_size], draft=True)  # (B,3,H,W)
            pooled, _ = self._decoder.encode(pixels.to(weight.device, weight.dtype))
            found = np.concatenate([found, unit_rows(pooled)])
        return found


class RegressorFeatures:
    """What a regressor's tower sees, after pooling and before the head."""

    def __init__(self, model: Regressor, name: str, batch_size: int = 16) -> None:
        self.name, self._pictures = name, EmbeddingRegressor(model, batch_size)
        tower = model.tower
        self.width = tower.width
        self.fingerprint = fingerprint_of([tower, model.pool], tower.image_px, tower.mean, tower.std)

    def features_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,W) float32 of unit length."""
        return unit_rows(torch.from_numpy(self._pictures.features_many(images)))


class TowerFeatures:
    """What a tower sees: its class token or the mean of its patches, in the space it shares with texts if any."""

    def __init__(self, tower: Tower, name: str, batch_size: int = 16) -> None:
        self.name, self._projection = (
            name,
            None if tower.projection is None else tower.projection.float().cpu(),
        )  # (W,E)
        self._pictures = EmbeddingRegressor(_BareTower(tower), batch_size)
        self.width = tower.width if self._projection is None else int(self._projection.shape[1])
        self.fingerprint = fingerprint_of([tower], tower.image_px, tower.mean, tower.std)

    def features_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """(B,W) float32 of unit length."""
        pooled = torch.from_numpy(self._pictures.features_many(images)).float()
        return unit_rows(pooled if self._projection is None else pooled @ self._projection)


class _BareTower(nn.Module):
    """A tower in the place of a regressor, whose way of preparing pictures it shares."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower

    def features(self, images: Tensor) -> Tensor:
        tokens = self.tower(images)
        wants_mean = self.tower.projection is not None and self.tower.projected == "mean"
        if tokens.class_token is None or wants_mean:
            return self.tower.finish(tokens.patches.mean(dim=1))
        return self.tower.finish(tokens.class_token)

    def embed(self, features: Tensor) -> Tensor:
        return features


def load_features(source: str, device: str = "cpu", batch_size: int = 16) -> FeatureEncoder:
    """Loads what turns pictures into features; downloads nothing.

    Args:
        source: a captioner's preset; a captioner's or regressor's folder; regressor:PRESET for the regressor that
            comes with a preset; or FAMILY:WEIGHTS with a family of `towers.TOWERS` and what its `TowerSpec.source`
            takes: a folder, a repository in the hub's cache on this machine, or ARCHITECTURE/TAG of open_clip.
        device: where it computes.
        batch_size: pictures at once.

    Raises:
        PresetError, ModelError: it is not on this machine, or its files are damaged.
    """
    family, colon, weights = source.partition(":")
    if colon and family in TOWERS:
        tower = build_tower(TowerSpec(family, source=weights)).to(device).eval()
        return TowerFeatures(tower, f"{family}:{_from_anywhere(weights)}", batch_size)
    if (family == REGRESSOR and colon) or is_regressor(source):
        return RegressorFeatures(*_named_regressor(source, device), batch_size)
    located = presets.resolve(source)
    loaded = load_coca(located.source, device=device, dtype=fast_dtype(device))
    return CocaFeatures(loaded, _from_anywhere(located.name), batch_size)


def find_regressor(source: str) -> Path:
    """The folder of the regressor that a preset or a folder names.

    Raises:
        PresetError: it is not on this machine.
    """
    folder = presets.companion(presets.PRESETS[source]) if source in presets.PRESETS else Path(source).expanduser()
    if folder is None:
        raise PresetError(f"preset {source}: no regressor of it is on this machine; name a regressor's folder")
    if not is_regressor(folder):
        raise PresetError(f"{source}: holds no regressor; name a folder that `img2prompt train regressor` wrote")
    return folder


def _named_regressor(source: str, device: str) -> tuple[Regressor, str]:
    """The regressor, and what names it from any folder."""
    bare = source if is_regressor(source) else source.removeprefix(f"{REGRESSOR}:")
    name = f"{REGRESSOR}:{bare}" if bare in presets.PRESETS else _from_anywhere(bare)
    return load_regressor(find_regressor(bare), device), name


def _from_anywhere(source: str) -> str:
    """The name, or the folder as seen from any other."""
    folder = Path(source).expanduser()
    return str(folder.resolve()) if source not in presets.PRESETS and folder.is_dir() else source


def unit_rows(rows: Tensor) -> NDArray[np.float32]:
    """Rows (B,W) of any precision at length 1, on the CPU."""
    unit: NDArray[np.float32] = nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
    return unit


def fingerprint_of(modules: Sequence[nn.Module], *facts: object) -> str:
    """Tells models apart by a sample of their numbers, names and shapes, and by `facts`; SHA-256 in hexadecimal.

    The sample is in bfloat16, so a model that is loaded in lower precision keeps its fingerprint.
    """
    digest = hashlib.sha256(repr(facts).encode())
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            flat = value.detach().flatten()
            sample = flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].float().cpu().to(torch.bfloat16)
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()

"""Where a checkpoint lies on this machine, and its weights into a model; nothing is downloaded or executed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from img2prompt import hub
from img2prompt.errors import ModelError, PresetError

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Attributes: the parsed open_clip_config.json, the weights file, and the folder that holds them."""

    config: dict[str, Any]
    weights: Path
    folder: Path


def find_checkpoint(source: str) -> Checkpoint:
    """Finds a model's files: a folder, "local-dir:FOLDER", "hf-hub:ORG/NAME" or open_clip's "ARCHITECTURE/TAG".

    Raises:
        ModelError: the folder lacks a file.
        PresetError: the hub's model is not in the cache, or the name is unknown.
    """
    if source.startswith("hf-hub:"):
        return _from_cache(source)
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if not source.startswith("local-dir:") and not folder.exists():
        tagged = _tagged(source)
        if tagged is not None:
            return tagged
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; name a folder with {CONFIG}, or see `img2prompt presets`")
    config = _read_config(folder / CONFIG)
    return Checkpoint(config, weights_in(folder), folder)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: missing; a model folder holds {CONFIG} and {WEIGHTS}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); copy the model folder again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not a configuration; copy the model folder again")
    return config


def weights_in(folder: Path) -> Path:
    """The weights file of a model folder.

    Raises:
        ModelError: there is none, or it is not clear which.
    """
    for name in hub.WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(p for suffix in ("*.safetensors", "*.bin", "*.pt", "*.pth") for p in folder.glob(suffix))
    if len(others) == 1:
        return others[0]
    found = f"several ({', '.join(p.name for p in others)})" if others else "none"
    raise ModelError(f"{folder}: needs one weights file {WEIGHTS}, found {found}")


def _cached(repo: str, revision: str | None, names: tuple[str, ...]) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in names:
        try:
            path = try_to_load_from_cache(repo, name, revision=revision)
        except HFValidationError as error:
            raise PresetError(f"hf-hub:{repo}: no such kind of name; write hf-hub:ORG/NAME") from error
        if isinstance(path, str):
            return Path(path)
    return None


def _from_cache(source: str) -> Checkpoint:
    repo, _, revision = source.removeprefix("hf-hub:").partition("@")
    config = _cached(repo, revision or None, (CONFIG,))
    weights = _cached(repo, revision or None, hub.WEIGHTS)
    if config is None or weights is None:
        raise PresetError(f"{source}: not on this machine; get it with: img2prompt pull {source}")
    return Checkpoint(_read_config(config), weights, config.parent)


def _tagged(source: str) -> Checkpoint | None:
    from open_clip import get_model_config, get_pretrained_cfg

    architecture, _, tag = source.replace(":", "/", 1).partition("/")
    model_cfg = get_model_config(architecture)
    if model_cfg is None:
        return None
    known = get_pretrained_cfg(architecture, tag) if tag else {}
    if not known:
        raise PresetError(f"{source}: open_clip knows no such weights; write ARCHITECTURE/TAG")
    repo = str(known.get("hf_hub", "")).strip("/")
    weights = _cached(repo, None, hub.WEIGHTS) if repo else None
    if weights is None:
        raise PresetError(f"{source}: not on this machine; get it with: img2prompt pull {source}")
    preprocess = {key: known[key] for key in ("mean", "std", "interpolation", "resize_mode") if known.get(key)}
    return Checkpoint({"model_cfg": model_cfg, "preprocess_cfg": preprocess}, weights, weights.parent)


def fill(model: nn.Module, weights: Path, dtype: torch.dtype) -> None:
    """Puts the weights of a file into `model` (which may be on the meta device), as `dtype`.

    Raises:
        ModelError: the file is damaged, holds pickled code, or does not fit; the first misfit is named.
    """
    fit(model, {name.removeprefix("module."): value for name, value in read_weights(weights).items()}, weights, dtype)


def fit(model: nn.Module, state: dict[str, Tensor], weights: Path, dtype: torch.dtype) -> None:
    """`fill` with weights that were read already; `weights` is what errors name.

    Raises:
        ModelError: they do not fit; the first misfit is named.
    """
    wanted = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # saved as scalars or as vectors of one, in different versions
        if name in state and name in wanted and state[name].numel() == 1:
            state[name] = state[name].reshape(wanted[name].shape)
    for name in wanted:
        if name not in state:
            raise ModelError(f"{weights}: {name} is missing; the file belongs to another architecture")
        if state[name].shape != wanted[name].shape:
            have, want = tuple(state[name].shape), tuple(wanted[name].shape)
            raise ModelError(f"{weights}: {name} is {have}, but the configuration wants {want}")
    extra = next((name for name in state if name not in wanted), None)
    if extra is not None:
        raise ModelError(f"{weights}: {extra} is not part of the configured model; take the configuration beside it")
    cast = {name: state[name].to(dtype if state[name].is_floating_point() else state[name].dtype) for name in wanted}
    model.load_state_dict(cast, assign=True)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Names and tensors of a weights file.

    Raises:
        ModelError: it is damaged or holds pickled code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds pickled code or is damaged, and is not run; take a .safetensors file"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(f"{path}: damaged weights ({error}); copy or pull the file again") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: holds no weights; take the model's state_dict")
    return content

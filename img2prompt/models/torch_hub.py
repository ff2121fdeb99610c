"""Weights that optional libraries keep in torch's hub cache: where they lie; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch

from img2prompt.errors import PresetError
from img2prompt.extras import missing, need

_CHECKPOINTS = "checkpoints"  # where torch puts what it downloads by its address


def check_installed(module: str, extra: str) -> None:
    """Before weights are looked for: importing a library takes seconds, which are lost where its weights are missing.

    Raises:
        MissingExtra: `module` is not installed.
    """
    if module in missing().get(extra, ()):
        need(module, extra)


def find_checkpoint_file(name: str, folder: Path | None, advice: str) -> Path:
    """A weights file in `folder`, or in checkpoints/ of torch's hub cache ($TORCH_HOME/hub).

    Raises:
        PresetError: it is in neither; `advice` is what the message says to do.
    """
    return find_folder_of((name,), _CHECKPOINTS, folder, advice) / name


def find_folder_of(names: tuple[str, ...], kept_in: str, folder: Path | None, advice: str) -> Path:
    """The folder that holds the files `names`: `folder`, or `kept_in` inside torch's hub cache.

    Raises:
        PresetError: none does; `advice` is what the message says to do.
    """
    cache = Path(torch.hub.get_dir()) / kept_in
    for place in (folder, cache):
        if place is not None and all((place / name).is_file() for name in names):
            return place
    absent = next(name for name in names if not (cache / name).is_file())
    where = f"{cache}" if folder is None else f"{folder} or {cache}"
    raise PresetError(f"{absent} is not in {where}; get it with: {advice}")

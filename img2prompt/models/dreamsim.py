"""DreamSim, a perceptual distance tuned on human judgements of similarity. The only importer of dreamsim."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2prompt.errors import ModelError, first_lines
from img2prompt.extras import need
from img2prompt.models.torch_hub import check_installed, find_folder_of

if TYPE_CHECKING:
    from PIL.Image import Image

VARIANT = "open_clip_vitb32"
FILES = (f"{VARIANT}_pretrain.pth.tar", f"{VARIANT}_single_lora/adapter_config.json")
LIBRARY = "dreamsim"


class DreamSim:
    """DreamSim's embeddings; its distance is one minus their cosine.

    The authors' single-model variant with OpenCLIP ViT-B/32: their ensemble would run code that its loader takes from
    GitHub.

    Source: Fu et al., "DreamSim: learning new dimensions of human visual similarity using synthetic data",
    NeurIPS 2023.

    Args:
        device: where it computes.
        folder: may hold the weights as DreamSim unpacks them; else they are taken from dreamsim/ of torch's hub cache.
        batch_size: pictures at once.

    Raises:
        MissingExtra: dreamsim is not installed.
        PresetError: the weights are not on this machine.
        ModelError: they are damaged.
    """

    def __init__(self, device: str = "cpu", folder: Path | None = None, batch_size: int = 16) -> None:
        check_installed(LIBRARY, "likeness")
        cache = Path(torch.hub.get_dir()) / LIBRARY
        advice = (
            f'mkdir -p {cache} && python -c "from dreamsim import dreamsim;'
            f" dreamsim(device='cpu', dreamsim_type='{VARIANT}', cache_dir='{cache}')\""
        )
        place = find_folder_of(FILES, LIBRARY, folder, advice)
        library = need(LIBRARY, "likeness")
        try:
            with (
                Path(os.devnull).open("w") as nowhere,
                contextlib.redirect_stdout(nowhere),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")  # that its loader adds the same adapter twice
                model, look = library.dreamsim(device=device, cache_dir=str(place), dreamsim_type=VARIANT)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{place}: not the weights of DreamSim ({first_lines(error)}); get them again") from error
        self._model: Any = model
        self._look, self._device, self._batch_size = look, device, batch_size

    @torch.inference_mode()
    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Rows (B,D) of pictures, each squeezed to a square of 224 px as DreamSim does."""
        rows = [np.zeros((0, 1), np.float32)] if not images else []
        for start in range(0, len(images), self._batch_size):
            pixels = torch.cat([self._look(image) for image in images[start : start + self._batch_size]])  # (B,3,H,W)
            rows.append(self._model.embed(pixels.to(self._device)).float().cpu().numpy())
        return np.concatenate(rows)

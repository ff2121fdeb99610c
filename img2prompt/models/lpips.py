"""LPIPS, the learned perceptual distance of two pictures. The only importer of lpips."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2prompt.errors import ModelError, first_lines
from img2prompt.extras import need
from img2prompt.models.checkpoint import read_weights
from img2prompt.models.ssim import channels_first
from img2prompt.models.torch_hub import check_installed, find_checkpoint_file

TRUNK = "alexnet-owt-7be5be79.pth"
LEAST_PX = 32  # a side that AlexNet's poolings leave something of


class Lpips:
    """LPIPS 0.1 with AlexNet, what its authors advise for comparing pictures: 0 the same.

    The linear weights come with the package lpips; the trunk is torchvision's AlexNet.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.

    Args:
        device: where it computes.
        folder: may hold the trunk's file; else it is taken from torch's hub cache.

    Raises:
        MissingExtra: lpips is not installed.
        PresetError: the trunk is not on this machine.
        ModelError: its file is damaged.
    """

    def __init__(self, device: str = "cpu", folder: Path | None = None) -> None:
        check_installed("lpips", "likeness")
        advice = "python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\""
        path = find_checkpoint_file(TRUNK, folder, advice)
        library = need("lpips", "likeness")
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # the package calls torchvision as it was some versions ago
            # Without a random trunk it would be downloaded, and unpickled without a check.
            model = library.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        weights = read_weights(path)
        try:
            # slice2.3.weight of the package is features.3.weight of torchvision.
            trunk = {name: weights["features." + name.partition(".")[2]] for name in model.net.state_dict()}
            model.net.load_state_dict(trunk)
        except (KeyError, RuntimeError) as error:
            raise ModelError(f"{path}: not the weights of AlexNet ({first_lines(error)}); get it again") from error
        self._model, self._device = model.eval().requires_grad_(False).to(device), device

    @torch.inference_mode()
    def distances(self, pixels: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Distances (B,), 0 or more, of pairs of pictures (B,H,W,3), 32 px a side or more."""
        one, two = (channels_first(some, self._device) for some in (pixels, others))
        found: Tensor = self._model(one, two, normalize=True)  # (B,1,1,1)
        return np.asarray(found.flatten().double().cpu())

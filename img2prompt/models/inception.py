"""FID and KID of two sets of pictures, through torchmetrics on torch-fidelity's Inception. Its only importer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from img2prompt.errors import ModelError, first_lines
from img2prompt.extras import need
from img2prompt.models.checkpoint import read_weights
from img2prompt.models.torch_hub import check_installed, find_checkpoint_file
from img2prompt.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

FILE = "weights-inception-2015-12-05-6726825d.pth"
WIDTH = 2048
SUBSET = 1000  # pictures of a subset of KID, as torch-fidelity; all of them where there are fewer
_SUBSETS = 100
_MODULE = "torch_fidelity.feature_extractor_inceptionv3"


class Inception:
    """The Inception network of FID, with the weights that TensorFlow published in 2015.

    Args:
        device: where it computes.
        folder: may hold the weights file; else it is taken from torch's hub cache.
        batch_size: pictures at once.

    Raises:
        MissingExtra: torch-fidelity is not installed.
        PresetError: the weights are not on this machine.
        ModelError: they are damaged.
    """

    def __init__(self, device: str = "cpu", folder: Path | None = None, batch_size: int = 16) -> None:
        check_installed("torch_fidelity", "likeness")
        make = "FeatureExtractorInceptionV3"
        advice = f"python -c \"from {_MODULE} import {make}; {make}('inception', ['{WIDTH}'])\""
        path = find_checkpoint_file(FILE, folder, advice)
        library = need(_MODULE, "likeness")
        read_weights(path)  # the library would run what a pickle holds
        try:
            net = getattr(library, make)("inception", [str(WIDTH)], feature_extractor_weights_path=str(path))
        except (RuntimeError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: not the weights of Inception ({first_lines(error)}); get it again") from error
        self._net: Any = net.to(device)
        self._device, self._batch_size = device, batch_size

    def distances(self, originals: Sequence[Image], others: Sequence[Image]) -> dict[str, float]:
        """FID (Heusel et al. 2017) and KID (Binkowski et al. 2018) of two sets of pictures; NaN for fewer than two.

        KID is the mean over 100 subsets of 1000 pictures; of the smaller set's size where that is less.
        """
        if min(len(originals), len(others)) < 2:
            return {"fid": math.nan, "kid": math.nan}
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance

        size = min(SUBSET, len(originals), len(others))
        whole = size == len(originals) == len(others)
        ours, theirs = _spanned(self.features(originals), self.features(others))
        ready = _Ready(ours.shape[1])
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # that KID keeps all features
            torch.manual_seed(0)  # KID draws its subsets from the global generator
            subsets = 1 if whole else _SUBSETS
            kid = KernelInceptionDistance(ready, subsets=subsets, subset_size=size, gamma=1 / WIDTH)
            fid = FrechetInceptionDistance(ready)
            for features, real in ((ours, True), (theirs, False)):
                fid.update(features, real=real)
                kid.update(features, real=real)
            return {"fid": max(0.0, float(fid.compute())), "kid": float(kid.compute()[0])}

    @torch.inference_mode()
    def features(self, images: Sequence[Image]) -> Tensor:
        """(B,2048) float64 on the CPU; pictures of any sizes, scaled as torch-fidelity does."""
        found = torch.zeros(len(images), WIDTH, dtype=torch.float64)
        by_size: dict[tuple[int, int], list[int]] = {}
        for place, image in enumerate(images):
            by_size.setdefault(image.size, []).append(place)
        batches = [
            places[start : start + self._batch_size]
            for places in by_size.values()
            for start in range(0, len(places), self._batch_size)
        ]
        for places in track(batches, unit="batch", label="Inception"):
            pixels = np.stack([np.asarray(images[place]) for place in places])  # (B,H,W,3)
            seen = self._net(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self._device))[0]
            found[places] = seen.double().cpu()
        return found


def _spanned(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N,2048) and (M,2048) in the space that they span, (N,R) and (M,R).

    Both distances know features by their products only, so they stay what they are, and for a few hundred pictures FID
    takes no longer the root of a matrix of 2048 x 2048.
    """
    if len(ours) + len(theirs) >= WIDTH:
        return ours, theirs
    basis = torch.linalg.qr(torch.cat([ours, theirs]).T).Q  # (2048,R)
    return ours @ basis, theirs @ basis


class _Ready(nn.Module):
    """In the place of a network, for features that were computed before: both metrics look at the same ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features

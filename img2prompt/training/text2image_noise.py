"""How a training step of a text-to-image model noises its pictures, and what each one's loss weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Times, noise and weights.

    A picture x becomes (1 - t) x + t scale e with Gaussian e: the straight path of flow matching (Lipman et al. 2023,
    arXiv:2210.02747) from the picture at time 0 to noise at time 1.

    Attributes:
        times: "uniform", or "logit_normal": the logistic function of Gaussian numbers (Esser et al. 2024,
            arXiv:2403.03206).
        mean: of these numbers; above 0 for more noise.
        std: of these numbers.
        scale: standard deviation of the noise.
        snr_cap: no loss weighs more: min-SNR (Hang et al. 2023, arXiv:2303.09556), which for the error of the predicted
            picture is min(SNR, cap).
        snr_floor: no loss weighs less: the truncated SNR of Salimans and Ho 2022 (arXiv:2202.00512) with 1; plain
            min-SNR with 0, under which what settles a picture's layout, its noisiest times, hardly counts.
        drop_prompt: share of pictures that are shown with the empty prompt, for classifier-free guidance (Ho and
            Salimans 2022, arXiv:2207.12598).
    """

    times: Literal["uniform", "logit_normal"] = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.0
    snr_cap: float = 5.0
    snr_floor: float = 0.0
    drop_prompt: float = 0.1


@dataclass(frozen=True, slots=True)
class Drawn:
    """What chance settles in a step."""

    times: Tensor  # (B,) in 0..1
    noise: Tensor  # (B,3,H,W)
    dropped: Tensor  # (B,) bool


_LEAST, _MOST = 1e-3, 1 - 1e-4  # times: at 1 the picture has no share at all, and the SNR is 0


def draw(settings: Noise, shape: tuple[int, ...], seed: int) -> Drawn:
    """Times, noise and dropped prompts of a batch; equal seeds give equal ones.

    Args:
        settings: what they are drawn by.
        shape: of the pictures, (B,3,H,W).
        seed: of the batch.
    """
    generator = torch.Generator().manual_seed(seed)
    if settings.times == "uniform":
        times = torch.rand(shape[0], generator=generator)  # (B,)
    else:
        times = torch.sigmoid(settings.mean + settings.std * torch.randn(shape[0], generator=generator))  # (B,)
    dropped = torch.rand(shape[0], generator=generator) < settings.drop_prompt  # (B,)
    noise = torch.randn(shape, generator=generator) * settings.scale  # (B,3,H,W)
    return Drawn(times.clamp(_LEAST, _MOST), noise, dropped)


def noised(pictures: Tensor, times: Tensor, noise: Tensor) -> Tensor:
    """The pictures (B,3,H,W) at their times (B,)."""
    return torch.lerp(pictures, noise, times.view(-1, 1, 1, 1))  # (B,3,H,W)


def weights(settings: Noise, times: Tensor) -> Tensor:
    """What the squared error of each predicted picture counts (B,)."""
    snr = ((1 - times) / (times * settings.scale)).square()  # (B,)
    return snr.clamp(settings.snr_floor, settings.snr_cap)

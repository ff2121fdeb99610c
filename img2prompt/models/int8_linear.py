"""A linear layer in 8-bit integers for a processor's own instructions (VNNI), exact for what does not fit them."""

from __future__ import annotations

import torch
from torch import Tensor

from img2prompt.models.packed_linear import FloatLinear

_HALF = 126  # levels on either side of a channel's mean, which is 128; 0 and 255 say that a value lies beyond
_MOST = 127  # of a weight
_BALANCE = 0.5  # how much of a channel's range goes over to its weights


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for products of bytes, and torch a way to them."""
    return bool(torch.cpu._is_vnni_supported()) and hasattr(torch.ops.onednn, "qlinear_prepack")


class Int8Linear:
    """y = x W^T + b, GELU after it if asked, x and W as bytes.

    A channel's mean is taken off (it goes into b), its range is shared with its weights (Xiao et al., "SmoothQuant",
    ICML 2023), and the widest channels are divided into parts that add up exactly (Zhao et al., "Improving neural
    network quantization without retraining using outlier channel splitting", ICML 2019). All tokens have one scale, so
    that bias and GELU come in the same call; the few that lie beyond it, BERT's first token among them, are multiplied
    in float32. What a token gives does not depend on the others.

    Args:
        exact: the same in float32, on the CPU; weight (N,K).
        seen: (T,K) inputs of many kinds, from which means and ranges are taken.
        within: share of the tokens seen that are to fit; the others' ranges would make all steps coarser.
        splits: channels added by dividing the widest.
    """

    def __init__(self, exact: FloatLinear, seen: Tensor, within: float = 0.95, splits: int = 0) -> None:
        weight = exact.weight
        mean = seen.mean(0)  # (K,)
        spread = (seen - mean).abs()  # (T,K)
        heaviest = weight.abs().amax(0).clamp_min(1e-5)  # (K,)
        parts = _parts(spread.amax(0) * heaviest, splits)  # (K,)
        scale = (spread.amax(0) / parts).clamp_min(1e-5) ** _BALANCE / heaviest ** (1 - _BALANCE)  # (K,)
        reach = (spread / (parts * scale)).amax(1).quantile(within).clamp_min(1e-12)
        step = scale * reach / _HALF  # (K,) of x, for one level
        columns = weight * step  # (N,K)
        self._fine = columns.abs().amax(1).clamp_min(1e-12) / _MOST  # (N,) of y, for one level of x and W
        levels = (columns / self._fine[:, None]).round_().to(torch.int8)  # (N,K)

        self._copied = torch.arange(len(parts)).repeat_interleave(parts - 1)  # (splits,) channels, each as often
        which = torch.cat([torch.arange(len(parts)), self._copied])  # (K+splits,)
        # q of a channel in d parts is the sum of floor((q + j) / d) for j = 0..d-1. 128 makes all positive, so that
        # cutting off the fraction is the floor, and the half makes q the nearest integer.
        later = [j for d in parts.tolist() for j in range(1, d)]
        j = torch.tensor([0.0] * len(parts) + later)  # (K+splits,)
        self._slope = 1 / (step[which] * parts[which])
        self._offset = 128 + (j + 0.5) / parts[which] - mean[which] * self._slope
        self._levels = torch.ops.onednn.qlinear_prepack(levels[:, which].contiguous(), [len(seen), len(which)])
        self._zero = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = exact.bias + weight @ mean
        self._exact = exact

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """(T,K) -> (T,N), `plus` (T,N) added."""
        wide = torch.cat([x, x.index_select(1, self._copied)], 1) if len(self._copied) else x
        levels = torch.addcmul(self._offset, wide, self._slope).clamp_(0, 255)  # (T,K+splits)
        levels = levels.to(torch.int16).to(torch.uint8)  # twice as fast as the direct way
        then, kind = ("gelu", "none") if self._exact.gelu else ("none", "")
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            levels, 1.0, 128, self._levels, self._fine, self._zero, self._bias, 1.0, 0, torch.float32, then, [], kind
        )
        beyond = ((levels.amax(1) == 255) | (levels.amin(1) == 0)).nonzero()[:, 0]  # (R,) tokens
        if len(beyond):
            y.index_copy_(0, beyond, self._exact(x.index_select(0, beyond)))
        return y if plus is None else y.add_(plus)


def _parts(widths: Tensor, splits: int) -> Tensor:
    """Into how many parts each channel goes, (K,) -> (K,) integers: one more for the widest part, so many times."""
    parts = torch.ones(len(widths), dtype=torch.int64)
    for _ in range(splits):
        parts[torch.argmax(widths / parts)] += 1
    return parts

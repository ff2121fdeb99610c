"""Layers in 8-bit integers for a processor's own instructions (VNNI), exact for tokens that do not fit them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from img2prompt.models.packed_linear import FeedForward, FloatLinear

_HALF = 126  # levels on either side of a channel's mean, which is 128; 0 and 255 say that a value lies beyond
_MOST = 127  # of a weight
_BALANCE = 0.5  # how much of a channel's range goes over to its weights
_GELU_LEAST = -0.17  # GELU gives nothing below
_WIDEST = 1 / 2  # share of GELU's channels that stay in float32, those of the largest values
_ROOM = 1.7  # how far beyond the other channels' values seen the levels go


def multiplies_bytes() -> bool:
    """Whether this processor has instructions for products of bytes, and torch a way to them."""
    return bool(torch.cpu._is_vnni_supported()) and hasattr(torch.ops.onednn, "qlinear_prepack")


class _Levels:
    """How numbers (T,K) become bytes: all tokens alike, so that bias and GELU come in the same call as the product.

    A channel's mean is taken off (it goes into the bias), its range is shared with its weights (Xiao et al.,
    "SmoothQuant", ICML 2023), and the widest channels are divided into parts that add up exactly (Zhao et al.,
    "Improving neural network quantization without retraining using outlier channel splitting", ICML 2019).

    Args:
        weight: (N,K) what the numbers are multiplied with.
        seen: (T,K) numbers of many kinds, from which means and ranges are taken.
        within: share of the tokens seen that are to fit; the others' ranges would make all steps coarser.
        splits: channels added by dividing the widest.
    """

    def __init__(self, weight: Tensor, seen: Tensor, within: float, splits: int) -> None:
        self._mean = seen.mean(0)  # (K,)
        spread = (seen - self._mean).abs()  # (T,K)
        heaviest = weight.abs().amax(0).clamp_min(1e-5)  # (K,)
        parts = _parts(spread.amax(0) * heaviest, splits)  # (K,)
        scale = (spread.amax(0) / parts).clamp_min(1e-5) ** _BALANCE / heaviest ** (1 - _BALANCE)  # (K,)
        reach = (spread / (parts * scale)).amax(1).quantile(within).clamp_min(1e-12)
        self._step = scale * reach / _HALF  # (K,) for one level
        self.copied = torch.arange(len(parts)).repeat_interleave(parts - 1)  # (splits,) channels, each as often
        self._which = torch.cat([torch.arange(len(parts)), self.copied])  # (K+splits,)
        # q of a channel in d parts is the sum of floor((q + j) / d) for j = 0..d-1. 128 makes all positive, so that
        # cutting off the fraction is the floor, and the half makes q the nearest integer.
        later = [j for d in parts.tolist() for j in range(1, d)]
        j = torch.tensor([0.0] * len(parts) + later)  # (K+splits,)
        self.slope = 1 / (self._step[self._which] * parts[self._which])
        self._offset = 128 + (j + 0.5) / parts[self._which] - self._mean[self._which] * self.slope

    def __call__(self, x: Tensor) -> Tensor:
        """(T,K) -> (T,K+splits) uint8."""
        wide = torch.cat([x, x.index_select(1, self.copied)], 1) if len(self.copied) else x
        levels = torch.addcmul(self._offset, wide, self.slope).clamp_(0, 255)
        return levels.to(torch.int16).to(torch.uint8)  # twice as fast as the direct way

    def product(self, weight: Tensor, bias: Tensor, gelu: bool) -> _Product:
        """x W^T + b of numbers in these levels."""
        columns = weight * self._step  # (N,K)
        fine = columns.abs().amax(1).clamp_min(1e-12) / _MOST  # (N,)
        return _Product((columns / fine[:, None])[:, self._which], fine, bias + weight @ self._mean, gelu)


class _Product:
    """W^T and what follows, for numbers in levels.

    Args:
        levels: (N,K) of the weights, not yet rounded.
        fine: (N,) what one level of a weight is.
        bias: (N,).
        gelu: GELU follows.
        step, zero: what one level of the input is, and which of its levels is 0.
    """

    def __init__(
        self, levels: Tensor, fine: Tensor, bias: Tensor | None, gelu: bool, step: float = 1.0, zero: int = 128
    ) -> None:
        weights = torch.ops.onednn.qlinear_prepack(levels.round().to(torch.int8).contiguous(), None)
        self._weights = (weights, fine, torch.zeros(len(fine), dtype=torch.int64))
        self._bias, self._input = bias, (step, zero)
        self._then: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def __call__(self, levels: Tensor, step: float = 1.0, zero: int | None = None) -> Tensor:
        """Levels (T,K) -> (T,N) float32; with `zero`, levels again: of `step` each, 0 at `zero`."""
        kind = torch.float32 if zero is None else torch.uint8
        out = (self._bias, step, zero or 0, kind)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(levels, *self._input, *self._weights, *out, *self._then)
        return y

    def add_to(self, y: Tensor, levels: Tensor) -> Tensor:
        """y (T,N), to which the product is added."""
        out = (y, self._bias, 1.0, 0, torch.float32, 1.0, 0, "sum", 1.0)
        y = torch.ops.onednn.qlinear_pointwise.binary(levels, *self._input, *self._weights, *out, *self._then)
        return y


class Int8Linear:
    """y = x W^T + b, GELU after it if the exact layer has one, x and W as bytes.

    The few tokens that lie beyond the levels, BERT's first among them, are multiplied in float32. What a token gives
    does not depend on the others.

    Args:
        exact: the same in float32, on the CPU; weight (N,K).
        seen: (T,K) inputs of many kinds.
        within, splits: of `_Levels`.
    """

    def __init__(self, exact: FloatLinear, seen: Tensor, within: float = 0.95, splits: int = 0) -> None:
        self._exact = exact
        self.levels = _Levels(exact.weight, seen, within, splits)
        self._product = self.levels.product(exact.weight, exact.bias, exact.gelu)

    def __call__(self, x: Tensor) -> Tensor:
        """(T,K) -> (T,N)."""
        levels = self.levels(x)
        return _mended(self._product(levels), _beyond(levels), self._exact, x)


class Int8FeedForward:
    """x + b + W GELU(V x + a) in bytes where GELU's values are small, which half of its channels stand.

    The first product gives those as bytes at once, so that they are never laid out as floats. Tokens that lie beyond
    the levels, before or after GELU, are computed in float32.

    Args:
        exact: the same in float32, on the CPU.
        seen: (T,K) inputs of many kinds.
        within, splits: of `_Levels`; `within` also of GELU's values.
    """

    def __init__(self, exact: FeedForward, seen: Tensor, within: float = 0.98, splits: int = 0) -> None:
        up, down, self._exact = exact.up, exact.down, exact
        wide = up(seen)  # (T,H)
        order = wide.amax(0).argsort(descending=True)
        count = round(_WIDEST * len(order))
        large, small = order[:count], order[count:]
        self._levels = _Levels(up.weight, seen, within, splits)
        self._large = self._levels.product(up.weight[large], up.bias[large], True)
        self._small = self._levels.product(up.weight[small], up.bias[small], True)
        most = _ROOM * wide[:, small].amax(1).quantile(within).nan_to_num(1.0).clamp(1e-3, 1e6).item()
        self._step = (most - _GELU_LEAST) / 254
        self._zero = round(-_GELU_LEAST / self._step)
        self._down_large = FloatLinear(down.weight[:, large].contiguous(), down.bias)
        fine = down.weight[:, small].abs().amax(1).clamp_min(1e-12) / _MOST
        levels = down.weight[:, small] / fine[:, None]
        self._down_small = _Product(levels, fine, None, False, self._step, self._zero)

    def __call__(self, x: Tensor) -> Tensor:
        """(T,K) -> (T,K)."""
        levels = self._levels(x)
        small = self._small(levels, self._step, self._zero)
        y = self._down_small.add_to(self._down_large(self._large(levels), x), small)
        return _mended(y, _beyond(levels) | (small.amax(1) == 255), self._exact, x)


def _beyond(levels: Tensor) -> Tensor:
    """Tokens with a value that has no level, (T,K) -> (T,) bool."""
    return (levels.amax(1) == 255) | (levels.amin(1) == 0)


def _mended(y: Tensor, beyond: Tensor, exact: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """y (T,N), with what `exact` makes of x (T,K) for the tokens that lie beyond, (T,) bool; y is used up."""
    rows = beyond.nonzero()[:, 0]  # (R,)
    return y.index_copy_(0, rows, exact(x.index_select(0, rows))) if len(rows) else y


def _parts(widths: Tensor, splits: int) -> Tensor:
    """Into how many parts each channel goes, (K,) -> (K,) integers: one more for the widest part, so many times."""
    parts = torch.ones(len(widths), dtype=torch.int64)
    for _ in range(splits):
        parts[torch.argmax(widths / parts)] += 1
    return parts

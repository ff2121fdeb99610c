"""Linear layers on a processor, with what follows them computed in the same call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE = 8192  # outputs from which the blocked layout wins even for one row (measured, 49,408 x 512)
_SMALL = 2**18  # weights below which a call of oneDNN, 45 microseconds whatever its size, costs more than it saves
_ROWS, _MANY_ROWS = 32, 1024  # of decoding, and of whole texts, about, at which oneDNN lays out the weights


def packs(weight: Tensor) -> bool:
    """Whether oneDNN has a layout of its own for these weights: float32, on a CPU."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and bool(torch._C._has_mkldnn)


def blocked(weight: Tensor, rows: int) -> Tensor:
    """The weights (N,K) in oneDNN's layout for products with about so many rows."""
    blocks: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return blocks


def product(x: Tensor, blocks: Tensor, bias: Tensor | None, gelu: bool, plus: Tensor | None) -> Tensor:
    """x W^T + b through oneDNN, which applies GELU to, or adds to, what it has just computed.

    Args:
        x: (R,K).
        blocks: W as `blocked` gives it.
        bias: (N,).
        gelu: GELU follows.
        plus: (R,N), what is added at last.
    """
    if gelu or plus is None:
        then, kind = ("gelu", "none") if gelu else ("none", "")
        y: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, blocks, bias, then, [], kind)
        return finished(y, False, plus)
    y = torch.ops.mkldnn._linear_pointwise.binary(x, plus, blocks, bias, "add")
    return y


def finished(y: Tensor, gelu: bool, plus: Tensor | None) -> Tensor:
    """What `product` does after the product, for products that were computed otherwise; y is used up."""
    y = F.gelu(y) if gelu else y
    return y if plus is None else y.add_(plus)


class FloatLinear:
    """x W^T + b as the weights' type computes it; on a processor in float32 through oneDNN."""

    def __init__(self, weight: Tensor, bias: Tensor, gelu: bool = False) -> None:
        self.weight, self.bias, self.gelu = weight, bias, gelu  # (N,K), (N,)
        self._blocks = blocked(weight, _MANY_ROWS) if packs(weight) else None

    def __call__(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """(T,K) -> (T,N)."""
        if self._blocks is None:
            return finished(F.linear(x, self.weight, self.bias), self.gelu, plus)
        return product(x, self._blocks, self.bias, self.gelu, plus)


class FeedForward:
    """x + b + W GELU(V x + a), the two products of a transformer's block for many rows.

    Attributes:
        up: V and a, with GELU.
        down: W and b.
    """

    def __init__(self, up: FloatLinear, down: FloatLinear) -> None:
        self.up, self.down = up, down

    def __call__(self, x: Tensor) -> Tensor:
        """(T,K) -> (T,K)."""
        return self.down(self.up(x), x)


class PackedLinear:
    """y = x W^T + b for few rows, W laid out for how many there are; GELU or a residual stream comes with it.

    A product of a few rows is bound by reading W, which a pass through all layers has driven out of the caches. Up to
    three rows MKL reads W as it is (12 layers of width 512: 16 against 20 ms), from four on oneDNN its blocked layout
    (16 rows 26 against 75 ms), and small layers MKL their transpose (width 192, 11 rows: 33 against 53 ms). Copies are
    made when first needed, from the weights as they are then. Elsewhere than on a CPU in float32 this is `F.linear`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> None:
        self.weight = weight.detach()  # (N,K)
        self.bias = None if bias is None else bias.detach()
        self.gelu = gelu
        self._packs = packs(weight)
        self._columns: Tensor | None = None
        self._blocks: Tensor | None = None

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (R,K), what its result is added to (R,N) -> (R,N)."""
        rows, outputs = x.shape[0], self.weight.shape[0]
        if not self._packs or rows > 256 or (rows <= 3 and outputs < _WIDE):
            return finished(F.linear(x, self.weight, self.bias), self.gelu, residual)
        if self.weight.numel() < _SMALL and self.bias is not None:
            if self._columns is None:
                self._columns = self.weight.t().contiguous()
            return finished(torch.addmm(self.bias, x, self._columns), self.gelu, residual)
        if self._blocks is None:
            self._blocks = blocked(self.weight, _ROWS)
        return product(x, self._blocks, self.bias, self.gelu, residual)

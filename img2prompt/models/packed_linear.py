"""A linear layer for a few rows at a time, as decoding needs it on a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE = 8192  # outputs from which the blocked layout wins even for one row (measured, 49,408 x 512)
_SMALL = 2**18  # weights below which a call of oneDNN, 45 microseconds whatever its size, costs more than it saves


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
        on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        self._packs = on_cpu and bool(torch._C._has_mkldnn)
        self._columns: Tensor | None = None
        self._blocks: Tensor | None = None

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x (R,K), what its result is added to (R,N) -> (R,N)."""
        rows, outputs = x.shape[0], self.weight.shape[0]
        if not self._packs or rows > 256 or (rows <= 3 and outputs < _WIDE):
            return self._finished(F.linear(x, self.weight, self.bias), residual)
        if self.weight.numel() < _SMALL and self.bias is not None:
            if self._columns is None:
                self._columns = self.weight.t().contiguous()
            return self._finished(torch.addmm(self.bias, x, self._columns), residual)
        if self._blocks is None:
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), 32)
        product = torch.ops.mkldnn._linear_pointwise
        if residual is not None:
            return product.binary(x, residual, self._blocks, self.bias, "add")  # type: ignore[no-any-return]
        then, kind = ("gelu", "none") if self.gelu else ("none", "")
        return product.default(x, self._blocks, self.bias, then, [], kind)  # type: ignore[no-any-return]

    def _finished(self, y: Tensor, residual: Tensor | None) -> Tensor:
        y = F.gelu(y) if self.gelu else y
        return y if residual is None else y.add_(residual)

"""A linear layer for a few rows at a time, as decoding needs it on a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE = 8192  # outputs from which the blocked layout wins even for one row (measured, 49,408 x 512)


class PackedLinear:
    """y = x W^T + b for few rows, W laid out for how many there are, then GELU where asked for.

    A product of a few rows is bound by reading W, which a pass through all layers has driven out of the caches. For
    one row MKL reads its transpose fastest, from two on oneDNN its blocked layout (measured on whole steps with
    AVX-512: 16 rows 144 against 176 ms, one row 85 against 66). Both copies are made when first needed, from the
    weights as they are then. Elsewhere than on a CPU in float32 this is `F.linear`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> None:
        self.weight = weight.detach()  # (N,K)
        self.bias = None if bias is None else bias.detach()
        self.gelu = gelu
        on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
        self._packs = on_cpu and bool(torch._C._has_mkldnn)
        self._columns: Tensor | None = None
        self._blocks: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x (R,K) -> (R,N)."""
        if not self._packs or x.shape[0] > 256:
            return self._active(F.linear(x, self.weight, self.bias))
        if x.shape[0] == 1 and self.weight.shape[0] < _WIDE:
            if self._columns is None:
                self._columns = self.weight.t().contiguous()
            return self._active(x @ self._columns if self.bias is None else torch.addmm(self.bias, x, self._columns))
        if self._blocks is None:
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), 32)
        then, kind = ("gelu", "none") if self.gelu else ("none", "")
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._blocks, self.bias, then, [], kind)
        return out

    def _active(self, y: Tensor) -> Tensor:
        return F.gelu(y) if self.gelu else y

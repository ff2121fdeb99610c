"""Faster products for near-duplicates: bfloat16 on processors that multiply it, float16 on CUDA, FAISS on several GPUs.

Products in few bits only choose what is looked at; `pairs.near.exact` decides by float64 of the float32 rows. For unit
rows rounded to a mantissa of unit roundoff u, |x.y - x'.y'| <= (2u + u^2) sum |x_i y_i| <= 2u + u^2, and rounding the
product itself adds at most u (1 + 2u + u^2). That makes 0.0118 for bfloat16 (u = 2^-8) and 0.0015 for float16 (u =
2^-11), where sums that a GPU splits and adds in float16 stay below 0.004.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray

from img2prompt.jobs.pairs.products_faiss import FaissFinder, gpus
from img2prompt.models.devices import fast_dtype
from img2prompt.pairs.near.cosines import Places, Rows, products_of
from img2prompt.pairs.near.exact import MakeFinder, Pairs

ERRORS = {torch.bfloat16: 0.012, torch.float16: 0.004, torch.float32: 1e-4}
_CHUNK = 2**16  # columns of one product
_SHARE = 0.6  # of a GPU's free memory that columns may take; what is beyond waits in the machine's memory


def finder_for(device: str) -> MakeFinder | None:
    """The fastest way to multiply on a device; None: that of `pairs.dedup`, a bound in float32.

    One GPU is left to torch. Several are shared out by FAISS.
    """
    if device.startswith("cuda"):
        if gpus() > 1 and device == "cuda":
            return FaissFinder
        return functools.partial(TorchFinder, device=device, dtype=torch.float16, block=4096)
    if device == "cpu" and fast_dtype(device) is torch.bfloat16:
        return functools.partial(TorchFinder, device=device, dtype=torch.bfloat16, block=1024)
    return None


class TorchFinder:
    """Products in few bits, with a margin that is proven; implements `pairs.near.exact.Finder`.

    Args:
        rows: (N,D) unit rows.
        columns: (M,D) unit rows.
        threshold: a cosine.
        device: where to multiply.
        dtype: a key of ERRORS.
        block: rows that are decided together.
    """

    def __init__(
        self, rows: Rows, columns: Rows, threshold: float, *, device: str, dtype: torch.dtype, block: int
    ) -> None:
        self.block = block
        self._rows, self._columns, self._threshold = rows, columns, threshold
        self._device, self._dtype, self._error = device, dtype, ERRORS[dtype]
        self._room = _SHARE * torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else float("inf")
        self.clear()

    def clear(self) -> None:
        self._chunks: list[tuple[Places, torch.Tensor]] = []  # whole ones, on the device or in this machine's memory
        self._last: list[tuple[Places, torch.Tensor]] = []  # pieces of the one that is being filled
        self._used = 0.0

    def add(self, places: Places) -> None:
        if not len(places):
            return
        self._last.append((places, self._moved(self._columns, places)))
        if sum(len(some) for some, _ in self._last) < _CHUNK:
            return
        chunk = torch.cat([piece for _, piece in self._last])  # (C,D)
        self._used += chunk.nbytes
        if self._used > self._room:
            chunk = chunk.cpu().pin_memory()
        self._chunks.append((np.concatenate([some for some, _ in self._last]), chunk))
        self._last = []

    def find(self, places: Places) -> Pairs:
        rows = self._moved(self._rows, places)  # (B,D)
        best = torch.full((len(places), 1), self._threshold - self._error, device=self._device)  # (B,1)
        parts = []
        for some, chunk in (*self._chunks, *self._last):
            scores = (rows @ chunk.to(self._device, non_blocking=True).T).float()  # (B,C)
            best = torch.maximum(best, scores.amax(1, keepdim=True) - 2 * self._error)
            i, j = torch.nonzero(scores >= best, as_tuple=True)
            parts.append((places[i.cpu().numpy()], some[j.cpu().numpy()]))
        return self._with_products(self._columns, parts)

    def within(self, places: Places, earlier: Places) -> Pairs:
        if not len(earlier):
            return self._with_products(self._rows, [])
        scores = (self._moved(self._rows, places) @ self._moved(self._rows, earlier).T).float()  # (B,C)
        i, j = torch.nonzero(scores >= self._threshold - self._error, as_tuple=True)
        return self._with_products(self._rows, [(places[i.cpu().numpy()], earlier[j.cpu().numpy()])])

    def _moved(self, rows: Rows, places: Places) -> torch.Tensor:
        return torch.from_numpy(rows[places]).to(self._device, self._dtype)

    def _with_products(self, columns: Rows, parts: list[tuple[Places, Places]]) -> Pairs:
        nothing: NDArray[np.int64] = np.zeros(0, np.int64)
        i = np.concatenate([nothing, *(rows for rows, _ in parts)])
        j = np.concatenate([nothing, *(found for _, found in parts)])
        return i, j, products_of(self._rows, columns, i, j)

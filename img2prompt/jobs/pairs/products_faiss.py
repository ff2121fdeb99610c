"""Products on GPUs through FAISS: columns are shared out over all GPUs, in float16, and beyond their memory in turns.

FAISS has no range search on GPUs. It gives the nearest columns of a row, as many as asked for; where the last of them
is still near enough to matter, the row is looked at again on this processor, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from img2prompt.pairs.near.cosines import Places, Rows, products_of
from img2prompt.pairs.near.exact import Pairs
from img2prompt.pairs.near.screen import TILE, Screen, Side, likely

NEAREST = 32  # columns of a row that are asked for
ERROR = 0.004  # of a product of unit rows in float16: 0.0015 by rounding, the rest for sums
_AT_ONCE = 2**16  # columns that are sent together
_SHARE, _UNKNOWN_BYTES = 0.6, 8 << 30  # of a GPU's memory that columns may take; where torch cannot say how much it has

MakeIndex = Callable[[int, int], Any]  # of a GPU's number and D


def gpus() -> int:
    """GPUs that FAISS can use."""
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "get_num_gpus") else 0


def gpu_index(device: int, dimensions: int) -> Any:
    """An empty index of inner products on a GPU, in float16."""
    import faiss

    settings = faiss.GpuIndexFlatConfig()
    settings.device, settings.useFloat16 = device, True
    resources = faiss.StandardGpuResources()
    index: Any = faiss.GpuIndexFlatIP(resources, dimensions, settings)
    index.referenced_objects = [resources]  # freed with the index, not before
    return index


def room_of(device: int, dimensions: int) -> int:
    """Columns that a GPU holds at a time."""
    free = torch.cuda.mem_get_info(device)[0] if torch.cuda.is_available() else _UNKNOWN_BYTES
    return max(_AT_ONCE, int(_SHARE * free / (2 * dimensions)))


class FaissFinder:
    """Nearest columns by FAISS; implements `pairs.near.exact.Finder`.

    Args:
        rows: (N,D) unit rows.
        columns: (M,D) unit rows.
        threshold: a cosine.
        devices: numbers of GPUs; None: all.
        make_index: makes the index of a GPU.
        room: columns that a GPU holds at a time; None: what its memory allows.
    """

    block = 4096

    def __init__(
        self, rows: Rows, columns: Rows, threshold: float, *, devices: Sequence[int] | None = None,
        make_index: MakeIndex = gpu_index, room: int | None = None,
    ) -> None:  # fmt: skip
        self._rows, self._columns, self._floor = rows, columns, threshold - ERROR
        self._devices = list(range(gpus())) if devices is None else list(devices)
        self._indexes = [make_index(device, columns.shape[1]) for device in self._devices]
        rooms = [room_of(device, columns.shape[1]) if room is None else room for device in self._devices]
        self._room = min(rooms) * len(rooms)
        self.clear()

    def clear(self) -> None:
        self._groups: list[Places] = []  # what the GPUs hold at a time
        self._held: list[Places] = []  # of the group that is there now, what each of them has
        self._there = -1

    def add(self, places: Places) -> None:
        while len(places):
            if not self._groups or len(self._groups[-1]) == self._room:
                self._groups.append(np.zeros(0, np.int64))
            taken = places[: self._room - len(self._groups[-1])]
            self._groups[-1] = np.concatenate([self._groups[-1], taken])
            if self._there == len(self._groups) - 1:
                self._send(taken)
            places = places[len(taken) :]

    def find(self, places: Places) -> Pairs:
        order = sorted(range(len(self._groups)), key=lambda group: group != self._there)  # the one that is there first
        found = [self._nearest(places) for group in order if self._load(group)]
        return self._with_products(self._columns, [pair for pairs in found for pair in pairs])

    def within(self, places: Places, earlier: Places) -> Pairs:
        table = Screen().table(self._rows)
        columns = list(Side.of(table, earlier).tiles(TILE[1]))
        parts = [likely(r, c, self._floor)[:2] for r in Side.of(table, places).tiles(TILE[0]) for c in columns]
        return self._with_products(self._rows, parts)

    def _load(self, group: int) -> bool:
        """Puts a group onto the GPUs, where it is not."""
        if group != self._there:
            for index in self._indexes:
                index.reset()
            self._held, self._there = [np.zeros(0, np.int64) for _ in self._indexes], group
            for start in range(0, len(self._groups[group]), _AT_ONCE):
                self._send(self._groups[group][start : start + _AT_ONCE])
        return True

    def _send(self, places: Places) -> None:
        for number, index in enumerate(self._indexes):
            some = places[number :: len(self._indexes)]
            if len(some):
                index.add(np.ascontiguousarray(self._columns[some]))
                self._held[number] = np.concatenate([self._held[number], some])

    def _nearest(self, places: Places) -> list[tuple[Places, Places]]:
        rows = np.ascontiguousarray(self._rows[places])  # (B,D)

        def search(number: int) -> tuple[Places, Places]:
            index, held = self._indexes[number], self._held[number]
            if not len(held):
                return np.zeros(0, np.int64), np.zeros(0, np.int64)
            values, found = index.search(rows, min(NEAREST, len(held)))  # (B,K), the nearest first
            floor = np.maximum(self._floor, values[:, :1] - 2 * ERROR)  # (B,1)
            i, k = np.nonzero(values >= floor)
            more = np.flatnonzero((values[:, -1] >= floor[:, 0]) & (len(held) > values.shape[1]))
            again = [self._again(places[more], held)] if len(more) else []
            pairs = [(places[i], held[found[i, k]]), *again]
            return np.concatenate([rows for rows, _ in pairs]), np.concatenate([columns for _, columns in pairs])

        with ThreadPoolExecutor(len(self._indexes)) as pool:
            return list(pool.map(search, range(len(self._indexes))))

    def _again(self, places: Places, held: Places) -> tuple[Places, Places]:
        """Rows that have more near columns than were asked for, on this processor."""
        rows, columns = Screen().table(self._rows), Screen().table(self._columns)
        tiles = [(r, c) for r in Side.of(rows, places).tiles(TILE[0]) for c in Side.of(columns, held).tiles(TILE[1])]
        parts = [likely(r, c, self._floor, best_only=True)[:2] for r, c in tiles]
        return np.concatenate([i for i, _ in parts]), np.concatenate([j for _, j in parts])

    def _with_products(self, columns: Rows, parts: list[tuple[Places, Places]]) -> Pairs:
        i, j = (np.concatenate(column) for column in zip((np.zeros(0, np.int64),) * 2, *parts, strict=True))
        return i, j, products_of(self._rows, columns, i, j)

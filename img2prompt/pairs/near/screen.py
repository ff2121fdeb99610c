"""Pairs of rows that may be near: a proven bound rules out the others at a fraction of what their cosines cost.

For unit rows x, y and their coordinates in W orthonormal directions, x.y = lead_x.lead_y + rest_x.rest_y, and the last
term is at most |rest_x| |rest_y| (Cauchy-Schwarz). So the product of (lead, |rest|) bounds the cosine from above. With
the directions of the largest second moment, a few of them rule out nearly all pairs of a collection of prompts; what
passes is looked at again in more directions, and what passes that is left to the cosines.

Coordinates and lengths of rests are float64 before they are stored, rests are rounded up, and `margin` bounds what a
float32 product may be off by, so no pair is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.near.cosines import Places, Rows, margin, products_of

TILE = (1024, 2048)  # rows and columns of one product: 8 MB, so that it is read from the processor's cache again
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
_SAMPLE = 2000  # rows that settle the widths
_MANY = 64  # pairs of a row in a tile
_GROUP = 8  # rows of a tile whose largest bound is looked at first
# What a pair costs in multiply-adds of a large float32 product: the look at its bound, and the second bound or the
# cosine of one that passed, a coordinate.
_LOOK, _PASSED, _PASSED_WIDTH = 50.0, 4000.0, 60.0


@dataclass(frozen=True, slots=True)
class Screen:
    """The directions of a bound.

    Attributes:
        basis: (D,W) orthonormal, float64; None: the bound is the cosine itself.
        narrow: how many of them the first look takes, at most W.
    """

    basis: NDArray[np.float64] | None = None
    narrow: int = 0

    def table(self, rows: Rows, pool: Executor | None = None) -> Table:
        """The rows as the bound needs them."""
        if self.basis is None:
            return Table(rows, rows, rows)
        basis, width = self.basis, self.basis.shape[1]
        widths = dict.fromkeys((self.narrow, width))  # one look, where both are the same
        tables = {w: np.empty((len(rows), w + 1), np.float32) for w in widths}

        def work(start: int) -> None:
            part = slice(start, start + 2**13)
            some = rows[part].astype(np.float64)  # (B,D)
            lead = some @ basis  # (B,W)
            whole = np.einsum("bd,bd->b", some, some)
            for w, table in tables.items():
                table[part, :w] = lead[:, :w]
                rest = whole - np.einsum("bw,bw->b", lead[:, :w], lead[:, :w])
                # float32 rounds by 6e-8 of the length, and a rest near zero by more of it than any factor covers.
                table[part, w] = np.sqrt(np.maximum(rest, 0) + 1e-12) * (1 + 2e-7)

        for _ in (map if pool is None else pool.map)(work, range(0, len(rows), 2**13)):
            pass
        return Table(rows, tables[self.narrow], tables[width])


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with what bounds their cosines.

    Attributes:
        rows: (N,D) unit rows.
        narrow: (N,R+1) the first look; `rows` where there is no bound.
        wide: (N,W+1) the second look, likewise.
    """

    rows: Rows
    narrow: Rows
    wide: Rows


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a product.

    Attributes:
        table: what the rows belong to.
        places: (M,) which rows of it.
        narrow: (M,R+1) theirs, in one piece of memory.
    """

    table: Table
    places: Places
    narrow: Rows

    @classmethod
    def of(cls, table: Table, places: Places) -> Side:
        """These rows of a table."""
        return cls(table, places, table.narrow[places])

    def tiles(self, length: int) -> Iterator[Side]:
        """The side in pieces."""
        for start in range(0, len(self.places), length):
            part = slice(start, start + length)
            yield Side(self.table, self.places[part], self.narrow[part])


def fit_screen(samples: Sequence[tuple[Rows, Rows]], least: float) -> Screen:
    """The cheapest directions for pairs as these.

    Args:
        samples: rows and columns of products to come, or of a sample of them.
        least: cosines below it are to be ruled out.
    """
    some = np.concatenate([rows for rows, _ in samples])  # (S,D)
    dimensions = some.shape[1]
    if dimensions < 2 * WIDTHS[0]:
        return Screen()
    basis = np.linalg.eigh(some.T.astype(np.float64) @ some.astype(np.float64))[1][:, ::-1]  # (D,D)
    widths = [w for w in WIDTHS if w <= dimensions // 2]
    passed = [_share_passed(samples, Screen(basis[:, :w], w), least) for w in widths]
    best, choice = _cost(dimensions, 1.0, 0.0), None
    for i, narrow in enumerate(widths):
        for j in range(i, len(widths)):
            second = 0.0 if i == j else passed[i] * (_PASSED / 4 + _PASSED_WIDTH * widths[j])
            cost = _cost(narrow, passed[j], second, dimensions)
            if cost < best:
                best, choice = cost, (narrow, widths[j])
    if choice is None:
        return Screen()
    return Screen(np.ascontiguousarray(basis[:, : choice[1]]), choice[0])


def _cost(narrow: int, passed: float, second: float, dimensions: int = 0) -> float:
    return narrow + 1 + _LOOK + second + (passed * (_PASSED + _PASSED_WIDTH * dimensions) if dimensions else 0.0)


def _share_passed(samples: Sequence[tuple[Rows, Rows]], screen: Screen, least: float) -> float:
    """The share of a sample's pairs that the bound does not rule out."""
    passed = total = 0
    for rows, columns in samples:
        bound = screen.table(rows).narrow @ screen.table(columns).narrow.T
        passed += int((bound >= least).sum())
        total += bound.size
    return passed / max(total, 1)


def sample_of(rows: Rows, count: int = _SAMPLE) -> Rows:
    """Rows spread evenly over all of them."""
    return rows[:: max(1, len(rows) // count)]


def likely(
    a: Side, b: Side, least: float, *, best_only: bool = False, memory: Rows | None = None
) -> tuple[Places, Places, NDArray[np.float32]]:
    """All pairs that may have a cosine of at least `least`: places (P,) of both, float32 products (P,); no order.

    Meant for tiles: their products (R,C) are held in memory.

    Args:
        a, b: the rows and columns.
        least: a cosine.
        best_only: where there are many pairs, those suffice among which is each row's nearest column.
        memory: flat, for the product; made when it is not given, which costs time.
    """
    shape = len(a.places), len(b.places)
    out = None if memory is None else memory[: shape[0] * shape[1]].reshape(shape)
    i, j = _reaching(np.matmul(a.narrow, b.narrow.T, out=out), least - margin(a.narrow.shape[1]))
    exact = margin(a.table.rows.shape[1])
    if len(i) > _MANY * len(a.places):  # their cosines one by one would cost more than all together
        product = np.matmul(a.table.rows[a.places], b.table.rows[b.places].T, out=out)
        floor = np.float32(least - exact)
        best = np.maximum(floor, product.max(1, keepdims=True) - np.float32(2 * exact)) if best_only else floor
        i, j = np.nonzero(product >= best)
        return a.places[i], b.places[j], product[i, j]
    i, j = a.places[i], b.places[j]
    if a.table.wide is not a.table.narrow:
        passed = products_of(a.table.wide, b.table.wide, i, j) >= least - margin(a.table.wide.shape[1])
        i, j = i[passed], j[passed]
    values = products_of(a.table.rows, b.table.rows, i, j)
    passed = values >= least - exact
    return i[passed], j[passed], values[passed]


def _reaching(bound: Rows, floor: float) -> tuple[Places, Places]:
    """Where a tile (R,C) reaches the floor, which is in few places: groups of rows are looked at by their maxima."""
    whole = len(bound) - len(bound) % _GROUP
    groups = bound[:whole].reshape(-1, _GROUP, bound.shape[1])  # (G,8,C)
    hit = np.flatnonzero(groups.max(1) >= floor) if whole else np.zeros(0, np.int64)
    if len(hit) > bound.size // (4 * _GROUP):  # not few
        i, j = np.nonzero(bound >= floor)
        return i, j
    g, j = np.divmod(hit, bound.shape[1])
    h, k = np.nonzero(groups[g, :, j] >= floor)
    rest_i, rest_j = np.nonzero(bound[whole:] >= floor)
    return np.concatenate([g[h] * _GROUP + k, rest_i + whole]), np.concatenate([j[h], rest_j])

"""Unit rows and the cosines of pairs of them; those that decide are float64, whatever found the pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.errors import DataError

Rows = NDArray[np.float32]  # (N,D), unit rows
Places = NDArray[np.int64]  # (P,)

_UNIT = 3e-7  # lengths that float32 cannot bring nearer to 1; `margin` covers it
_PAIRS_AT_ONCE = 2**11  # rows that are gathered together: few enough to stay in the processor's cache
_ROWS_AT_ONCE = 2**13  # rows that are gone through together, for the same reason


def margin(width: int) -> float:
    """What float32 may be off by in a product of unit vectors of this width: twice the proven bound."""
    return (width + 8) * 2.0**-23


def products_of(a: Rows, b: Rows, i: Places, j: Places) -> NDArray[np.float32]:
    """Products (P,) of the rows i of a and j of b, in float32."""
    result = np.empty(len(i), np.float32)
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        np.einsum("pd,pd->p", a[i[part]], b[j[part]], out=result[part])
    return result


def cosines_of(a: Rows, b: Rows, i: Places, j: Places) -> NDArray[np.float64]:
    """Cosines (P,) of the rows i of a and j of b, in float64."""
    result = np.zeros(len(i))
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        x, y = a[i[part]].astype(np.float64), b[j[part]].astype(np.float64)  # (P,D)
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        result[part] = np.einsum("pd,pd->p", x, y) / np.where(lengths == 0, 1, lengths)
    return result


def unit_rows(emb: ArrayLike) -> Rows:
    """The rows (N,D), divided by their lengths; a zero row stays zero, and rows of unit length are not copied.

    Raises:
        DataError: a row is not finite.
    """
    rows = np.asarray(emb, np.float32)
    if rows.ndim != 2:
        raise ValueError(f"embeddings have the shape (N,D), not {rows.shape}")
    lengths = np.empty((len(rows), 1), np.float32)  # (N,1)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        lengths[part] = np.linalg.norm(rows[part], axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]))
    if len(bad):
        raise DataError(f"row {bad[0]} and {len(bad) - 1} more of the embeddings are not finite; compute them again")
    if (np.abs(lengths - 1) < _UNIT).all():
        return rows
    return (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)


def copies(rows: Rows) -> Places:
    """For each row (N,) the first one that is equal to it bit by bit; itself where there is none before.

    Many copies would make very many pairs, and take a product to find.
    """
    bits = np.ascontiguousarray(rows).view(np.uint32)  # (N,D)
    weights = np.random.default_rng(0).integers(0, 2**63, bits.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty(len(bits), np.uint64)
    for start in range(0, len(bits), _ROWS_AT_ONCE):
        keys[start : start + _ROWS_AT_ONCE] = bits[start : start + _ROWS_AT_ONCE].astype(np.uint64) @ weights
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    heads = first[inverse.reshape(-1)]  # (N,)
    alike = np.flatnonzero(heads != np.arange(len(heads)))
    for some in np.array_split(alike, max(1, len(alike) // _ROWS_AT_ONCE)):
        same = (bits[some] == bits[heads[some]]).all(1)
        heads[some[~same]] = some[~same]  # two rows of one key: the cosines tell them apart
    return heads

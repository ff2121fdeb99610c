"""Groups of near-duplicate rows: exact connected components over hundreds of thousands of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.errors import DataError

BLOCK = 4096  # rows of a tile; a tile of float32 is 64 MiB
_PAIRS_AT_ONCE = 2**15  # pairs that are computed in float64 together: 200 MB at 384 dimensions
MARGIN = 1e-5  # what float32 may be off by in a product of unit vectors, many times over
_SPARE_SHARE = 5e-4  # of all pairs: as many may pass the bound in vain


def clusters(emb: ArrayLike, threshold: float = 0.9) -> NDArray[np.int64]:
    """Groups of near-duplicates: the connected components of "cosine >= threshold".

    Exact: cosines that decide are float64. Most pairs are ruled out by a bound that costs a fraction of the cosine:
    the product in the few directions where most of the length lies plus the product of what is left of both lengths
    (Cauchy-Schwarz). Memory is bounded whatever the number of near-duplicates.

    Args:
        emb: (N,D) embeddings, of any length.
        threshold: smallest cosine that joins two rows, above 0 and at most 1.

    Returns:
        (N,) the group of each row; groups are numbered in the order of their first rows.

    Raises:
        DataError: a row is not finite.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a threshold lies above 0 and at most at 1, not at {threshold}")
    rows, first_of = np.unique(unit_rows(emb), axis=0, return_inverse=True)  # many copies would make very many pairs
    groups = np.arange(len(rows))  # (U,)
    screen = _screen(rows, threshold)
    for top in range(0, len(rows), BLOCK):
        for left in range(0, top + 1, BLOCK):  # the other half mirrors this one
            i, j = np.nonzero(screen[top : top + BLOCK] @ screen[left : left + BLOCK].T >= threshold - MARGIN)
            if len(i) > _PAIRS_AT_ONCE:  # the bound rules out too little here
                near = rows[top : top + BLOCK] @ rows[left : left + BLOCK].T >= threshold - MARGIN
                i, j = np.nonzero(near)
            groups = _joined(groups, rows, i + top, j + left, threshold)
    return numbered(groups[first_of.reshape(-1)])


def unit_rows(emb: ArrayLike) -> NDArray[np.float32]:
    """The rows (N,D), divided by their lengths; a zero row stays zero."""
    rows = np.asarray(emb, np.float32)
    if rows.ndim != 2:
        raise ValueError(f"embeddings have the shape (N,D), not {rows.shape}")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # (N,1)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]))
    if len(bad):
        raise DataError(f"row {bad[0]} and {len(bad) - 1} more of the embeddings are not finite; compute them again")
    return (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)


def _screen(rows: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Rows (N,R) whose products bound the cosines from above, R as small as rules out nearly all of a sample's pairs.

    The first columns are the rows in the directions of their largest second moment, the last one is the length of
    what these leave out.
    """
    sample = rows[:: max(1, len(rows) // 2000)]
    if len(rows) <= BLOCK or rows.shape[1] <= 64:
        return rows
    basis = np.linalg.eigh(sample.T.astype(np.float64) @ sample)[1][:, ::-1].astype(np.float32)  # (D,D)

    def bound(some: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        lead = some @ basis[:, :width]  # (N,R-1)
        rest = np.sqrt(np.maximum(0, (some * some).sum(1) - (lead * lead).sum(1)))  # (N,)
        return np.column_stack([lead, rest + np.float32(1e-4)])  # rounding must not make the bound too small

    real = (sample @ sample.T >= threshold).mean()
    for width in range(32, rows.shape[1] // 2 + 1, 32):
        tried = bound(sample, width)
        if (tried @ tried.T >= threshold).mean() <= real + _SPARE_SHARE:
            return bound(rows, width)
    return rows


def cosines_of(
    a: NDArray[np.float32], b: NDArray[np.float32], i: NDArray[np.int64], j: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosines (P,) of the rows i of a and j of b, in float64."""
    result = np.zeros(len(i))
    for start in range(0, len(i), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        x, y = a[i[part]].astype(np.float64), b[j[part]].astype(np.float64)  # (P,D)
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        result[part] = np.einsum("pd,pd->p", x, y) / np.where(lengths == 0, 1, lengths)
    return result


def _joined(
    groups: NDArray[np.int64], rows: NDArray[np.float32], i: NDArray[np.int64], j: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """The groups (N,) after the pairs i, j that are near enough have joined theirs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    while True:
        apart = groups[i] != groups[j]  # pairs of one group have nothing to decide; a large group has very many
        i, j = i[apart], j[apart]
        if not len(i):
            return groups
        part = slice(0, _PAIRS_AT_ONCE)
        near = cosines_of(rows, rows, i[part], j[part]) >= threshold
        ends = groups[i[part][near]], groups[j[part][near]]
        links = coo_array((np.ones(len(ends[0]), np.int8), ends), shape=(len(groups), len(groups)))
        groups = connected_components(links, directed=False)[1].astype(np.int64)[groups]
        i, j = i[_PAIRS_AT_ONCE:], j[_PAIRS_AT_ONCE:]


def joined(labels: NDArray[Any], keys: Sequence[object]) -> NDArray[np.int64]:
    """Groups that share a key become one, e.g. those with captions of one picture.

    Args:
        labels: (N,) the group of each row.
        keys: (N,) what ties rows together where it is equal; None ties nothing.

    Returns:
        (N,) the group of each row; groups are numbered in the order of their first rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = numbered(np.asarray(labels))
    places: dict[object, int] = {}
    tied = [(row, places.setdefault(key, len(places))) for row, key in enumerate(keys) if key is not None]
    if not tied:
        return groups
    rows, tags = np.array(tied).T  # (T,) each: a graph of groups and keys whose edges are rows
    count = int(groups.max()) + 1
    size = count + len(places)
    edges = coo_array((np.ones(len(rows), np.int8), (groups[rows], count + tags)), shape=(size, size))
    return numbered(connected_components(edges.tocsr(), directed=False)[1][groups])


def numbered(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The same groups, numbered from 0 in the order of their first rows."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]

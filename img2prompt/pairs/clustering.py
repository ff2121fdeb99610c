"""Groups of near-duplicate rows: exact connected components over hundreds of thousands of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.pairs.near.cosines import copies, cosines_of, unit_rows
from img2prompt.pairs.near.exact import screened
from img2prompt.pairs.near.screen import Side, likely

BLOCK = 2048  # rows of a tile; a tile of float32 is 16 MiB
_PAIRS_AT_ONCE = 2**15  # pairs that are decided before groups are joined again
MARGIN = 1e-5  # what float32 may be off by in a product of unit vectors, many times over


def clusters(emb: ArrayLike, threshold: float = 0.9) -> NDArray[np.int64]:
    """Groups of near-duplicates: the connected components of "cosine >= threshold".

    Exact: cosines that decide are float64. Most pairs are ruled out by the bound of `near.screen`. Memory is bounded
    whatever the number of near-duplicates.

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
    every = unit_rows(emb)
    heads = copies(every)  # (N,) many copies would make very many pairs
    first, first_of = np.unique(heads, return_inverse=True)
    rows = every[first] if len(first) < len(every) else every
    groups = np.arange(len(rows))  # (U,)
    table, _ = screened(rows, rows, threshold)
    tiles = list(Side.of(table, groups).tiles(BLOCK))
    for number, side in enumerate(tiles):
        for other in tiles[: number + 1]:  # the other half mirrors this one
            i, j, _ = likely(side, other, threshold)
            groups = _joined(groups, rows, i, j, threshold)
    return numbered(groups[first_of.reshape(-1)])


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

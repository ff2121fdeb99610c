"""Rows that several shards have: the first of each id stays, whoever made the shards and in whatever order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from img2prompt.errors import DataError


def find_repeats(shards: Sequence[Path]) -> dict[int, frozenset[int]]:
    """Number of a shard -> positions of its rows whose id an earlier row has, in the order of the shards.

    Dropping them does not change which row is the first of an id, so a run that was killed while it dropped finds
    just the rest. Takes 40 bytes a row.

    Args:
        shards: parquet files with an `id` of 32 hexadecimal digits.

    Raises:
        DataError: a shard is damaged.
    """
    ids = [_ids(path) for path in shards]  # (rows,2) each
    starts = np.cumsum([0, *map(len, ids)])
    together = np.concatenate([*ids, np.empty((0, 2), np.uint64)])  # (N,2)
    order = np.lexsort((together[:, 1], together[:, 0]))  # stable: rows of one id stay in their order
    ranked = together[order]
    again = np.sort(order[1:][(ranked[1:] == ranked[:-1]).all(axis=1)])
    owners = np.searchsorted(starts, again, side="right") - 1
    return {
        int(shard): frozenset((again[owners == shard] - starts[shard]).tolist()) for shard in np.unique(owners).tolist()
    }


def _ids(path: Path) -> NDArray[np.uint64]:
    """The ids of a shard as numbers, (rows,2)."""
    try:
        column = pq.read_table(path, columns=["id"])["id"].to_pylist()
        return np.frombuffer(bytes.fromhex("".join(column)), np.uint64).reshape(-1, 2)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())[:200]}); run the same command again") from None

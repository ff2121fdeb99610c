"""FAISS indexes over unit vectors: exact, or inverted lists whose recall was measured. The importer of faiss for banks.

The inverted file is that of Jegou et al., "Product quantization for nearest neighbor search", TPAMI 2011, without the
product quantiser: vectors stay as they are, so the cosines it gives are exact and only their completeness is not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError

LARGE = 200_000  # rows from which inverted lists are the default; below, a flat search takes some 50 ms a picture
POINTS_PER_LIST = 39  # faiss warns below it: too few to place a centre
TRAINING_POINTS_PER_LIST = 64
ITERATIONS = 10  # of k-means: more make the lists hardly better, and recall is measured anyway
RECALL_AT, RECALL = 10, 0.99  # probes are doubled until so much of the true nearest is found
RECALL_QUERIES = 256


def build_index(features: NDArray[np.float32], kind: str = "auto", seed: int = 0) -> tuple[Any, dict[str, Any]]:
    """An inner-product index of the rows.

    Args:
        features: (N,W) of unit length.
        kind: a row of `INDEXES`, or "auto": by the number of rows.
        seed: of the lists and of the sample that measures recall.

    Returns:
        The index, and how it was made: its kind, and for inverted lists how many there are, how many a search
        probes, and the measured recall.
    """
    rows = np.ascontiguousarray(features, np.float32)
    if kind == "auto":
        kind = "ivf" if len(rows) >= LARGE else "flat"
    index, facts = INDEXES[kind](rows, seed)
    return index, {"kind": kind, **facts}


def _flat(features: NDArray[np.float32], seed: int) -> tuple[Any, dict[str, Any]]:
    index = faiss.IndexFlatIP(features.shape[1])
    index.add(features)
    return index, {}


def _inverted(features: NDArray[np.float32], seed: int) -> tuple[Any, dict[str, Any]]:
    count, width = features.shape
    lists = max(1, min(round(4 * count**0.5), count // POINTS_PER_LIST))
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(quantizer, width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.spherical = seed + 1, True
    index.cp.niter = ITERATIONS
    index.cp.min_points_per_centroid = 1  # of fewer points than a list wants there is one list, and nothing to warn of
    rng = np.random.default_rng(seed)
    training = rng.choice(count, min(count, TRAINING_POINTS_PER_LIST * lists), replace=False)
    index.train(features[np.sort(training)])
    index.add(features)
    queries = rng.choice(count, min(count, RECALL_QUERIES), replace=False)
    index.nprobe = 1
    recall = measure_recall(index, features, queries)
    while recall < RECALL and index.nprobe < lists:
        index.nprobe = min(2 * index.nprobe, lists)
        recall = measure_recall(index, features, queries)
    facts = {"lists": lists, "probes": int(index.nprobe), f"recall_at_{RECALL_AT}": round(recall, 4)}
    return index, facts


INDEXES: dict[str, Callable[[NDArray[np.float32], int], tuple[Any, dict[str, Any]]]] = {
    "flat": _flat,
    "ivf": _inverted,
}


def measure_recall(index: Any, features: NDArray[np.float32], queries: NDArray[np.int64]) -> float:
    """Share of the true nearest rows that the index finds for rows of its own, each row itself left out: 0..1.

    A row as near as the last true one counts, so that copies of a picture are no misses.
    """
    k = min(RECALL_AT, len(features) - 1)
    if k < 1:
        return 1.0
    asked = features[queries]  # (Q,W)
    true, true_rows = faiss.knn(asked, features, k + 1, metric=faiss.METRIC_INNER_PRODUCT)  # (Q,k+1)
    found, found_rows = index.search(asked, k + 1)
    last = np.sort(_others(true, true_rows, queries), axis=1)[:, -k]  # (Q,), the k-th best of the others
    hits = (_others(found, found_rows, queries) >= last[:, None] - 1e-5).sum(axis=1).clip(max=k)
    return float(hits.mean() / k)


def _others(cosines: NDArray[np.float32], rows: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosines (Q,k) where the row is neither the query itself nor missing; else minus infinity."""
    kept: NDArray[np.float32] = np.where((rows == queries[:, None]) | (rows < 0), -np.inf, cosines)
    return kept


def search(index: Any, features: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines (B,k) and rows (B,k) of the nearest, nearest first, equally near ones in the order of their rows.

    Args:
        index: of `build_index`.
        features: (B,W) of unit length.
        k: at most the rows of the index.
    """
    asked = np.ascontiguousarray(features, np.float32)
    cosines, rows = index.search(asked, k)
    short = (rows < 0).any(axis=1)  # (B,), the probed lists held fewer than k rows
    if short.any():
        everywhere = faiss.SearchParametersIVF(nprobe=index.nlist)  # type: ignore[call-arg]
        cosines[short], rows[short] = index.search(asked[short], k, params=everywhere)
    order = np.lexsort((rows, -cosines), axis=1)
    return np.take_along_axis(cosines, order, 1).clip(-1, 1), np.take_along_axis(rows, order, 1)


def write_index(index: Any, path: Path) -> None:
    """Writes the file that `read_index` reads."""
    faiss.write_index(index, str(path))


def read_index(path: Path) -> Any:
    """Reads an index.

    Raises:
        DataError: it is none.
    """
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:  # faiss knows no other
        reason = str(error).strip().splitlines()[-1][:160]
        raise DataError(f"{path}: no FAISS index ({reason}); build the bank again") from error

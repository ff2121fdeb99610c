"""Validation rows that no training row gives away: whole clusters of near-duplicate prompts and of equal pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError
from img2prompt.pairs.split import clusters, split
from img2prompt.training.embedding_settings import Validation
from img2prompt.training.embedding_targets import kept
from img2prompt.training.pair_table import PairTable


def held_out(
    table: PairTable, emb: NDArray[np.float32], settings: Validation, seed: int, folder: Path
) -> NDArray[np.bool_]:
    """The rows to validate on, (N,) bool.

    Rows of one picture (several captions) share a side too, and every source gives its share.

    Args:
        table: all pairs.
        emb: (N,D) their prompts' embeddings.
        settings: how many.
        seed: of the choice.
        folder: where clusters are kept, because finding them takes a while.

    Raises:
        ConfigError: the share leaves nothing to train or to validate on.
    """
    if not 0 < settings.share < 1:
        raise ConfigError(f"data.validation.share {settings.share}: choose between 0 and 1, or give validation.sources")
    rows = np.flatnonzero(table.good)
    labels = _labels(np.asarray(emb[rows]), settings.threshold, folder)  # (M,)
    labels = joined(labels, [table.images[row] for row in rows])
    chosen = np.zeros(len(table), bool)
    # With several sources each gives its share; with one, rows keep their sides when others are added.
    strata = table.source[rows].tolist() if len(table.sets) > 1 else None
    chosen[rows] = split(labels, settings.share, seed, strata, [table.prompts[row] for row in rows])
    if not 0 < chosen.sum() < len(rows):
        raise ConfigError(
            f"data.validation: cannot hold out {settings.share:g} of {len(rows)} rows in {labels.max() + 1} clusters "
            "of near-duplicates; give validation.sources, or raise validation.share or threshold"
        )
    return chosen


def _labels(emb: NDArray[np.float32], threshold: float, folder: Path) -> NDArray[np.int64]:
    def wrong(found: np.ndarray) -> str:
        fits = found.shape == (len(emb),) and found.dtype == np.int64
        return "" if fits else f"holds {found.shape} {found.dtype}, not {(len(emb),)} int64"

    key = hashlib.sha256(f"{threshold} {emb.shape} ".encode() + np.ascontiguousarray(emb).data).hexdigest()[:32]
    made = kept(folder / f"clusters-{key}.npy", lambda: np.asarray(clusters(emb, threshold), np.int64), wrong)
    return np.asarray(made)


def joined(labels: NDArray[np.int64], images: list[str | None]) -> NDArray[np.int64]:
    """Clusters that share a picture become one.

    Args:
        labels: (M,) cluster of every row.
        images: path or URL of every row's picture; None where it is not known.

    Returns:
        (M,) int64, 0..number of clusters - 1.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, labels = np.unique(labels, return_inverse=True)
    known = np.array([i for i, image in enumerate(images) if image is not None], np.int64)
    if len(known) == 0:
        return labels.astype(np.int64)
    _, pictures = np.unique([images[i] for i in known], return_inverse=True)
    count = int(labels.max()) + 1
    # A graph of clusters and pictures: rows are its edges.
    size = count + int(pictures.max()) + 1
    edges = coo_array((np.ones(len(known), np.int8), (labels[known], count + pictures)), shape=(size, size))
    _, parts = connected_components(edges.tocsr(), directed=False)
    return np.unique(parts[:count], return_inverse=True)[1][labels].astype(np.int64)

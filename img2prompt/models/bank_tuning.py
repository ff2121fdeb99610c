"""How many neighbours a bank's regression takes and how sharply it prefers the nearer ones, found on the bank itself.

The right temperature depends on the encoder: the cosines of some fill 0.9 to 1, those of others 0 to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.models.bank_index import search

K, TEMPERATURE = 20, 0.05  # where a bank is too small to tell
NEIGHBOURS = (1, 2, 5, 10, 20, 50)
TEMPERATURES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
ENOUGH, SAMPLE = 100, 512  # rows below which nothing is tuned, and rows that are looked at


def weighted_mean(cosines: NDArray[np.floating[Any]], emb: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """Mean of the neighbours' embeddings, of unit length.

    Args:
        cosines: (B,k), of each neighbour, the largest first.
        emb: (B,k,D), their embeddings.
        temperature: weights are softmax(cosine / temperature).

    Returns:
        (B,D); where opposite embeddings cancel to nothing, the nearest one's.
    """
    logits = cosines.astype(np.float64) / temperature
    weights = np.exp(logits - logits[:, :1])
    weights /= weights.sum(axis=1, keepdims=True)
    mean = np.einsum("bk,bkd->bd", weights, emb.astype(np.float64))
    lengths = np.linalg.norm(mean, axis=1, keepdims=True)
    mean = np.where(lengths > 1e-6, mean, emb[:, 0])
    unit: NDArray[np.float64] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


def tune(index: Any, features: NDArray[np.float32], emb: NDArray[Any], seed: int) -> dict[str, Any]:
    """The number of neighbours and the temperature under which rows of the bank foretell each other best.

    Args:
        index: of `features`.
        features: (N,W) of unit length.
        emb: (N,D) of unit length.
        seed: of the sample.

    Returns:
        k, temperature, and the mean cosine that they reach on the sample, each row itself left out.
    """
    if len(features) < ENOUGH:
        return {"k": K, "temperature": TEMPERATURE}
    rows = np.random.default_rng(seed).choice(len(features), min(SAMPLE, len(features)), replace=False)
    cosines, found = search(index, features[rows], max(NEIGHBOURS) + 1)  # (S,51)
    # A row finds itself; it goes last, and with it (or with the farthest, if it did not) the last column is dropped.
    order = np.argsort(found == rows[:, None], axis=1, kind="stable")[:, :-1]
    cosines, found = np.take_along_axis(cosines, order, 1), np.take_along_axis(found, order, 1)
    truth = emb[rows].astype(np.float64)
    scores = {
        (k, t): float((weighted_mean(cosines[:, :k], emb[found[:, :k]], t) * truth).sum(axis=1).mean())
        for k in NEIGHBOURS
        for t in TEMPERATURES
    }
    k, temperature = max(scores, key=lambda pair: scores[pair])
    return {"k": k, "temperature": temperature, "leave_one_out_cosine": round(scores[k, temperature], 4)}

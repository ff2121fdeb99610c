"""Train and validation rows without leaks: near-duplicate prompts are one group, and a group lies on one side.

The same prompt in other words on both sides makes a validation score measure memory. So rows whose embeddings are
near are joined into clusters, whole clusters are divided, and `leakage` measures what is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.pairs.clustering import BLOCK, clusters, cosines_of, numbered, unit_rows

__all__ = ["THRESHOLDS", "Leakage", "clusters", "leakage", "split"]

THRESHOLDS = (0.8, 0.9, 0.95, 0.99)
_WORST = 10  # examples in a report


def split(
    labels: ArrayLike,
    share: float,
    seed: int,
    strata: Sequence[object] | None = None,
    contents: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """Divides whole clusters between training and validation.

    Each cluster is drawn by a hash of the seed and of its smallest content, whatever the order of the rows and
    whatever else there is: a row keeps its side when rows are added, unless one of them enters its cluster with a
    smaller content. Two exceptions: a cluster of more than half the rows that validation is to get stays in training,
    and where the draw leaves one side empty, one cluster changes sides.

    Args:
        labels: (N,) the cluster of each row.
        share: of the rows that validation is to get, above 0 and below 1; met on average.
        seed: another seed, another division.
        strata: (N,) what each row belongs to, e.g. its source. Every stratum then gives its share of rows as nearly as
            its clusters allow; in return, rows near the border can change sides when rows are added. A cluster belongs
            to the stratum of its smallest row.
        contents: (N,) what tells rows apart wherever they lie, e.g. the prompts; None: the places of the rows.

    Returns:
        (N,) whether the row is for validation. All False where there is only one cluster.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share lies between 0 and 1, not at {share}")
    groups = numbered(np.asarray(labels))  # (N,)
    if any(given is not None and len(given) != len(groups) for given in (strata, contents)):
        raise ValueError("labels, strata and contents have one entry a row")
    heads = _heads(groups, contents)
    draws = np.array([_draw(seed, str(place) if contents is None else contents[place]) for place in heads])  # (C,)
    sizes = np.bincount(groups, minlength=len(heads))  # (C,)
    if len(heads) < 2:
        return np.zeros(len(groups), bool)
    if strata is None:
        chosen = (draws < share) & (sizes <= max(1, share * len(groups) / 2))  # (C,)
    else:
        chosen = np.zeros(len(heads), bool)
        kinds = np.array([str(strata[place]) for place in heads])
        for kind in np.unique(kinds):
            chosen[_filled(np.flatnonzero(kinds == kind), draws, sizes, share)] = True
    if not chosen.any() or chosen.all():
        last = draws.argmax() if chosen.any() else draws.argmin()
        chosen[last] = not chosen[last]
    result: NDArray[np.bool_] = chosen[groups]
    return result


@dataclass(frozen=True, slots=True)
class Leakage:
    """How near validation rows come to training rows.

    Attributes:
        rows: of validation.
        thresholds: cosines.
        counts: for each threshold, the validation rows that have a training row at that cosine or nearer.
        max_cosine: the nearest pair; -1 where one side is empty.
        mean_cosine: mean over validation of the cosine to the nearest training row; -1 likewise.
        worst: the nearest pairs: place in validation, place in training, cosine; the nearest first.
    """

    rows: int
    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    max_cosine: float
    mean_cosine: float
    worst: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        parts = (f"{c} at {t:g}" for t, c in zip(self.thresholds, self.counts, strict=True))
        return f"of {self.rows} validation rows, near a training row: {', '.join(parts)}; nearest {self.max_cosine:.4f}"


def leakage(train_emb: ArrayLike, val_emb: ArrayLike, thresholds: Sequence[float] = THRESHOLDS) -> Leakage:
    """Compares every validation row with its nearest training row, in blocks.

    Args:
        train_emb: (N,D) embeddings.
        val_emb: (M,D) embeddings.
        thresholds: cosines at which validation rows are counted.

    Raises:
        DataError: a row is not finite.
    """
    train, val = unit_rows(train_emb), unit_rows(val_emb)
    if not len(train) or not len(val):
        return Leakage(len(val), tuple(thresholds), (0,) * len(thresholds), -1.0, -1.0, ())
    nearest = np.zeros(len(val), np.int64)  # (M,)
    best = np.full(len(val), -np.inf, np.float32)
    for top in range(0, len(val), BLOCK):
        for left in range(0, len(train), BLOCK):
            tile = val[top : top + BLOCK] @ train[left : left + BLOCK].T  # (R,C)
            found = tile.argmax(1)
            value = tile[np.arange(len(tile)), found]
            better = np.flatnonzero(value > best[top : top + BLOCK])
            best[top + better], nearest[top + better] = value[better], left + found[better]
    cosine = cosines_of(val, train, np.arange(len(val)), nearest)  # float64 decides at a threshold
    order = np.argsort(-cosine, kind="stable")[:_WORST]
    return Leakage(
        rows=len(val),
        thresholds=tuple(float(t) for t in thresholds),
        counts=tuple(int((cosine >= t).sum()) for t in thresholds),
        max_cosine=float(cosine.max()),
        mean_cosine=float(cosine.mean()),
        worst=tuple((int(i), int(nearest[i]), float(cosine[i])) for i in order),
    )


def _heads(groups: NDArray[np.int64], contents: Sequence[str] | None) -> list[int]:
    """For each group the place of its row of smallest content; without contents, of its first row."""
    heads: dict[int, int] = {}
    for place, group in enumerate(groups.tolist()):
        if group not in heads or (contents is not None and contents[place] < contents[heads[group]]):
            heads[group] = place
    return list(heads.values())  # groups are numbered as they come, so these are in their order


def _draw(seed: int, content: str) -> float:
    """A number in 0..1 that looks random and depends on nothing else."""
    text = f"{seed}:{content}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()) / 2**48


def _filled(own: NDArray[np.int64], draws: NDArray[np.float64], sizes: NDArray[np.int64], share: float) -> list[int]:
    """The clusters of one stratum that, in the order of their draws, bring its validation rows nearest to the share."""
    wanted, taken, chosen = share * float(sizes[own].sum()), 0.0, []
    for cluster in own[np.argsort(draws[own], kind="stable")].tolist():
        if taken + sizes[cluster] / 2 <= wanted:
            taken += float(sizes[cluster])
            chosen.append(cluster)
    return chosen

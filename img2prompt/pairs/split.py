"""Training, validation and test rows without leaks: near-duplicate prompts are one group, and a group has one side.

The same prompt in other words on both sides makes a validation score measure memory. So rows whose embeddings are
near are joined into clusters (or into groups by a column), whole clusters are divided, and `leakage` measures what is
left. `pinning` keeps the sides that rows had in an earlier division.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2prompt.pairs.clustering import clusters, numbered
from img2prompt.pairs.leakage import THRESHOLDS, Leakage, leakage

__all__ = ["NO_SIDE", "SIDES", "THRESHOLDS", "Leakage", "SplitSettings", "clusters", "divide", "leakage", "split"]

SIDES = ("train", "validation", "test")  # a side is its place here
TRAIN = 0
NO_SIDE = -1  # of a row that is not pinned, or that is left out


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """How rows are divided.

    Attributes:
        validation: share of the rows.
        test: share of the rows; what both leave is for training.
        seed: another seed, another division.
        tolerance: how far a stratum's share may be off, as a part of that share, before clusters near the border
            change sides; 0: as near as the stratum's clusters allow; infinite: the draws alone count, whose shares
            are right on average.
        largest: clusters of more rows stay in training; None: of more than half the rows that a side is to get. Only
            a number does not change when rows are added.

    Raises:
        ValueError: the shares leave nothing for training or nothing to hold out.
    """

    validation: float
    test: float = 0.0
    seed: int = 0
    tolerance: float = math.inf
    largest: int | None = None

    def __post_init__(self) -> None:
        if not (min(self.validation, self.test) >= 0 and 0 < self.validation + self.test < 1):
            raise ValueError(f"shares of {self.validation:g} and {self.test:g}: their sum lies above 0 and below 1")

    @property
    def held_out(self) -> list[tuple[int, float]]:
        """The sides beside training that get rows, and their shares."""
        return [(side, share) for side, share in ((1, self.validation), (2, self.test)) if share > 0]


def divide(
    labels: ArrayLike,
    settings: SplitSettings,
    *,
    contents: Sequence[str] | None = None,
    strata: Sequence[object] | None = None,
    pinned: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Divides whole clusters between training, validation and test.

    Each cluster is drawn by a hash of the seed and of its smallest content, whatever the order of the rows and
    whatever else there is; strata whose shares are too far off are then corrected. A row keeps its side when rows
    are added, with four exceptions, none of which touches a pinned row: a new row enters its cluster with a smaller
    content, or joins it to another; its cluster grows past what `settings.largest` says; its draw lies near the
    border, its stratum gets rows, and its share is off by more than `settings.tolerance`; or the draw had left a side
    empty, which then gets one cluster. No deterministic rule does without such exceptions if shares are to be right.

    Args:
        labels: (N,) the cluster of each row.
        settings: the shares, the seed.
        contents: (N,) what tells rows apart wherever they lie, e.g. the prompts; None: the places of the rows.
        strata: (N,) what each row belongs to, e.g. its source; a cluster belongs to the stratum of its smallest row.
            None: there is one.
        pinned: (N,) the side that a row has whatever is drawn, `NO_SIDE` for the others; the rest of its cluster
            goes with it. In a cluster that is pinned to several sides, the others are left out: on any side they
            would be near-duplicates of rows on another.

    Returns:
        (N,) places in `SIDES`; `NO_SIDE` for rows that are left out. All training where there is only one cluster.
    """
    groups = numbered(np.asarray(labels))  # (N,)
    kept = np.full(len(groups), NO_SIDE) if pinned is None else np.asarray(pinned, np.int64)  # (N,)
    if any(given is not None and len(given) != len(groups) for given in (strata, contents, kept)):
        raise ValueError("labels, contents, strata and pinned have one entry a row")
    heads = _heads(groups, contents)
    draws = np.array([_draw(settings.seed, str(h) if contents is None else contents[h]) for h in heads])  # (C,)
    sizes = np.bincount(groups, minlength=len(heads))  # (C,)
    sides, torn = _pinned_sides(groups, kept, len(heads))  # (C,) each
    drawn = np.where(sides == NO_SIDE, _drawn(draws, sizes, settings), sides)
    kinds = np.array(["" if strata is None else str(strata[h]) for h in heads])
    for kind in np.unique(kinds) if math.isfinite(settings.tolerance) else ():
        own = np.flatnonzero(kinds == kind)
        drawn[own] = _corrected(drawn[own], sides[own] == NO_SIDE, draws[own], sizes[own], settings)
    sides = drawn
    if (kept == NO_SIDE).all():
        _fill_empty(sides, draws, sizes, settings)
    result = np.where(torn, NO_SIDE, sides)[groups]
    return np.where(kept == NO_SIDE, result, kept)


def split(
    labels: ArrayLike,
    share: float,
    seed: int,
    strata: Sequence[object] | None = None,
    contents: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """`divide` into training and validation.

    Args:
        labels: (N,) the cluster of each row.
        share: of the rows that validation is to get, above 0 and below 1.
        seed: another seed, another division.
        strata: (N,) each of which then gives its share of rows as nearly as its clusters allow; None: rows keep their
            sides when others are added, and the share is met on average.
        contents: (N,) see `divide`.

    Returns:
        (N,) whether the row is for validation. All False where there is only one cluster.
    """
    settings = SplitSettings(share, seed=seed, tolerance=math.inf if strata is None else 0)
    chosen: NDArray[np.bool_] = divide(labels, settings, contents=contents, strata=strata) == SIDES.index("validation")
    return chosen


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


def _pinned_sides(
    groups: NDArray[np.int64], kept: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The side that each of `count` clusters is pinned to, and whether it is pinned to several."""
    sides, most = np.full(count, NO_SIDE), np.full(count, NO_SIDE)  # (C,)
    rows = np.flatnonzero(kept != NO_SIDE)
    lowest = np.full(count, len(SIDES))
    np.minimum.at(lowest, groups[rows], kept[rows])
    np.maximum.at(most, groups[rows], kept[rows])
    sides[groups[rows]] = lowest[groups[rows]]
    return sides, (most != NO_SIDE) & (lowest != most)


def _limits(total: int, settings: SplitSettings) -> Iterator[tuple[int, float, float]]:
    """The sides beside training, their shares, and the rows of the largest cluster that each takes."""
    for side, share in settings.held_out:
        yield side, share, max(1.0, share * total / 2) if settings.largest is None else float(settings.largest)


def _drawn(draws: NDArray[np.float64], sizes: NDArray[np.int64], settings: SplitSettings) -> NDArray[np.int64]:
    """The side (C,) of each cluster by its own draw alone."""
    sides, start = np.full(len(draws), TRAIN), 0.0
    for side, share, most in _limits(int(sizes.sum()), settings):
        sides[(draws >= start) & (draws < start + share) & (sizes <= most)] = side
        start += share
    return sides


def _corrected(
    sides: NDArray[np.int64],
    free: NDArray[np.bool_],
    draws: NDArray[np.float64],
    sizes: NDArray[np.int64],
    settings: SplitSettings,
) -> NDArray[np.int64]:
    """The sides (C,) of one stratum's clusters after those nearest to a border have crossed it, as far as shares need.

    Args:
        sides: (C,) as drawn.
        free: (C,) which may change.
        draws: (C,) where they lie.
        sizes: (C,) rows.
        settings: the shares and the tolerance.
    """
    sides, border = sides.copy(), 0.0
    for side, share in settings.held_out:
        border += share  # the side has the draws below it, down to the one before
        wanted = share * float(sizes.sum())
        taken = float(sizes[sides == side].sum())
        least, most = wanted * (1 - settings.tolerance), wanted * (1 + settings.tolerance)
        mine = np.flatnonzero(free & (sides == side))
        for cluster in mine[np.argsort(-draws[mine], kind="stable")].tolist():  # down from the border
            if taken - sizes[cluster] / 2 >= most:
                taken -= float(sizes[cluster])
                sides[cluster] = TRAIN
        others = np.flatnonzero(free & ((sides == TRAIN) | (sides > side)) & (sizes <= (settings.largest or math.inf)))
        for cluster in others[np.argsort((draws[others] - border) % 1, kind="stable")].tolist():  # up from the border
            if taken + sizes[cluster] / 2 <= least:
                taken += float(sizes[cluster])
                sides[cluster] = side
    return sides


def _fill_empty(
    sides: NDArray[np.int64], draws: NDArray[np.float64], sizes: NDArray[np.int64], settings: SplitSettings
) -> None:
    """Gives one cluster to each side that has none, in place, as far as there are clusters to share."""
    giant = sizes > min((most for _, _, most in _limits(int(sizes.sum()), settings)), default=1.0)  # (C,)
    for side in (TRAIN, *(side for side, _ in settings.held_out)):
        donors = np.flatnonzero(sides == np.bincount(sides, minlength=len(SIDES)).argmax())
        if (sides == side).any() or len(donors) <= (side != TRAIN):
            continue
        order = np.lexsort((draws[donors], giant[donors]))
        sides[donors[order[-1 if side == TRAIN else 0]]] = side

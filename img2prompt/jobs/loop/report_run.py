"""A finished run as its report reads it: results.jsonl, summary.json and pictures, whatever may be missing there."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, TypeGuard

from img2prompt.errors import DataError

Row = Mapping[str, Any]

# Kinds of prompts in the order of the page, and what they are called there; candidates stand before the floor.
KINDS = {
    "true": "true prompt",
    "base": "base",
    "predicted": "predicted",
    "predicted-negative": "predicted + negative",
    "upsampled": "upsampled",
    "upsampled-negative": "upsampled + negative",
    "refined": "refined",
    "floor": "floor",
}
# What a prompt is compared with, word by word: the first of these that the row has.
COMPARED = {"upsampled": ("predicted", "base"), "predicted": ("true",), "refined": ("predicted",)}
PLOTTED = tuple(kind for kind in KINDS if kind not in ("true", "floor"))  # are drawn; all kinds are in the tables
METRICS = {  # what metrics are called where their own name says too little
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "dreamsim": "DreamSim",
    "clip_i": "CLIP-I",
    "dino_i": "DINO-I",
    "regressor_cosine": "Regressor cosine",
    "dinov2_i": "DINOv2-I",
    "colour_distance": "Colour distance",
    "clip_score": "CLIPScore",
    "coca_likelihood": "CoCa likelihood",
    "coca_probability": "CoCa probability",
    "coca_cosine": "CoCa cosine",
    "prompt_cosine": "Prompt cosine",
}
# The first of these that a run has is the one that its pictures are ordered by: likeness as people see it comes first.
LEADING = (
    *("dreamsim", "dino_i", "dinov2_i", "clip_i", "regressor_cosine", "lpips", "prompt_cosine"),
    *("coca_probability", "coca_likelihood", "clip_score", "colour_distance", "ssim"),
)
LEADING_OF_TEXTS = ("clip_score", "coca_probability", "coca_likelihood", "coca_cosine", "prompt_cosine")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found.

    Attributes:
        folder: of the run.
        rows: of results.jsonl, an original or a base prompt each.
        summary: of summary.json.
    """

    folder: Path
    rows: Sequence[Row]
    summary: Row

    @property
    def metrics(self) -> Mapping[str, Row]:
        """Name -> its part of the summary."""
        return self.summary.get("metrics") or {}

    @property
    def has_originals(self) -> bool:
        """Whether pictures were the start, and not prompts."""
        return any(row.get("original") for row in self.rows)

    @property
    def kinds(self) -> list[str]:
        """All kinds of prompts that a row has, in the order of the page."""
        return ordered({kind for row in self.rows for kind in row.get("prompts") or {}})

    @property
    def leading(self) -> str | None:
        """The metric that pictures are ordered by."""
        first = LEADING if self.has_originals else LEADING_OF_TEXTS
        scored = [name for name, found in self.metrics.items() if found.get("kinds")]
        return next((name for name in (*first, *scored) if name in scored), None)

    @property
    def subject(self) -> str:
        """The kind of prompt that the run is about."""
        return next((kind for kind in ("predicted", "base", *self.kinds) if kind in self.kinds), "predicted")


def read_run(folder: Path) -> Run:
    """Reads the two text files of a run.

    Raises:
        DataError: one of them is not there or is no JSON.
    """
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_bytes())
        path = folder / "results.jsonl"
        rows = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a report is made of a finished run's folder") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); run the same command again to write it anew") from error
    if not isinstance(summary, dict) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{folder}: holds no run of ours")
    return Run(folder, rows, summary)


def ordered(kinds: set[str]) -> list[str]:
    """Kinds of prompts in the order of the page."""
    names = list(KINDS)

    def place(kind: str) -> tuple[float, int, str]:
        number = kind.rpartition("-")[2]
        return (
            names.index(kind) if kind in KINDS else len(names) - 1.5,
            int(number) if number.isdecimal() else 0,
            kind,
        )

    return sorted(kinds, key=place)


def kind_name(kind: str) -> str:
    """What a kind of prompt is called on the page."""
    return KINDS.get(kind, kind.replace("-", " "))


def prompt_name(kind: str) -> str:
    """A kind with its noun: "true prompt", "predicted prompt", "candidate 2"."""
    return kind_name(kind) if kind == "true" or kind.startswith("candidate") else f"{kind_name(kind)} prompt"


def metric_name(name: str) -> str:
    """What a metric is called on the page."""
    return METRICS.get(name, name.replace("_", " "))


def title_of(row: Row, place: int) -> str:
    """What a row is called."""
    return str(row.get("source") or row.get("id") or place + 1)


def text_of(row: Row, kind: str) -> str:
    """The prompt of a kind; empty where there is none."""
    said = (row.get("prompts") or {}).get(kind) or {}
    return str(said.get("text") or "")


def compared_with(row: Row, kind: str) -> str | None:
    """The kind that a prompt is compared with, word by word."""
    others = COMPARED.get(kind, ("predicted",) if kind.startswith("candidate") else ())
    return next((other for other in others if text_of(row, other)), None)


def score_of(row: Row, kind: str, metric: str) -> float | None:
    """The mean over seeds of a row's scores; None where there are none."""
    values = (((row.get("scores") or {}).get(kind) or {}).get(metric)) or []
    found = [float(value) for value in values if is_number(value)]
    return fmean(found) if found else None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it can be drawn: neither None nor NaN nor infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def written(value: float | None) -> str:
    """A score in as many digits as say something."""
    if not is_number(value):
        return "–"
    digits = 3 if abs(value) < 10 else 1
    return f"{rounded(value, digits):,.{digits}f}".replace("-", "−")


def rounded(value: float, digits: int = 3) -> float:
    """So many digits of a number, and no minus before a zero."""
    return round(value, digits) + 0.0


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return (
        f"{rounded(share, 2):.0%}".replace("-", "−").replace("%", " %")
        if is_number(share) and share is not None
        else "–"
    )

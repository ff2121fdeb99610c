"""How good predicted prompts are: pictures with known prompts in, one report a source out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.metrics import bleu, bootstrap_interval, identical_share
from img2prompt.pairs.storybook.parse import Facts, facts_of
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.score import score_prompts
from img2prompt.results import Failed, Prediction

if TYPE_CHECKING:
    import datasets

    from img2prompt.models.sentence import SentenceEncoder

WORST = 5  # cases in a report


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with its true prompts.

    Attributes:
        name: for people: an id or a path.
        row: of the data set, where the picture is.
        prompts: one or more that are true of it.
        truth: the facts of its scene, if it has one.
    """

    name: str
    row: int
    prompts: tuple[str, ...]
    truth: Facts | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """How the predictions of one source did.

    Attributes:
        label: of the source, for the head of its column.
        images: that were predicted.
        failed: pictures that could not be used.
        metrics: name -> value; NaN where nothing was asked (such as the sizes of scenes without sizes).
        cosine_interval: 95 % bootstrap interval of the mean cosine; None without predictions.
        rows: one dict a predicted picture: name, prompt, prompts, cosine, confidence, in_domain.
    """

    label: str
    images: int
    failed: tuple[Failed, ...]
    metrics: dict[str, float]
    cosine_interval: tuple[float, float] | None
    rows: list[dict[str, Any]] = field(repr=False)

    @property
    def worst(self) -> list[dict[str, Any]]:
        """The rows with the lowest cosines."""
        return sorted(self.rows, key=lambda row: float(row["cosine"]))[:WORST]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON, in which NaN is null."""
        return {
            "source": self.label,
            "images": self.images,
            "failed": [failed.to_dict() for failed in self.failed],
            "metrics": {name: None if math.isnan(value) else value for name, value in self.metrics.items()},
            "mean_cosine_interval": self.cosine_interval,
            "worst": self.worst,
            "rows": self.rows,
        }


def examples_of(data: datasets.Dataset, style: str, limit: int | None = None) -> list[Example]:
    """One example a picture: rows with the same image path are other prompts of the same picture.

    Args:
        data: of `open_pairs`.
        style: a column of this name ("long") holds the true prompts, where there is one; otherwise `prompt` does.
        limit: keep the first so many pictures.
    """
    names = list(data.column_names)
    texts = list(data[style if style in names else "prompt"])
    scenes: list[str | None] = list(data["scene"]) if "scene" in names else [None] * len(data)
    paths = list(data.flatten()["image.path"])  # flattened, so that the pictures' bytes stay where they are
    ids = list(data["id"]) if "id" in names else [path or f"row {row}" for row, path in enumerate(paths)]
    grouped: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        grouped.setdefault(path or f"\0{row}", []).append(row)
    return [
        Example(
            name=ids[rows[0]],
            row=rows[0],
            prompts=tuple(texts[row] for row in rows),
            truth=_truth(scenes[rows[0]]),
        )
        for rows in list(grouped.values())[:limit]
    ]


def _truth(scene: str | None) -> Facts | None:
    return facts_of(Scene.from_json(scene)) if scene else None


def sources_of(data: datasets.Dataset, examples: Iterable[Example]) -> Iterator[bytes | str | Path]:
    """What the predictor opens for each example: bytes, a URL or a path."""
    for example in examples:
        image = data[example.row]["image"]
        if image["bytes"] is not None:
            yield image["bytes"]
        else:
            yield image["path"] if image["path"].startswith(("http://", "https://")) else Path(image["path"])


def judge(
    label: str, examples: Sequence[Example], results: Sequence[Prediction | Failed], encoder: SentenceEncoder
) -> Report:
    """Scores the result of each example; failed ones are listed and enter no score."""
    pairs = [(e, r) for e, r in zip(examples, results, strict=True) if isinstance(r, Prediction)]
    failed = tuple(
        Failed(source=e.name, error=r.error, kind=r.kind)
        for e, r in zip(examples, results, strict=True)
        if isinstance(r, Failed)
    )
    if not pairs:
        return Report(label, 0, failed, {}, None, [])
    prompts = [prediction.prompt for _, prediction in pairs]
    cosines = _cosines(prompts, [example.prompts for example, _ in pairs], encoder)
    metrics = {
        "mean_cosine": float(cosines.mean()),
        "bleu": bleu(prompts, [example.prompts for example, _ in pairs]),
        "identical_share": identical_share(prompts),
        **_facts(pairs),
        **_confidence([prediction for _, prediction in pairs]),
    }
    rows = [
        {
            "name": example.name,
            "prompt": prediction.prompt,
            "prompts": list(example.prompts),
            "cosine": float(cosine),
            "confidence": prediction.confidence,
            "in_domain": prediction.in_domain,
        }
        for (example, prediction), cosine in zip(pairs, cosines, strict=True)
    ]
    return Report(label, len(pairs), failed, metrics, bootstrap_interval(cosines), rows)


def _cosines(prompts: Sequence[str], truths: Sequence[Sequence[str]], encoder: SentenceEncoder) -> NDArray[np.float64]:
    """Cosine of each prompt with its true ones, averaged where a picture has several: (B,)."""
    predicted = encoder.encode_many(prompts).astype(np.float64)  # (B,D), unit length
    flat = encoder.encode_many([text for texts in truths for text in texts]).astype(np.float64)
    sizes = [len(texts) for texts in truths]
    dots = (flat * np.repeat(predicted, sizes, axis=0)).sum(axis=1)
    ends = np.cumsum(sizes)
    return np.array([dots[end - size : end].mean() for end, size in zip(ends, sizes, strict=True)])


def _facts(pairs: Sequence[tuple[Example, Prediction]]) -> dict[str, float]:
    known = [(p.prompt, example.truth) for example, p in pairs if example.truth is not None]
    return score_prompts(*zip(*known, strict=True)) if known else {}


def _confidence(predictions: Sequence[Prediction]) -> dict[str, float]:
    known = [p for p in predictions if p.confidence is not None]
    if not known:
        return {}
    judged = [p.in_domain for p in known if p.in_domain is not None]
    return {
        "mean_confidence": float(np.mean([p.confidence for p in known])),
        "in_domain_share": float(np.mean(judged)) if judged else math.nan,
    }

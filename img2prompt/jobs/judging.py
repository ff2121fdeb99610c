"""How good predicted prompts are: pictures with known prompts in, one report a source out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.jobs.reports import Report
from img2prompt.metrics import bleu, bootstrap_interval, cider_d, cosines, identical_share
from img2prompt.pairs.storybook.parse import Facts, facts_of
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.score import score_prompts
from img2prompt.results import Failed, Prediction

if TYPE_CHECKING:
    import datasets

    from img2prompt.models.sentence import SentenceEncoder

BLOCK_ROWS = 1024  # rows whose neighbours are looked for at once


@dataclass(frozen=True, slots=True)
class Example:
    """A picture with its true prompts.

    Attributes:
        name: for people: an id or a path.
        row: of the data set, where the picture is.
        prompts: one or more that are true of it.
        truth: the facts of its scene, if it has one.
        origin: the data set that the row came from, where the rows of several were mixed (column `source`).
    """

    name: str
    row: int
    prompts: tuple[str, ...]
    truth: Facts | None = None
    origin: str | None = None

    @property
    def words(self) -> int:
        """Length of the true prompt, rounded mean where there are several."""
        return round(sum(len(prompt.split()) for prompt in self.prompts) / len(self.prompts))


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
    origins: list[str | None] = list(data["source"]) if "source" in names else [None] * len(data)
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
            origin=origins[rows[0]],
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
    """Scores the predicted prompt of each example; failed ones are listed and enter no score."""
    pairs = [(e, r) for e, r in zip(examples, results, strict=True) if isinstance(r, Prediction)]
    failed = _failed(examples, results)
    if not pairs:
        return Report(label, 0, failed, {}, None, [])
    prompts, known = [prediction.prompt for _, prediction in pairs], [example for example, _ in pairs]
    values = _cosines(encoder.encode_many(prompts), known, encoder)
    metrics = {
        "mean_cosine": float(values.mean()),
        "bleu": bleu(prompts, [example.prompts for example in known]),
        "cider_d": cider_d(prompts, [example.prompts for example in known]),
        "identical_share": identical_share(prompts),
        **_facts(pairs),
        **_confidence([prediction for _, prediction in pairs]),
    }
    said = [{"prompt": p.prompt, "confidence": p.confidence, "in_domain": p.in_domain} for _, p in pairs]
    return Report(label, len(pairs), failed, metrics, bootstrap_interval(values), _rows(known, values, said))


def judge_embeddings(
    label: str, examples: Sequence[Example], results: Sequence[NDArray[np.float32] | Failed], encoder: SentenceEncoder
) -> Report:
    """Scores the estimated embedding (D,) of each example's prompt; failed ones are listed and enter no score."""
    pairs = [(e, r) for e, r in zip(examples, results, strict=True) if not isinstance(r, Failed)]
    failed = _failed(examples, results)
    if not pairs:
        return Report(label, 0, failed, {}, None, [])
    emb, known = np.array([row for _, row in pairs]), [example for example, _ in pairs]  # (B,D)
    values = _cosines(emb, known, encoder)
    near = [{"nearest": prompt} for prompt in _nearest(emb, [example.prompts[0] for example in known], encoder)]
    metrics = {"mean_cosine": float(values.mean())}
    return Report(label, len(pairs), failed, metrics, bootstrap_interval(values), _rows(known, values, near))


def _failed(examples: Sequence[Example], results: Sequence[Any]) -> tuple[Failed, ...]:
    return tuple(
        Failed(source=e.name, error=r.error, kind=r.kind)
        for e, r in zip(examples, results, strict=True)
        if isinstance(r, Failed)
    )


def _rows(
    examples: Sequence[Example], values: NDArray[np.float64], more: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {"name": e.name, **facts, "prompts": list(e.prompts), "words": e.words, "cosine": float(c), "origin": e.origin}
        for e, c, facts in zip(examples, values, more, strict=True)
    ]


def _cosines(emb: NDArray[np.float32], examples: Sequence[Example], encoder: SentenceEncoder) -> NDArray[np.float64]:
    """Cosine of each row (B,D) with its true prompts, averaged where a picture has several: (B,)."""
    flat = encoder.encode_many([text for example in examples for text in example.prompts])  # (N,D)
    sizes = [len(example.prompts) for example in examples]
    dots = cosines(np.repeat(emb, sizes, axis=0), flat)  # (N,)
    ends = np.cumsum(sizes)
    return np.array([dots[end - size : end].mean() for end, size in zip(ends, sizes, strict=True)])


def _nearest(emb: NDArray[np.float32], prompts: Sequence[str], encoder: SentenceEncoder) -> list[str]:
    """The prompt of all that is closest to each row (B,D)."""
    known = encoder.encode_many(prompts)  # (N,D)
    starts = range(0, len(emb), BLOCK_ROWS)  # a table of all cosines would take B x N x 4 bytes
    best = np.concatenate([(emb[i : i + BLOCK_ROWS] @ known.T).argmax(axis=1) for i in starts])  # (B,)
    return [prompts[i] for i in best]


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

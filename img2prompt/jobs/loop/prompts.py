"""The words of a round trip: prompts that are predicted from the originals, and the rich ones made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.originals import original_file
from img2prompt.jobs.loop.plan import Item
from img2prompt.progress import track
from img2prompt.results import Failed, Upsampled

if TYPE_CHECKING:
    from img2prompt.predictor import Predictor
    from img2prompt.results import Prediction, Upsampler

UPSAMPLED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """How prompts are predicted."""

    candidates: int = 1
    style: str = "short"
    seed: int = 0
    batch_size: int = 16


def predict(run: RunFolder, items: Sequence[Item], predictor: Callable[[], Predictor], asked: Asked) -> None:
    """Predicts the prompts of the originals that have none yet.

    Raises:
        OutputError: a row cannot be written.
        Img2PromptError: the model cannot be opened.
    """
    todo = [item for item in items if run.get("predict", item.id) is None]
    if not todo:
        return
    rows = predictor().predict_many(
        (run.root / original_file(item.id) for item in todo),
        batch_size=asked.batch_size,
        candidates=asked.candidates,
        style=asked.style,
        seed=asked.seed,
        ignore_metadata=True,
    )
    for item, row in zip(todo, track(rows, total=len(todo), unit="picture", label="predict"), strict=True):
        if isinstance(row, Failed):
            run.put("predict", item.id, {"error": row.error, "kind": row.kind})
            continue
        run.put("predict", item.id, _predicted(row, asked.style))


def _predicted(row: Prediction, style: str) -> dict[str, Any]:
    said = [{"text": c.prompt, "from": row.preset, "style": style, "score": c.score} for c in row.candidates]
    if not said:
        said = [{"text": row.prompt, "from": row.origin, "style": style, "score": None}]
    said[0] |= {"confidence": row.confidence, "in_domain": row.in_domain}
    return {"prompts": said}


def upsample(run: RunFolder, bases: Sequence[tuple[str, str, int]], upsampler: Callable[[], Upsampler]) -> None:
    """Makes a rich prompt of every base that has none yet.

    Args:
        run: the run.
        bases: id, base prompt and seed.
        upsampler: opens it.

    Raises:
        OutputError: a row cannot be written.
        Img2PromptError: the model cannot be opened.
    """
    todo = [base for base in bases if "text" not in (run.get("upsample", base[0]) or {})]  # an endpoint may be up again
    if not todo:
        return
    opened = upsampler()
    run.open_model("upsampler", opened.settings())
    for first in track(range(0, len(todo), UPSAMPLED_AT_ONCE), unit="batch", label="upsample"):
        some = todo[first : first + UPSAMPLED_AT_ONCE]
        rows = opened.upsample_many([text for _, text, _ in some], [seed for _, _, seed in some])
        for (name, _, _), row in zip(some, rows, strict=True):
            run.put("upsample", name, _upsampled(row))


def _upsampled(row: Upsampled | Failed) -> dict[str, Any]:
    if isinstance(row, Failed):
        return {"error": row.error, "kind": row.kind}
    said = row.to_dict()
    kept = ("outcome", "tokens", "token_limit", "template", "seed", "attempts", "drift", "dropped", "why")
    return {"text": row.prompt, "from": row.model, **{name: said[name] for name in kept}}

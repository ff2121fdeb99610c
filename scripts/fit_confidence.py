"""Fits the confidence of a storybook captioner and measures it; under five minutes on two cores.

    python scripts/fit_confidence.py --preset storybook

Two thirds of the validation scenes, and as large a part of the outliers that scripts/outliers.py makes (with --outliers
also those of a folder), give the distance from the captioner's world and the probe that tells it from other pictures;
the last third weighs these two, the caption's likelihood and, where the preset has a regressor and a ranking (fit that
first, with scripts/fit_ranking.py), the agreement of the prompt with the regressor. The photographs of the evaluation
are seen by no part of the fit. Writes confidence.json and confidence.safetensors into the model's folder, and prints
what was reached as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from outliers import outlier
from PIL import Image

from img2prompt import Predictor
from img2prompt.confidence import (
    Array,
    Calibration,
    Weighing,
    fit_gaussian,
    fit_logistic,
    save_calibration,
)
from img2prompt.errors import ImageError
from img2prompt.jobs.targets import find_targets
from img2prompt.metrics import auroc
from img2prompt.pairs.images import open_image
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.presets import Located
from img2prompt.rating import Asked
from img2prompt.results import Prediction

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "pairs"
KEPT_INSIDE = 0.97  # share of validation scenes that stay above the threshold
PROBE_RIDGE = 0.1  # the probe has a weight a feature: without it, it would learn the made pictures by heart
Seen = tuple[Array, Array, Array | None]  # features (N,D), mean log-likelihood of a token (N,), agreement (N,)


def scene(number: int, split: str) -> Image.Image:
    """A storybook picture as users have it: other sizes, saved as JPEG, scaled; half of them as rendered."""
    rng = random.Random(f"{split} {number}")
    image = render(sample_scene(number, split), image_px=rng.choice((128, 128, 128, 192, 256, 512)))
    if rng.random() < 0.3:
        side = rng.randint(96, 320)
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(60, 95))
        image = open_image(buffer.getvalue())
    return image


def outliers(count: int, folder: Path | None) -> Iterator[Image.Image]:
    """Made pictures, and those of `folder`."""
    for i in range(count):
        yield outlier(i, scene(i, "train"))
    for target in find_targets([str(folder)]) if folder else []:
        try:
            yield open_image(target.source)
        except ImageError as error:
            print(error, file=sys.stderr)


def look(predictor: Predictor, images: Iterable[Image.Image], batch_size: int = 32) -> Seen:
    """What the calibration is fitted on."""
    columns: list[Seen] = []
    batch: list[Image.Image] = []

    def see() -> None:
        seen = predictor.rater.see(batch, Asked())
        columns.append((seen.features, seen.log_likelihoods, seen.agreement))
        batch.clear()

    for image in images:
        batch.append(image)
        if len(batch) == batch_size:
            see()
    if batch:
        see()
    features, likelihoods, agreements = zip(*columns, strict=True)
    known = [some for some in agreements if some is not None]
    return (
        np.concatenate(features),
        np.concatenate(likelihoods),
        np.concatenate(known) if len(known) == len(columns) else None,
    )


def fit(inside: Seen, outside: Seen) -> Calibration:
    """The calibration from pictures of the world and from outside of it."""
    near, far = len(inside[0]) * 2 // 3, len(outside[0]) * 2 // 3
    labels = np.repeat([1.0, 0.0], [near, far])
    probe, probe_bias = fit_logistic(np.vstack([inside[0][:near], outside[0][:far]]), labels, ridge=PROBE_RIDGE)
    bare = Calibration(fit_gaussian(inside[0][:near]), probe, probe_bias, ())
    held = [
        bare.evidence(features[n:], likelihoods[n:], None if agreement is None else agreement[n:])
        for (features, likelihoods, agreement), n in ((inside, near), (outside, far))
    ]
    full = [name for name in held[0] if name in held[1]]
    without = [name for name in full if name != "agreement"]  # counts where the regressor is missing
    chosen = [full, without] if full != without else [full]
    return replace(bare, weighings=tuple(weighing(held[0], held[1], names) for names in chosen))


def weighing(inside: dict[str, Array], outside: dict[str, Array], names: Sequence[str]) -> Weighing:
    """The logistic regression on some of the evidence, and the threshold that keeps most of the world inside."""
    rows = [np.column_stack([part[name] for name in names]) for part in (inside, outside)]
    weights, bias = fit_logistic(np.vstack(rows), np.repeat([1.0, 0.0], [len(r) for r in rows]))
    fitted = Weighing(dict(zip(names, weights.tolist(), strict=True)), bias, 0.5)
    lowest = float(np.quantile(fitted.confidence(inside), 1 - KEPT_INSIDE))
    return replace(fitted, threshold=min(0.5, lowest))


def confidences(predictor: Predictor, sources: Iterable[Image.Image | str]) -> tuple[Array, float]:
    """Confidence (N,) of each picture as `predict` gives it, and the share called inside of the model's world."""
    rows = [row for row in predictor.predict_many(sources, batch_size=32) if isinstance(row, Prediction)]
    found = [
        (row.confidence, row.in_domain) for row in rows if row.origin == "captioner" and row.confidence is not None
    ]
    return np.array([c for c, _ in found]), float(np.mean([bool(i) for _, i in found]))


def evaluate(predictor: Predictor, scenes: int, photographs: Path, most: int) -> dict[str, object]:
    """Held-out scenes against photographs that the fit has not seen."""
    reached: dict[str, object] = {}
    shares = {"test": scenes - 2 * (scenes // 4), "test_pairs": scenes // 4, "test_styles": scenes // 4}
    inside = []
    for split, count in shares.items():
        values, share = confidences(predictor, (scene(i, split) for i in range(count)))
        reached[f"{split}: inside"] = round(share, 4)
        inside.append(values)
    folders: Sequence[Path] = sorted(f for f in photographs.iterdir() if f.is_dir()) if photographs.is_dir() else []
    for folder in folders:
        sources = [target.source for target in find_targets([str(folder)])][:most]
        values, share = confidences(predictor, sources)
        reached[f"{folder.name}: pictures"] = len(values)
        reached[f"{folder.name}: outside"] = round(1 - share, 4)
        reached[f"{folder.name}: AUROC"] = round(auroc(np.concatenate(inside), values), 4)
    return reached


def main() -> None:
    """Fits, writes, evaluates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="storybook", help="preset or model folder; the files are written into it")
    parser.add_argument("--scenes", type=int, default=900, help="validation scenes for the fit (default: 900)")
    parser.add_argument("--made", type=int, default=600, help="made outliers (default: 600)")
    parser.add_argument("--outliers", type=Path, help="folder of further outliers")
    parser.add_argument("--test-scenes", type=int, default=300, help="held-out scenes (default: 300)")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="folder of folders, for the evaluation")
    parser.add_argument("--most", type=int, default=400, help="photographs a folder (default: 400)")
    options = parser.parse_args()
    start = time.monotonic()
    predictor = Predictor.from_preset(options.preset)
    located = predictor.located
    assert isinstance(located, Located)
    inside = look(predictor, (scene(i, "validation") for i in range(options.scenes)))
    outside = look(predictor, outliers(options.made, options.outliers))
    calibration = fit(inside, outside)
    facts: dict[str, object] = {"script": "scripts/fit_confidence.py", "scenes": options.scenes, "made": options.made}
    save_calibration(calibration, located.folder, facts)
    fitted = Predictor(located)
    facts |= evaluate(fitted, options.test_scenes, options.photographs, options.most)
    facts["seconds"] = round(time.monotonic() - start)
    save_calibration(calibration, located.folder, facts)
    weighed = [{"weights": dict(w.weights), "threshold": w.threshold} for w in calibration.weighings]
    print(json.dumps({"weighings": weighed, **facts}, indent=1))


if __name__ == "__main__":
    main()

"""A small finished run of `img2prompt roundtrip`, in the format of its folder; the pictures are the world's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.imagine import StorybookGenerator
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import Scene, sample_scene
from img2prompt.results import Failed

SEED = 7 << 32
METRICS = {  # name -> range, higher is better, source, what is measured
    "ssim": ((-1.0, 1.0), True, "Wang et al. 2004", lambda a, b: 1 - np.abs(a - b).mean() * 2),
    "lpips": ((0.0, 1.0), False, "Zhang et al. 2018", lambda a, b: float(np.square(a - b).mean() ** 0.5)),
    "colour_distance": ((0.0, 1.0), False, "this project", lambda a, b: _histogram_distance(a, b)),
}


def _histogram_distance(a: np.ndarray, b: np.ndarray) -> float:
    counts = [np.histogramdd(x.reshape(-1, 3), bins=4, range=[(0, 1)] * 3)[0].ravel() / (x.size / 3) for x in (a, b)]
    return float(np.abs(counts[0] - counts[1]).sum() / 2)


def make_run(
    folder: Path, *, images: int = 3, seeds: int = 2, px: int = 48, kinds: Sequence[str] = ("candidate-2",)
) -> Path:
    """Writes the folder: prompts of scenes, what a careless captioner makes of them, and the pictures of both.

    Args:
        folder: of the run.
        images: originals.
        seeds: pictures of a prompt.
        px: side of the pictures.
        kinds: beside true, predicted, upsampled and floor.
    """
    generator = StorybookGenerator(px)
    scenes = [sample_scene(SEED + i, "test") for i in range(images)]
    rows = []
    for number, scene in enumerate(scenes):
        prompts = prompts_of(scene, kinds)
        prompts["floor"] = {"text": describe(sample_scene(SEED + 10_000 + number, "test")), "from": "another picture"}
        rows.append(make_row(folder, f"{number:03d}-scene", render(scene, px), prompts, generator, range(seeds)))
    write_run(folder, rows, summary_of(rows, seeds))
    return folder


def prompts_of(scene: Scene, kinds: Sequence[str]) -> dict[str, Any]:
    """A scene's prompt, one with a wrong setting, and that one made rich."""
    wrong = replace(scene, setting="desert" if scene.setting != "desert" else "farm", time="day", weather="clear")
    rich = describe(wrong, "long")
    drift = {"lost": [], "contradicted": [], "cosine": 0.81, "checker": "storybook"}
    return {
        "true": {"text": describe(scene), "from": "given"},
        "predicted": {"text": describe(wrong), "from": "captioner", "confidence": 0.72},
        "upsampled": {"text": rich, "from": "predicted", "tokens": 61, "outcome": "upsampled", "drift": drift},
        **{kind: {"text": describe(wrong, variant=n + 2), "from": "captioner"} for n, kind in enumerate(kinds)},
    }


def make_row(
    folder: Path,
    name: str,
    original: Image.Image | None,
    prompts: Mapping[str, Any],
    generator: StorybookGenerator,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """A row of results.jsonl, with its pictures drawn and written."""
    place = folder / "images" / name
    place.mkdir(parents=True, exist_ok=True)
    if original is not None:
        original.save(place / "original.png")
    pictures: dict[str, list[dict[str, Any]]] = {}
    scores: dict[str, dict[str, list[float | None]]] = {}
    for kind, said in prompts.items():
        made = generator.generate_many([said["text"]] * len(seeds), list(seeds))
        pictures[kind], scores[kind] = [], {metric: [] for metric in METRICS}
        for seed, one in zip(seeds, made, strict=True):
            if isinstance(one, Failed):
                pictures[kind].append({"seed": seed, "error": one.error, "kind": one.kind})
            else:
                one.image.save(place / f"{kind}-{seed}.png")
                pictures[kind].append({"seed": seed, "file": f"images/{name}/{kind}-{seed}.png"})
            for metric, (_, _, _, measure) in METRICS.items():
                missing = isinstance(one, Failed) or original is None
                values = None if missing else measure(*(np.asarray(x, float) / 255 for x in (original, one.image)))
                scores[kind][metric].append(values)
    return {
        "id": name,
        "source": f"pictures/{name}.png",
        "original": f"images/{name}/original.png" if original is not None else None,
        "prompts": dict(prompts),
        "pictures": pictures,
        "scores": scores,
        "again": {kind: [said["text"]] * len(seeds) for kind, said in prompts.items() if kind != "floor"},
        "failed": [],
    }


def summary_of(rows: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """What summary.json holds; intervals are two standard errors wide."""
    kinds = list(rows[0]["prompts"]) if rows else []
    metrics = {}
    for name, (span, higher, source, _) in METRICS.items():
        means = {kind: _table(rows, kind, name) for kind in kinds}
        if not means or not any(values.size for values in means.values()):
            continue
        floor, ceiling = (float(means[k].mean()) if k in means else None for k in ("floor", "true"))
        shown = {kind: values for kind, values in means.items() if kind != "floor" and values.size}
        metrics[name] = {
            "range": span,
            "higher_is_better": higher,
            "source": source,
            "kinds": {kind: _interval(values) for kind, values in shown.items()},
            "floor": floor,
            "ceiling": ceiling,
            "ceiling_from": "true prompt",
            "fractions": {
                kind: _interval((values - floor) / (ceiling - floor)) for kind, values in shown.items() if floor
            },
            "tests": [_test(means)] if "upsampled" in means and means["upsampled"].size else [],
        }
    return {
        "config": {
            "run": {"preset": "bundled", "upsampler": "bundled", "generator": "storybook", "seeds": seeds, "seed": 0},
            "models": {"generator": {"model": "storybook", "width_px": 48, "height_px": 48}},
            "made_by": {"versions": {"img2prompt": "0", "torch": "2"}, "device": "cpu"},
        },
        "images": len(rows),
        "seeds": list(range(seeds)),
        "failed": [failed for row in rows for failed in row["failed"]],
        "skipped_metrics": {"dreamsim": "weights are not on this machine; img2prompt pull dreamsim"},
        "metrics": metrics,
        "sets": {"predicted": {"fid": 31.5, "kid": 0.021}},
    }


def _table(rows: Sequence[Mapping[str, Any]], kind: str, metric: str) -> np.ndarray:
    values = [row["scores"].get(kind, {}).get(metric) or [] for row in rows]
    return np.array([v for line in values for v in line if v is not None])


def _interval(values: np.ndarray) -> dict[str, Any]:
    spread = 2 * values.std() / max(len(values), 1) ** 0.5
    return {"mean": values.mean(), "low": values.mean() - spread, "high": values.mean() + spread, "n": len(values)}


def _test(means: Mapping[str, np.ndarray]) -> dict[str, Any]:
    difference = _interval(means["upsampled"] - means["predicted"])
    return {"a": "upsampled", "b": "predicted", "difference": difference["mean"], "p": 0.03, **{
        key: difference[key] for key in ("low", "high", "n")
    }}  # fmt: skip


def write_run(folder: Path, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    """Writes the folder's text files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False).encode(errors="backslashreplace") for row in rows]
    (folder / "results.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(json.dumps(summary["config"]))

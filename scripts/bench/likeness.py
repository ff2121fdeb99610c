"""Which measure of likeness tells a right prompt from a wrong one: AUROC of each, on storybook scenes.

    python scripts/bench/likeness.py --scenes 200 > scripts/bench/results/likeness.json

For each scene the storybook generator draws what the scene's own prompt says with another seed (right), what the prompt
of another scene says, and what its own says with one fact changed (wrong), all from the same seed. A measure compares
these pictures with the scene's own picture, or with its prompt, or the prompts that the captioner predicts for both.
Its AUROC is the chance that a right picture scores better than a wrong one: 0.5 tells nothing, 1 everything. Beside it
stands the share of scenes whose right picture wins against the wrong one of the same scene, ties counted half.
The captioner and the regressor were trained on this world, so theirs are the scores of measures that know what they
look at. Measures whose weights are not on this machine are named under "skipped". Two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from img2prompt import Predictor
from img2prompt.comparison import Comparer
from img2prompt.jobs.doctor import installation
from img2prompt.metrics import auroc
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.imagine import StorybookGenerator
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import Scene, sample_scene
from img2prompt.pairs.storybook.vocabulary import COLOURLESS_STYLES, COLOURS, KINDS, SETTINGS, STYLES
from img2prompt.progress import track
from img2prompt.results import Generated, Prediction

Array = NDArray[np.float64]
PX = 128
AT_ONCE = 20  # scenes; bounds the pictures in memory
RIGHT, OTHER = "own prompt", "prompt of another scene"


def other_than(value: str | None, values: Sequence[str], rng: random.Random) -> str:
    """One of the values, but not this one."""
    return rng.choice([each for each in values if each != value])


def with_style(scene: Scene, rng: random.Random) -> Scene | None:
    """Another style; of those without colours the scene would lose more than its style."""
    styles = [style for style in STYLES if style not in COLOURLESS_STYLES]
    return replace(scene, style=other_than(scene.style, styles, rng)) if scene.style in styles else None


def with_setting(scene: Scene, rng: random.Random) -> Scene:
    """Another setting."""
    return replace(scene, setting=other_than(scene.setting, SETTINGS, rng))


def with_colour(scene: Scene, rng: random.Random) -> Scene | None:
    """Another colour of its first kind of objects, if they have one."""
    first = scene.groups[0]
    if first.colour is None:
        return None
    colour = other_than(first.colour, list(COLOURS), rng)
    return replace(scene, groups=(replace(first, colour=colour), *scene.groups[1:]))


def with_count(scene: Scene, rng: random.Random) -> Scene | None:
    """One object of its first kind more, where nothing relates to it and there is room."""
    first = scene.groups[0]
    if any(0 in (relation.subject, relation.other) for relation in scene.relations) or first.count > 2:
        return None
    return replace(scene, groups=(replace(first, count=first.count + 1), *scene.groups[1:]))


def with_object(scene: Scene, rng: random.Random) -> Scene:
    """Another kind in the place of its first; it takes a colour as the first one did."""
    first, taken = scene.groups[0], {group.kind for group in scene.groups}
    kinds = [kind for kind in KINDS if kind not in taken and KINDS[kind].tintable == KINDS[first.kind].tintable]
    return replace(scene, groups=(replace(first, kind=rng.choice(kinds)), *scene.groups[1:]))


CHANGES: dict[str, Callable[[Scene, random.Random], Scene | None]] = {
    "another object": with_object,
    "another setting": with_setting,
    "another style": with_style,
    "another colour": with_colour,
    "one object more": with_count,
}


def prompts_of(number: int) -> tuple[Scene, dict[str, str]]:
    """A held-out scene, and the prompts that pictures are drawn of."""
    scene, rng = sample_scene(number, "test"), random.Random(f"likeness {number}")
    prompts = {RIGHT: describe(scene), OTHER: describe(sample_scene(number + 100_000, "test"))}
    for name, change in CHANGES.items():
        changed = change(scene, rng)
        if changed is not None:
            prompts[name] = describe(changed)
    return scene, prompts


def predicted(predictor: Predictor, images: Sequence[Image.Image]) -> list[str]:
    """What the captioner says of each picture."""
    rows = list(predictor.predict_many(images, ignore_metadata=True))
    return [row.prompt if isinstance(row, Prediction) else "" for row in rows]


def measured(numbers: Sequence[int], comparer: Comparer, predictor: Predictor) -> list[dict[str, dict[str, float]]]:
    """For each scene: metric -> kind of prompt -> score."""
    generator, rows = StorybookGenerator(PX), []
    firsts: list[Image.Image] = []
    seconds: list[Image.Image] = []
    texts: list[str] = []
    for number in numbers:
        scene, prompts = prompts_of(number)
        pictures = generator.generate_many(list(prompts.values()), [number] * len(prompts))
        rows.append([name for name, made in zip(prompts, pictures, strict=True) if isinstance(made, Generated)])
        seconds += [made.image for made in pictures if isinstance(made, Generated)]
        firsts += [render(scene, PX)] * len(rows[-1])
        texts += [prompts[RIGHT]] * len(rows[-1])
    scores = comparer.images(firsts, seconds) | comparer.texts(seconds, texts)
    if "prompt_cosine" in comparer.rows:
        origins = list({id(image): image for image in firsts}.values())
        said = dict(zip(map(id, origins), predicted(predictor, origins), strict=True))
        scores["prompt_cosine"] = comparer.prompts([said[id(image)] for image in firsts], predicted(predictor, seconds))
    ends = np.cumsum([len(row) for row in rows])
    return [
        {
            metric: dict(zip(row, values[end - len(row) : end].tolist(), strict=True))
            for metric, values in scores.items()
        }
        for row, end in zip(rows, ends, strict=True)
    ]


def separation(right: Array, wrong: Array, resamples: int = 500) -> dict[str, object]:
    """AUROC of scores of which higher is better, its bootstrap interval over scenes, and the share of wins."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(right), len(right)) for _ in range(resamples)]
    interval = np.quantile([auroc(right[draw], wrong[draw]) for draw in draws], (0.025, 0.975))
    wins = (right > wrong).mean() + (right == wrong).mean() / 2
    return {
        "auroc": round(auroc(right, wrong), 3),
        "interval": [round(float(end), 3) for end in interval],
        "wins": round(float(wins), 3),
        "scenes": len(right),
    }


def main() -> None:
    """Prints the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    start = time.perf_counter()
    predictor = Predictor.from_preset("storybook", device=options.device, rank=1)
    comparer = Comparer.open(device=options.device, predictor=predictor)
    rows: list[dict[str, dict[str, float]]] = []
    for first in track(range(0, options.scenes, AT_ONCE), unit="batch"):
        rows += measured(range(first, min(first + AT_ONCE, options.scenes)), comparer, predictor)
    table: dict[str, dict[str, object]] = {}
    for metric in rows[0]:
        sign = 1 if comparer.rows[metric].higher_is_better else -1
        table[metric] = {}
        for kind in (OTHER, *CHANGES):
            pairs = [(row[metric][RIGHT], row[metric][kind]) for row in rows if kind in row[metric]]
            right, wrong = sign * np.array(pairs).T
            table[metric][kind] = separation(right, wrong)
    result = {
        "script": "scripts/bench/likeness.py",
        "scenes": options.scenes,
        "picture_px": PX,
        "generator": "storybook",
        "measures": comparer.settings(),
        "skipped": sorted(comparer.skipped),
        "undefined": dict(comparer.undefined),
        "seconds": round(time.perf_counter() - start),
        "machine": {**installation(), "threads": torch.get_num_threads()},
        "separation": table,
    }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

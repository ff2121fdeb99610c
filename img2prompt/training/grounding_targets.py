"""What a scene says about each patch of its picture: targets of the auxiliary grounding loss, as small arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS, SETTINGS, STYLES, TIMES, WEATHERS

MIN_COVER = 0.3  # a box owns a patch of which it covers this share
MAX_COUNT = 4
FACTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("setting", SETTINGS),
    ("style", STYLES),
    ("time", TIMES),
    ("weather", WEATHERS),
)
KIND_INDEX = {kind: i for i, kind in enumerate(KINDS)}
COLOUR_INDEX = {colour: i for i, colour in enumerate(COLOURS)}


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of N pictures of P patches, row-major from the top left; all uint8."""

    kinds: Any  # (N,P) 0 background, else 1 + the kind
    colours: Any  # (N,P) 0 none, else 1 + the colour
    centres: Any  # (N,P) 1 where the centre of a box lies
    facts: Any  # (N,4) setting, style, time, weather
    counts: Any  # (N,K) objects of each kind, 0-4

    @staticmethod
    def names() -> tuple[str, ...]:
        """The arrays' names."""
        return tuple(field.name for field in fields(Targets))

    def each(self, change: Callable[[Any], Any]) -> Targets:
        """Every array changed in the same way."""
        return Targets(*(change(getattr(self, name)) for name in self.names()))

    def rows(self, index: np.ndarray) -> Targets:
        """The targets of some rows."""
        return self.each(lambda part: part[index])


def empty_targets(rows: int, grid: int) -> Targets:
    """Targets of nothing: all background."""
    shapes = ((grid * grid,), (grid * grid,), (grid * grid,), (len(FACTS),), (len(KINDS),))
    return Targets(*(np.zeros((rows, *shape), np.uint8) for shape in shapes))


def targets_of(scenes: Sequence[str], grid: int) -> Targets:
    """Targets of scenes.

    Args:
        scenes: JSON of each scene with its "boxes", in drawing order, back to front.
        grid: patches a side.
    """
    targets = empty_targets(len(scenes), grid)
    for i, text in enumerate(scenes):
        scene = json.loads(text)
        targets.facts[i] = [words.index(scene[name]) for name, words in FACTS]
        for group in scene["groups"]:
            targets.counts[i, KIND_INDEX[group["kind"]]] = min(group["count"], MAX_COUNT)
        for box in scene["boxes"]:
            _paint(targets, i, box, scene["groups"][box["group"]]["colour"], grid)
    return targets


def _paint(targets: Targets, row: int, box: dict[str, Any], colour: str | None, grid: int) -> None:
    """Marks the patches of one box; later boxes lie in front."""
    cover = np.outer(_cover(box["y0"], box["y1"], grid), _cover(box["x0"], box["x1"], grid)).ravel() >= MIN_COVER
    x, y = (min(grid - 1, max(0, int((box[a] + box[b]) / 2 * grid))) for a, b in (("x0", "x1"), ("y0", "y1")))
    cover[y * grid + x] = True  # an object smaller than a patch is still seen
    targets.kinds[row, cover] = 1 + KIND_INDEX[box["kind"]]
    targets.colours[row, cover] = 0 if colour is None else 1 + COLOUR_INDEX[colour]
    targets.centres[row, y * grid + x] = 1


def _cover(low: float, high: float, grid: int) -> np.ndarray:
    """The share of each of `grid` cells of the unit interval that lies within low..high."""
    edges = np.arange(grid + 1) / grid
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) * grid

"""Scenes: what a storybook picture shows, how scenes are drawn at random, and which are held out for testing."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.vocabulary import (
    COLOURLESS_STYLES,
    COLOURS,
    KINDS,
    RELATIONS,
    SAMPLED_RELATIONS,
    SETTINGS,
    SIZES,
    SKYLESS_SETTINGS,
    STYLES,
    TIMES,
    WEATHERS,
)

SPLITS: tuple[str, ...] = ("train", "validation", "test", "test_pairs", "test_styles")
MAX_SPRITES = 6  # objects in one scene, all groups together: more would be too small to tell apart


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of object in a scene."""

    kind: str  # key of KINDS
    count: int = 1  # 1-4
    colour: str | None = None  # key of COLOURS; None: the kind's own colours, or a style without colours
    size: str | None = None  # one of SIZES; None: the usual size


@dataclass(frozen=True, slots=True)
class Relation:
    """`groups[subject]` is `name` `groups[other]`."""

    subject: int
    name: str  # key of RELATIONS
    other: int


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a storybook picture shows. `seed` settles what has no words: positions, textures, tints."""

    groups: tuple[Group, ...]  # 1-3, kinds distinct
    relations: tuple[Relation, ...]
    setting: str
    time: str
    weather: str
    style: str
    seed: int

    def to_json(self) -> str:
        """The scene as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Scene:
        """The inverse of `to_json`; unknown keys (such as boxes) are passed over.

        Raises:
            DataError: the text is no scene of this world.
        """
        try:
            row: dict[str, Any] = json.loads(text)
            scene = Scene(
                groups=tuple(Group(**group) for group in row["groups"]),
                relations=tuple(Relation(**relation) for relation in row["relations"]),
                setting=row["setting"],
                time=row["time"],
                weather=row["weather"],
                style=row["style"],
                seed=int(row["seed"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"scene JSON: {type(error).__name__}: {error}") from error
        check(scene)
        return scene


def check(scene: Scene) -> None:
    """Raises `DataError` unless every word of the scene belongs to the world and the structure is sound."""
    kinds = [group.kind for group in scene.groups]
    problems = [
        not 1 <= len(kinds) <= 3 and f"{len(kinds)} groups, 1 to 3 are possible",
        len(set(kinds)) < len(kinds) and f"a kind twice in {kinds}",
        *(group.kind not in KINDS and f"kind {group.kind!r}" for group in scene.groups),
        *(not 1 <= group.count <= 4 and f"count {group.count}, 1 to 4 are possible" for group in scene.groups),
        *(
            group.colour is not None and group.colour not in COLOURS and f"colour {group.colour!r}"
            for group in scene.groups
        ),
        *(group.size is not None and group.size not in SIZES and f"size {group.size!r}" for group in scene.groups),
        *(relation.name not in RELATIONS and f"relation {relation.name!r}" for relation in scene.relations),
        *(
            not (
                0 <= relation.subject < len(kinds)
                and 0 <= relation.other < len(kinds)
                and relation.subject != relation.other
            )
            and f"relation between groups {relation.subject} and {relation.other} of {len(kinds)}"
            for relation in scene.relations
        ),
        scene.setting not in SETTINGS and f"setting {scene.setting!r}",
        scene.time not in TIMES and f"time {scene.time!r}",
        scene.weather not in WEATHERS and f"weather {scene.weather!r}",
        scene.style not in STYLES and f"style {scene.style!r}",
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise DataError(f"scene: {'; '.join(found)}")


def _held_out(*names: str, share: float) -> bool:
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def held_out_pair(kind: str, other: str) -> bool:
    """True for the 5 % of pairs of kinds that stand together in no training scene."""
    return _held_out("pair", *sorted((kind, other)), share=0.05)


def held_out_style(kind: str, style: str) -> bool:
    """True for the 5 % of kind-style combinations that no training scene shows."""
    return _held_out("style", kind, style, share=0.05)


def novelty(scene: Scene) -> str:
    """Which held-out combination the scene shows: "pairs", "styles" or "none" (pairs first)."""
    kinds = [group.kind for group in scene.groups]
    if any(held_out_pair(a, b) for i, a in enumerate(kinds) for b in kinds[i + 1 :]):
        return "pairs"
    if any(held_out_style(kind, scene.style) for kind in kinds):
        return "styles"
    return "none"


def sample_scene(seed: int, split: str = "train") -> Scene:
    """Draws a scene; the same seed and split give the same scene.

    "train", "validation" and "test" show no held-out combination and come from different random streams;
    every scene of "test_pairs" shows a held-out pair of kinds, every one of "test_styles" a held-out kind-style
    combination and no held-out pair.
    """
    if split not in SPLITS:
        raise DataError(f"split {split!r}: choose from {', '.join(SPLITS)}")
    wanted = {"test_pairs": "pairs", "test_styles": "styles"}.get(split, "none")
    rng = random.Random(f"storybook {split} {seed}")
    while True:
        scene = _draw(rng)
        if novelty(scene) == wanted:
            return scene


def _draw(rng: random.Random) -> Scene:
    style = rng.choice(STYLES)
    setting = rng.choice(SETTINGS)
    kinds = rng.sample(list(KINDS), rng.choices((1, 2, 3), weights=(3, 5, 2))[0])
    has_sky = setting not in SKYLESS_SETTINGS and style not in COLOURLESS_STYLES
    relations, single = _draw_relations(rng, len(kinds))
    counts = _draw_counts(rng, len(kinds), single)
    groups = tuple(
        Group(
            kind=kind,
            count=count,
            colour=rng.choice(list(COLOURS)) if KINDS[kind].tintable and style not in COLOURLESS_STYLES else None,
            # A size is only to be seen where it can be compared: one object, alone in its group.
            size=rng.choice(SIZES) if count == 1 and rng.random() < 0.15 else None,
        )
        for kind, count in zip(kinds, counts, strict=True)
    )
    return Scene(
        groups=groups,
        relations=relations,
        setting=setting,
        time=rng.choices(TIMES, weights=(6, 2, 2))[0] if has_sky else "day",
        weather=rng.choices(WEATHERS, weights=(7, 1, 1, 1))[0] if has_sky else "clear",
        style=style,
        seed=rng.getrandbits(32),
    )


def _draw_relations(rng: random.Random, groups: int) -> tuple[tuple[Relation, ...], bool]:
    """Relations of a chain of groups, and whether every group must hold one object (something lies on something)."""
    if groups == 1:
        return (), False
    first = Relation(0, rng.choice(SAMPLED_RELATIONS), 1)
    if groups == 2:
        return (first,), first.name == "on"
    # The third group stands to one side of the first two, so that one sentence can say it and one look can see it.
    return (first, Relation(2, rng.choice(("left of", "right of")), 1)), first.name == "on"


def _draw_counts(rng: random.Random, groups: int, single: bool) -> list[int]:
    if single:
        return [1] * groups
    while True:
        counts = rng.choices((1, 2, 3, 4), weights=(5, 2, 2, 1), k=groups)
        if sum(counts) <= MAX_SPRITES:
            return counts

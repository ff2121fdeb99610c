"""Where the objects of a scene stand, so that every stated relation is to be seen.

Groups become blocks of objects, relations put blocks together, the whole is fitted into the picture. No object is
covered by more than a sliver of another, save where the scene says "behind" (partly covered) or "on" (touching).
"""

from __future__ import annotations

import functools
import itertools
import random

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.blocks import Block, Box, extent, grid, join
from img2prompt.pairs.storybook.scene import Scene, check

MARGIN = 0.03  # free border of the picture
SCALES = {"tiny": 0.6, "huge": 1.45}
COLUMNS = {1: (1,), 2: (2, 1), 3: (3, 2), 4: (2, 4)}
FLOATING_SETTINGS = frozenset({"outer space", "underwater"})  # nothing stands on the ground there
MAY_FLY = frozenset({"balloon", "kite", "helicopter", "butterfly", "rocket"})
INVERSES = {"right of": "left of", "below": "above", "in front of": "behind", "under": "on"}


@functools.lru_cache(maxsize=16)  # a data set's row asks twice: for the picture and for its boxes
def layout(scene: Scene) -> tuple[Box, ...]:
    """One box an object, in drawing order (back to front); the same scene always gives the same boxes.

    Raises:
        DataError: a word is not of this world, or the relations contradict each other.
    """
    check(scene)
    rng = random.Random(f"layout {scene.seed}")
    plan = _plan(scene)
    sizes = _sizes(scene, rng)
    flips = [rng.random() < 0.5 for _ in scene.groups]
    best: list[tuple[float, float, Block]] = []
    choices = [COLUMNS[group.count][: len(scene.groups) if group.count == 2 else 2] for group in scene.groups]
    state = rng.getrandbits(32)
    for columns in itertools.islice(itertools.product(*choices), 24):
        draw = random.Random(state)  # every arrangement meets the same dice, so that only its shape decides
        blocks = [grid(scene.groups[i], i, sizes[i], columns[i], flips[i], draw) for i in range(len(columns))]
        block = _compose(blocks, plan, draw)
        width, height = extent(block)
        scale = min(1.0, (1 - 2 * MARGIN) / width, (1 - 2 * MARGIN) / height)
        stacked = sum(-(-group.count // count) for group, count in zip(scene.groups, columns, strict=True))
        best.append((scale - 0.03 * stacked, scale, block))  # side by side looks better than one upon the other
    top = max(value for value, _, _ in best)
    _, scale, block = rng.choice([row for row in best if row[0] >= top - 0.031])
    return _place(tuple(box.scaled(scale) for box in block), scene, rng)


def _plan(scene: Scene) -> list[tuple[int, str, int]]:
    """The relations as (subject, name, other), told by the four names that are built, one for every joined group."""
    plan: list[tuple[int, str, int]] = []
    for relation in scene.relations:
        row = (relation.subject, relation.name, relation.other)
        if relation.name in INVERSES:
            row = (relation.other, INVERSES[relation.name], relation.subject)
        if any({row[0], row[2]} == {a, b} for a, _, b in plan):
            raise DataError(f"scene: groups {row[0]} and {row[2]} stand in more than one relation; keep one")
        plan.append(row)
    if len(plan) > 2:
        raise DataError(f"scene: {len(plan)} relations between three groups; at most 2 can be laid out")
    # The tight ones are built first: a block that is covered or stood upon is no longer a plain grid afterwards.
    plan.sort(key=lambda row: row[1] not in ("behind", "on"))
    if len(plan) == 2 and plan[1][1] in ("behind", "on"):
        raise DataError("scene: two relations of the kind 'behind' or 'on'; at most one can be laid out")
    for subject, name, other in plan:
        if name == "on" and (scene.groups[subject].count, scene.groups[other].count) != (1, 1):
            raise DataError("scene: 'on' joins single objects; give both groups the count 1")
    return plan


def _sizes(scene: Scene, rng: random.Random) -> list[float]:
    """The longer side of the objects of every group, before fitting."""
    total = sum(group.count for group in scene.groups)
    usual = 0.44 if total == 1 else 0.345 if total <= 3 else 0.285 if total <= 5 else 0.245
    return [usual * SCALES.get(group.size or "", 1.0) * rng.uniform(0.95, 1.05) for group in scene.groups]


def _compose(blocks: list[Block], plan: list[tuple[int, str, int]], rng: random.Random) -> Block:
    """All groups in one block, each relation of the plan true in it."""
    owner = list(range(len(blocks)))  # group -> which block holds it
    whole = dict(enumerate(blocks))
    rows = [*plan, *((0, "left of", i) for i in range(1, len(blocks)))]
    for subject, name, other in rows:
        a, b = owner[subject], owner[other]
        if a == b:
            continue  # joined already: the rows at the end only gather groups without a relation
        first, second = whole.pop(a), whole.pop(b)
        whole[a] = join(first, second, name, rng)
        owner = [a if place == b else place for place in owner]
    (block,) = whole.values()
    return block


def _place(block: Block, scene: Scene, rng: random.Random) -> tuple[Box, ...]:
    """The fitted block at its place in the picture: standing low where there is a ground."""
    width, height = extent(block)
    x = MARGIN + (1 - 2 * MARGIN - width) * rng.uniform(0.08, 0.92)
    room = 1 - 2 * MARGIN - height
    floats = scene.setting in FLOATING_SETTINGS or all(group.kind in MAY_FLY for group in scene.groups)
    y = MARGIN + room * (
        rng.uniform(0.1, 0.9) if floats else 1 - rng.uniform(0.02, 0.14) * min(1.0, 0.6 / max(room, 0.05))
    )
    return tuple(box.moved(x, max(MARGIN, y)) for box in block)

"""Blocks of objects: one group in rows, two groups side by side, one above, behind or on the other."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from img2prompt.pairs.storybook.scene import Group
from img2prompt.pairs.storybook.sprites import MASK_PX, aspect, silhouette

GAP = 0.05  # between groups of which one is left of or above the other
NEAR = 0.025  # between objects of one group


@dataclass(frozen=True, slots=True)
class Box:
    """The visible extent of one object in unit coordinates: origin top left, x to the right, y down."""

    kind: str
    group: int
    x0: float
    y0: float
    x1: float
    y1: float
    flip: bool = False  # drawn mirrored

    def moved(self, dx: float, dy: float) -> Box:
        """The same box at another place."""
        return Box(self.kind, self.group, self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy, self.flip)

    def scaled(self, factor: float) -> Box:
        """The same box with all coordinates multiplied."""
        x0, y0, x1, y1 = self.x0 * factor, self.y0 * factor, self.x1 * factor, self.y1 * factor
        return Box(self.kind, self.group, x0, y0, x1, y1, self.flip)


Block = tuple[Box, ...]  # in drawing order, its extent starting at (0, 0)


def _box(group: Group, index: int, size: float, flip: bool) -> Box:
    ratio = aspect(group.kind)
    width, height = (size, size / ratio) if ratio > 1 else (size * ratio, size)
    return Box(group.kind, index, 0.0, 0.0, width, height, flip)


def grid(group: Group, index: int, size: float, columns: int, flip: bool, rng: random.Random) -> Block:
    """The objects of one group in rows, the upper rows a little smaller, each jittered within its cell."""
    rows = -(-group.count // columns)
    boxes: list[Box] = []
    y = 0.0
    for row in range(rows):
        many = columns if row else group.count - columns * (rows - 1)  # the upper row holds what the others leave
        line = [
            _box(group, index, size * rng.uniform(0.94, 1.04) * (1 - 0.06 * (rows - 1 - row)), flip)
            for _ in range(many)
        ]
        cell, height = max(box.x1 for box in line) + NEAR, max(box.y1 for box in line)
        shift = (columns - many) * cell / 2 + (rng.uniform(-0.2, 0.2) * cell if rows > 1 and many == columns > 1 else 0)
        jitter = [rng.uniform(0, 0.07) * size for _ in line]
        for i, box in enumerate(line):
            x = shift + i * cell + (cell - NEAR - box.x1) * rng.random()
            boxes.append(box.moved(x, y + height - box.y1 + jitter[i]))
        y += height + max(jitter) + NEAR
    return normal(boxes)


def normal(boxes: list[Box] | Block) -> Block:
    """The boxes moved so that their extent starts at (0, 0)."""
    left, top = min(box.x0 for box in boxes), min(box.y0 for box in boxes)
    return tuple(box.moved(-left, -top) for box in boxes)


def extent(block: Block) -> tuple[float, float]:
    return max(box.x1 for box in block), max(box.y1 for box in block)


def join(first: Block, second: Block, name: str, rng: random.Random) -> Block:
    if name == "behind":
        return _behind(first, second, rng)
    if name == "on":
        return _on(first[0], second[0], rng)
    (w1, h1), (w2, h2) = extent(first), extent(second)
    if name == "above":
        dx = (w2 - w1) * rng.uniform(0.2, 0.8)
        return normal([*first, *(box.moved(-dx, h1 + GAP) for box in second)])
    down = abs(h1 - h2) * rng.uniform(0.75, 1.0)  # feet on nearly one line
    dy = down if h1 > h2 else -down
    return normal([*first, *(box.moved(w1 + GAP, dy) for box in second)])


def _behind(back: Block, front: Block, rng: random.Random) -> Block:
    """Every object of the smaller group has its partner; what has none stands free in a cell of its own."""
    backs = [box.moved(-box.x0, -box.y0) for box in back]
    fronts = [box.moved(-box.x0, -box.y0) for box in front]
    side = rng.choice((-1, 1))
    aim = rng.uniform(0.27, 0.37)
    pairs = min(len(backs), len(fronts))
    cells = [_cover(backs[i], fronts[i], side, aim) for i in range(pairs)]
    cells += [(box,) for box in [*backs[pairs:], *fronts[pairs:]]]
    rng.shuffle(cells)
    columns = max(len({box.x0 for box in block if box.y1 > extent(block)[1] * 0.6}) for block in (back, front))
    rows = -(-len(cells) // columns)
    # Free objects of the back group stand in the upper rows, free ones of the front group in the lower.
    cells.sort(key=lambda cell: 1 if len(cell) == 2 else 0 if cell[0] in backs else 2)
    lines = [cells[i * columns : (i + 1) * columns] for i in range(rows)]
    placed: list[Box] = []
    y = 0.0
    for line in lines:
        line = rng.sample(line, len(line))
        feet = max(_feet(cell) for cell in line)
        x, low = 0.0, y
        for cell in line:
            moved = [box.moved(x, y + feet - _feet(cell)) for box in cell]
            x += extent(cell)[0] + NEAR
            low = max(low, *(box.y1 for box in moved))
            placed += moved
        y = low + NEAR
    rank = {back[0].group: 0, front[0].group: 1}
    return normal(sorted(placed, key=lambda box: rank[box.group]))  # the sort is stable


def _feet(cell: Block) -> float:
    """Where the hindmost object of a cell stands."""
    return cell[0].y1


def _cover(back: Box, front: Box, side: int, aim: float) -> Block:
    """The front object pushed before the back one from one side until it hides the share `aim` of it."""
    drop = 0.12 * min(back.y1, front.y1)
    low, high = 0.0, 1.0  # 0: centred, 1: side by side
    for _ in range(7):
        middle = (low + high) / 2
        if _hidden(back, _pushed(back, front, side * middle, drop)) > aim:
            low = middle
        else:
            high = middle
    return normal([back, _pushed(back, front, side * high, drop)])


def _pushed(back: Box, front: Box, share: float, drop: float) -> Box:
    reach = (back.x1 + front.x1) / 2
    return front.moved((back.x1 - front.x1) / 2 + share * reach, back.y1 - front.y1 + drop)


def _hidden(back: Box, front: Box) -> float:
    """Which share of the back object's silhouette the front object's silhouette covers (both at their boxes)."""
    steps = (np.arange(MASK_PX) + 0.5) / MASK_PX
    x = (back.x0 + steps * (back.x1 - back.x0) - front.x0) / (front.x1 - front.x0)
    y = (back.y0 + steps * (back.y1 - back.y0) - front.y0) / (front.y1 - front.y0)
    columns, rows = np.floor(x * MASK_PX).astype(int), np.floor(y * MASK_PX).astype(int)
    inside = ((rows >= 0) & (rows < MASK_PX))[:, None] & ((columns >= 0) & (columns < MASK_PX))[None, :]
    cover = silhouette(front.kind, front.flip)[np.clip(rows, 0, MASK_PX - 1)][:, np.clip(columns, 0, MASK_PX - 1)]
    own = silhouette(back.kind, back.flip)
    return float((cover & inside & own).sum() / own.sum())


def _on(upper: Box, lower: Box, rng: random.Random) -> Block:
    """The upper object let down on the lower one near its middle, where it comes to rest highest."""
    shifts = [rng.uniform(-0.04, 0.04) + step for step in (-0.1, 0.0, 0.1)]
    rests = [_rest(upper, lower, shift) for shift in shifts]
    best = rests.index(min(rests))
    dx = (lower.x1 - upper.x1) / 2 + shifts[best] * lower.x1
    return normal([lower, upper.moved(dx, rests[best] - upper.y1)])


def _rest(upper: Box, lower: Box, shift: float) -> float:
    """At which y the bottom of the upper object comes to rest, when its middle is `shift` lower-widths off centre."""
    under = silhouette(upper.kind, upper.flip)
    columns = np.arange(round(MASK_PX * 0.15), round(MASK_PX * 0.85))  # an outstretched tail carries nothing
    feet = (MASK_PX - under[::-1].argmax(axis=0)) / MASK_PX * upper.y1
    x = lower.x1 / 2 + shift * lower.x1 + ((columns + 0.5) / MASK_PX - 0.5) * upper.x1
    over = np.floor(x / lower.x1 * MASK_PX).astype(int)
    carries = np.asarray(under.any(axis=0))
    within = (over >= 0) & (over < MASK_PX) & carries[columns]
    if not within.any():
        return 0.02 * lower.y1
    tops = silhouette(lower.kind, lower.flip).argmax(axis=0)[over[within]] / MASK_PX * lower.y1
    touch = float(np.min(tops - feet[columns][within])) + upper.y1
    return min(touch + 0.015, 0.4 * lower.y1)  # sunk in by a hair, so that no daylight shows between the two

"""The outdoor settings that people have made: city, farm, meadow. Nothing in them looks like a kind of object."""

from __future__ import annotations

from img2prompt.pairs.storybook.canvas import Canvas
from img2prompt.pairs.storybook.painting import Colour, mixed


def city(c: Canvas) -> None:
    """Towers with rows of windows, a pavement and a road with its broken white line."""
    c.sky(0.7)
    night = c.scene.time == "night"
    for depth, (base, low, high) in enumerate((((166, 184, 204), 0.12, 0.4), ((112, 124, 148), 0.22, 0.5))):
        x = -c.rng.uniform(0, 0.1)
        while x < 1:
            width, top = c.rng.uniform(0.1, 0.19), c.rng.uniform(low, high)
            wall = mixed(base, c.rng.choice(((186, 150, 130), (120, 150, 170), (150, 150, 160))), 0.4)
            c.rectangle(x, top, x + width - 0.008, 0.68, wall)
            if depth:
                _windows(c, (x, top, width), wall, night)
            x += width
    c.ground(0.67, (178, 176, 172), (192, 190, 186), 0.76)
    c.ground(0.76, (84, 86, 92), (104, 106, 112))
    start = c.rng.uniform(-0.2, 0)
    for i in range(6):
        x = start + i * 0.24
        c.polygon([(x, 0.865), (x + 0.12, 0.865), (x + 0.11, 0.892), (x - 0.015, 0.892)], (240, 238, 225))


def _windows(c: Canvas, place: tuple[float, float, float], wall: Colour, night: bool) -> None:
    x, top, width = place
    columns = max(2, round(width / 0.042))
    step = width / (columns + 0.4)
    for row in range(int((0.64 - top) / 0.055)):
        for column in range(columns):
            lamp = night and c.rng.random() < 0.55
            left, upper = x + step * (column + 0.4), top + 0.03 + row * 0.055
            colour = (
                (255, 222, 120) if lamp else c.lit(mixed(wall, (214, 236, 250), 0.7) if not night else (40, 50, 70))
            )
            s = c.side
            c.draw.rectangle((left * s, upper * s, (left + step * 0.5) * s, (upper + 0.03) * s), fill=colour)


def farm(c: Canvas) -> None:
    """Ploughed furrows running to the horizon, a pair of silos, round bales of hay, a rail fence."""
    c.sky(0.5)
    c.ridge(0.46, 0.02, 1.1, (146, 178, 100))
    x = c.rng.choice((c.rng.uniform(0.1, 0.22), c.rng.uniform(0.74, 0.86)))
    for shift, top in ((0.0, 0.2), (0.105, 0.26)):
        c.ellipse(x + shift, top, 0.045, 0.045, c.lit((150, 164, 178)))
        c.rectangle(x + shift - 0.045, top, x + shift + 0.045, 0.52, (196, 206, 214))
        c.rectangle(x + shift + 0.015, top, x + shift + 0.045, 0.52, (164, 176, 188))
        for i in range(4):
            c.rectangle(
                x + shift - 0.045, top + 0.05 + 0.06 * i, x + shift + 0.045, top + 0.06 + 0.06 * i, (142, 154, 168)
            )
    c.ground(0.5, (158, 176, 84), (140, 160, 72))
    middle = c.rng.uniform(0.35, 0.65)
    for i in range(-9, 10):
        c.polygon(
            [
                (middle + i * 0.055, 0.56),
                (middle + i * 0.055 + 0.022, 0.56),
                (middle + i * 0.21 + 0.1, 1.0),
                (middle + i * 0.21, 1.0),
            ],
            (146, 104, 66),
        )
    for bale in (c.rng.uniform(0.3, 0.45), c.rng.uniform(0.5, 0.66)):
        y = c.rng.uniform(0.535, 0.56)
        c.ellipse(bale, y - 0.028, 0.042, 0.04, c.lit((226, 190, 96)))
        c.ellipse(bale, y - 0.028, 0.022, 0.02, c.lit((190, 150, 66)))
    for y in (0.575, 0.61):
        c.rectangle(0, y, 1, y + 0.012, (240, 234, 220))
    for i in range(9):
        c.rectangle(i * 0.125 + 0.03, 0.55, i * 0.125 + 0.052, 0.65, (250, 244, 232))


def flower_meadow(c: Canvas) -> None:
    """Green hills full of small blossoms."""
    c.sky(0.55)
    c.ridge(0.48, 0.04, 0.9, (136, 186, 104))
    c.ridge(0.55, 0.02, 1.2, (120, 184, 84))
    c.ground(0.6, (116, 180, 76), (86, 150, 60))
    for _ in range(46):
        x, y = c.rng.random(), c.rng.uniform(0.62, 1)
        c.line([(x, y), (x + c.rng.uniform(-0.015, 0.015), y - 0.04)], 0.007, (70, 128, 52))
    petals: tuple[Colour, ...] = ((255, 255, 255), (255, 205, 225), (255, 232, 120), (206, 180, 250))
    for i in range(64):
        near = (i / 64) ** 1.3
        x, y, r = c.rng.random(), 0.57 + 0.43 * near, 0.006 + 0.013 * near
        petal = c.lit(c.rng.choice(petals))
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            c.disc(x + dx * r * 0.8, y + dy * r * 0.7, r * 0.7, petal)
        c.disc(x, y, r * 0.5, c.lit((240, 170, 50)))

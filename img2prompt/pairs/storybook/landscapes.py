"""The outdoor settings. Every painter fills a whole canvas; none draws anything that looks like a kind of object."""

from __future__ import annotations

from img2prompt.pairs.storybook.canvas import Canvas
from img2prompt.pairs.storybook.painting import Colour, mixed


def beach(c: Canvas) -> None:
    """Sea to the horizon, foam along a slanting shore, sand."""
    horizon = c.rng.uniform(0.4, 0.48)
    c.sky(horizon)
    c.ground(horizon, (30, 110, 170), (84, 196, 206), horizon + 0.22)
    for _ in range(9):
        x, y = c.rng.random(), c.rng.uniform(horizon + 0.02, horizon + 0.16)
        width = c.rng.uniform(0.04, 0.1)
        c.line([(x - width, y), (x, y - 0.008), (x + width, y)], 0.008, (190, 232, 236))
    slope = c.rng.choice((-1, 1)) * c.rng.uniform(0.03, 0.07)
    shore = [(i / 12, horizon + 0.19 + slope * (i / 6 - 1) + 0.015 * (-1) ** i) for i in range(13)]
    for lift, colour in ((-0.03, (240, 250, 250)), (0.0, (206, 178, 122)), (0.035, (240, 216, 158))):
        c.polygon([*((x, y + lift) for x, y in shore), (1.01, 1.01), (-0.01, 1.01)], colour)
    for _ in range(70):
        x, y = c.rng.random(), c.rng.uniform(horizon + 0.32, 1)
        c.ellipse(x, y, 0.006, 0.004, c.lit(c.rng.choice(((214, 184, 124), (252, 236, 190), (250, 240, 226)))))


def forest(c: Canvas) -> None:
    """Dark trunks behind trunks, their crowns out of sight, light between them, a leafy floor."""
    c.sky(0.6)
    c.ground(0.0, (178, 208, 150), (204, 224, 168), 0.62) if c.scene.time == "day" else None
    for depth, (trunks, width, colour, foot) in enumerate(
        ((10, 0.028, (132, 160, 118), 0.6), (8, 0.045, (84, 110, 76), 0.64), (5, 0.075, (70, 52, 40), 0.72))
    ):
        if depth == 1:
            c.ground(0.6, (92, 132, 66), (66, 100, 50))
        for i in range(trunks):
            x = (i + c.rng.uniform(0.1, 0.9)) / trunks
            w, lean = width * c.rng.uniform(0.7, 1.3), c.rng.uniform(-0.02, 0.02)
            c.polygon(
                [
                    (x - w / 2 + lean, 0),
                    (x + w / 2 + lean, 0),
                    (x + w * 0.6, foot),
                    (x + w, foot + 0.03),
                    (x - w, foot + 0.03),
                    (x - w * 0.6, foot),
                ],
                colour,
            )
            c.line([(x + lean, 0.2 + 0.1 * depth), (x + lean + w * 2.2, 0.1)], w * 0.3, colour)
    for i in range(34):
        x, y = (i % 17 + c.rng.random()) / 17, c.rng.uniform(-0.02, 0.05 + 0.06 * (i % 2))
        c.ellipse(x, y, 0.07, 0.05, c.lit(c.rng.choice(((44, 92, 48), (60, 116, 54), (84, 140, 66)))))
    for _ in range(50):
        x, y = c.rng.random(), c.rng.uniform(0.68, 1)
        c.line(
            [(x, y), (x + c.rng.uniform(-0.02, 0.02), y - 0.035)],
            0.008,
            c.rng.choice(((112, 158, 74), (54, 86, 44), (150, 120, 60))),
        )


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


def desert(c: Canvas) -> None:
    """Table mountains far away, long dunes with a lit and a shaded side."""
    c.sky(0.6)
    for _ in range(c.rng.randint(1, 3)):
        x, width, top = c.rng.uniform(0.05, 0.95), c.rng.uniform(0.1, 0.2), c.rng.uniform(0.34, 0.44)
        c.polygon(
            [
                (x - width * 0.6, top),
                (x + width * 0.6, top),
                (x + width * 0.75, 0.5),
                (x + width, 0.62),
                (x - width, 0.62),
                (x - width * 0.75, 0.5),
            ],
            (196, 128, 92),
        )
        c.polygon(
            [
                (x + width * 0.2, top),
                (x + width * 0.6, top),
                (x + width * 0.75, 0.5),
                (x + width, 0.62),
                (x + width * 0.3, 0.62),
            ],
            (168, 102, 76),
        )
    for y, colour in ((0.55, (232, 186, 120)), (0.66, (242, 202, 136)), (0.8, (250, 216, 152))):
        peak, side = c.rng.uniform(0.15, 0.85), c.rng.choice((-1, 1))
        c.ridge(y, 0.025, 0.8, colour)
        crest = [(peak, y - 0.07), (peak + side * 0.12, y - 0.03), (peak + side * 0.45, y + 0.05)]
        c.polygon([(peak - side * 0.4, y + 0.06), (peak - side * 0.12, y - 0.035), *crest], colour)
        c.polygon([*crest, (peak + side * 0.1, y + 0.06)], mixed(colour, (170, 110, 60), 0.45))
    for i in range(7):
        y = 0.86 + 0.02 * i
        x = c.rng.uniform(0, 0.7)
        c.line([(x, y), (x + 0.1, y - 0.008), (x + 0.2, y), (x + 0.3, y - 0.008)], 0.006, (226, 184, 118))


def snowy_mountains(c: Canvas) -> None:
    """Pointed grey peaks with caps of snow, white slopes."""
    c.sky(0.74)
    for depth, (count, base, rock) in enumerate(((3, 0.62, (140, 160, 190)), (3, 0.72, (98, 114, 142)))):
        for i in range(count):
            x = (i + c.rng.uniform(0.2, 0.8)) / count
            top, width = c.rng.uniform(0.12, 0.26) + 0.14 * depth, c.rng.uniform(0.24, 0.32)
            c.polygon([(x, top), (x + width, base), (x - width, base)], rock)
            c.polygon([(x, top), (x + width, base), (x + width * 0.25, base)], mixed(rock, (50, 60, 90), 0.3))
            k = 0.42 * (base - top)
            half = width * 0.42
            c.polygon(
                [
                    (x, top),
                    (x + half, top + k),
                    (x + half * 0.5, top + k * 0.75),
                    (x + half * 0.15, top + k * 1.1),
                    (x - half * 0.3, top + k * 0.8),
                    (x - half, top + k),
                ],
                (250, 252, 255),
            )
    c.ridge(0.68, 0.02, 1.0, (224, 234, 246))
    c.ridge(0.78, 0.025, 0.9, (240, 245, 252))
    for _ in range(12):
        x, y = c.rng.random(), c.rng.uniform(0.8, 0.98)
        c.line([(x, y), (x + 0.07, y - 0.012), (x + 0.14, y)], 0.007, (200, 216, 236))


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


def lake(c: Canvas) -> None:
    """Still water between hills, their reflection in it, reeds on the bank in front."""
    c.sky(0.45)
    c.ridge(0.36, 0.05, 1.0, (120, 156, 150))
    c.ridge(0.41, 0.03, 1.4, (84, 132, 96))
    c.ground(0.45, (92, 160, 196), (150, 208, 230))
    for _ in range(5):
        x, y = c.rng.random(), 0.455
        c.ellipse(x, y + 0.03, 0.14, 0.03, c.lit((96, 146, 138)))
    for i in range(17):
        y = 0.49 + 0.42 * (i / 17)
        x, width = c.rng.random(), c.rng.uniform(0.06, 0.16)
        c.line([(x - width, y), (x + width, y)], 0.008, c.rng.choice(((206, 234, 244), (84, 142, 182))))
    c.ridge(0.95, 0.012, 1.5, (98, 140, 70))
    for side in (0.0, 1.0):
        for _ in range(10):
            x = abs(side - c.rng.uniform(0, 0.13))
            top = c.rng.uniform(0.66, 0.8)
            c.line([(x, 1), (x + c.rng.uniform(-0.02, 0.02), top)], 0.009, (74, 116, 56))
            c.ellipse(x, top + 0.03, 0.009, 0.03, c.lit((122, 82, 50)))


def volcano(c: Canvas) -> None:
    """A dark cone with a glowing mouth and streams of lava, smoke above, black ground with glowing cracks."""
    c.sky(0.8)
    x, top, width = c.rng.uniform(0.3, 0.7), c.rng.uniform(0.24, 0.3), c.rng.uniform(0.42, 0.5)
    for i in range(9):
        c.ellipse(
            x + 0.035 * i * c.rng.uniform(-0.4, 1.2),
            top - 0.03 * i,
            0.05 + 0.012 * i,
            0.04 + 0.006 * i,
            c.lit(mixed((104, 92, 92), (168, 156, 152), i / 9)),
        )
    c.polygon([(x - 0.08, top), (x + 0.08, top), (x + width, 0.78), (x - width, 0.78)], (84, 66, 66))
    c.polygon([(x + 0.03, top), (x + 0.08, top), (x + width, 0.78), (x + 0.16, 0.78)], (62, 48, 52))
    for shift, reach in ((-0.05, -0.2), (0.0, 0.03), (0.05, 0.17)):
        bend = c.rng.uniform(-0.04, 0.04)
        end = c.rng.uniform(0.56, 0.76)
        path = [(x + shift, top), (x + shift + reach * 0.4 + bend, (top + end) / 2), (x + shift + reach, end)]
        for share, colour in ((0.036, (214, 60, 20)), (0.016, (255, 186, 60))):
            c.draw.line(
                [(a * c.side, b * c.side) for a, b in path],
                fill=colour,
                width=max(1, round(share * c.side)),
                joint="curve",
            )
    c.ellipse(x, top, 0.085, 0.022, (255, 140, 40))
    c.ellipse(x, top, 0.06, 0.012, (255, 222, 120))
    c.ridge(0.74, 0.02, 1.3, (70, 58, 60))
    c.ground(0.78, (74, 62, 64), (50, 42, 46))
    for _ in range(6):
        a, b = c.rng.random(), c.rng.uniform(0.8, 0.98)
        path = [(a, b), (a + 0.06, b + 0.018), (a + 0.11, b - 0.008), (a + 0.18, b + 0.012)]
        c.draw.line(
            [(p * c.side, q * c.side) for p, q in path], fill=(240, 104, 36), width=max(1, round(0.01 * c.side))
        )


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

"""The wild outdoor settings. Every painter fills a whole canvas; nothing in it looks like a kind of object."""

from __future__ import annotations

from img2prompt.pairs.storybook.canvas import Canvas
from img2prompt.pairs.storybook.painting import mixed


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

"""The settings without a sky: rooms, deep water, space. Nothing in them looks like a kind of object."""

from __future__ import annotations

import math

from img2prompt.pairs.storybook.canvas import Canvas
from img2prompt.pairs.storybook.painting import Colour, mixed


def kitchen_table(c: Canvas) -> None:
    """A tiled wall with a shelf of jars, and a wooden table top with its planks in front."""
    wall: Colour = c.rng.choice(((212, 232, 228), (240, 232, 214), (220, 226, 240)))
    c.gradient(0, 0.6, wall, mixed(wall, (255, 255, 255), 0.3))
    step = 0.115
    for i in range(10):
        c.rectangle(i * step, 0, i * step + 0.01, 0.58, mixed(wall, (120, 130, 140), 0.35))
        if i < 6:
            c.rectangle(0, i * step, 1, i * step + 0.01, mixed(wall, (120, 130, 140), 0.35))
    c.rectangle(0.05, 0.235, 0.95, 0.26, (150, 104, 66))
    x = 0.1
    while x < 0.86:
        width, height = c.rng.uniform(0.05, 0.08), c.rng.uniform(0.08, 0.14)
        colour = c.rng.choice(((190, 206, 214), (214, 196, 170), (176, 190, 176)))
        c.rectangle(x, 0.235 - height, x + width, 0.235, colour)
        c.rectangle(x - 0.004, 0.22 - height, x + width + 0.004, 0.24 - height, (134, 112, 92))
        x += width + c.rng.uniform(0.03, 0.09)
    wood: Colour = c.rng.choice(((186, 130, 82), (204, 152, 98), (170, 112, 70)))
    c.rectangle(0, 0.55, 1, 0.58, mixed(wood, (60, 34, 16), 0.45))
    c.gradient(0.575, 1, mixed(wood, (255, 240, 210), 0.12), wood)
    vanish = c.rng.uniform(0.35, 0.65)
    for i in range(-5, 6):
        c.line([(vanish + i * 0.14, 0.575), (vanish + i * 0.27, 1)], 0.01, mixed(wood, (70, 40, 20), 0.5))
    for _ in range(26):
        x, y = c.rng.random(), c.rng.uniform(0.6, 1)
        tilt = (x - vanish) * 0.12
        c.line([(x, y), (x + tilt, y + 0.06)], 0.006, mixed(wood, (80, 48, 24), 0.25))


def living_room(c: Canvas) -> None:
    """Striped wallpaper, a window with curtains, a framed picture, a sofa, a rug on floor boards."""
    wall: Colour = c.rng.choice(((226, 206, 190), (202, 216, 212), (216, 206, 226)))
    c.gradient(0, 0.64, wall, wall)
    for i in range(12):
        c.rectangle(i / 12, 0, i / 12 + 0.035, 0.62, mixed(wall, (255, 255, 255), 0.35))
    left = c.rng.choice((0.06, 0.6))
    c.rectangle(left, 0.06, left + 0.34, 0.4, (250, 248, 242))
    c.rectangle(left + 0.025, 0.085, left + 0.315, 0.375, (166, 212, 240))
    c.rectangle(left + 0.16, 0.085, left + 0.18, 0.375, (250, 248, 242))
    c.rectangle(left + 0.025, 0.22, left + 0.315, 0.24, (250, 248, 242))
    curtain: Colour = c.rng.choice(((176, 112, 110), (110, 136, 150), (148, 128, 160)))
    for side in (left - 0.04, left + 0.29):
        c.polygon([(side, 0.03), (side + 0.09, 0.03), (side + 0.075, 0.46), (side + 0.01, 0.46)], curtain)
        c.line([(side + 0.045, 0.03), (side + 0.043, 0.46)], 0.012, mixed(curtain, (40, 30, 30), 0.25))
    frame = 0.68 - left + 0.06 if left < 0.5 else 0.2
    c.rectangle(frame, 0.12, frame + 0.2, 0.28, (134, 96, 60))
    c.rectangle(frame + 0.02, 0.14, frame + 0.18, 0.26, (236, 226, 204))
    c.rectangle(0, 0.61, 1, 0.645, (246, 242, 234))
    floor: Colour = c.rng.choice(((178, 138, 100), (158, 118, 84)))
    c.gradient(0.64, 1, floor, mixed(floor, (255, 226, 190), 0.2))
    for y in (0.7, 0.78, 0.87, 0.97):
        c.rectangle(0, y, 1, y + 0.007, mixed(floor, (60, 40, 20), 0.35))
    sofa = mixed(curtain, (90, 100, 110), 0.3)
    x = 0.52 - left * 0.55
    c.rectangle(x, 0.43, x + 0.5, 0.64, mixed(sofa, (30, 30, 40), 0.18))
    c.rectangle(x + 0.03, 0.55, x + 0.47, 0.65, sofa)
    c.rectangle(x + 0.245, 0.45, x + 0.255, 0.65, mixed(sofa, (20, 20, 30), 0.3))
    for arm in (x - 0.03, x + 0.46):
        c.rectangle(arm, 0.51, arm + 0.07, 0.68, mixed(sofa, (255, 255, 255), 0.12))
    for k, colour in enumerate((mixed(curtain, (240, 225, 200), 0.4), mixed(curtain, (240, 225, 200), 0.7))):
        c.ellipse(0.5, 0.86, 0.42 - 0.05 * k, 0.1 - 0.022 * k, colour)


def outer_space(c: Canvas) -> None:
    """Black sky, a nebula, many stars, a ringed planet and a small one."""
    c.gradient(0, 1, (8, 8, 26), (20, 12, 44))
    hue: Colour = c.rng.choice(((70, 36, 110), (30, 60, 120), (110, 36, 84)))
    x, y, dx, dy = c.rng.random(), c.rng.random(), c.rng.uniform(-0.1, 0.1), c.rng.uniform(-0.1, 0.1)
    for i in range(9):
        c.ellipse(
            x + dx * i,
            y + dy * i,
            c.rng.uniform(0.1, 0.24),
            c.rng.uniform(0.06, 0.16),
            mixed((16, 12, 38), hue, 0.2 + 0.05 * i),
        )
    for _ in range(90):
        size = c.rng.choice((0.003, 0.004, 0.004, 0.007, 0.01))
        c.disc(c.rng.random(), c.rng.random(), size, c.rng.choice(((255, 255, 255), (255, 238, 200), (190, 214, 255))))
    x, y, r = c.rng.choice((0.16, 0.84)), c.rng.uniform(0.13, 0.3), c.rng.uniform(0.08, 0.11)
    planet: Colour = c.rng.choice(((206, 160, 110), (120, 170, 190), (190, 130, 150)))
    ring = mixed(planet, (255, 240, 210), 0.5)
    s, box = c.side, (r * 2.0, r * 0.62)
    bounds = ((x - box[0]) * s, (y - box[1]) * s, (x + box[0]) * s, (y + box[1]) * s)
    width = max(1, round(0.022 * s))
    c.draw.arc(bounds, 180, 360, fill=mixed(ring, (20, 14, 40), 0.4), width=width)
    c.disc(x, y, r, planet)
    for k in (-0.4, 0.1, 0.5):
        half = r * math.sqrt(1 - k * k) * 0.97
        c.ellipse(x, y + k * r, half, r * 0.09, mixed(planet, (80, 50, 50), 0.3))
    c.draw.arc(bounds, 0, 180, fill=ring, width=width)
    x, y = 1 - x + c.rng.uniform(-0.1, 0.1), c.rng.uniform(0.55, 0.9)
    c.disc(x, y, 0.045, (150, 156, 176))
    c.disc(x + 0.012, y + 0.008, 0.034, (116, 120, 142))


def underwater(c: Canvas) -> None:
    """Light from above in shafts, deep blue below, weeds, coral and bubbles over a sandy bottom."""
    c.gradient(0, 1, (96, 206, 222), (12, 66, 122))
    for _ in range(5):
        x, width, lean = c.rng.uniform(-0.1, 1), c.rng.uniform(0.05, 0.12), c.rng.uniform(0.1, 0.25)
        shaft = mixed((96, 206, 222), (170, 236, 240), 0.5)
        c.polygon([(x, 0), (x + width, 0), (x + width * 1.3 + lean, 0.36), (x + lean, 0.36)], shaft)
        c.polygon(
            [
                (x + lean, 0.36),
                (x + width * 1.3 + lean, 0.36),
                (x + width * 1.5 + lean * 1.8, 0.66),
                (x + lean * 1.8, 0.66),
            ],
            (64, 150, 184),
        )
    c.ridge(0.86, 0.02, 1.2, (150, 170, 150))
    c.ridge(0.93, 0.015, 1.6, (196, 192, 150))
    for _ in range(9):
        x, height = c.rng.choice((c.rng.uniform(0, 0.25), c.rng.uniform(0.75, 1))), c.rng.uniform(0.14, 0.36)
        sway, colour = c.rng.choice((-0.03, 0.03)), c.rng.choice(((26, 120, 96), (40, 142, 104), (18, 96, 92)))
        c.line([(x + sway * (-1) ** i * (i > 0), 0.96 - height * i / 6) for i in range(7)], 0.018, colour)
    for _ in range(3):
        x, colour = c.rng.random(), c.rng.choice(((226, 130, 130), (222, 160, 110), (190, 130, 190)))
        for angle in (-0.7, -0.25, 0.25, 0.7):
            tip = (x + 0.1 * math.sin(angle), 0.95 - 0.1 * math.cos(angle))
            c.line([(x, 0.96), tip], 0.02, colour)
            c.disc(*tip, 0.014, colour)
    for _ in range(22):
        x, y, r = c.rng.random(), c.rng.random() * 0.85, c.rng.uniform(0.007, 0.02)
        c.disc(x, y, r, (206, 242, 248))
        c.disc(x, y, r * 0.68, mixed((96, 206, 222), (12, 66, 122), y))


def moon(c: Canvas) -> None:
    """Grey dust with craters under a black sky, the blue planet above."""
    c.gradient(0, 0.62, (4, 4, 12), (14, 14, 28))
    for _ in range(46):
        c.disc(c.rng.random(), c.rng.uniform(0, 0.58), c.rng.choice((0.003, 0.004, 0.007)), (240, 240, 250))
    x, y, r = c.rng.uniform(0.14, 0.86), c.rng.uniform(0.14, 0.2), 0.095
    c.disc(x, y, r, (54, 116, 206))
    for dx, dy, w, h in ((-0.03, -0.035, 0.04, 0.022), (0.025, 0.0, 0.035, 0.03), (-0.02, 0.04, 0.03, 0.018)):
        c.ellipse(x + dx, y + dy, w, h, (92, 170, 110))
    c.ellipse(x - 0.01, y - 0.07, 0.045, 0.016, (244, 248, 252))
    c.ellipse(x + 0.01, y + 0.02, 0.06, 0.008, (244, 248, 252))
    c.ridge(0.55, 0.025, 1.4, (128, 130, 138))
    c.ridge(0.62, 0.015, 1.0, (168, 170, 176))
    c.gradient(0.66, 1, (168, 170, 176), (196, 198, 202))
    for i in range(13):
        near = i / 13
        x, y, r = c.rng.random(), 0.64 + 0.34 * near, (0.025 + 0.05 * near) * c.rng.uniform(0.6, 1.3)
        c.ellipse(x, y, r, r * 0.4, (214, 216, 220))
        c.ellipse(x, y + r * 0.06, r * 0.85, r * 0.3, (112, 114, 124))
        c.ellipse(x, y + r * 0.13, r * 0.66, r * 0.2, (140, 142, 150))

"""The canvas that backgrounds are painted on: unit coordinates, twice the final resolution, the light of the hour."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from img2prompt.pairs.storybook.painting import Colour, mixed
from img2prompt.pairs.storybook.scene import Scene

OVERSAMPLING = 2
SKIES: dict[str, tuple[Colour, Colour]] = {  # time -> colours at the top and at the horizon
    "day": ((92, 172, 240), (205, 234, 250)),
    "sunset": ((96, 70, 140), (255, 164, 84)),
    "night": ((10, 14, 46), (38, 52, 104)),
}
LIGHT: dict[str, tuple[float, float, float]] = {  # time -> what is left of red, green and blue on the ground
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.74, 0.62),
    "night": (0.38, 0.45, 0.68),
}
CLOUDS: dict[str, Colour] = {"day": (255, 255, 255), "sunset": (255, 196, 150), "night": (62, 72, 118)}
CLOUD_COVER: Colour = (128, 138, 152)  # what rain and fog make of the sky


@dataclass(slots=True)
class Canvas:
    """A picture in the making. Coordinates are shares of its side; colours are as by day."""

    scene: Scene
    image_px: int
    rng: random.Random
    image: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)
    side: int = field(init=False)

    def __post_init__(self) -> None:
        self.side = self.image_px * OVERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side))
        self.draw = ImageDraw.Draw(self.image)

    def lit(self, colour: Colour) -> Colour:
        """A colour in the light of the scene's hour and weather."""
        red, green, blue = LIGHT[self.scene.time]
        shown = (round(colour[0] * red), round(colour[1] * green), round(colour[2] * blue))
        if self.scene.weather == "snow":
            return mixed(shown, (236, 242, 250) if self.scene.time != "night" else (120, 136, 180), 0.38)
        if self.scene.weather == "rain":
            return mixed(shown, (70, 82, 100), 0.22)
        return shown

    def gradient(self, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
        """A vertical gradient over the whole width, its colours taken as they are."""
        y0, y1 = round(top * self.side), round(bottom * self.side)
        rows = np.linspace(upper, lower, max(1, y1 - y0)).round().astype(np.uint8)
        strip = Image.fromarray(rows[:, None, :]).resize((self.side, max(1, y1 - y0)), Image.Resampling.NEAREST)
        self.image.paste(strip, (0, y0))

    def ground(self, top: float, upper: Colour, lower: Colour, bottom: float = 1.0) -> None:
        """A lit vertical gradient from `top` down."""
        self.gradient(top, bottom, self.lit(upper), self.lit(lower))

    def sky(self, bottom: float) -> None:
        """The sky of the hour and weather with sun, moon, stars and clouds, down to `bottom`."""
        upper, lower = SKIES[self.scene.time]
        dull = {"rain": 0.75, "fog": 0.5, "snow": 0.45}.get(self.scene.weather, 0.0)
        cover = mixed(CLOUD_COVER, (24, 28, 48), 0.75) if self.scene.time == "night" else CLOUD_COVER
        cover = (
            mixed(cover, (226, 232, 240), 0.5) if self.scene.weather == "snow" and self.scene.time != "night" else cover
        )
        self.gradient(0, bottom, mixed(upper, cover, dull), mixed(lower, cover, dull * 0.7))
        if self.scene.time == "night":
            self._night_sky(bottom)
        elif self.scene.time == "sunset":
            self._low_sun(bottom)
        elif self.scene.weather == "clear":
            self._high_sun()
        self._clouds(bottom)

    def _night_sky(self, bottom: float) -> None:
        for _ in range(34 if self.scene.weather == "clear" else 12):
            size = self.rng.choice((0.004, 0.006, 0.009))
            self.disc(self.rng.random(), self.rng.uniform(0, bottom), size, (255, 250, 220))
        x, y = self.rng.uniform(0.1, 0.9), self.rng.uniform(0.09, 0.18)
        self.disc(x, y, 0.075, (70, 82, 130))
        self.disc(x, y, 0.062, (250, 246, 215))
        self.disc(x + 0.028, y - 0.014, 0.052, (52, 62, 108))

    def _low_sun(self, bottom: float) -> None:
        x, y = self.rng.uniform(0.15, 0.85), bottom - self.rng.uniform(0.03, 0.09)
        upper = SKIES["sunset"][1]
        for step in range(4):
            self.disc(x, y, 0.24 - 0.045 * step, mixed(upper, (255, 226, 130), 0.2 + 0.2 * step))
        self.disc(x, y, 0.085, (255, 240, 190))

    def _high_sun(self) -> None:
        x, y = self.rng.choice((self.rng.uniform(0.06, 0.3), self.rng.uniform(0.7, 0.94))), self.rng.uniform(0.07, 0.15)
        self.disc(x, y, 0.1, (160, 212, 246))
        self.disc(x, y, 0.065, (255, 238, 150))

    def _clouds(self, bottom: float) -> None:
        tint = CLOUDS[self.scene.time]
        many = self.rng.randint(1, 3)
        if self.scene.weather in ("rain", "snow"):
            tint, many = mixed(tint, (84, 92, 108), 0.75 if self.scene.weather == "rain" else 0.3), 7
        elif self.scene.time == "night":
            many = 1
        for _ in range(many):
            x, y = self.rng.random(), self.rng.uniform(0.04, bottom * (0.35 if many == 7 else 0.55))
            width = self.rng.uniform(0.07, 0.13)
            for i in range(-2, 3):
                lift = width * (0.42 - 0.1 * abs(i))
                self.ellipse(x + i * width * 0.5, y - lift * 0.5, width * 0.42, lift, tint)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle, its colour taken as it is."""
        self.ellipse(x, y, radius, radius, colour)

    def ellipse(self, x: float, y: float, half_width: float, half_height: float, colour: Colour) -> None:
        """A filled ellipse around (x, y), its colour taken as it is."""
        s = self.side
        self.draw.ellipse(
            ((x - half_width) * s, (y - half_height) * s, (x + half_width) * s, (y + half_height) * s), fill=colour
        )

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """A filled lit polygon."""
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=self.lit(colour))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """A filled lit rectangle."""
        left, top, right, bottom = (round(value * self.side) for value in (x0, y0, x1, y1))
        # At least one pixel: in a small picture both edges can round to the same one.
        self.draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=self.lit(colour))

    def line(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        """A lit line of a width in shares of the side."""
        pixels = max(1, round(width * self.side))
        self.draw.line(
            [(x * self.side, y * self.side) for x, y in points], fill=self.lit(colour), width=pixels, joint="curve"
        )

    def ridge(self, y: float, height: float, waves: float, colour: Colour) -> list[tuple[float, float]]:
        """Rolling ground around `y`, filled down to the picture's lower edge; gives the points of its upper line."""
        a, b = self.rng.uniform(0, math.tau), self.rng.uniform(0, math.tau)
        steps = [i / 24 for i in range(25)]
        top = [
            (x, y - height * (0.6 * math.sin(a + waves * x * 3) + 0.4 * math.sin(b + waves * x * 7.3))) for x in steps
        ]
        self.polygon([(-0.01, top[0][1]), *top, (1.01, top[-1][1]), (1.01, 1.01), (-0.01, 1.01)], colour)
        return top

    def finished(self) -> Image.Image:
        """The picture at its final resolution."""
        return self.image.reduce(OVERSAMPLING)

"""Makes imgs/round_trip.jpg, which opens the README: pictures, their prompts, and what is regenerated from these.

    python scripts/make_strip.py                                   the storybook's renderer draws the pictures
    python scripts/make_strip.py --generator storybook-diffusion   the trained model draws them

A real round trip of scenes of the test split, which no model has seen, set in type as a museum's label. What stands in
the strip is what `img2prompt roundtrip` wrote, word by word. `--run FOLDER` keeps that run, with its report.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from img2prompt.cli import main as img2prompt
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import sample_scene

STRIP = Path(__file__).resolve().parents[1] / "imgs" / "round_trip.jpg"
SCENES = (200, 202, 204)  # seeds in the test split
SEEDS = 3  # pictures of a prompt
GENERATORS = {"storybook": "the storybook renderer", "storybook-diffusion": "storybook-diffusion, a bundled model"}
SCALE = 2  # for screens with two pixels a point; all measures below are in points of a README 1,000 wide
WIDTH, MARGIN, GAP = 1000, 34, 26
ORIGINAL, SMALL, SEAM = 204, 98, 8  # sides of the pictures, and what lies between regenerated ones
LABEL, LABEL_SPACE = 12, 15  # size of the labels of prompts, and from there to the prompt
PAPER, INK, FAINT, LINE = "#f8f5ef", "#24211d", "#7b7468", "#ddd6ca"
SIZES = (17.0, 16.0, 15.0, 14.5, 14.0, 13.5, 13.0)  # of the prompts, the largest at which all of them fit


@dataclass(frozen=True)
class Trip:
    """A row of the strip."""

    original: Image.Image
    prompts: dict[str, str]  # predicted, upsampled
    pictures: dict[str, list[Image.Image]]  # of each


def travel(folder: Path, generator: str, scenes: list[int]) -> list[Trip]:
    """Renders the scenes and takes them through the loop.

    Raises:
        SystemExit: the round trip failed; it has said why.
    """
    originals, run = folder / "originals", folder / "run"
    originals.mkdir(parents=True, exist_ok=True)
    paths = [originals / f"{number:02d}-scene-{seed}.png" for number, seed in enumerate(scenes)]
    for path, seed in zip(paths, scenes, strict=True):
        render(sample_scene(seed, "test"), ORIGINAL * SCALE).save(path)
    words = ["roundtrip", *map(str, paths), "--generator", generator, "--seeds", str(SEEDS), "--output", str(run)]
    if code := img2prompt(words):
        sys.exit(code)
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text("utf-8").splitlines()]
    return [_trip(run, row) for row in rows]


def _trip(run: Path, row: dict[str, Any]) -> Trip:
    kinds = ("predicted", "upsampled")
    return Trip(
        Image.open(run / row["original"]).convert("RGB"),
        {kind: row["prompts"][kind]["text"] for kind in kinds},
        {kind: [Image.open(run / p["file"]).convert("RGB") for p in row["pictures"][kind]] for kind in kinds},
    )


class Sheet:
    """Paper to set pictures and type on, measured in points."""

    def __init__(self, height: float) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, round(height * SCALE)), PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def picture(self, picture: Image.Image, x: float, y: float, side: float) -> None:
        """A square picture; a small one keeps its pixels visible."""
        side_px = round(side * SCALE)
        way = Image.Resampling.LANCZOS if picture.width >= side_px else Image.Resampling.BICUBIC
        self.image.paste(picture.resize((side_px, side_px), way), (round(x * SCALE), round(y * SCALE)))

    def words(self, lines: list[str], x: float, y: float, size: float, *, face: str = "", ink: str = INK) -> None:
        """Lines of type, from their upper edge."""
        for number, line in enumerate(lines):
            place = (x * SCALE, (y + number * leading(size)) * SCALE)
            self._draw.text(place, line, fill=ink, font=font(size, face), anchor="la")

    def heading(self, text: str, x: float, y: float) -> None:
        """Small, spaced capitals."""
        for letter in text.upper():
            self.words([letter], x, y, 10.5, ink=FAINT)
            x += font(10.5).getlength(letter) / SCALE + 1.1

    def line(self, y: float) -> None:
        """From margin to margin."""
        self._draw.line([MARGIN * SCALE, y * SCALE, (WIDTH - MARGIN) * SCALE, y * SCALE], fill=LINE, width=SCALE)


@functools.cache
def font(size: float, face: str = "") -> ImageFont.FreeTypeFont:
    """STIX, a book type that comes with Matplotlib, so that the strip looks the same everywhere."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(str(folder / f"STIXGeneral{face}.ttf"), size * SCALE)


def leading(size: float) -> float:
    """From line to line."""
    return size * 1.22


def wrapped(text: str, width: float, size: float, face: str = "") -> list[str]:
    """Lines of the text, none wider than `width`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(size, face).getlength(longer) <= width * SCALE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@dataclass(frozen=True)
class Plan:
    """Where things stand in a row: the prompts of each part, over each other, and beside them pictures of the last.

    A generator that draws both prompts alike, as the renderer does, gets one part with large pictures.
    """

    alike: bool

    @property
    def parts(self) -> list[list[str]]:
        """Kinds of prompts."""
        return [["predicted", "upsampled"]] if self.alike else [["predicted"], ["upsampled"]]

    @property
    def side(self) -> int:
        """Of a regenerated picture, and of the room for the prompts beside it."""
        return ORIGINAL if self.alike else SMALL

    @property
    def shown(self) -> int:
        """Regenerated pictures of a prompt."""
        return 2 if self.alike else SEEDS

    @property
    def pictures_x(self) -> int:
        """Where they begin."""
        return WIDTH - MARGIN - self.shown * (self.side + SEAM) + SEAM

    @property
    def text_width(self) -> int:
        """Of the prompts."""
        return self.pictures_x - 2 * GAP - MARGIN - ORIGINAL

    def size(self, trips: list[Trip]) -> float:
        """The largest size of type at which all prompts fit into their room."""

        def fits(trip: Trip, part: list[str], size: float) -> bool:
            lines = [len(wrapped(trip.prompts[kind], self.text_width, size)) for kind in part]
            return sum(lines) * leading(size) + len(part) * LABEL_SPACE + (len(part) - 1) * LABEL <= self.side

        fitting = (s for s in SIZES if all(fits(trip, part, s) for trip in trips for part in self.parts))
        return next(fitting, SIZES[-1])


def strip(trips: list[Trip], generator: str) -> Image.Image:
    """The whole strip."""
    top, row_height = 56, ORIGINAL + 2 * GAP
    bottom = top + len(trips) * row_height
    plan = Plan(all(a.tobytes() == b.tobytes() for trip in trips for a, b in zip(*trip.pictures.values(), strict=True)))
    sheet, size = Sheet(bottom + 34), plan.size(trips)
    for heading, x in (("Original", MARGIN), ("Prompt", MARGIN + ORIGINAL + GAP), ("Regenerated", plan.pictures_x)):
        sheet.heading(heading, x, 28)
    for number, trip in enumerate(trips):
        y = top + number * row_height
        sheet.line(y - 6)
        sheet.picture(trip.original, MARGIN, y + GAP - 6, ORIGINAL)
        for place, part in enumerate(plan.parts):
            _set(sheet, trip, part, plan, (y + GAP - 6 + place * (SMALL + SEAM), size))
    sheet.line(bottom - 6)
    drawn = f"{GENERATORS.get(generator, generator)}, {plan.shown} seeds{'; it draws both prompts alike' * plan.alike}"
    note = f"Scenes that no model has seen. Prompts: the bundled captioner and upsampler. Pictures: {drawn}."
    sheet.words([note], MARGIN, bottom + 5, 12.5, face="Italic", ink=FAINT)
    return sheet.image


def _set(sheet: Sheet, trip: Trip, part: list[str], plan: Plan, where: tuple[float, float]) -> None:
    """One part of a row: prompts, and beside them the pictures of the last of them."""
    y, size = where
    text_x, text_y = MARGIN + ORIGINAL + GAP, y - 2
    for kind in part:
        lines = wrapped(trip.prompts[kind], plan.text_width, size)
        sheet.words([kind.capitalize()], text_x, text_y, LABEL, face="Italic", ink=FAINT)
        sheet.words(lines, text_x, text_y + LABEL_SPACE, size)
        text_y += LABEL_SPACE + len(lines) * leading(size) + LABEL
    for column, picture in enumerate(trip.pictures[part[-1]][: plan.shown]):
        sheet.picture(picture, plan.pictures_x + column * (plan.side + SEAM), y, plan.side)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="storybook", help="as `img2prompt roundtrip --generator`")
    parser.add_argument("--scenes", type=int, nargs="+", default=list(SCENES), help="seeds in the test split")
    parser.add_argument("--run", type=Path, help="keep originals and run here (default: nowhere)")
    parser.add_argument("--output", type=Path, default=STRIP)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trips = travel(options.run or Path(folder), options.generator, options.scenes)
    strip(trips, options.generator).save(options.output, quality=90, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()

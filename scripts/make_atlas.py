"""Draws every kind of the storybook world once from Noto Color Emoji and packs the sprites into one atlas.

    python scripts/make_atlas.py [--font /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf]

Writes atlas.webp (lossless RGBA), atlas.json and atlas_licence.txt beside img2prompt/pairs/storybook/sprites.py.
The font is Debian's package fonts-noto-color-emoji; it is needed here only, never by a user of img2prompt.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from img2prompt.pairs.storybook.vocabulary import KINDS

FOLDER = Path(__file__).parents[1] / "img2prompt" / "pairs" / "storybook"
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the only bitmap strike of the font
CELL = 144  # a strike is 136 x 128 pixels; the rest keeps neighbours from bleeding into each other
COLUMNS = 9
VARIATION_SELECTOR = "\ufe0f"
LICENCE = """\
atlas.webp holds pictures of the font "Noto Color Emoji".

Copyright Google LLC (https://github.com/googlefonts/noto-emoji).
The font is licensed under the SIL Open Font License, Version 1.1; the licence text is at https://openfontlicense.org.
The pictures were rendered by scripts/make_atlas.py from the font in Debian's package fonts-noto-color-emoji;
"Noto" is a trademark of Google LLC. The atlas is a derived work under the same licence (SIL OFL 1.1), not under the
MIT licence of the rest of this project.
"""


def draw_sprite(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji as RGBA, cropped to its visible extent (alpha over 40 of 255)."""
    cell = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(cell).text((30, 30), emoji.replace(VARIATION_SELECTOR, ""), font=font, embedded_color=True)
    bounds = cell.getchannel("A").point(lambda alpha: 255 * (alpha > 40)).getbbox()
    if bounds is None:
        raise SystemExit(f"{emoji!r}: the font draws nothing; choose another emoji or another font")
    return cell.crop(bounds)


def pack(font_path: Path) -> tuple[Image.Image, dict[str, list[int]]]:
    """The atlas and, for each kind, the tight box [x0, y0, x1, y1] of its sprite in atlas pixels."""
    font = ImageFont.truetype(str(font_path), FONT_SIZE)
    rows = -(-len(KINDS) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * CELL, rows * CELL), (0, 0, 0, 0))
    boxes = {}
    for index, (name, kind) in enumerate(KINDS.items()):
        sprite = draw_sprite(kind.emoji, font)
        x, y = index % COLUMNS * CELL, index // COLUMNS * CELL
        atlas.paste(sprite, (x, y))
        boxes[name] = [x, y, x + sprite.width, y + sprite.height]
    return atlas, boxes


def main() -> None:
    """Writes the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", type=Path, default=FONT)
    atlas, boxes = pack(parser.parse_args().font)
    atlas.save(FOLDER / "atlas.webp", lossless=True, method=6, quality=100)
    rows = ",\n".join(f"{json.dumps(name)}: {box}" for name, box in boxes.items())
    (FOLDER / "atlas.json").write_text("{\n" + rows + "\n}\n", encoding="utf-8")
    (FOLDER / "atlas_licence.txt").write_text(LICENCE, encoding="utf-8")


if __name__ == "__main__":
    main()

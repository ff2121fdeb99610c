"""The phrases of the prompts: how settings, styles, times and weathers are said. Tables only.

Two rules keep prompts readable by `parse`: a phrase names no kind of object, and no setting, style, time or
weather other than its own. The words are few on purpose, so that a captioner with a small vocabulary can learn them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingWords:
    """How one setting is said: `places` in any prompt, `coloured` or `plain` clauses and `light` in long ones."""

    places: tuple[str, ...]
    coloured: tuple[str, ...]
    plain: tuple[str, ...]  # for styles that do not keep colours
    light: tuple[str, ...] = ()  # for settings without a sky; the others take the light of the hour


@dataclass(frozen=True, slots=True)
class StyleWords:
    """How one style is said: `of` before the objects, `after` behind them, `look` as a sentence of its own."""

    of: tuple[str, ...]
    after: tuple[str, ...]
    look: tuple[str, ...]


SETTING_WORDS: dict[str, SettingWords] = {
    "beach": SettingWords(
        ("on a beach", "on a sandy beach"),
        (
            "with pale yellow sand and calm blue water",
            "where golden sand meets the blue sea",
            "with warm sand beside a bright blue sea",
        ),
        ("with smooth sand beside a calm sea", "where soft sand meets the water"),
    ),
    "forest": SettingWords(
        ("in a forest", "in the forest"),
        (
            "with deep green leaves and a mossy ground",
            "with dense green leaves all around",
            "where green leaves frame the soft ground",
        ),
        ("with tall trunks and dense leaves all around", "where tall trunks frame the soft ground"),
    ),
    "city": SettingWords(
        ("in a city", "in the city"),
        (
            "with tall gray towers and rows of windows",
            "where gray towers rise behind the street",
            "with a gray street and a bright skyline",
        ),
        ("with tall towers and rows of windows", "where tall towers rise behind the street"),
    ),
    "desert": SettingWords(
        ("in a desert", "in the desert"),
        (
            "with golden dunes and dry sand",
            "where orange dunes roll into the distance",
            "with wide yellow dunes and bare ground",
        ),
        ("with rolling dunes and dry sand", "where wide dunes roll into the distance"),
    ),
    "kitchen table": SettingWords(
        ("on a kitchen table", "on the kitchen table"),
        (
            "with warm brown wood and a simple wall behind",
            "with smooth brown boards before a bright wall",
            "where brown wood fills the lower part",
        ),
        ("with smooth wood and a simple wall behind", "with wide boards in front of a bare wall"),
        (
            "Soft light from a window fills the room.",
            "Warm indoor light falls on the wood.",
            "The indoor light is soft and even.",
        ),
    ),
    "outer space": SettingWords(
        ("in outer space",),
        (
            "with deep blue darkness and many bright stars",
            "where purple clouds glow among the stars",
            "with bright stars across the black void",
        ),
        ("with many stars across the dark void", "where distant stars fill the void"),
        (
            "Starlight shines out of the darkness.",
            "Distant stars shine all around.",
            "The stars give a cold and quiet light.",
        ),
    ),
    "underwater": SettingWords(
        ("underwater",),
        (
            "with clear blue water and a sandy floor",
            "where blue water fades into the deep",
            "with deep blue water and pale bubbles",
        ),
        ("with rising bubbles and a sandy floor", "where the water fades into the deep"),
        (
            "Rays of light fall through the water.",
            "Soft light ripples down from the surface.",
            "The light fades toward the deep.",
        ),
    ),
    "snowy mountains": SettingWords(
        ("in snowy mountains", "in the snowy mountains"),
        (
            "with white peaks and cold blue shadows",
            "where white peaks rise in the distance",
            "with icy white slopes and pale blue shadows",
        ),
        ("with sharp peaks and smooth slopes", "where sharp peaks rise in the distance"),
    ),
    "flower meadow": SettingWords(
        ("in a flower meadow", "in a meadow of flowers"),
        (
            "with fresh green grass and colorful blossoms",
            "where pink and yellow blossoms dot the grass",
            "with bright blossoms all over the green grass",
        ),
        ("with tall grass and many blossoms", "where many blossoms dot the grass"),
    ),
    "lake": SettingWords(
        ("by a lake", "at a lake"),
        (
            "with calm blue water and a green bank",
            "where still blue water mirrors the light",
            "with smooth blue water and distant green hills",
        ),
        ("with calm water and distant hills", "where still water mirrors the light"),
    ),
    "living room": SettingWords(
        ("in a living room", "in the living room"),
        (
            "with warm walls and a soft carpet",
            "where a colorful carpet covers the floor",
            "with a wooden floor and a cozy wall behind",
        ),
        ("with a plain wall and a soft carpet", "where a soft carpet covers the floor"),
        (
            "Cozy indoor light fills the room.",
            "Warm lamp light falls on the floor.",
            "The indoor light is soft and even.",
        ),
    ),
    "moon": SettingWords(
        ("on the moon", "on the surface of the moon"),
        (
            "with gray dust and round craters",
            "where gray craters dot the silent ground",
            "with pale gray ground and a black void above it",
        ),
        ("with fine dust and round craters", "where round craters dot the silent ground"),
        (
            "Hard light falls on the craters.",
            "The dark void makes the pale ground shine.",
            "The light is cold and sharp.",
        ),
    ),
    "volcano": SettingWords(
        ("near a volcano", "by a volcano"),
        (
            "with glowing orange lava and dark rock",
            "where red lava runs down the dark slope",
            "with dark rock and bright orange lava",
        ),
        ("with flowing lava and rough rock", "where lava runs down the rough slope"),
    ),
    "farm": SettingWords(
        ("on a farm", "at a farm"),
        (
            "with green fields and wooden fences",
            "where green and yellow fields stretch far away",
            "with golden fields and rows of crops",
        ),
        ("with wide fields and wooden fences", "where rows of crops stretch far away"),
    ),
}

STYLE_WORDS: dict[str, StyleWords] = {
    "digital art": StyleWords(
        ("digital art of",),
        ("digital art",),
        (
            "The shapes are clean and the colors are bright.",
            "Smooth shading and clean edges give a modern look.",
            "The colors are crisp and the edges are smooth.",
        ),
    ),
    "watercolor": StyleWords(
        ("watercolor painting of",),
        ("watercolor painting", "watercolor painting", "in watercolor"),
        (
            "Soft washes of paint bleed into the textured paper.",
            "Wet edges and pale washes show the grain of the paper.",
            "Thin paint flows in soft washes with uneven edges.",
        ),
    ),
    "oil painting": StyleWords(
        ("oil painting of",),
        ("oil painting", "oil painting", "oil painting on canvas"),
        (
            "Thick brush strokes give a rich texture on the canvas.",
            "Visible brush strokes follow every shape.",
            "The paint is thick and the brush strokes are bold.",
        ),
    ),
    "pencil sketch": StyleWords(
        ("pencil sketch of",),
        ("pencil sketch", "pencil sketch", "pencil drawing"),
        (
            "Fine gray lines and soft hatching shape the forms on paper.",
            "Light shading and loose lines are drawn by hand.",
            "The lines are thin and the shading is gray.",
        ),
    ),
    "pixel art": StyleWords(
        ("pixel art of",),
        ("pixel art", "pixel art", "pixel art style"),
        (
            "Square blocks and few colors recall an old video game.",
            "Every shape is built from coarse square blocks.",
            "The edges are blocky and the colors are flat.",
        ),
    ),
    "stained glass": StyleWords(
        ("stained glass window of",),
        ("stained glass", "stained glass window"),
        (
            "Dark lead lines divide the glowing panes.",
            "Shining panes are held by thick dark lines.",
            "Light glows through panes framed by dark lead.",
        ),
    ),
    "blueprint": StyleWords(
        ("blueprint of",),
        ("blueprint", "blueprint", "blueprint drawing"),
        (
            "Thin white lines stand out on a deep blue sheet.",
            "White outlines on a blue grid look like a plan.",
            "The outlines are white and the sheet is deep blue.",
        ),
    ),
    "vintage photograph": StyleWords(
        ("vintage photograph of",),
        ("vintage photograph", "vintage photograph", "vintage photo"),
        (
            "Faded brown tones and grain show its age.",
            "Brown tones and dark corners give an aged look.",
            "The tones are brown and faded with visible grain.",
        ),
    ),
    "comic book": StyleWords(
        ("comic book art of",),
        ("comic book art", "comic book style"),
        (
            "Bold black outlines and printed dots fill the panel.",
            "Thick ink lines surround flat bright colors.",
            "The outlines are bold and the shading is made of dots.",
        ),
    ),
    "low poly": StyleWords(
        ("low poly art of",),
        ("low poly", "low poly art"),
        (
            "Flat triangles form every surface.",
            "Sharp facets and flat shading shape the forms.",
            "The surfaces are split into many flat triangles.",
        ),
    ),
    "paper cut-out": StyleWords(
        ("paper cut-out of",),
        ("paper cut-out", "paper cut-out style"),
        (
            "Layered sheets with crisp edges cast soft shadows.",
            "Flat layers with clean edges lie on top of each other.",
            "The layers are flat and each casts a soft shadow.",
        ),
    ),
    "neon": StyleWords(
        ("neon art of",),
        ("neon art", "neon style"),
        (
            "Glowing outlines shine out of the darkness.",
            "Bright glowing lines stand out on a dark background.",
            "The outlines glow like electric tubes in the dark.",
        ),
    ),
}

TIME_WORDS: dict[str, str] = {"day": "", "sunset": "at sunset", "night": "at night"}
WEATHER_WORDS: dict[str, tuple[str, ...]] = {
    "clear": ("",),
    "rain": ("in the rain",),
    "snow": ("in falling snow",),
    "fog": ("in the fog", "in thick fog"),
}

TIME_LIGHT: dict[str, tuple[str, ...]] = {
    "day": (
        "The light is bright and natural.",
        "Soft light falls evenly from above.",
        "A bright sky gives an open and friendly mood.",
    ),
    "sunset": (
        "Warm orange light glows low in the sky.",
        "The low sun paints the sky in warm tones.",
        "The sky glows in orange and pink.",
    ),
    "night": (
        "The dark blue sky gives a quiet mood.",
        "Cool dark tones fill the quiet sky.",
        "Deep blue shadows cover the ground.",
    ),
}
WEATHER_LIGHT: dict[str, tuple[str, ...]] = {
    "rain": (
        "Drops fall in thin slanted streaks.",
        "Thin streaks of water fall from a gray sky.",
        "The air is wet and the light is dull.",
    ),
    "snow": (
        "White flakes drift through the cold air.",
        "Many white flakes fall from a pale sky.",
        "The air is cold and full of white flakes.",
    ),
    "fog": (
        "A pale haze softens everything in the distance.",
        "Pale haze hides the background.",
        "The air is dim and the background fades away.",
    ),
}
PLAIN_LIGHT: tuple[str, ...] = (  # where a style leaves no light of its own to see
    "The forms stand out against a simple background.",
    "The background is simple and calm.",
    "The contrast is clear and balanced.",
)

SHORT_MODIFIERS: tuple[str, ...] = ("highly detailed",)
TAG_MODIFIERS: tuple[str, ...] = ("highly detailed",)

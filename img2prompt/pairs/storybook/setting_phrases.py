"""How settings, times and weathers are said. Tables only.

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


SETTING_WORDS: dict[str, SettingWords] = {
    "beach": SettingWords(
        ("on a beach", "on a sandy beach"),
        (
            "with pale yellow sand and calm blue water",
            "where golden sand meets the bright blue sea",
            "with warm sand beside a bright blue sea",
        ),
        ("with smooth sand beside a calm sea", "where soft sand meets the calm water"),
    ),
    "forest": SettingWords(
        ("in a forest", "in the forest"),
        (
            "with deep green leaves and soft green ground",
            "with dense green leaves all around the ground",
            "where green leaves frame the soft mossy ground",
        ),
        ("with tall trunks and dense leaves all around", "where tall trunks frame the soft mossy ground"),
    ),
    "city": SettingWords(
        ("in a city", "in the city"),
        (
            "with tall gray towers and rows of windows",
            "where tall gray towers rise into the air",
            "with gray towers that form a bright skyline",
        ),
        ("with tall towers and rows of windows", "where tall towers rise into the air"),
    ),
    "desert": SettingWords(
        ("in a desert", "in the desert"),
        (
            "with golden dunes and dry yellow sand",
            "where golden dunes roll into the far distance",
            "with wide yellow dunes and warm bare ground",
        ),
        ("with rolling dunes and dry smooth sand", "where wide dunes roll into the far distance"),
    ),
    "kitchen table": SettingWords(
        ("on a kitchen table", "on the kitchen table"),
        (
            "with warm brown wood and a simple wall behind",
            "with smooth brown wood before a bright wall",
            "where warm brown wood fills the lower part",
        ),
        ("with smooth wood and a simple wall behind", "where smooth wood fills the lower part"),
        (
            "Soft indoor light fills the whole room.",
            "Warm indoor light falls on the smooth wood.",
            "The indoor light is soft, warm and even.",
        ),
    ),
    "outer space": SettingWords(
        ("in outer space",),
        (
            "with deep dark blue tones and many bright stars",
            "where many bright stars glow in the darkness",
            "with bright stars across the deep dark void",
        ),
        ("with many stars across the dark void", "where many distant stars fill the dark void"),
        (
            "Cold starlight shines out of the deep darkness.",
            "Distant stars shine quietly on every side.",
            "The stars give a cold and quiet light.",
        ),
    ),
    "underwater": SettingWords(
        ("underwater",),
        (
            "with clear blue water above a sandy floor",
            "where blue water fades into the dark deep",
            "with deep blue water and a sandy floor",
        ),
        ("with calm water above a sandy floor", "where the water fades into the dark deep"),
        (
            "Rays of light fall softly through the water.",
            "Soft light ripples down from the bright surface.",
            "The light slowly fades toward the deep.",
        ),
    ),
    "snowy mountains": SettingWords(
        ("in snowy mountains", "in the snowy mountains"),
        (
            "with sharp white peaks and cold blue shadows",
            "where sharp white peaks rise in the distance",
            "with icy white slopes and pale blue shadows",
        ),
        ("with sharp peaks and smooth icy slopes", "where sharp peaks rise in the far distance"),
    ),
    "flower meadow": SettingWords(
        ("in a flower meadow", "in a meadow of flowers"),
        (
            "with fresh green grass and colorful blossoms",
            "where many colorful blossoms dot the green grass",
            "with bright blossoms all over the green grass",
        ),
        ("with tall grass and many small blossoms", "where many small blossoms dot the grass"),
    ),
    "lake": SettingWords(
        ("by a lake", "by the lake"),
        (
            "with calm blue water and a green bank",
            "where still blue water mirrors the soft light",
            "with smooth blue water and distant green hills",
        ),
        ("with calm water and soft distant hills", "where still water mirrors the soft light"),
    ),
    "living room": SettingWords(
        ("in a living room", "in the living room"),
        (
            "with a warm wall and a wooden floor",
            "where a cozy wall rises behind the floor",
            "with a warm floor and a cozy wall behind",
        ),
        ("with a plain wall and a smooth floor", "where a plain wall rises behind the floor"),
        (
            "Cozy indoor light fills the whole room.",
            "Warm indoor light falls on the smooth floor.",
            "The indoor light is soft, warm and even.",
        ),
    ),
    "moon": SettingWords(
        ("on the moon", "on the surface of the moon"),
        (
            "with pale gray dust and many round craters",
            "where round gray craters dot the silent ground",
            "with pale gray ground before a black void",
        ),
        ("with fine dust and many round craters", "where many round craters dot the silent ground"),
        (
            "Hard cold light falls on the round craters.",
            "The dark void makes the pale ground shine.",
            "The light is cold, hard and very sharp.",
        ),
    ),
    "volcano": SettingWords(
        ("near a volcano", "by a volcano"),
        (
            "with glowing orange lava and dark rough rock",
            "where glowing lava runs down the dark slope",
            "with dark rough rock and bright orange lava",
        ),
        ("with flowing lava and dark rough rock", "where hot lava runs down the rough slope"),
    ),
    "farm": SettingWords(
        ("on a farm", "on the farm"),
        (
            "with wide green fields and rows of crops",
            "where wide green fields stretch far into the distance",
            "with golden fields and long rows of crops",
        ),
        ("with wide fields and long rows of crops", "where long rows of crops stretch far away"),
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
        "The light is bright, soft and natural.",
        "Soft bright light falls evenly from above.",
        "A bright sky gives a fresh and friendly mood.",
    ),
    "sunset": (
        "Warm orange light glows low in the sky.",
        "The low sun paints the sky in warm tones.",
        "The whole sky glows in warm orange tones.",
    ),
    "night": (
        "The dark blue sky gives a quiet mood.",
        "Cool dark tones fill the wide quiet sky.",
        "Deep blue shadows cover the quiet ground.",
    ),
}
WEATHER_LIGHT: dict[str, tuple[str, ...]] = {
    "rain": (
        "Many drops fall in thin slanted streaks.",
        "Thin streaks of water fall from a gray sky.",
        "The air is wet and the light is dull.",
    ),
    "snow": (
        "Many white flakes drift through the cold air.",
        "Many white flakes fall from a pale sky.",
        "The air is cold and full of white flakes.",
    ),
    "fog": (
        "A pale haze softens everything in the distance.",
        "A thick pale haze hides the far background.",
        "The air is dim and the background fades away.",
    ),
}
PLAIN_LIGHT: tuple[str, ...] = (  # where a style leaves no light of its own to see
    "The forms stand out against a simple background.",
    "The background is simple, calm and quiet.",
    "The contrast is strong and the forms are simple.",
)

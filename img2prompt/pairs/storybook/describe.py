"""Prompts for scenes: short, long, tags, and the careless alt-text of the web."""

from __future__ import annotations

import random

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.alt import alt_text
from img2prompt.pairs.storybook.grammar import (
    BRIEF_RELATIONS,
    FULL_RELATIONS,
    described,
    noun,
    objects_phrase,
)
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.setting_phrases import (
    PLAIN_LIGHT,
    SETTING_WORDS,
    TIME_LIGHT,
    TIME_WORDS,
    WEATHER_LIGHT,
    WEATHER_WORDS,
)
from img2prompt.pairs.storybook.style_phrases import MODIFIERS, STYLE_WORDS
from img2prompt.pairs.storybook.vocabulary import COLOURLESS_STYLES

MANNERS: tuple[str, ...] = ("short", "long", "tags", "alt")
PALE_STYLES: frozenset[str] = COLOURLESS_STYLES | {"neon"}  # a setting's own colours are not to be seen in them
SHORT_WORDS = 30  # at most
LONG_WORDS = 75  # at most


def describe(scene: Scene, manner: str = "short", variant: int = 0) -> str:
    """Writes a prompt for a scene; the same scene, manner and variant give the same text.

    "short", "long" and "tags" state every fact of the scene, so `parse` gets them all back; a time of "day" and a
    "clear" weather go without saying. "alt" is noise as the web has it.

    Args:
        scene: what the picture shows.
        manner: one of `MANNERS`.
        variant: another number, another wording of the same facts.

    Raises:
        DataError: no such manner.
    """
    rng = random.Random(f"{scene.seed} {manner} {variant}")
    match manner:
        case "short":
            return _short(scene, rng)
        case "long":
            return _long(scene, rng)
        case "tags":
            return _tags(scene, rng)
        case "alt":
            return alt_text(scene, rng)
    raise DataError(f"manner {manner!r}: choose from {', '.join(MANNERS)}")


def _short(scene: Scene, rng: random.Random) -> str:
    style = STYLE_WORDS[scene.style]
    objects = objects_phrase(scene, BRIEF_RELATIONS, joint=rng.choice((", with ", ", and ")))
    told = f"{objects} {_where(scene, rng)}"
    told = f"{rng.choice(style.of)} {told}" if rng.random() < 0.3 else f"{told}, {rng.choice(style.after)}"
    modifier = rng.choice(MODIFIERS)
    if rng.random() < 0.05 and len(told.split()) + len(modifier.split()) <= SHORT_WORDS:
        told = f"{told}, {modifier}"
    return told


def _where(scene: Scene, rng: random.Random) -> str:
    """Setting, time and weather, as in "on a beach at sunset in the rain"."""
    place = rng.choice(SETTING_WORDS[scene.setting].places)
    weather = rng.choice(WEATHER_WORDS[scene.weather])
    return " ".join(words for words in (place, TIME_WORDS[scene.time], weather) if words)


def _long(scene: Scene, rng: random.Random) -> str:
    words, style = SETTING_WORDS[scene.setting], STYLE_WORDS[scene.style]
    clause = rng.choice(words.plain if scene.style in PALE_STYLES else words.coloured)
    scenery = rng.choice(("The scene is set", "The scene takes place"))
    objects = objects_phrase(scene, FULL_RELATIONS)
    if len(scene.groups) == 1:
        objects = f"{objects}, the main subject of the picture"
    sentences = [
        f"{_opening(rng.choice(style.of))} {objects}.",
        f"{scenery} {_where(scene, rng)}, {clause}.",
        rng.choice(_light(scene)),
        rng.choice(style.look),
    ]
    if sum(len(sentence.split()) for sentence in sentences) > LONG_WORDS:
        del sentences[2]  # it tells nothing that is not said already
    return " ".join(sentences)


def _opening(style_of: str) -> str:
    """The start of a sentence: "Pixel art of", but "A pencil sketch of"."""
    if style_of.endswith("art of"):
        return style_of[0].upper() + style_of[1:]
    return f"{'An' if style_of[0] in 'aeiou' else 'A'} {style_of}"


def _light(scene: Scene) -> tuple[str, ...]:
    if scene.weather in WEATHER_LIGHT:
        return WEATHER_LIGHT[scene.weather]
    if scene.time == "day" and scene.style in PALE_STYLES:
        return PLAIN_LIGHT
    return (scene.time == "day" and SETTING_WORDS[scene.setting].light) or TIME_LIGHT[scene.time]


def _tags(scene: Scene, rng: random.Random) -> str:
    tags: list[str] = []
    for group in scene.groups:
        if group.count > 1:
            tags.append(f"{group.count} {noun(group)}")
        if group.count == 1 or group.size or group.colour:
            tags.append(described(group))
    kinds = [noun(group) for group in scene.groups]
    tags += [f"{kinds[relation.subject]} {relation.name} {kinds[relation.other]}" for relation in scene.relations]
    tags.append(scene.setting)
    tags += [scene.time] if scene.time != "day" else []
    tags += [scene.weather] if scene.weather != "clear" else []
    tags.insert(0 if rng.random() < 0.3 else len(tags), scene.style)
    if rng.random() < 0.05:
        tags.append(rng.choice(MODIFIERS))
    return ", ".join(tags)

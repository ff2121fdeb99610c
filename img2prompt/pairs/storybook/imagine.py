"""A text-to-image generator without weights: any prompt -> what it says of the storybook world -> a picture of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.storybook.parse import Facts, ObjectFacts, parse
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import MAX_SPRITES, Group, Relation, Scene
from img2prompt.pairs.storybook.vocabulary import (
    COLOURLESS_STYLES,
    COLOURS,
    KINDS,
    SETTINGS,
    SKYLESS_SETTINGS,
)
from img2prompt.results import EmbeddedPrompt, Failed, Generated

MAX_GROUPS = 3
MAX_COUNT = 4
_TIGHT = frozenset({"behind", "on"})  # of these a layout takes one


class StorybookGenerator:
    """Draws what a prompt says of the storybook world; a `Generator`.

    Args:
        image_px: width and height, 32 to 2048.

    Raises:
        ConfigError: another size.
    """

    batch_size = 16
    takes_negatives = False  # what a prompt does not name is not drawn, but for what the world needs

    def __init__(self, image_px: int = 256) -> None:
        if not 32 <= image_px <= 2048:
            raise ConfigError(f"size {image_px}: storybook pictures have 32 to 2048 pixels a side")
        self._image_px = image_px

    def settings(self) -> dict[str, Any]:
        """What settles a picture beside prompt and seed."""
        return {"model": "storybook", "width_px": self._image_px, "height_px": self._image_px}

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> list[Generated | Failed]:
        """One picture a prompt; a prompt that names nothing of the world fails.

        Raises:
            ConfigError: a negative prompt, which nothing here heeds.
        """
        if any(text is not None for text in negatives or ()):
            raise ConfigError("storybook: draws without a model, so it has no negative prompt")
        return [self._generate(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _generate(self, prompt: str, seed: int) -> Generated | Failed:
        try:
            image = render(imagine(parse(prompt), seed), self._image_px)
        except DataError as error:
            return Failed(prompt, str(error), "NothingToDraw")
        px = self._image_px
        made = EmbeddedPrompt(prompt, model="storybook", seed=seed, steps=1, width_px=px, height_px=px)
        return Generated(image, made)


def imagine(facts: Facts, seed: int) -> Scene:
    """A scene in which the facts hold as far as the world can show them; the seed decides what they leave open.

    At most three kinds of objects stand in a scene, those in relations first, of each at most four. Colours go to kinds
    that take one, in styles that keep them. Of relations that cannot be laid out together the first by name stands.

    Raises:
        DataError: no object of the world is named.
    """
    if not facts.objects:
        raise DataError("names no object that the storybook world can show")
    rng = random.Random(f"imagine {seed}")
    style = facts.style or "digital art"
    setting = facts.setting or rng.choice(SETTINGS)
    things = _chosen(facts)
    relations = _relations(facts, things)
    room = MAX_SPRITES - len(things)
    groups = []
    for thing in things:
        group = _group(thing, style, min(MAX_COUNT, 1 + max(room, 1)), rng)
        room -= group.count - 1
        groups.append(group)
    has_sky = setting not in SKYLESS_SETTINGS
    return Scene(
        groups=tuple(groups),
        relations=relations,
        setting=setting,
        time=facts.time if has_sky else "day",
        weather=facts.weather if has_sky else "clear",
        style=style,
        seed=rng.getrandbits(32),
    )


def _chosen(facts: Facts) -> list[ObjectFacts]:
    related = {kind for subject, _, other in facts.relations for kind in (subject, other)}
    return sorted(facts.objects, key=lambda thing: thing.kind not in related)[:MAX_GROUPS]


def _group(thing: ObjectFacts, style: str, most: int, rng: random.Random) -> Group:
    """The group of a thing; where its number is open ("several") there are two or more, up to `most`."""
    count = min(thing.count, MAX_COUNT) if thing.count is not None else rng.randint(2, most)
    colour = rng.choice(sorted(thing.colours) or list(COLOURS))
    takes_colour = KINDS[thing.kind].tintable and style not in COLOURLESS_STYLES
    return Group(thing.kind, max(count, 1), colour if takes_colour else None, thing.size)


def _relations(facts: Facts, things: Sequence[ObjectFacts]) -> tuple[Relation, ...]:
    """The relations that can be laid out together."""
    places = {thing.kind: place for place, thing in enumerate(things)}
    kept: list[Relation] = []
    for subject, name, other in sorted(facts.relations):
        if not {subject, other} <= places.keys() or len(kept) == MAX_GROUPS - 1:
            continue
        pair = {places[subject], places[other]}
        single = all(things[place].count == 1 for place in pair)
        tight = name in _TIGHT and any(relation.name in _TIGHT for relation in kept)
        if tight or (name == "on" and not single) or any({r.subject, r.other} == pair for r in kept):
            continue
        kept.append(Relation(places[subject], name, places[other]))
    return tuple(kept)

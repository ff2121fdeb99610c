"""Alt-text as the web has it: careless, incomplete, sometimes wrong, sometimes useless."""

from __future__ import annotations

import random
from dataclasses import replace

from img2prompt.pairs.storybook.grammar import described, indefinite, noun
from img2prompt.pairs.storybook.scene import Group, Scene
from img2prompt.pairs.storybook.setting_phrases import SETTING_WORDS
from img2prompt.pairs.storybook.style_phrases import STYLE_WORDS
from img2prompt.pairs.storybook.vocabulary import COLOURS

SITES: tuple[str, ...] = (
    "PicBarn",
    "Wallpaper Corner",
    "artshelf.example",
    "StockHaus",
    "My Blog",
    "Print & Poster Shop",
)
USELESS: tuple[str, ...] = (
    "image",
    "photo",
    "untitled",
    "picture 1",
    "header image",
    "thumbnail",
    "click to enlarge",
    "",
)
SHOP: tuple[str, ...] = (
    "{thing} poster - free shipping",
    "Buy {thing} wall art online",
    "{thing} canvas print 30x40 cm | {site}",
    "{thing} sticker, gift idea, kids room decor",
    "SALE! {thing} t-shirt",
)


def alt_text(scene: Scene, rng: random.Random) -> str:
    """One alt-text for the scene; most name something that is in the picture, some name nothing."""
    groups = [_misremembered(group, rng) for group in scene.groups]
    if len(groups) > 1 and rng.random() < 0.45:
        del groups[rng.randrange(len(groups))]
    roll = rng.random()
    if roll < 0.12:
        return _useless(groups, rng)
    if roll < 0.24:
        return rng.choice(SHOP).format(thing=described(groups[0]), site=rng.choice(SITES)).strip()
    if roll < 0.38:
        words = [noun(group) for group in groups] + [scene.setting, scene.style, "art", "instagood", "cute"]
        return " ".join(
            "#" + word.replace(" ", "").replace("-", "") for word in rng.sample(words, k=min(4, len(words)))
        )
    return _caption(scene, groups, rng)


def _caption(scene: Scene, groups: list[Group], rng: random.Random) -> str:
    """A caption that leaves facts out, relations always."""
    text = rng.choice((" and ", ", ", " with ")).join(indefinite(group) for group in groups)
    if rng.random() < 0.55:
        text = f"{text} {rng.choice(SETTING_WORDS[scene.setting].places)}"
    if rng.random() < 0.4:
        text = f"{rng.choice(STYLE_WORDS[scene.style].of)} {text}"
    roll = rng.random()
    if roll < 0.2:
        text = f"{text} | {rng.choice(SITES)}"
    elif roll < 0.3:
        text = f"{text} - image {rng.randrange(1, 60)}"
    elif roll < 0.4:
        text = f"Picture of {text}"
    return text.upper() if rng.random() < 0.04 else text


def _useless(groups: list[Group], rng: random.Random) -> str:
    number = rng.randrange(1, 9999)
    names = (
        f"IMG_{number:04}.jpg",
        f"DSC{number:05}.JPG",
        f"{groups[0].kind.replace(' ', '-')}-{number % 40}.png",
        f"Screenshot {number}",
    )
    return rng.choice((*names, *USELESS))


def _misremembered(group: Group, rng: random.Random) -> Group:
    """The group as somebody in a hurry saw it: one colour or number in ten is wrong, half the colours are missing."""
    colour, count = group.colour, group.count
    if colour is not None:
        colour = rng.choice((None, None, None, None, colour, colour, colour, rng.choice(list(COLOURS))))
    if rng.random() < 0.12:
        count = rng.randint(1, 4)
    return replace(group, colour=colour, count=count, size=group.size if rng.random() < 0.3 else None)

"""The pictures of the storybook world: relations hold, everything is countable, rendering is repeatable."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from img2prompt.errors import DataError
from img2prompt.pairs.storybook.blocks import Box
from img2prompt.pairs.storybook.layout import layout
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import SPLITS, Group, Relation, Scene, sample_scene
from img2prompt.pairs.storybook.sprites import aspect, sprite
from img2prompt.pairs.storybook.vocabulary import COLOURS, KINDS, RELATIONS, SETTINGS, STYLES, TIMES, WEATHERS

CAT_AND_CAR = (Group("cat"), Group("car", colour="blue"))


def a_scene(**changes: object) -> Scene:
    plain = Scene(CAT_AND_CAR, (Relation(0, "left of", 1),), "beach", "day", "clear", "digital art", 7)
    return replace(plain, **changes)  # type: ignore[arg-type]


def middle(box: Box) -> tuple[float, float]:
    return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2


def shared(first: Box, second: Box) -> float:
    """The area two boxes share, as a share of the smaller one."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (first, second)]
    return width * height / min(areas)


def holds(name: str, subject: list[Box], other: list[Box], boxes: tuple[Box, ...]) -> bool:
    if RELATIONS[name] in ("left of", "above", "behind", "on"):
        return holds(RELATIONS[name], other, subject, boxes)
    if name == "left of":
        return max(box.x1 for box in subject) + 0.02 <= min(box.x0 for box in other)
    if name == "above":
        return max(box.y1 for box in subject) + 0.02 <= min(box.y0 for box in other)
    if name == "behind":
        drawn_first = max(boxes.index(box) for box in subject) < min(boxes.index(box) for box in other)
        covered = sum(any(shared(back, front) > 0.02 and back.y1 < front.y1 for front in other) for back in subject)
        return drawn_first and covered == min(len(subject), len(other))
    upper, lower = subject[0], other[0]
    height = lower.y1 - lower.y0
    rests = lower.y0 - 0.03 <= upper.y1 <= lower.y0 + 0.5 * height
    return rests and lower.x0 <= middle(upper)[0] <= lower.x1 and boxes.index(lower) < boxes.index(upper)


def assert_true_to(scene: Scene) -> None:
    boxes = layout(scene)
    groups = [[box for box in boxes if box.group == index] for index in range(len(scene.groups))]
    assert [len(group) for group in groups] == [group.count for group in scene.groups]
    for box in boxes:
        assert 0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1
        assert min(box.x1 - box.x0, box.y1 - box.y0) > 0.04
    for relation in scene.relations:
        assert holds(relation.name, groups[relation.subject], groups[relation.other], boxes), relation
    tight = [
        {row.subject, row.other} for row in scene.relations if row.name in ("behind", "in front of", "on", "under")
    ]
    for i, first in enumerate(boxes):
        for second in boxes[i + 1 :]:
            if {first.group, second.group} not in tight:
                assert shared(first, second) < 0.12, (first, second)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SPLITS[:3]))
def test_layout_keeps_every_word_of_a_sampled_scene(seed: int, split: str) -> None:
    assert_true_to(sample_scene(seed, split))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(sorted(RELATIONS)),
    st.permutations(list(KINDS)),
    st.sampled_from((None, "tiny", "huge")),
)
def test_layout_tells_relations_from_either_side(seed: int, name: str, kinds: list[str], size: str | None) -> None:
    assert_true_to(
        a_scene(groups=(Group(kinds[0], size=size), Group(kinds[1])), relations=(Relation(0, name, 1),), seed=seed)
    )


def test_sizes_can_be_told_apart() -> None:
    def width(size: str | None) -> float:
        (box,) = layout(a_scene(groups=(Group("car", size=size),), relations=()))
        return box.x1 - box.x0

    assert width("tiny") * 1.4 < width(None) < width("huge") / 1.25


def test_layout_is_repeatable_and_varies_with_the_seed() -> None:
    assert layout(a_scene()) == layout(a_scene())
    assert layout(a_scene()) != layout(a_scene(seed=8))


def test_contradicting_relations_are_a_users_error() -> None:
    with pytest.raises(DataError, match="more than one relation"):
        layout(a_scene(relations=(Relation(0, "left of", 1), Relation(1, "left of", 0))))
    with pytest.raises(DataError, match="single objects"):
        layout(a_scene(groups=(Group("cat", 2), Group("car")), relations=(Relation(0, "on", 1),)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_sprite_of_the_asked_size(kind: str) -> None:
    picture = sprite(kind, None, (50, 40))
    assert picture.size == (50, 40) and picture.mode == "RGBA"
    assert np.asarray(picture)[..., 3].mean() > 40
    assert 0.3 < aspect(kind) < 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].tintable])
def test_tinted_sprites_show_the_named_colour(kind: str) -> None:
    for name, target in COLOURS.items():
        pixels = np.asarray(sprite(kind, name, (64, 64))).reshape(-1, 4).astype(float)
        solid = pixels[pixels[:, 3] > 200][:, :3]
        near = np.linalg.norm(solid - np.array(target), axis=1) < 90
        assert near.mean() > 0.07, (kind, name, near.mean())


def test_the_same_scene_gives_the_same_bytes_in_another_process() -> None:
    scenes = [replace(sample_scene(3 + i), style=style) for i, style in enumerate(STYLES)]
    here = hashlib.sha256(b"".join(render(scene, 64).tobytes() for scene in scenes)).hexdigest()
    code = (
        "import hashlib, sys\n"
        "from img2prompt.pairs.storybook.scene import Scene\n"
        "from img2prompt.pairs.storybook.render import render\n"
        "scenes = [Scene.from_json(line) for line in sys.stdin]\n"
        "print(hashlib.sha256(b''.join(render(scene, 64).tobytes() for scene in scenes[::-1])[::-1]).hexdigest())\n"
    )
    # The other process draws in the opposite order: no picture may depend on what was drawn before it.
    there = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(scene.to_json() for scene in scenes),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    again = hashlib.sha256(b"".join(render(scene, 64).tobytes() for scene in scenes[::-1])[::-1]).hexdigest()
    assert there == again
    assert here == hashlib.sha256(b"".join(render(scene, 64).tobytes() for scene in scenes)).hexdigest()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("image_px", [48, 128, 200])
def test_every_style_renders_at_every_size(style: str, image_px: int) -> None:
    picture = render(a_scene(style=style), image_px)
    assert picture.mode == "RGB" and picture.size == (image_px, image_px)
    assert np.asarray(picture).std() > 12


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_renders_in_every_light_and_weather(setting: str) -> None:
    seen = {render(a_scene(setting=setting, time=t, weather=w), 48).tobytes() for t in TIMES for w in WEATHERS}
    assert len(seen) >= len(WEATHERS)


def test_styles_differ_from_each_other() -> None:
    small = [np.asarray(render(a_scene(style=style), 96), dtype=float) for style in STYLES]
    for i, first in enumerate(small):
        for second in small[i + 1 :]:
            assert np.abs(first - second).mean() > 4


def test_settings_differ_from_each_other() -> None:
    small = [np.asarray(render(a_scene(setting=setting), 64), dtype=float) for setting in SETTINGS]
    for i, first in enumerate(small):
        for second in small[i + 1 :]:
            assert np.abs(first - second).mean() > 10


@pytest.mark.parametrize(
    "style",
    [
        "digital art",
        "watercolor",
        "oil painting",
        "pixel art",
        "stained glass",
        "comic book",
        "low poly",
        "paper cut-out",
        "neon",
    ],
)
def test_colours_show_in_styles_that_keep_them(style: str) -> None:
    means = {}
    for name in ("red", "green", "blue"):
        scene = a_scene(groups=(Group("balloon", colour=name, size="huge"),), relations=(), style=style)
        (box,) = layout(scene)
        x, y = middle(box)
        part = np.asarray(render(scene, 96), dtype=float)[
            round(y * 96) - 14 : round(y * 96) + 6, round(x * 96) - 9 : round(x * 96) + 9
        ]
        means[name] = part.reshape(-1, 3).mean(axis=0)
    assert means["red"].argmax() == 0 and means["green"].argmax() == 1 and means["blue"].argmax() == 2


def test_colourless_styles_show_no_colour() -> None:
    pictures = [
        render(a_scene(groups=(Group("balloon", colour=name),), relations=(), style="pencil sketch"), 96)
        for name in ("red", "green")
    ]
    for picture in pictures:
        red, _, blue = picture.split()
        assert np.asarray(ImageChops.difference(red, blue)).max() < 24


def test_objects_stand_in_front_of_the_background() -> None:
    with_cat = a_scene(groups=(Group("cat"),), relations=())
    (box,) = layout(with_cat)
    patch = render(with_cat, 128).crop(tuple(round(128 * v) for v in (box.x0, box.y0, box.x1, box.y1)))
    wanted = Image.new("RGB", patch.size, (255, 180, 10))
    assert (np.asarray(ImageChops.difference(patch, wanted)).max(axis=-1) < 60).mean() > 0.3


def test_a_picture_without_pixels_is_a_users_error() -> None:
    with pytest.raises(DataError, match="image_px"):
        render(a_scene(), 0)

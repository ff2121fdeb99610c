"""What `pairs generate` is made of, without torch: parameters in files, seeds, spooled rows, imagined scenes."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.embedded.values import clean
from img2prompt.pairs.metadata import read_prompt
from img2prompt.pairs.orders import orders_of, seed_of
from img2prompt.pairs.parameters import parameters_text, png_bytes
from img2prompt.pairs.spool import Spool
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.imagine import StorybookGenerator, imagine
from img2prompt.pairs.storybook.layout import layout
from img2prompt.pairs.storybook.parse import Facts, ObjectFacts, facts_of, parse
from img2prompt.pairs.storybook.scene import check, sample_scene
from img2prompt.results import EmbeddedPrompt, Failed, Generated

IMAGE = Image.new("RGB", (4, 4), (9, 99, 199))

# Words of the format among any text: what a prompt must not be able to imitate.
HOSTILE = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            (
                *("\n", " ", "{", "[", '"', ",", "\\", "\u200e", "\ufeff", "Ã©", "🦊"),
                *("Negative prompt:", "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1", "Steps: 3", "Size: 1x1"),
            )
        ),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(HOSTILE.filter(lambda text: clean(text) != ""), st.one_of(st.none(), HOSTILE), HOSTILE)
@example("a fox\nSteps: 20, Sampler: Euler a, Seed: 1", "Negative prompt: x\nSteps: 1, Seed: 2", 'my, model: "1"')
@example("Negative prompt: all of it", None, "{")
@example("[a:b:0.5] {c|d}", "", "[x]")
@example("x\n  Negative prompt: y\n\nNegative prompt: z", "a\nNegative prompt: b", "m")
@example("\x1b[31mred\x1b[0m \ud800 \x00\r\nnext", None, "v1-5-pruned")
def test_parameters_are_read_back_unchanged(prompt: str, negative: str | None, model: str) -> None:
    made = EmbeddedPrompt(
        prompt=prompt,
        negative_prompt=negative,
        generator="img2prompt",
        model=model,
        seed=2**53 - 1,
        steps=25,
        guidance_scale=7.25,
        width_px=512,
        height_px=768,
    )
    found = read_prompt(png_bytes(IMAGE, parameters_text(made, "DPM++ 2M Karras")))
    assert found == EmbeddedPrompt(
        prompt=clean(prompt),
        negative_prompt=clean(negative or "") or None,
        generator="img2prompt",
        model=clean(model)[:500] or None,
        seed=2**53 - 1,
        steps=25,
        guidance_scale=7.25,
        width_px=512,
        height_px=768,
    )


def test_the_text_is_the_one_web_interfaces_write() -> None:
    made = EmbeddedPrompt("a fox", "blurry", None, "sd-2.1", 5, 20, 7.0, 64, 32)
    assert parameters_text(made, "Euler a") == (
        "a fox\nNegative prompt: blurry\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x32, Model: sd-2.1, App: img2prompt"
    )
    file = Image.open(io.BytesIO(png_bytes(IMAGE, parameters_text(made, "Euler a"))))
    assert file.info["parameters"].startswith("a fox\nNegative")
    assert file.tobytes() == IMAGE.tobytes()


def rows(*prompts: str) -> list[tuple[str, str]]:
    return [(prompt, f"list.txt:{number}") for number, prompt in enumerate(prompts)]


def test_seeds_are_the_same_everywhere() -> None:
    assert seed_of("a red fox", 0) == 3823326637305599
    assert seed_of("a red fox", 0, 1) != seed_of("a red fox", 1, 0) != seed_of("a red fox", 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.integers(1, 3), st.randoms())
def test_orders_follow_from_words(prompts: list[str], images: int, rng: random.Random) -> None:
    orders = orders_of(rows(*prompts), images)
    assert [order.prompt for order in orders] == [prompt for prompt in prompts for _ in range(images)]
    assert len({order.seed for order in orders}) == len(orders), "no two pictures alike"
    mixed = rng.sample(prompts, len(prompts))
    assert {(o.prompt, o.seed) for o in orders_of(rows(*mixed), images)} == {(o.prompt, o.seed) for o in orders}
    assert {o.seed for o in orders_of(rows(*prompts), images, 1)}.isdisjoint(o.seed for o in orders)
    assert orders[0].source == "list.txt:0"


COLUMNS = ("image", "prompt", "error")


def spooled(number: int) -> dict[str, object]:
    return {"number": number, "image": bytes([number]) * 300, "prompt": f"p{number}", "error": None}


def test_a_spool_that_is_cut_anywhere_keeps_its_whole_batches(tmp_path: Path) -> None:
    with Spool(tmp_path / "s", COLUMNS) as spool:
        assert spool.read() == {}
        assert not (tmp_path / "s").exists()
        for first in (0, 2, 4):
            spool.add([spooled(first), spooled(first + 1)])
    (file,) = (tmp_path / "s").iterdir()
    whole = file.read_bytes()
    counts = []
    for end in (*range(0, len(whole), 13), len(whole)):
        file.write_bytes(whole[:end])
        found = Spool(tmp_path / "s", COLUMNS).read()
        assert found == {number: spooled(number) for number in range(len(found))}
        counts.append(len(found))
    assert counts == sorted(counts)
    assert set(counts) == {0, 2, 4, 6}
    # What comes after a cut goes into a file of its own.
    file.write_bytes(whole[:-100])
    with Spool(tmp_path / "s", COLUMNS) as spool:
        spool.add([spooled(4), spooled(5)])
        assert sorted(spool.read()) == [0, 1, 2, 3, 4, 5]
        spool.remove()
    assert not (tmp_path / "s").exists()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from(("train", "test_pairs", "test_styles")), st.integers(0, 2**53))
def test_imagined_scenes_show_what_was_said(number: int, split: str, seed: int) -> None:
    truth = facts_of(sample_scene(number, split))
    assert facts_of(imagine(truth, seed)) == truth
    said = parse(describe(sample_scene(number, split), "short"))
    shown = facts_of(imagine(said, seed))
    assert {thing.kind for thing in shown.objects} == {thing.kind for thing in said.objects}
    assert shown.relations == said.relations
    assert said.setting in (None, shown.setting)
    assert said.style in (None, shown.style)


def test_of_many_things_those_in_relations_stand() -> None:
    things = tuple(ObjectFacts(kind) for kind in ("apple", "banana", "cat", "dog", "owl"))
    scene = imagine(Facts(things, frozenset({("owl", "behind", "dog")})), 1)
    assert {group.kind for group in scene.groups} == {"apple", "dog", "owl"}
    assert len(scene.relations) == 1


COUNTS = st.one_of(st.none(), st.integers(1, 9))
THINGS = st.builds(
    ObjectFacts,
    st.sampled_from(("cat", "dog", "car", "tulip", "castle", "book")),
    COUNTS,
    st.frozensets(st.sampled_from(("red", "blue"))),
    st.sampled_from((None, "tiny", "huge")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(THINGS, min_size=1, unique_by=lambda thing: thing.kind), st.data())
def test_whatever_is_said_can_be_laid_out(things: list[ObjectFacts], data: st.DataObject) -> None:
    kinds = [thing.kind for thing in things]
    pairs = [(a, b) for a in kinds for b in kinds if a != b]
    name = st.sampled_from(("left of", "above", "behind", "on"))
    drawn = data.draw(st.frozensets(st.tuples(st.sampled_from(pairs), name), max_size=5)) if pairs else frozenset()
    facts = Facts(tuple(things), frozenset((a, relation, b) for (a, b), relation in drawn), time="night")
    scene = imagine(facts, 5)
    check(scene)
    assert layout(scene)
    assert imagine(facts, 5) == scene


def test_the_storybook_generator_draws_prompts() -> None:
    generator = StorybookGenerator(64)
    prompt = "two red cars in front of a castle on the beach at night, watercolor"
    first, again, other, lost = generator.generate_many([prompt, prompt, prompt, "a cathedral of glass"], [1, 1, 2, 3])
    assert isinstance(first, Generated)
    assert isinstance(again, Generated)
    assert isinstance(other, Generated)
    assert first.image.size == (64, 64)
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert first.made == EmbeddedPrompt(prompt, model="storybook", seed=1, steps=1, width_px=64, height_px=64)
    assert isinstance(lost, Failed)
    assert (lost.kind, lost.source) == ("NothingToDraw", "a cathedral of glass")
    with pytest.raises(ConfigError, match="32 to 2048"):
        StorybookGenerator(16)
    with pytest.raises(DataError, match="names no object"):
        imagine(Facts(), 0)

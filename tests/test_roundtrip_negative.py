"""`roundtrip --negative-prompt derived`: prompts drawn once more without what their pictures show too many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_diffusion import save_sd

from img2prompt.cli import main
from img2prompt.jobs.loop.closing import remarks, table
from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.negated import summarise_negated
from img2prompt.jobs.loop.plan import Item
from img2prompt.jobs.loop.prompts import Asked
from img2prompt.jobs.loop.report import write_report
from img2prompt.jobs.loop.summary import summarise
from img2prompt.jobs.loop.trip import Parts, Trip, Wishes
from img2prompt.metrics import METRICS, colour_distance
from img2prompt.pairs.metadata import read_prompt
from img2prompt.pairs.parameters import parameters_text, png_bytes
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.imagine import StorybookGenerator
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.results import Candidate, EmbeddedPrompt, Failed, Generated, Prediction

HABIT = "an owl"  # what the generator below adds to every picture of a cat
KINDS = ("predicted", "upsampled", "upsampled-negative")
PROMPTS = ("a red cat on a beach, oil painting", "two blue dogs on a farm, oil painting")


class Habitual:
    """The real renderer, but it adds an owl to every cat unless it is told not to."""

    batch_size = 4
    takes_negatives = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str | None]] = []
        self._inner = StorybookGenerator(64)

    def settings(self) -> dict[str, Any]:
        return self._inner.settings()

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> list[Generated | Failed]:
        rows: list[Generated | Failed] = []
        for prompt, seed, negative in zip(prompts, seeds, negatives or [None] * len(prompts), strict=True):
            self.asked.append((prompt, seed, negative))
            shown = prompt if "cat" not in prompt or "owl" in (negative or "") else f"{prompt}, {HABIT}"
            (made,) = self._inner.generate_many([shown], [seed])
            assert isinstance(made, Generated)
            rows.append(replace(made, made=replace(made.made, negative_prompt=negative)))
        return rows


class Knowing:
    """Predicts what files say that they were made from; of originals, what they were named after."""

    def predict_many(self, sources: Iterable[Any], **_: Any) -> list[Prediction]:
        rows = []
        for source in sources:
            said = read_prompt(Path(source).read_bytes())
            text = said.prompt if said is not None else PROMPTS[int(Path(source).parent.name[:4]) - 1]
            rows.append(Prediction(str(source), text, "captioner", candidates=(Candidate(text, -1.0, 3, 0.9),)))
        return rows


class Looking:
    """Compares pictures by their colours, which needs no weights."""

    rows = {"colour_distance": METRICS["colour_distance"]}  # noqa: RUF012
    skipped: dict[str, str] = {}  # noqa: RUF012

    def settings(self) -> dict[str, str]:
        return {}

    def images(self, originals: Sequence[Image.Image], others: Sequence[Image.Image]) -> dict[str, Any]:
        pairs = zip(originals, others, strict=True)
        return {"colour_distance": np.array([colour_distance(np.asarray(a), np.asarray(b)) for a, b in pairs])}

    def texts(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, Any]:
        return {}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """A picture of each prompt; that of the cat has no owl."""
    found = []
    for place, prompt in enumerate(PROMPTS, 1):
        (made,) = StorybookGenerator(64).generate_many([prompt], [place])
        assert isinstance(made, Generated)
        path = tmp_path / f"{place}.png"
        made.image.save(path)
        found.append(Item(f"{place:04d}-x", path.name, lambda path=path: path))  # type: ignore[misc]
    return found


def trip_through(run: RunFolder, items: Sequence[Item], generator: Habitual) -> Trip:
    wishes = Wishes(("predicted",), 3, 0, Asked(), negate=True)
    parts = Parts(Knowing, None, lambda: generator, Looking)  # type: ignore[arg-type]
    trip = Trip(run, items, wishes, parts)
    for step in (trip.words, trip.pictures, trip.negate, trip.scores):
        step()
    return trip


def test_pictures_are_made_again_where_most_show_what_nobody_asked_for(items: list[Item], tmp_path: Path) -> None:
    folder, generator = tmp_path / "run", Habitual()
    with RunFolder(folder, {}) as run:
        trip = trip_through(run, items, generator)
        rows = trip.rows()
        cat, dogs = rows
        assert cat["faults"]["predicted"]["extra"] == ["owl"] and cat["faults"]["predicted-negative"]["extra"] == []
        assert cat["prompts"]["predicted-negative"] == {"text": PROMPTS[0], "from": "predicted", "negative": "owl"}
        assert dogs["prompts"]["predicted-negative"]["negative"] is None
        # from the same noise, and only where something was found
        seeds = [picture["seed"] for picture in cat["pictures"]["predicted"]]
        again = [(prompt, seed, negative) for prompt, seed, negative in generator.asked if negative is not None]
        assert again == [(PROMPTS[0], seed, "owl") for seed in seeds]
        for picture in cat["pictures"]["predicted-negative"]:
            said = read_prompt((folder / picture["file"]).read_bytes())
            assert said is not None and said.negative_prompt == "owl"
        pairs = zip(dogs["pictures"]["predicted"], dogs["pictures"]["predicted-negative"], strict=True)
        assert all((folder / a["file"]).read_bytes() == (folder / b["file"]).read_bytes() for a, b in pairs)
        # and scored beside the others
        near, far = (cat["scores"][kind]["colour_distance"] for kind in ("predicted-negative", "predicted"))
        assert sum(near) < sum(far)
        assert dogs["scores"]["predicted"] == dogs["scores"]["predicted-negative"]


def test_the_summary_tests_it_against_the_same_prompt_without(items: list[Item], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunFolder(folder, {}) as run:
        trip = trip_through(run, items, Habitual())
        rows = trip.rows()
        summary = {"config": run.config, "skipped_metrics": {}, **summarise(rows, 3, trip.kinds())}
        summary["negated"] = summarise_negated(rows)
        run.write("results.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        run.write("summary.json", json.dumps(summary).encode())
    assert summary["negated"] == {"predicted-negative": {"prompts": 2, "negated": 1}}
    (test,) = summary["metrics"]["colour_distance"]["tests"]
    assert (test["a"], test["b"], test["n"]) == ("predicted-negative", "predicted", 2) and test["difference"] < 0
    assert any("to the same prompt without" in line for line in table(summary))
    assert any("1 of 2 predicted prompts got a negative one" in line for line in remarks(summary))
    page = write_report(folder).read_text()
    assert "predicted + negative" in page and "negative prompt: owl" in page and "1 of 2 prompts" in page
    rich = [{**row, "scores": dict.fromkeys(KINDS, row["scores"]["predicted"])} for row in rows]
    tests = summarise(rich, 3, KINDS)["metrics"]["colour_distance"]["tests"]
    assert ("upsampled-negative", "upsampled") in {(test["a"], test["b"]) for test in tests}


def test_a_run_that_goes_on_keeps_to_what_was_derived(items: list[Item], tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", {}) as run:
        whole = trip_through(run, items, Habitual()).rows()
    generator = Habitual()
    with RunFolder(tmp_path / "run", {}) as run:
        assert trip_through(run, items, generator).rows() == whole and generator.asked == []
        (lost,) = (tmp_path / "run" / one["file"] for one in whole[0]["pictures"]["predicted-negative"][:1])
        lost.unlink()
        assert trip_through(run, items, generator).rows() == whole
        assert [negative for _, _, negative in generator.asked] == ["owl"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("roundtrip", "x.png"), "storybook takes no negative prompt; storybook-diffusion does"),
        (("roundtrip", "x.png", "--generator", "x", "--kinds", "true"), "--kinds needs predicted or upsampled"),
        (("validate", "a cat"), "only roundtrip derives it"),
        (("pairs", "generate", "a cat"), "only roundtrip derives it"),
    ],
)
def test_what_cannot_derive_one_says_so_before_any_work(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--negative-prompt", "derived", "--output", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_none_is_no_negative_prompt(tmp_path: Path) -> None:
    """The renderer takes none, so the word must not reach it."""
    image = tmp_path / "a.png"
    scene = sample_scene(5 << 32, "test")
    image.write_bytes(png_bytes(render(scene, 64), parameters_text(EmbeddedPrompt(describe(scene), seed=1))))
    words = [str(image), "--upsampler", "none", "--no-report", "--metrics", "ssim", "--seeds", "1", "--size", "32"]
    assert main(["roundtrip", *words, "--negative-prompt", "None", "--output", str(tmp_path / "run")]) == 0


def test_a_pipeline_draws_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, image, folder = save_sd(tmp_path / "model"), tmp_path / "a.png", tmp_path / "run"
    render(sample_scene(5 << 32, "test"), 64).save(image)
    words = [str(image), "--generator", str(model), "--steps", "1", "--upsampler", "none", "--metrics", "ssim"]
    words += ["--seeds", "1", "--no-report", "--device", "cpu", "--output", str(folder)]
    assert main(["roundtrip", *words, "--negative-prompt", "derived"]) == 0
    (row,) = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    negative = row["prompts"]["predicted-negative"]["negative"]
    assert negative == row["faults"]["predicted"]["negative"]
    files = [(folder / row["pictures"][kind][0]["file"]).read_bytes() for kind in ("predicted", "predicted-negative")]
    assert (files[0] == files[1]) == (negative is None)
    assert json.loads((folder / "config.json").read_text())["run"]["negative_prompt"] == "derived"
    assert main(["roundtrip", *words]) == 2  # another configuration
    words = [*words[:-1], str(tmp_path / "unguided"), "--guidance", "1", "--negative-prompt", "derived"]
    capsys.readouterr()
    assert main(["roundtrip", *words]) == 2
    assert "takes no negative prompt, or its guidance is no more than 1" in capsys.readouterr().err

"""Parts of the round trip: seeds and floors, the journal, shared pictures, what a summary says, refinement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2prompt.errors import ConfigError, ModelError, OutputError
from img2prompt.jobs.loop.closing import remarks, table
from img2prompt.jobs.loop.faults import faults_of
from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.originals import original_file
from img2prompt.jobs.loop.pictures import MOST_REFUSED, Wanted, picture_row, regenerate
from img2prompt.jobs.loop.plan import STOCK_PROMPTS, floors_of, items_of_targets, seeds_for
from img2prompt.jobs.loop.refine import Refiner, Search, search_seeds
from img2prompt.jobs.loop.scoring import Case, compare, set_scores
from img2prompt.jobs.loop.summary import summarise
from img2prompt.jobs.targets import Target
from img2prompt.metrics import METRICS
from img2prompt.pairs.parameters import png_bytes
from img2prompt.pairs.storybook.imagine import StorybookGenerator
from img2prompt.pairs.storybook.parse import parse
from img2prompt.results import Failed, Generated, Prediction

WORDS = st.lists(st.sampled_from(["a red cat", "two dogs", "a blue car", "three owls"]), min_size=1, max_size=8)


@given(WORDS, st.integers(0, 99))
def test_a_floor_is_never_the_pictures_own_prompt(prompts: list[str], seed: int) -> None:
    floors = floors_of(prompts, seed)
    assert floors == floors_of(prompts, seed)
    for place, (own, (text, other)) in enumerate(zip(prompts, floors, strict=True)):
        assert text != own and other != place
        if other is None:
            assert set(prompts) == {own} and text in STOCK_PROMPTS
        else:
            assert prompts[other] == text


def test_different_prompts_are_all_used_as_floors_once() -> None:
    prompts = [f"prompt {number}" for number in range(9)]
    for seed in range(20):
        assert sorted(text for text, _ in floors_of(prompts, seed)) == sorted(prompts)
    assert len({tuple(text for text, _ in floors_of(prompts, seed)) for seed in range(20)}) > 3


@given(st.text(max_size=20), st.integers(1, 40), st.integers(0, 2**62))
def test_seeds_are_different_and_a_longer_list_goes_on(place: str, count: int, seed: int) -> None:
    seeds = seeds_for(place, count, seed)
    assert len(set(seeds)) == count and all(0 <= value < 2**32 for value in seeds)
    assert seeds_for(place, count + 5, seed)[:count] == seeds
    assert not set(search_seeds(place, count, seed, 5)) & set(seeds_for(place, 5, seed))
    assert len(search_seeds(place, count, seed, 5)) == count


def test_every_stock_prompt_can_be_drawn() -> None:
    for made in StorybookGenerator(32).generate_many(STOCK_PROMPTS, [0] * len(STOCK_PROMPTS)):
        assert isinstance(made, Generated)


def test_ids_are_names_of_folders() -> None:
    names = ["a b/ü.png", "https://example.org/x/y%20z.png?token=1", "../../etc/passwd", "-", "x" * 300]
    items = items_of_targets([Target(name, name, None) for name in names])
    assert len({item.id for item in items}) == len(names)
    for item in items:
        assert item.id.isascii() and len(item.id) < 60 and not set(item.id) & set("/\\ ?%.")
    assert items[2].id == "0003-passwd"


def test_a_journal_is_read_up_to_where_it_was_cut(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", {"seeds": 2}) as run:
        run.put("predict", "a", {"text": "ä \ud800"})
        run.put("predict", "b", [1, None])
    journal = tmp_path / "run" / "journal.jsonl"
    whole = journal.read_bytes()
    for cut in range(len(whole)):
        journal.write_bytes(whole[:cut])
        with RunFolder(tmp_path / "run", {"seeds": 2}) as run:
            lines = whole[:cut].count(b"\n")
            assert [run.get("predict", key) is not None for key in "ab"] == [lines >= 1, lines >= 2]
            run.put("predict", "c", 3)
        assert journal.read_bytes() == whole[: len(b"\n".join(whole.split(b"\n")[:lines])) + (lines > 0)] + (
            b'{"step": "predict", "key": "c", "row": 3}\n'
        )


def test_other_models_in_the_same_run_are_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path, {"seeds": 2}) as run:
        run.open_model("generator", {"model": "x", "steps": 4})
    with RunFolder(tmp_path, {"seeds": 2}) as run:
        run.open_model("generator", {"model": "x", "steps": 4})
        with pytest.raises(ConfigError, match=r"generator is not the one that began this run \(steps 4, now 5"):
            run.open_model("generator", {"model": "x", "steps": 5})
    with pytest.raises(ConfigError, match="seeds 2, now 3"), RunFolder(tmp_path, {"seeds": 3}):
        pass
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(OutputError, match="no configuration of ours"), RunFolder(tmp_path, {"seeds": 2}):
        pass


class Counting:
    """A real generator that notes what it was asked; refuses or fails for some prompts."""

    batch_size = 3

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self._inner = StorybookGenerator(32)

    def settings(self) -> dict[str, Any]:
        return self._inner.settings()

    def generate_many(
        self, prompts: Sequence[str], seeds: Sequence[int], negatives: Sequence[str | None] | None = None
    ) -> list[Generated | Failed]:
        self.asked += zip(prompts, seeds, strict=True)
        if any("too large" in prompt for prompt in prompts):
            raise ModelError("out of memory with a single picture")
        return self._inner.generate_many(prompts, seeds, negatives)


def test_the_same_words_share_a_picture_and_nothing_is_made_twice(tmp_path: Path) -> None:
    pictures = [Wanted("a", kind, "a red cat", seed) for kind in ("predicted", "upsampled") for seed in (1, 2)]
    pictures += [Wanted("a", "floor", "nothing at all", 1), Wanted("b", "predicted", "a red cat", 1)]
    with RunFolder(tmp_path, {}) as run:
        generator = Counting()
        regenerate(run, pictures, lambda: generator)
        assert sorted(generator.asked) == [("a red cat", 1)] * 2 + [("a red cat", 2), ("nothing at all", 1)]
        files = [(tmp_path / picture.file) for picture in pictures]
        assert files[0].read_bytes() == files[2].read_bytes() != files[1].read_bytes()
        assert picture_row(run, pictures[4])["kind"] == "NothingToDraw"
        files[2].unlink()
        regenerate(run, pictures, lambda: pytest.fail("opened for nothing"))
        assert files[0].read_bytes() == files[2].read_bytes()


def test_out_of_memory_is_a_row_that_the_next_run_tries_again(tmp_path: Path) -> None:
    pictures = [Wanted("a", f"kind-{place}", text, 1) for place, text in enumerate(["a cat", "too large", "a dog"])]
    with RunFolder(tmp_path, {}) as run:
        regenerate(run, pictures, Counting)
        assert [picture_row(run, picture).get("kind") for picture in pictures] == [None, "ModelError", None]
        generator = Counting()
        regenerate(run, pictures, lambda: generator)
        assert set(generator.asked) == {("too large", 1)}
        hopeless = [Wanted("b", f"kind-{place}", f"too large {place}", 1) for place in range(9)]
        generator = Counting()
        with pytest.raises(ModelError):
            regenerate(run, hopeless, lambda: generator)
        assert len(generator.asked) <= 3 + MOST_REFUSED


def _row(name: str, true: float, predicted: float, upsampled: float | None, floor: float) -> dict[str, Any]:
    values = {"true": true, "predicted": predicted, "upsampled": upsampled, "floor": floor}
    scores = {kind: {"ssim": [value, value]} for kind, value in values.items()}
    said = {"id": name, "source": name, "prompts": {kind: {"text": kind} for kind in values}, "scores": scores}
    return {**said, "ceiling": {}, "ceiling_from": "true prompt", "failed": []}


def test_a_summary_places_scores_between_floor_and_ceiling() -> None:
    rows = [_row("a", 0.9, 0.5, 0.6, 0.1), _row("b", 0.7, 0.5, None, 0.3)]
    other = {"ceiling": {"ssim": [0.6, 0.6]}, "ceiling_from": "another seed", "failed": []}
    rows.append({"id": "c", "source": "c", "prompts": {"predicted": {"in_domain": False}}, "scores": {
        "predicted": {"ssim": [0.4, None]}, "floor": {"ssim": [0.2, 0.2]}}, **other})  # fmt: skip
    rows.append({"id": "d", "source": "d", "prompts": {}, "scores": {}, "failed": [
        {"source": "d", "error": "is empty", "kind": "ImageEmpty"}]})  # fmt: skip
    summary = summarise(rows, 2, ["true", "predicted", "upsampled", "refined"])
    ssim = summary["metrics"]["ssim"]
    assert summary["images"] == 3 and list(summary["metrics"]) == ["ssim"] and len(summary["failed"]) == 1
    assert list(ssim["kinds"]) == ["true", "predicted", "upsampled"]
    assert ssim["kinds"]["predicted"]["mean"] == pytest.approx((0.5 + 0.5 + 0.4) / 3)
    assert ssim["kinds"]["upsampled"] == {"mean": 0.6, "low": 0.6, "high": 0.6, "n": 1}
    assert ssim["fractions"]["upsampled"]["n"] == 1
    assert ssim["floor"] == pytest.approx(0.2) and ssim["ceiling"] == pytest.approx((0.9 + 0.7 + 0.6) / 3)
    expected = ((0.5 + 0.5 + 0.4) / 3 - 0.2) / (2.2 / 3 - 0.2)
    assert ssim["fractions"]["predicted"]["mean"] == pytest.approx(expected)
    assert ssim["ceiling_from"] == "another seed (1), true prompt (2)"
    test = next(test for test in ssim["tests"] if test["a"] == "upsampled")
    assert (test["b"], test["n"], test["difference"]) == ("predicted", 1, pytest.approx(0.1))
    json.dumps(summary, allow_nan=False)
    assert summary["outcomes"] == {} and summary["outside_domain"] == ["c"]
    lines = table({**summary, "skipped_metrics": {"fid": "no weights"}})
    assert any(line.startswith("ssim") and "0.467 (50 %" in line for line in lines)
    assert remarks({**summary, "skipped_metrics": {"fid": "no weights"}}) == [
        "not measured here: fid; summary.json says why, and what brings them",
        "note: outside what the captioner knows, do not trust the prompt: c",
        "failed: 1 ImageEmpty: d: is empty",
    ]


def test_tests_of_several_metrics_are_corrected_for_each_other() -> None:
    rows = []
    for number in range(8):
        close, loose = [0.5 + 0.01 * number], [0.5 + 0.01 * number * (-1) ** number]
        scores = {"predicted": {"ssim": [0.4], "clip_score": [0.5]}, "upsampled": {"ssim": close, "clip_score": loose}}
        rows.append({**_row(str(number), 0, 0, None, 0), "scores": scores})
    metrics = summarise(rows, 1, ["predicted", "upsampled"])["metrics"]
    found = {name: row["tests"][0] for name, row in metrics.items()}
    assert found["ssim"]["p_holm"] == pytest.approx(2 * found["ssim"]["p"]) and found["ssim"]["p"] < 0.05
    assert found["clip_score"]["p_holm"] == found["clip_score"]["p"] > 0.05
    lines = table({**summarise(rows, 1, ["predicted", "upsampled"]), "skipped_metrics": {}})
    assert any(line.startswith("ssim") and line.endswith(f"(p {found['ssim']['p_holm']:.3f})") for line in lines)


class Looking:
    """Compares pictures by their colours, which needs no weights."""

    rows = {"colour_distance": METRICS["colour_distance"]}  # noqa: RUF012
    skipped = {"regressor_cosine": "brings no regressor"}  # noqa: RUF012

    def images(self, originals: Sequence[Image.Image], others: Sequence[Image.Image]) -> dict[str, Any]:
        from img2prompt.metrics import colour_distance

        pairs = zip(originals, others, strict=True)
        return {"colour_distance": np.array([colour_distance(np.asarray(a), np.asarray(b)) for a, b in pairs])}


class Saying:
    """Predicts the same of every picture."""

    def __init__(self, text: str) -> None:
        self._text = text

    def predict_many(self, sources: Sequence[Any], **_: Any) -> list[Prediction]:
        return [Prediction("x", self._text, "captioner") for _ in sources]


def _refined(candidates: list[dict[str, Any]], said: str, weight: float = 0.0) -> dict[str, Any]:
    generator = StorybookGenerator(64)
    (original,) = generator.generate_many(["a red car on a beach at sunset, oil painting"], [5])
    assert isinstance(original, Generated)
    search = Search("colour_distance", seeds=3, weight=weight)
    refiner = Refiner(Saying(said), generator, Looking(), search)  # type: ignore[arg-type]
    return refiner.refine(original.image, candidates, [1, 2, 3])


def test_refining_takes_the_candidate_whose_pictures_come_closest() -> None:
    wrong, right = "a green tree in a snowy forest at night, neon sign", "a red car on a beach at sunset, oil painting"
    candidates = [{"text": wrong, "score": 0.9}, {"text": right, "score": 0.8}, {"text": "nothing", "score": 0.7}]
    row = _refined(candidates, right)
    assert (row["text"], row["from"]) == (right, "candidate-2") and row["likeness"] > row["before"]
    assert [trial["from"] for trial in row["trials"]] == ["predicted", "candidate-2", "candidate-3"]
    assert row["trials"][2]["likeness"] is None  # it cannot be drawn
    assert _refined(candidates, right, weight=100.0)["text"] == wrong  # the ranking outweighs the pictures
    same = [{"text": wrong, "score": 0.9}, {"text": f"{wrong}, best quality", "score": 0.8}]
    assert len(_refined(same, wrong)["trials"]) == 1  # the same facts are not drawn twice


def test_refining_says_again_what_the_pictures_do_not_show() -> None:
    prompt = "a red car on a beach, oil painting"
    row = _refined([{"text": prompt, "score": 0.9}], "a car on a beach, oil painting")
    assert [trial["text"] for trial in row["trials"][1:]] == [f"{prompt}, red car"]
    assert parse(row["text"]) == parse(prompt)


def test_refining_needs_its_metric() -> None:
    with pytest.raises(ConfigError, match="refining by regressor_cosine: brings no regressor"):
        Refiner(Saying(""), StorybookGenerator(32), Looking(), Search())  # type: ignore[arg-type]


def test_faults_are_what_most_pictures_show_wrongly() -> None:
    prompt = "two red cats and a dog on a beach, oil painting"
    said = ["two red cats on a beach with an owl, oil painting", "a red cat on a beach, oil painting, an owl", None]
    faults = faults_of(prompt, said)
    assert faults["missing"] == ["dog"] and faults["extra"] == ["owl"] and "owl" in faults["negative"]
    assert faults_of(prompt, [prompt]) == {"missing": [], "extra": [], "negative": None}
    assert faults_of("a wizard in brass armour", ["a wizard in steel armour"])["missing"] == ["brass"]
    assert faults_of(prompt, [None]) == {"missing": [], "extra": [], "negative": None}


class Sets(Looking):
    """Counts the pictures of two sets."""

    rows = {"kid": METRICS["kid"]}  # noqa: RUF012
    skipped = {}  # noqa: RUF012

    def settings(self) -> dict[str, str]:
        return {"kid": "counting"}

    def sets(self, originals: Sequence[Image.Image], others: Sequence[Image.Image]) -> dict[str, float]:
        return {"kid": 10 * len(originals) + len(others), "fid": float("nan")}


def test_sets_are_all_pictures_of_a_kind_against_their_originals(tmp_path: Path) -> None:
    kinds = {"predicted": "a red cat", "floor": "nothing"}
    cases = []
    with RunFolder(tmp_path, {}) as run:
        for name in "ab":
            pictures = {kind: [Wanted(name, kind, text, seed) for seed in (1, 2)] for kind, text in kinds.items()}
            (made,) = StorybookGenerator(32).generate_many(["a dog"], [1])
            assert isinstance(made, Generated)
            run.write(original_file(name), png_bytes(made.image, "x"))
            cases.append(Case(name, "a red cat", "a red cat", "another seed", pictures))
        regenerate(run, [one for case in cases for some in case.pictures.values() for one in some], Counting)
        assert compare(run, cases, Sets) == {}  # type: ignore[arg-type]
        assert set_scores(run, ["predicted", "floor", "true"]) == {"predicted": {"kid": 24, "fid": None}}

"""A round trip step by step: originals, prompts, pictures, scores. Each step asks the run's folder what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from img2prompt.jobs.loop.case_rows import case_row, failed_pictures
from img2prompt.jobs.loop.faults import faults_of
from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.negated import NEGATED, SUFFIX, derive, negated_prompts
from img2prompt.jobs.loop.originals import original_file, read_originals, readable, truth_of
from img2prompt.jobs.loop.pictures import Wanted, picture_row, regenerate
from img2prompt.jobs.loop.plan import Item, floors_of, seeds_for
from img2prompt.jobs.loop.prompts import Asked, predict, upsample
from img2prompt.jobs.loop.refine import refine, search_seeds
from img2prompt.jobs.loop.scoring import ANOTHER_SEED, TRUE, Case, compare, predict_again

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.loop.refine import Refiner
    from img2prompt.predictor import Predictor
    from img2prompt.results import Generator, Upsampler


@dataclass(frozen=True, slots=True)
class Parts:
    """How the models of a trip are opened; each is opened when there is work for it, and let go afterwards."""

    predictor: Callable[[], Predictor]
    upsampler: Callable[[], Upsampler] | None
    generator: Callable[[], Generator]
    comparer: Callable[[], Comparer]
    refiner: Callable[[], Refiner] | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a trip is to do.

    Attributes:
        kinds: prompts whose pictures are compared: of true, predicted, upsampled, candidates.
        seeds: pictures of a prompt.
        seed: of the run.
        asked: how prompts are predicted; refinement may want more candidates than are compared.
        candidates: of which so many are compared, the predicted prompt among them.
        search_seeds: pictures of a prompt that refinement looks at.
        metadata: a prompt inside of a file is its true one.
        negate: prompts are drawn once more, with negative ones derived from their pictures.
    """

    kinds: tuple[str, ...]
    seeds: int
    seed: int
    asked: Asked
    candidates: int = 1
    search_seeds: int = 4
    metadata: bool = True
    negate: bool = False


class Trip:
    """One run's round trip.

    Args:
        run: its folder.
        items: its pictures.
        wishes: what it is to do.
        parts: how the models are opened.
    """

    def __init__(self, run: RunFolder, items: Sequence[Item], wishes: Wishes, parts: Parts) -> None:
        self._run, self._items, self._wishes, self._parts = run, items, wishes, parts
        self.skipped_metrics: dict[str, str] = {}

    def words(self) -> None:
        """Reads the originals, predicts their prompts and makes these rich."""
        read_originals(self._run, self._items, metadata=self._wishes.metadata)
        predict(self._run, readable(self._run, self._items), self._parts.predictor, self._wishes.asked)
        if self._parts.upsampler is None:
            return
        bases = [
            (item.id, self.predictions(item)[0]["text"], seeds_for(item.id, 1, self._wishes.seed)[0])
            for item in self.predicted()
        ]
        upsample(self._run, bases, self._parts.upsampler)

    def refine(self) -> None:
        """Chooses among the candidates by what they regenerate, where that is asked for."""
        if self._parts.refiner is None:
            return
        wishes = self._wishes
        cases = [(item.id, self.predictions(item)) for item in self.predicted()]
        refine(
            self._run,
            cases,
            self._parts.refiner,
            lambda name: search_seeds(name, wishes.search_seeds, wishes.seed, wishes.seeds),
        )

    def pictures(self) -> None:
        """Regenerates every kind of prompt with every seed."""
        wanted = [picture for case in self.cases() for pictures in case.pictures.values() for picture in pictures]
        regenerate(self._run, wanted, self._parts.generator)

    def negate(self) -> None:
        """Draws prompts once more without what most of their pictures show too many, where that is asked for."""
        if self._wishes.negate:
            self._read_again()
            derive(self._run, self.cases(), self._negated())
            self.pictures()

    def scores(self) -> None:
        """Predicts the prompts of the regenerated pictures and compares them."""
        self._read_again()
        self.skipped_metrics = compare(self._run, self.cases(), self._parts.comparer)

    def cases(self) -> list[Case]:
        """Every original whose prompt is known, with the pictures that it is to have."""
        return [self._case(item, prompts) for item, prompts in self._prompts()]

    def rows(self) -> list[Row]:
        """The rows of results.jsonl, failed originals too, in the order of the pictures."""
        prompts = {item.id: row for item, row in self._prompts()}
        return [self._row(item, prompts.get(item.id)) for item in self._items]

    def kinds(self) -> list[str]:
        """The kinds of prompts that are compared, in the order of tables."""
        others = [f"candidate-{place}" for place in range(2, self._wishes.candidates + 1)]
        wished = {"true": ["true"], "predicted": ["predicted"], "upsampled": ["upsampled"], "candidates": others}
        found = [kind for name in wished if name in self._wishes.kinds for kind in wished[name]]
        return [*found, *(f"{kind}{SUFFIX}" for kind in self._negated()), "refined"]

    def predicted(self) -> list[Item]:
        """The originals that have a predicted prompt."""
        there = readable(self._run, self._items)
        return [item for item in there if "prompts" in (self._run.get("predict", item.id) or {})]

    def predictions(self, item: Item) -> list[Row]:
        """The candidates for an original's prompt, best first."""
        prompts: list[Row] = self._run.get("predict", item.id)["prompts"]
        return prompts

    def _negated(self) -> list[str]:
        """The kinds of prompts that are drawn once more."""
        return [kind for kind in NEGATED if self._wishes.negate and kind in self._wishes.kinds]

    def _read_again(self) -> None:
        asked = self._wishes.asked
        predict_again(self._run, self.cases(), self._parts.predictor, asked.style, asked.batch_size)

    def _prompts(self) -> list[tuple[Item, dict[str, Row]]]:
        """Every original that has a predicted prompt, with all its prompts by kind."""
        items = self.predicted()
        truths = [truth_of(self._run, item) for item in items]
        # Predicted ones, since the generator may not know the world that a true prompt is of.
        floors = floors_of([self.predictions(item)[0]["text"] for item in items], self._wishes.seed)
        found = []
        for item, truth, (text, other) in zip(items, truths, floors, strict=True):
            origin = "a stock prompt" if other is None else f"predicted prompt of {items[other].id}"
            found.append((item, self._prompts_of(item, truth, {"text": text, "from": origin})))
        return found

    def _prompts_of(self, item: Item, truth: Row | None, floor: Row) -> dict[str, Row]:
        first, *others = self.predictions(item)
        rich, refined = self._run.get("upsample", item.id), self._run.get("refine", item.id)
        prompts = {"true": truth} if truth is not None else {}
        prompts["predicted"] = first
        if rich is not None and "text" in rich:
            prompts["upsampled"] = rich
        prompts |= {f"candidate-{place}": row for place, row in enumerate(others, 2)}
        prompts |= negated_prompts(self._run, item.id, prompts)
        if refined is not None:
            prompts["refined"] = refined
        kept = {*self.kinds(), "true", "predicted"}  # of which a ceiling may be made
        return {**{kind: row for kind, row in prompts.items() if kind in kept}, "floor": floor}

    def _case(self, item: Item, prompts: dict[str, Row]) -> Case:
        known = "true" in prompts
        made = {*self.kinds(), "floor", "true" if known else "predicted"}
        seeds = seeds_for(item.id, self._wishes.seeds, self._wishes.seed)
        truths = [Wanted(item.id, "true", prompts["true"]["text"], seed) for seed in seeds] if known else []
        drawn = any("file" in picture_row(self._run, picture) for picture in truths)
        return Case(
            id=item.id,
            reference=prompts["true" if known else "predicted"]["text"],
            predicted=prompts["predicted"]["text"],
            ceiling=TRUE if drawn else ANOTHER_SEED,
            pictures={
                kind: [Wanted(item.id, kind, row["text"], seed, row.get("negative")) for seed in seeds]
                for kind, row in prompts.items()
                if kind in made
            },
        )

    def _row(self, item: Item, prompts: dict[str, Row] | None) -> Row:
        steps = {step: self._run.get(step, item.id) or {} for step in ("original", "predict", "upsample")}
        failed = [
            {"source": item.name, "error": row["error"], "kind": row["kind"], "step": step}
            for step, row in steps.items()
            if "error" in row
        ]
        there = "error" not in steps["original"]
        row: Row = {"id": item.id, "source": item.name, "original": original_file(item.id) if there else None}
        if prompts is None:
            return {**row, "prompts": {}, "pictures": {}, "scores": {}, "again": {}, "failed": failed}
        case = self._case(item, prompts)
        found = case_row(self._run, case)
        failed += failed_pictures(item.name, found)
        said = {kind: texts for kind, texts in found["again"].items() if kind != "floor"}
        faults = {kind: faults_of(prompts[kind]["text"], texts) for kind, texts in said.items()}
        row |= {"prompts": prompts, "reference": case.reference, **found}
        return {**row, "faults": faults, "failed": failed}

"""The text-first experiment step by step: rich prompts, pictures of both, scores. Its folder knows what is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from img2prompt.jobs.loop.case_rows import case_row, failed_pictures
from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.originals import open_pictures
from img2prompt.jobs.loop.pictures import Wanted, picture_row, regenerate
from img2prompt.jobs.loop.plan import floors_of, seeds_for
from img2prompt.jobs.loop.prompts import upsample
from img2prompt.jobs.loop.scoring import Case, predict_again
from img2prompt.progress import track
from img2prompt.tracing import span

if TYPE_CHECKING:
    from img2prompt.comparison import Comparer
    from img2prompt.jobs.upsample_inputs import Inputs
    from img2prompt.jobs.upsample_inputs import Wanted as Prompt
    from img2prompt.predictor import Predictor
    from img2prompt.results import Generator, Upsampler

KINDS = ("base", "upsampled")  # the first is what the other is tested against
_ID_CHARS = 40

Scores = dict[str, dict[str, list[float | None]]]  # metric -> kind -> one value a seed


@dataclass(frozen=True, slots=True)
class Parts:
    """How the models are opened; each is opened when there is work for it, and let go afterwards."""

    upsampler: Callable[[], Upsampler]
    generator: Callable[[], Generator]
    predictor: Callable[[], Predictor]
    comparer: Callable[[], Comparer]


class TextTrip:
    """One run of the experiment.

    Args:
        run: its folder.
        inputs: its prompts.
        parts: how the models are opened.
        numbers: pictures of a prompt, seed of the run, pictures that are read again at once.

    Attributes:
        refused: rows of the input that are no prompts.
        skipped_metrics: name -> why it was not computed.
    """

    def __init__(self, run: RunFolder, inputs: Inputs, parts: Parts, numbers: tuple[int, int, int]) -> None:
        self._run, self._parts = run, parts
        self._seeds, self._seed, self._batch_size = numbers
        self.refused = inputs.failed
        self._prompts = {_id(place, one.prompt): one for place, one in enumerate(inputs.wanted, 1)}
        self.skipped_metrics: dict[str, str] = {}

    def words(self) -> None:
        """Makes the prompts rich."""
        bases = [(name, one.prompt, seeds_for(name, 1, self._seed)[0]) for name, one in self._prompts.items()]
        upsample(self._run, bases, self._parts.upsampler)

    def pictures(self) -> None:
        """Makes pictures of both kinds of prompts with every seed."""
        wanted = [picture for case in self.cases() for pictures in case.pictures.values() for picture in pictures]
        regenerate(self._run, wanted, self._parts.generator)

    def scores(self) -> None:
        """Reads the pictures again and measures how well they show the base prompts."""
        predict_again(self._run, self.cases(), self._parts.predictor, "short", self._batch_size)
        comparer = self._parts.comparer()
        for name, model in comparer.settings().items():
            self._run.open_model(f"metric {name}", {"model": model})
        cases = self.cases()
        for case, floor in track(
            zip(cases, self._floors, strict=True), total=len(cases), unit="prompt", label="compare"
        ):
            self._compare(comparer, case, None if floor is None else cases[floor])
        self.skipped_metrics = dict(comparer.skipped)

    def cases(self) -> list[Case]:
        """Every prompt with the pictures that it is to have."""
        return [self._case(name, one) for name, one in self._prompts.items()]

    def rows(self) -> list[Row]:
        """The rows of results.jsonl, in the order of the prompts."""
        return [self._row(case, self._prompts[case.id]) for case in self.cases()]

    @cached_property
    def _floors(self) -> list[int | None]:
        """For each prompt the place of the one whose pictures are its floor; None: there is no other."""
        return [other for _, other in floors_of([one.prompt for one in self._prompts.values()], self._seed)]

    def _texts(self, name: str, one: Prompt) -> dict[str, Row]:
        rich = self._run.get("upsample", name) or {}
        base: dict[str, Row] = {"base": {"text": one.prompt, "from": one.name}}
        return {**base, "upsampled": rich} if "text" in rich else base

    def _case(self, name: str, one: Prompt) -> Case:
        seeds = seeds_for(name, self._seeds, self._seed)
        pictures = {
            kind: [Wanted(name, kind, row["text"], seed) for seed in seeds]
            for kind, row in self._texts(name, one).items()
        }
        return Case(name, one.prompt, one.prompt, "", pictures)

    def _compare(self, comparer: Comparer, case: Case, other: Case | None) -> None:
        """Scores a prompt's pictures, and as its floor those of another base prompt, against the base prompt."""
        places = self._there(case, KINDS)
        floors = [("floor", place, picture) for _, place, picture in self._there(other, KINDS[:1])] if other else []
        files = [picture.file for _, _, picture in (*places, *floors)]
        known = self._run.get("score", case.id) or {}
        scores: Scores = known["scores"] if known.get("of") == files else {}
        if set(comparer.rows) <= set(scores):
            return
        with span("compare", prompt=case.reference, pictures=len(files)):
            images = list(open_pictures(self._run.root, files))
            values = comparer.texts(images, [case.reference] * len(images)) if images else {}
            if "prompt_cosine" in comparer.rows:
                values["prompt_cosine"] = self._cosines(comparer, case.reference, files)
        found = {name: self._by_kind(values.get(name, np.empty(0)), (*places, *floors)) for name in comparer.rows}
        self._run.put("score", case.id, {"of": files, "scores": {**scores, **found}})

    def _cosines(self, comparer: Comparer, reference: str, files: Sequence[str]) -> Any:
        """Of the prompt and of what the captioner reads in the pictures; NaN where it read nothing."""
        said: list[Any] = [(self._run.get("again", file) or {}).get("text") for file in files]
        known = [place for place, text in enumerate(said) if text is not None]
        values = np.full(len(files), np.nan)
        values[known] = comparer.prompts([reference] * len(known), [said[place] for place in known])
        return values

    def _by_kind(self, values: Any, places: Sequence[tuple[str, int, Wanted]]) -> dict[str, list[float | None]]:
        rows: dict[str, list[float | None]] = {kind: [None] * self._seeds for kind in (*KINDS, "floor")}
        for (kind, place, _), value in zip(places, values, strict=False):
            rows[kind][place] = float(value) if np.isfinite(value) else None
        return rows

    def _there(self, case: Case, kinds: Sequence[str]) -> list[tuple[str, int, Wanted]]:
        return [
            (kind, place, picture)
            for kind in kinds
            for place, picture in enumerate(case.pictures.get(kind, ()))
            if "file" in picture_row(self._run, picture)
        ]

    def _row(self, case: Case, one: Prompt) -> Row:
        row: Row = {"id": case.id, "source": one.name, "original": None, **_kept(one.kept), "reference": one.prompt}
        row |= {"prompts": self._texts(case.id, one), **case_row(self._run, case)}
        rich = self._run.get("upsample", case.id) or {}
        failed = [{"source": one.name, "error": rich["error"], "kind": rich["kind"]}] if "error" in rich else []
        return {**row, "failed": [*failed, *failed_pictures(one.name, row)]}


def _id(place: int, prompt: str) -> str:
    words = re.sub(r"[^\w]+", "-", prompt, flags=re.ASCII).strip("-").lower()
    return f"{place:04d}-{words[:_ID_CHARS]}".rstrip("-")


def _kept(kept: Mapping[str, str]) -> dict[str, str]:
    """What a benchmark says of a prompt: its category, its challenge."""
    return {name: value for name, value in kept.items() if name in ("category", "challenge")}

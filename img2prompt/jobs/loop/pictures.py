"""Regeneration: a picture of every prompt and seed, each a file of its own, so that none is ever made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from img2prompt.errors import ModelError
from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.pairs.parameters import parameters_text, png_bytes
from img2prompt.progress import track
from img2prompt.results import Failed, Generated, Generator
from img2prompt.tracing import span

MOST_REFUSED = 3  # pictures one after the other that the pipeline refuses, before the run ends
_AGAIN = "ModelError"  # failures of this kind (out of memory) are tried again by the next run


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture that a run is to hold."""

    id: str  # of the original
    kind: str  # of the prompt: predicted, upsampled, ...
    prompt: str
    seed: int
    negative: str | None = None  # what it shall not show

    @property
    def key(self) -> tuple[str, str, str | None, int]:
        """What settles it: kinds of one original that have the same words share their picture."""
        return (self.id, self.prompt, self.negative, self.seed)

    @property
    def file(self) -> str:
        """Its path inside of the run's folder."""
        return f"images/{self.id}/{self.kind}-{self.seed}.png"


def regenerate(run: RunFolder, wanted: Sequence[Wanted], open_it: Callable[[], Generator]) -> None:
    """Makes the pictures that are not there yet; the generator is opened when there are such.

    Raises:
        ModelError: the pipeline refused several pictures one after the other.
        OutputError: a picture cannot be written; finished ones stay.
        Img2PromptError: the generator cannot be opened.
    """
    twins = grouped(wanted)
    todo = [group for group in twins if not _stands(run, group)]
    if not todo:
        return
    generator = open_it()
    run.open_model("generator", generator.settings())
    made = _made(generator, [group[0] for group in todo])
    for group, result in zip(todo, track(made, total=len(todo), unit="picture", label="regenerate"), strict=True):
        _keep(run, group, result)


def grouped(pictures: Iterable[Wanted]) -> list[list[Wanted]]:
    """Those together that are the same picture under several names."""
    groups: dict[Any, list[Wanted]] = {}
    for picture in pictures:
        groups.setdefault(picture.key, []).append(picture)
    return list(groups.values())


def picture_row(run: RunFolder, picture: Wanted) -> dict[str, Any]:
    """The picture as results.jsonl shows it: its file, or why there is none."""
    row = run.get("picture", picture.file) or {}
    if "error" in row:
        return {"seed": picture.seed, **row}
    return {"seed": picture.seed, "file": picture.file, **row}


def _stands(run: RunFolder, group: Sequence[Wanted]) -> bool:
    """Whether all of the group are finished; what one of them has is given to the others."""
    rows = [run.get("picture", picture.file) or {} for picture in group]
    failed = next((row for row in rows if "error" in row and row["kind"] != _AGAIN), None)
    if failed is not None:
        for picture, row in zip(group, rows, strict=True):
            if not row:
                run.put("picture", picture.file, failed)
        return True
    there = [picture for picture in group if (run.root / picture.file).exists()]
    if there and len(there) < len(group):
        data = (run.root / there[0].file).read_bytes()
        for picture in group:
            if picture not in there:
                run.write(picture.file, data)
    return bool(there)


def _made(generator: Generator, wanted: Sequence[Wanted]) -> Iterator[Generated | Failed]:
    """The pictures in order; a batch that the pipeline refuses is tried one by one."""
    refused = done = 0
    while done < len(wanted):
        part = wanted[done : done + generator.batch_size]
        try:
            made = _batch(generator, part)
        except ModelError:
            made = []
            for picture in part:
                try:
                    made += _batch(generator, [picture])
                    refused = 0
                except ModelError as error:
                    refused += 1
                    if refused == MOST_REFUSED:
                        raise
                    made.append(Failed(picture.prompt, str(error), type(error).__name__))
        yield from made
        done += len(part)


def _batch(generator: Generator, part: Sequence[Wanted]) -> list[Generated | Failed]:
    prompts, seeds = [picture.prompt for picture in part], [picture.seed for picture in part]
    negatives = [picture.negative for picture in part]
    denied = any(text is not None for text in negatives)
    with span("regenerate", prompts=prompts, seeds=seeds, kinds=[picture.kind for picture in part]) as step:
        made = generator.generate_many(prompts, seeds, negatives)
        step.set(failed=sum(isinstance(item, Failed) for item in made))
        if one := next((item for item in made if isinstance(item, Generated)), None):
            how = {name: value for name, value in asdict(one.made).items() if name not in ("prompt", "seed")}
            step.set(**how | ({"negative_prompt": [text or "" for text in negatives]} if denied else {}))
            step.set(sampler=one.sampler)
    return made


def _keep(run: RunFolder, group: Sequence[Wanted], made: Generated | Failed) -> None:
    for picture in group:
        if isinstance(made, Failed):
            run.put("picture", picture.file, {"error": made.error, "kind": made.kind})
            continue
        # The note goes first: a picture that is there is finished.
        if made.read is not None or run.get("picture", picture.file) is not None:
            run.put("picture", picture.file, {} if made.read is None else {"read": made.read})
        run.write(picture.file, png_bytes(made.image, parameters_text(made.made, made.sampler)))

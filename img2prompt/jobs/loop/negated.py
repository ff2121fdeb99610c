"""Prompts that are drawn once more, with negative prompts derived from what most of their pictures show too many.

The second pictures start from the noise of the first. Where nothing is found they are the first ones, so that every
kind of prompt is scored on the same originals. What was derived stays in the journal: a run that goes on keeps to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from img2prompt.jobs.loop.faults import faults_of
from img2prompt.jobs.loop.folder import Row, RunFolder
from img2prompt.jobs.loop.scoring import Case

SUFFIX = "-negative"
NEGATED = ("predicted", "upsampled")  # kinds of prompts that are drawn once more


def derive(run: RunFolder, cases: Sequence[Case], kinds: Sequence[str]) -> None:
    """Derives the negative prompts that are not known yet, of prompts whose pictures were read.

    Args:
        run: the run.
        cases: its originals with their pictures.
        kinds: of prompts that negative ones are wanted for.

    Raises:
        OutputError: a row cannot be written.
    """
    for case in cases:
        for kind in kinds:
            pictures = case.pictures.get(kind, ())
            said = [(run.get("again", picture.file) or {}).get("text") for picture in pictures]
            if run.get("negate", _key(case.id, kind)) is None and any(text is not None for text in said):
                run.put("negate", _key(case.id, kind), {"negative": faults_of(pictures[0].prompt, said)["negative"]})


def negated_prompts(run: RunFolder, name: str, prompts: Mapping[str, Row]) -> dict[str, Row]:
    """The prompts of an original that are drawn once more, by their kinds; `negative` is None where nothing is wrong.

    Args:
        run: the run.
        name: id of the original.
        prompts: of the original, by kind.
    """
    found = {kind: run.get("negate", _key(name, kind)) for kind in NEGATED if kind in prompts}
    return {
        f"{kind}{SUFFIX}": {"text": prompts[kind]["text"], "from": kind, **row}
        for kind, row in found.items()
        if row is not None
    }


def base_of(kind: str, base: str) -> str:
    """The kind that a kind is tested against: of one with a negative prompt the same without, else `base`."""
    return kind.removesuffix(SUFFIX) if kind.endswith(SUFFIX) else base


def summarise_negated(rows: Sequence[Mapping[str, Any]]) -> Row:
    """The `negated` of summary.json: how many prompts got a negative one; whether it helped is in every metric's tests.

    Args:
        rows: of results.jsonl.
    """
    found = [(kind, said) for row in rows for kind, said in row["prompts"].items() if kind.endswith(SUFFIX)]
    prompts, changed = Counter(kind for kind, _ in found), Counter(kind for kind, said in found if said["negative"])
    return {kind: {"prompts": count, "negated": changed[kind]} for kind, count in prompts.items()}


def _key(name: str, kind: str) -> str:
    return f"{name}/{kind}"

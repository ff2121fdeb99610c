"""`img2prompt submit`: pictures to the file that the Kaggle task asks for, 384 rows a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from img2prompt.errors import ConfigError, DataError, ModelError
from img2prompt.jobs.embedding import Embedder, add_embedder_options, embedded, load_embedder
from img2prompt.jobs.options import add_model_options
from img2prompt.jobs.outputs import check_place
from img2prompt.jobs.submission import DIMENSIONS, Partial, sample_ids, stamp, write_submission
from img2prompt.jobs.targets import Target, find_targets
from img2prompt.progress import track
from img2prompt.results import Failed

SHOWN = 3  # pictures that the line about failures names; the rest is counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.description = (
        "Writes imgId_eId,val rows: imgId is a file's name without its suffix, eId counts the 384 numbers of the"
        " estimated embedding of its prompt. Without --regressor and --ensemble the embedding is that of the prompt"
        " that --preset writes. A killed run goes on where it stopped when it is started again. A picture that cannot"
        " be read gets the mean embedding of the others; such pictures are named, and the exit code is then 1."
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="folder (searched recursively), files, 'pattern*'")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the submission, e.g. submission.csv"
    )
    parser.add_argument("--sample", type=Path, metavar="FILE", help="sample_submission.csv: its ids, in its order")
    add_embedder_options(parser)
    add_model_options(parser)


def submit(options: argparse.Namespace) -> int:
    """Embeds, writes, verifies; returns 1 when some pictures could not be read, else 0.

    Raises:
        Img2PromptError: a user's error.
    """
    check_place(options.output)
    named = named_targets(options.images)
    if options.sample is not None:
        named = in_order(named, sample_ids(options.sample), options.sample)
    embedder = load_embedder(options)
    settings = {name: str(getattr(options, name)) for name in ("candidates", "style", "seed", "rank", "precision")}
    settings["model"] = ", ".join(map(stamp, embedder.places))
    ids = list(named)
    with Partial(options.output, ids, settings) as partial:
        resumed = int(partial.done.sum())
        failed = _embed(partial, list(named.values()), embedder, options.batch_size)
        fallback = partial.mean()
        if fallback is None:
            raise DataError(f"none of the {len(ids)} pictures could be read; the first: {_line(failed[0])}")
        rows = (fallback if row is None else row for row in partial.rows())
        write_submission(options.output, ids, rows, options.sample)
    _report(options.output, len(ids), resumed, failed)
    return 1 if failed else 0


def named_targets(words: Sequence[str]) -> dict[str, Target]:
    """The pictures under the ids that they have in a submission.

    Raises:
        ConfigError: there are none, two have one id, or something is no file.
    """
    named: dict[str, Target] = {}
    for target in find_targets(words):
        if target.path is None:
            raise ConfigError(f"{target.name}: a submission's ids are file names; give files or folders")
        if target.path.is_dir():  # its pictures are unknown, and its own name is no id
            raise ConfigError(f"{target.name}: is a folder that may not be looked into; check its rights")
        other = named.setdefault(target.path.stem, target)
        if other is not target:
            raise ConfigError(f"{other.name} and {target.name} would both be {target.path.stem}; leave one out")
    return named


def in_order(named: dict[str, Target], ids: Sequence[str], sample: Path) -> dict[str, Target]:
    """The pictures in the order of a sample submission.

    Raises:
        DataError: a picture of the sample is not there, or one is there that the sample does not ask for.
    """
    missing = [name for name in ids if name not in named]
    if missing:
        raise DataError(f"{sample}: asks for {len(missing)} pictures that are not given, such as {missing[0]}")
    strange = set(named) - set(ids)
    if strange:
        raise DataError(f"{sample}: does not ask for {len(strange)} of the pictures, such as {min(strange)}")
    return {name: named[name] for name in ids}


def _embed(partial: Partial, targets: Sequence[Target], embedder: Embedder, batch_size: int) -> list[Failed]:
    """Fills in what is missing; returns the pictures that cannot be read.

    Raises:
        ModelError: the model does not give what a submission holds.
    """
    todo: list[int] = np.flatnonzero(~partial.done).tolist()
    rows = embedded(embedder, (targets[i].source for i in todo), batch_size)
    failed: list[Failed] = []
    for index, row in zip(todo, track(rows, total=len(todo), unit="picture"), strict=True):
        if isinstance(row, Failed):
            failed.append(row)
        elif row.shape != (DIMENSIONS,):
            raise ModelError(f"{embedder.name}: gives {len(row)} numbers a picture; a submission has {DIMENSIONS}")
        else:
            partial.put(index, row)
    return failed


def _report(output: Path, count: int, resumed: int, failed: Sequence[Failed]) -> None:
    print(output)
    before = f", {resumed} of them from an earlier run" if resumed else ""
    print(f"{count} pictures, {count * DIMENSIONS} rows{before}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} could not be read and got the mean embedding of the others:", file=sys.stderr)
        more = len(failed) - SHOWN
        for line in [*map(_line, failed[:SHOWN]), *([f"and {more} more"] if more > 0 else [])]:
            print(f"  {line}", file=sys.stderr)


def _line(failed: Failed) -> str:
    return f"{failed.source}: {failed.error}"

"""`img2prompt submit`: pictures to the file that the Kaggle task asks for, 384 rows a picture."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from img2prompt.errors import ConfigError, DataError, ModelError, OutputError
from img2prompt.jobs.embedding import Embedder, add_embedder_options, load_embedder
from img2prompt.jobs.options import add_model_options
from img2prompt.jobs.submission import DIMENSIONS, Partial, sample_ids, stamp, write_submission
from img2prompt.jobs.targets import Target, find_targets
from img2prompt.progress import track

if TYPE_CHECKING:
    from img2prompt.reading import Opened

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
    if not options.output.parent.is_dir():
        raise OutputError(f"{options.output}: there is no folder {options.output.parent}")
    named = named_targets(options.images)
    if options.sample is not None:
        named = in_order(named, sample_ids(options.sample), options.sample)
    embedder = load_embedder(options)
    settings = {name: str(getattr(options, name)) for name in ("candidates", "style", "seed")}
    settings["model"] = stamp(embedder.place)
    ids = list(named)
    with Partial(options.output, ids, settings) as partial:
        resumed = int(partial.done.sum())
        failures = _embed(partial, list(named.values()), embedder, options.batch_size)
        fallback = partial.mean()
        if fallback is None:
            raise DataError(f"none of the {len(ids)} pictures could be read; the first: {failures[0]}")
        rows = (fallback if row is None else row for row in partial.rows())
        write_submission(options.output, ids, rows, options.sample)
    _report(options.output, len(ids), resumed, failures)
    return 1 if failures else 0


def named_targets(words: Sequence[str]) -> dict[str, Target]:
    """The pictures under the ids that they have in a submission.

    Raises:
        ConfigError: there are none, two have one id, or something is no file.
    """
    named: dict[str, Target] = {}
    for target in find_targets(words):
        if target.path is None:
            raise ConfigError(f"{target.name}: a submission's ids are file names; give files or folders")
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


def _embed(partial: Partial, targets: Sequence[Target], embedder: Embedder, batch_size: int) -> list[str]:
    """Fills in what is missing; returns a line for each picture that cannot be read."""
    from img2prompt.pairs.images import DEFAULT_LIMITS
    from img2prompt.reading import Reader

    todo = np.flatnonzero(~partial.done)
    opened = Reader(DEFAULT_LIMITS, metadata=False).open_many((targets[i].source for i in todo), 2 * batch_size)
    rows = zip(todo.tolist(), track(opened, total=len(todo), unit="picture"), strict=True)
    failures: list[str] = []
    while group := list(itertools.islice(rows, batch_size)):
        failures.extend(str(o.error) for _, o in group if o.error is not None)
        for index, row in _embedded(group, embedder):
            partial.put(index, row)
    return failures


def _embedded(group: Sequence[tuple[int, Opened]], embedder: Embedder) -> Iterator[tuple[int, np.ndarray]]:
    readable = [(index, o.image, o.name) for index, o in group if o.image is not None]
    if not readable:
        return
    emb = embedder.model.embed_many([image for _, image, _ in readable])  # (B,D)
    if emb.shape != (len(readable), DIMENSIONS):
        raise ModelError(f"{embedder.name}: gives {emb.shape[1]} numbers a picture; a submission has {DIMENSIONS}")
    for (index, _, name), row in zip(readable, emb, strict=True):
        if not np.isfinite(row).all():
            raise ModelError(f"{embedder.name}: gives NaN for {name}; its weights are damaged")
        yield index, row.astype(np.float32)


def _report(output: Path, count: int, resumed: int, failures: Sequence[str]) -> None:
    print(output)
    before = f", {resumed} of them from an earlier run" if resumed else ""
    print(f"{count} pictures, {count * DIMENSIONS} rows{before}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} could not be read and got the mean embedding of the others:", file=sys.stderr)
        more = len(failures) - SHOWN
        for line in [*failures[:SHOWN], *([f"and {more} more"] if more > 0 else [])]:
            print(f"  {line}", file=sys.stderr)

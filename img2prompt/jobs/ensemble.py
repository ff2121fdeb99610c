"""`img2prompt ensemble fit`: the weights of an ensemble's members, from pairs whose prompts are known."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, DataError, OutputError
from img2prompt.jobs.options import number
from img2prompt.results import Failed

if TYPE_CHECKING:
    from img2prompt.ensemble import Ensemble, EnsembleSpec
    from img2prompt.jobs.fitting import Fitted
    from img2prompt.jobs.pair_rows import PairRow, PairRows
    from img2prompt.jobs.parts import Arrays

FEW = 50  # pictures below which weights say little


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="fit")
    fit = actions.add_parser("fit", help="find the members' weights", allow_abbrev=False)
    fit.description = (
        "Finds the weights under which the members together come nearest to the known prompts, and prints what each "
        "member scores. A killed run is continued by running the same command again."
    )
    fit.add_argument("ensemble", metavar="ENSEMBLE.yaml", type=Path, help="its members")
    fit.add_argument("pairs", nargs="+", metavar="PAIRS", help="pairs that no member was trained on and no bank holds")
    fit.add_argument("--output", type=Path, required=True, metavar="FITTED.yaml", help="the ensemble with its weights")
    fit.add_argument("--limit", type=number(int, 2), metavar="N", help="only the first N pictures")
    fit.add_argument("--image-column", metavar="NAME", help="column of the images, where it is not found by itself")
    fit.add_argument("--prompt-column", metavar="NAME", help="column of the prompts, where it is not found by itself")
    fit.add_argument("--part-rows", type=number(int, 1), default=500, metavar="N", help="a kill loses so many at most")
    fit.add_argument("--batch-size", type=number(int, 1, 4096), default=16, metavar="N", help="pictures at once")
    fit.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")


def ensemble(options: argparse.Namespace) -> int:
    """Fits, prints the table and writes the file.

    Raises:
        ConfigError, DataError, MissingExtra, OutputError: see those.
    """
    from img2prompt.ensemble import Ensemble, read_ensemble
    from img2prompt.jobs.fitting import fit_members, table
    from img2prompt.jobs.pair_rows import open_rows
    from img2prompt.models.devices import usable
    from img2prompt.models.sentence import SentenceEncoder

    if options.output.suffix.lower() not in (".yaml", ".yml") or not options.output.parent.is_dir():
        raise ConfigError(f"{options.output}: a name that ends in .yaml, in a folder that exists, is needed")
    spec = read_ensemble(options.ensemble)
    columns = {"image": options.image_column, "prompt": options.prompt_column}
    rows = open_rows(options.pairs, {ours: theirs for ours, theirs in columns.items() if theirs is not None})
    rows = rows.first(options.limit)
    device = usable(options.device)
    members = Ensemble.load(spec, device, options.batch_size, idle_too=True)
    targets = SentenceEncoder(spec.sentence_model, device)
    _check_sentences(spec, members, targets.fingerprint)
    found = _estimates(rows, spec, members, options)
    prompts = [row.prompt for row in found.rows]
    fitted = fit_members(members, found.embs, prompts, targets.encode_many(prompts))
    for remark in _remarks(members, found):
        print(remark, file=sys.stderr)
    print("\n".join(table(fitted)))
    _write(options, spec, fitted, rows, found)
    shutil.rmtree(_parts(options), ignore_errors=True)
    print(f"\n{options.output}")
    return 0


@dataclass(frozen=True)
class Estimates:
    """What the members make of the pictures that could be read."""

    embs: NDArray[np.float32]  # (M,N,D)
    rows: list[PairRow]  # N
    skips: list[Failed]


def _estimates(rows: PairRows, spec: EnsembleSpec, members: Ensemble, options: argparse.Namespace) -> Estimates:
    """What all members make of all rows, in parts that survive a kill."""
    from img2prompt.jobs.pair_rows import pack_skips, read_skips
    from img2prompt.jobs.parts import claim_parts, in_parts, split_rows

    def make(some: range) -> Arrays:
        skips: list[Failed] = []
        kept: list[PairRow] = []
        embs = []
        for batch, images in rows.batches(some, options.batch_size, skips):
            embs.append(members.embed_members(images))  # (M,B,D)
            kept += batch
        empty = np.zeros((len(members.members), 0, 0), np.float32)
        return {
            "embs": np.concatenate(embs, axis=1) if embs else empty,
            "numbers": np.array([row.number for row in kept], np.int64),
            "skips": pack_skips(skips),
        }

    folder = _parts(options)
    # Lists: estimates are stored in the members' order.
    asked = [{**member.to_dict(), "weight": None} for member in spec.members]
    prints = [member.fingerprint for member in members.members.values()]
    work = {"members": asked, "prints": prints, "sentence_model": spec.sentence_model}
    claim_parts(folder, {**work, "pairs": rows.fingerprint, "rows": len(rows), "part_rows": options.part_rows})
    parts = list(in_parts(folder, split_rows(len(rows), options.part_rows), make))
    known = {row.number: row for row in rows.rows}
    kept = [known[int(n)] for part in parts for n in part["numbers"]]
    skips = [skip for part in parts for skip in read_skips(part["skips"])]
    if len(kept) < 2:
        shutil.rmtree(folder, ignore_errors=True)  # the next run looks again at what could not be read
        raise DataError(f"{len(kept)} of {len(rows)} pictures can be used; two or more are needed to fit weights")
    embs = np.concatenate([part["embs"] for part in parts if len(part["numbers"])], axis=1)
    return Estimates(embs, kept, skips)


def _parts(options: argparse.Namespace) -> Path:
    """The folder of the estimates, until the file stands."""
    return Path(options.output).with_name(f"{options.output.name}.parts")


def _check_sentences(spec: EnsembleSpec, members: Ensemble, fingerprint: str) -> None:
    """Refuses banks of another sentence model before the work, where even an equal number of dimensions hides it."""
    from img2prompt.models.members import BankMember

    for name, member in members.members.items():
        if isinstance(member, BankMember) and member.bank.origin.sentence_fingerprint != fingerprint:
            raise ConfigError(
                f"{spec.path}: member {name!r} holds embeddings of {member.sentence_model}, not of"
                f" {spec.sentence_model}; set sentence_model, or build the bank again"
            )


def _remarks(members: Ensemble, found: Estimates) -> Iterator[str]:
    """What makes the weights worth less than they look."""
    from img2prompt.models.members import BankMember

    if len(found.rows) < FEW:
        yield f"note: {len(found.rows)} pictures say little about weights; take some hundreds"
    ids = {row.id for row in found.rows}
    for name, member in members.members.items():
        inside = len(ids & member.bank.ids) if isinstance(member, BankMember) else 0
        if inside:
            yield (
                f"warning: member {name!r} holds {inside} of the {len(ids)} pictures and so knows their prompts:"
                " its score and weight are too high; fit on pairs that it was not built from"
            )


def _write(options: argparse.Namespace, spec: EnsembleSpec, fitted: Fitted, rows: PairRows, found: Estimates) -> None:
    """The ensemble's file again, with the weights, the scores and what they come from."""
    import yaml

    from img2prompt.jobs.doctor import installation
    from img2prompt.jobs.pair_rows import count_skips
    from img2prompt.pairs.atomic import write_atomically

    place = options.output.resolve().parent
    members = [
        {**_moved(member.to_dict(), member.kind, place), "weight": round(float(weight), 6)}
        for member, weight in zip(spec.members, fitted.weights, strict=True)
    ]
    skips = count_skips([*rows.skipped, *found.skips], rows.left_out)
    written = {
        "sentence_model": spec.sentence_model,
        "members": members,
        "fitted": {
            "pairs": [str(path) for path in options.pairs],
            "pictures": len(found.rows),
            "skipped": skips["skipped"],
            "mean_cosine": {name: round(float(cosines.mean()), 6) for name, cosines in fitted.scores.items()},
            "versions": installation(),
        },
    }
    try:
        write_atomically(options.output, yaml.safe_dump(written, sort_keys=False, allow_unicode=True).encode())
    except OSError as error:
        raise OutputError(f"{options.output}: {error.strerror}; choose a place that can be written") from error


def _moved(row: dict[str, Any], kind: str, place: Path) -> dict[str, Any]:
    """A member's row with its folder as seen from another: the files can then be moved together."""
    from img2prompt.models.member_specs import PATHS

    paths = {key: value for key, value in row.items() if key == kind or key in PATHS}
    return row | {key: os.path.relpath(value, place) for key, value in paths.items() if Path(value).is_absolute()}

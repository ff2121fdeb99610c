"""`img2prompt bank build` and `bank find`: known prompts by the looks of their pictures."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.options import number
from img2prompt.results import Failed, Neighbour

if TYPE_CHECKING:
    from img2prompt.jobs.pair_rows import PairRow, PairRows
    from img2prompt.jobs.parts import Arrays
    from img2prompt.models.bank import Bank, Entries
    from img2prompt.models.features import FeatureEncoder

INDEXES = ("auto", "flat", "ivf")
ENCODER = (
    "what sees the pictures: a captioner's preset, a captioner's or regressor's folder, regressor:PRESET, or"
    " FAMILY:WEIGHTS of open_clip, timm or transformers, such as open_clip:ViT-B-32/laion2b_s34b_b79k or timm:FOLDER"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="build|find")
    build = actions.add_parser("build", help="make a bank from pairs", allow_abbrev=False)
    build.description = (
        "Makes a bank of the pairs' prompts. A killed build is continued by running the same command again."
    )
    build.add_argument("pairs", nargs="+", metavar="PAIRS", help="data sets, tables (.csv, .tsv, .jsonl) or folders")
    build.add_argument("out", metavar="OUT", type=Path, help="folder of the bank")
    build.add_argument("--encoder", required=True, metavar="MODEL", help=ENCODER)
    build.add_argument(
        "--index", choices=INDEXES, default="auto", help="flat is exact, ivf faster in a great many rows"
    )
    build.add_argument("--sentence-model", metavar="MODEL", help="name or folder (default: all-MiniLM-L6-v2)")
    build.add_argument("--image-column", metavar="NAME", help="column of the images, where it is not found by itself")
    build.add_argument("--prompt-column", metavar="NAME", help="column of the prompts, where it is not found by itself")
    build.add_argument(
        "--part-rows", type=number(int, 1), default=1000, metavar="N", help="rows lost at most by a kill"
    )
    find = actions.add_parser("find", help="the known prompts nearest to pictures", allow_abbrev=False)
    find.add_argument("bank", metavar="BANK", help="folder of `img2prompt bank build`")
    find.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, patterns, URLs, - for standard input")
    find.add_argument("-k", type=number(int, 1, 1000), default=5, help="prompts a picture (default: 5)")
    find.add_argument("--encoder", metavar="MODEL", help="where the bank's encoder lies now, if it was moved")
    find.add_argument("--json", action="store_true", help="one JSON object a line")
    for action in (build, find):
        action.add_argument("--batch-size", type=number(int, 1, 4096), default=16, metavar="N", help="pictures at once")
        action.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")


def bank(options: argparse.Namespace) -> int:
    """Builds or searches a bank.

    Raises:
        DataError, ModelError, PresetError, MissingExtra, ConfigError, OutputError: see those.
    """
    return {"build": _build, "find": _find}[options.action](options)


def _build(options: argparse.Namespace) -> int:
    from img2prompt.jobs.pair_rows import open_rows, skip_lines
    from img2prompt.models.devices import usable
    from img2prompt.models.features import load_features
    from img2prompt.models.sentence import MINILM, SentenceEncoder

    columns = {"image": options.image_column, "prompt": options.prompt_column}
    rows = open_rows(options.pairs, {ours: theirs for ours, theirs in columns.items() if theirs is not None})
    device = usable(options.device)
    encoder = load_features(options.encoder, device, options.batch_size)
    sentences = SentenceEncoder(options.sentence_model or MINILM, device)
    made = _made(options, rows, encoder, sentences)
    skips = made.manifest["skipped"]
    index = ", ".join(f"{name} {value}" for name, value in made.manifest["index"].items())
    print(f"{len(made)} prompts; index: {index}; {sum(skips.values())} rows skipped", file=sys.stderr)
    tuned = ", ".join(f"{name} {value}" for name, value in made.manifest["regression"].items())
    print(f"regression: {tuned}", file=sys.stderr)
    for line in skip_lines(made.manifest):
        print(line, file=sys.stderr)
    print(options.out)
    return 0


def _made(options: argparse.Namespace, rows: PairRows, encoder: FeatureEncoder, sentences: Any) -> Bank:
    """The bank, finished on the disk; one that stands already is only opened."""
    from img2prompt.jobs.doctor import installation
    from img2prompt.jobs.pair_rows import count_skips
    from img2prompt.models.bank import Bank
    from img2prompt.models.bank_files import MANIFEST, Origin
    from img2prompt.pairs.atomic import sole_writer
    from img2prompt.pairs.manifest import claim

    origin = Origin(encoder.name, encoder.fingerprint, sentences.name, sentences.fingerprint)
    config = {
        "origin": asdict(origin),
        "pairs": rows.fingerprint,
        "part_rows": options.part_rows,
        "index": options.index,
    }
    root: Path = options.out
    try:
        with sole_writer(root):
            claim(root, config)
            for rest in root.glob(".bank-*"):  # a killed run's, half written
                shutil.rmtree(rest, ignore_errors=True)
            if (root / MANIFEST).exists():
                shutil.rmtree(root / "parts", ignore_errors=True)
                return Bank.load(root)
            maker = _PartMaker(rows, encoder, sentences, options.batch_size)
            entries, skips = _gathered(maker, root / "parts", options.part_rows)
            facts = {
                **count_skips([*rows.skipped, *skips], rows.left_out),
                "sources": [str(path) for path in options.pairs],
                "settings": config,
                "versions": installation(),
            }
            made = Bank.build(entries, origin, index=options.index, facts=facts)
            made.save(root)
            shutil.rmtree(root / "parts", ignore_errors=True)
            return made
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; finished parts stay, run it again to go on") from error


@dataclass(frozen=True)
class _PartMaker:
    """Looks at the pictures and reads the prompts of some rows."""

    rows: PairRows
    encoder: FeatureEncoder
    sentences: Any
    batch_size: int

    def make(self, some: range) -> Arrays:
        """Features and embeddings of those rows whose picture can be used, and what was wrong with the others."""
        from img2prompt.jobs.pair_rows import pack_skips

        kept: list[PairRow] = []
        features: list[NDArray[np.float32]] = []
        skips: list[Failed] = []
        for rows, images in self.rows.batches(some, self.batch_size, skips):
            seen = self.encoder.features_many(images)  # (B,W)
            finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(seen), axis=1)  # (B,)
            skips += [
                Failed(row.id, f"encoder {self.encoder.name} gives NaN for it", "NotFinite")
                for row, good in zip(rows, finite, strict=True)
                if not good
            ]
            kept += [row for row, good in zip(rows, finite, strict=True) if good]
            features.append(seen[finite])
        return {
            "features": np.concatenate([np.zeros((0, self.encoder.width), np.float32), *features]),
            "emb": self.sentences.encode_many([row.prompt for row in kept]).astype(np.float16),
            "numbers": np.array([row.number for row in kept], np.int64),
            "skips": pack_skips(skips),
        }


def _gathered(maker: _PartMaker, folder: Path, part_rows: int) -> tuple[Entries, list[Failed]]:
    """All parts together, those of an earlier run as they are, and the rows that could not be used."""
    from img2prompt.jobs.pair_rows import read_skips
    from img2prompt.jobs.parts import in_parts, split_rows
    from img2prompt.models.bank import Entries

    parts = list(in_parts(folder, split_rows(len(maker.rows), part_rows), maker.make))
    known = {row.number: row for row in maker.rows.rows}
    kept = [known[int(number)] for part in parts for number in part["numbers"]]
    skips = [skip for part in parts for skip in read_skips(part["skips"])]
    if not kept:
        shutil.rmtree(folder, ignore_errors=True)  # the next run looks again at what could not be read
        raise DataError(
            f"none of {len(known)} pictures can be used{f'; {skips[0].source}: {skips[0].error}' if skips else ''}"
        )
    entries = Entries(
        features=np.concatenate([part["features"] for part in parts]),
        emb=np.concatenate([part["emb"] for part in parts]),
        prompts=[row.prompt for row in kept],
        ids=[row.id for row in kept],
    )
    return entries, skips


def _find(options: argparse.Namespace) -> int:
    from img2prompt.jobs.targets import find_targets, is_single
    from img2prompt.models.bank import Bank
    from img2prompt.models.devices import usable
    from img2prompt.models.features import load_features
    from img2prompt.pairs.images import DEFAULT_LIMITS
    from img2prompt.reading import Reader

    targets = find_targets(options.images)
    known = Bank.load(options.bank)
    encoder = load_features(options.encoder or known.origin.encoder, usable(options.device), options.batch_size)
    known.check_encoder(encoder.name, encoder.fingerprint)
    single = is_single(options.images, targets)
    # A terminal that cannot show a character gets its escape instead of a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    failed = 0
    opened = Reader(DEFAULT_LIMITS, metadata=False).open_many((t.source for t in targets), 2 * options.batch_size)
    names = iter(targets)
    while batch := list(islice(opened, options.batch_size)):
        images = [o.image for o in batch if o.image is not None]
        found = iter(known.neighbours(encoder.features_many(images), options.k) if images else [])
        for o in batch:
            name = next(names).name
            if o.error is not None:
                row = Failed(name, str(o.error).removeprefix(f"{o.name}: "), type(o.error).__name__)
                failed += 1
                print(json.dumps(row.to_dict()) if options.json else f"{name}: {row.error}", file=_place(options))
            else:
                print("\n".join(_lines(name, next(found), options.json, single)))
    return 1 if failed else 0


def _place(options: argparse.Namespace) -> Any:
    """Failures are rows for a program and messages for a person."""
    return sys.stdout if options.json else sys.stderr


def _lines(name: str, found: Sequence[Neighbour], as_json: bool, single: bool) -> Iterator[str]:
    from img2prompt.pairs.embedded.values import clean

    if as_json:
        yield json.dumps({"source": name, "nearest": [asdict(n) for n in found]}, ensure_ascii=False)
        return
    if not single:
        yield name
    for neighbour in found:
        yield f"{'' if single else '  '}{neighbour.cosine:.3f}  {' '.join(clean(neighbour.prompt).split())}"

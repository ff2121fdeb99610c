"""`img2prompt predict`: the prompts of pictures."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, OutputError
from img2prompt.jobs.options import add_model_options, number
from img2prompt.jobs.outputs import OVERWRITE, Output, Sidecars
from img2prompt.jobs.tables import TABLES
from img2prompt.jobs.tally import Tally
from img2prompt.jobs.targets import Target, find_targets, is_single
from img2prompt.progress import track
from img2prompt.results import Failed, Prediction

if TYPE_CHECKING:
    from img2prompt.predictor import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="file, folder (searched recursively), 'pattern*', URL, or - for stdin",
    )
    add_model_options(parser)
    choose = parser.add_argument_group("which candidate is the prompt")
    choose.add_argument(
        "--rank",
        type=number(int, 1, 64),
        metavar="N",
        help="captions to choose from (default: as many as the preset's weights were fitted for; 1: the captioner's own"
        " choice, faster)",
    )
    choose.add_argument(
        "--regressor",
        metavar="FOLDER",
        help="estimates the embedding that a prompt should have (default: the preset's own, where it has one)",
    )
    choose.add_argument(
        "--bank", metavar="FOLDER", help="of `img2prompt bank build`: --json and tables also show the nearest prompts"
    )
    look = parser.add_mutually_exclusive_group()
    look.add_argument("--ignore-metadata", action="store_true", help="do not look for a prompt in the file")
    look.add_argument("--metadata-only", action="store_true", help="only read prompts from the files; needs no model")
    write = parser.add_argument_group("where the prompts go (default: printed)")
    write.add_argument("--json", action="store_true", help="print one JSON object a picture")
    write.add_argument("--output", type=Path, metavar="FILE", help="write a table: .csv, .jsonl or .parquet")
    write.add_argument("--sidecar", action="store_true", help="write a .txt beside each picture")
    write.add_argument(
        "--overwrite",
        choices=OVERWRITE,
        default="skip",
        help="what exists: skip pictures that are done (default), replace it, or append a line to a .txt; a table's"
        " rows stay unless they are replaced",
    )
    limit = parser.add_argument_group("limits of one picture")
    limit.add_argument(
        "--max-megapixels", type=number(float, 1e-6, 1e6), default=64.0, metavar="N", help="(default: 64)"
    )
    limit.add_argument(
        "--max-mib", type=number(float, 1e-6, 1e5), default=64.0, metavar="N", help="of the file (default: 64)"
    )
    limit.add_argument(
        "--url-timeout-s", type=number(float, 0.001, 86400), default=20.0, metavar="S", help="(default: 20)"
    )


def predict(options: argparse.Namespace) -> int:
    """Predicts, prints or writes, and reports on stderr.

    Returns:
        0, or 1 when some pictures failed.

    Raises:
        ImageError: the one picture that was named cannot be used.
        Img2PromptError: another user's error.
    """
    targets = find_targets(options.images)
    if options.sidecar and any(target.path is None for target in targets):
        raise ConfigError("--sidecar writes beside files; a URL or standard input has no place beside it, use --output")
    if options.output and options.output.suffix.lower() not in TABLES:
        raise ConfigError(f"{options.output}: the name must end in {', '.join(TABLES)}")
    predictor = _predictor(options)
    # A terminal that cannot show a character gets its escape instead of a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if is_single(options.images, targets) and not options.output and not options.sidecar:
        return _predict_one(predictor, targets[0], options)
    return _predict_all(predictor, targets, options)


def _predictor(options: argparse.Namespace) -> Predictor:
    from img2prompt.pairs.images import Limits
    from img2prompt.predictor import Predictor

    limits = Limits(
        max_pixels=round(options.max_megapixels * 1e6),
        max_bytes=round(options.max_mib * 2**20),
        timeout_s=options.url_timeout_s,
    )
    if options.metadata_only:
        return Predictor.metadata_only(limits=limits)
    return Predictor.from_preset(
        options.preset,
        device=options.device,
        limits=limits,
        regressor=options.regressor,
        bank=options.bank,
        rank=options.rank,
        precision=options.precision,
    )


def _predict_one(predictor: Predictor, target: Target, options: argparse.Namespace) -> int:
    prediction = predictor.predict(
        target.source,
        candidates=options.candidates,
        style=options.style,
        seed=options.seed,
        ignore_metadata=options.ignore_metadata,
    )
    if options.json:
        print(_json(prediction))
    elif len(prediction.candidates) > 1:
        for candidate in prediction.candidates:
            print(_one_line(candidate.prompt))
    else:
        print(prediction.prompt)
    tally = Tally(predictor.located, by_default=options.preset is None)
    tally.count(prediction)
    tally.remarks()
    return 0


def _predict_all(predictor: Predictor, targets: list[Target], options: argparse.Namespace) -> int:
    sidecars = Sidecars(options.overwrite) if options.sidecar else None
    tally = Tally(predictor.located, by_default=options.preset is None)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(_output(options, predictor)) if options.output else None
        todo = [t for t in targets if _is_wanted(t, output, sidecars)]
        tally.skipped = len(targets) - len(todo)
        rows = predictor.predict_many(
            (target.source for target in todo),
            batch_size=options.batch_size,
            candidates=options.candidates,
            style=options.style,
            seed=options.seed,
            ignore_metadata=options.ignore_metadata,
        )
        for target, row in zip(todo, track(rows, total=len(todo), unit="picture"), strict=True):
            row = row if sidecars is None else _written_beside(sidecars, target, row)
            tally.count(row)
            if output is not None:
                output.add(row.to_dict())
            if options.json:
                print(_json(row))
            elif isinstance(row, Prediction) and output is None and sidecars is None:
                print(f"{_one_line(row.source)}\t{_one_line(row.prompt)}")
        if output is not None:
            output.finish(target.name for target in targets)
    sys.stdout.flush()
    tally.remarks()
    tally.close()
    return 1 if tally.failed else 0


def _is_wanted(target: Target, output: Output | None, sidecars: Sidecars | None) -> bool:
    """Whether something is still missing for the picture in any place that was asked for."""
    places = []
    if output is not None:
        places.append(target.name not in output.done)
    if sidecars is not None and target.path is not None:
        places.append(sidecars.wants(target.path))
    return not places or any(places)


def _output(options: argparse.Namespace, predictor: Predictor) -> Output:
    settings = {
        "preset": None if predictor.located is None else predictor.located.name,
        **{
            name: getattr(options, name)
            for name in ("style", "candidates", "seed", "rank", "regressor", "bank", "ignore_metadata", "metadata_only")
        },
    }
    return Output(options.output, settings, options.overwrite)


def _written_beside(sidecars: Sidecars, target: Target, row: Prediction | Failed) -> Prediction | Failed:
    if isinstance(row, Failed) or target.path is None:
        return row
    try:
        sidecars.write(target.path, row.prompt)
    except OutputError as error:
        return Failed(source=row.source, error=str(error), kind=type(error).__name__)
    return row


def _json(row: Prediction | Failed) -> str:
    return json.dumps(row.to_dict(), ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())

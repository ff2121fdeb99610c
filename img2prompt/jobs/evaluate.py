"""`img2prompt evaluate`: how good a model's prompts are on pictures whose prompts are known."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import OutputError
from img2prompt.jobs.embedding import add_embedder_options, chosen, load_embedder
from img2prompt.jobs.options import add_model_options, number
from img2prompt.jobs.outputs import check_place
from img2prompt.jobs.reports import table
from img2prompt.progress import track

if TYPE_CHECKING:
    import datasets

    from img2prompt.jobs.judging import Example
    from img2prompt.jobs.reports import Report
    from img2prompt.results import Failed, Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add = parser.add_argument
    add(
        "pairs",
        nargs="+",
        metavar="PAIRS",
        help="data set, table (.csv, .tsv, .jsonl) or folder; several: a column each",
    )
    add_embedder_options(parser)
    add_model_options(parser)
    add("--limit", type=number(int, 1), metavar="N", help="only the first N pictures of each source")
    add("--image-column", metavar="NAME", help="column of the images, where it is not found by itself")
    add("--prompt-column", metavar="NAME", help="column of the true prompts, where it is not found by itself")
    add("--json", type=Path, metavar="FILE", help="write everything: scores, every prompt, versions, machine")
    add("--png", type=Path, metavar="FILE", help="draw the cosines, by prompt length too, and the worst cases")


@dataclass(frozen=True, slots=True)
class Scorer:
    """A model under evaluation, and how its results are scored.

    Attributes:
        name: of the model.
        title: the line above the table.
        run: results of some examples of a data set, in order; Failed for pictures that cannot be read.
        judge: label, examples and their results to the report.
    """

    name: str
    title: str
    run: Callable[[datasets.Dataset, Sequence[Example]], Iterable[Any]]
    judge: Callable[[str, Sequence[Example], Sequence[Any]], Report]


def evaluate(options: argparse.Namespace) -> int:
    """Predicts, scores and prints the table; returns 1 when some pictures failed, else 0.

    Raises:
        DataError, PresetError, ModelError, MissingExtra, ConfigError, OutputError: see those.
    """
    for path in (options.json, options.png):
        if path is not None:
            check_place(path)
    kind = chosen(options)
    from img2prompt.pairs.sources import open_pairs

    columns = {"image": options.image_column, "prompt": options.prompt_column}
    columns = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    # All that can be wrong is found before the first picture is predicted.
    sources = [(path, open_pairs(path, columns)) for path in options.pairs]
    scorer = _of_captions(options) if kind == "preset" else _of_embeddings(options)
    reports = [_report(path, data, scorer, options) for path, data in sources]
    _compare_confidence(reports)
    try:  # files first: whoever reads the table may close it early ("| head"); it is printed even where they fail
        if options.json is not None:
            _write_json(options, scorer.name, reports)
        if options.png is not None:
            _draw(options, [data for _, data in sources], reports)
    finally:
        for failed in [failed for report in reports for failed in report.failed]:
            print(f"{failed.source}: {failed.error}", file=sys.stderr)
        print(f"{scorer.title}\n")
        print("\n".join(table(reports)))
    return 1 if any(report.failed for report in reports) else 0


def _report(path: str, data: datasets.Dataset, scorer: Scorer, options: argparse.Namespace) -> Report:
    """Scores one source; milliseconds an image are wall-clock, once the model is warm."""
    from img2prompt.jobs.judging import examples_of

    examples = examples_of(data, _manner(options), options.limit)
    for _ in scorer.run(data, examples[: options.batch_size]):  # loads the model and warms it up
        pass
    start = time.perf_counter()
    results = list(track(scorer.run(data, examples), total=len(examples), unit="image"))
    seconds = time.perf_counter() - start
    report = scorer.judge(label_of(path, data), examples, results)
    if report.images:
        report.metrics["ms_per_image"] = 1000 * seconds / len(results)
    return report


def _manner(options: argparse.Namespace) -> str:
    """Whose column holds the true prompts."""
    return "prompt" if options.prompt_column else str(options.style)


def _of_captions(options: argparse.Namespace) -> Scorer:
    from img2prompt.jobs.judging import judge, sources_of
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor

    predictor = Predictor.from_preset(
        options.preset, device=options.device, rank=options.rank, precision=options.precision
    )
    encoder = SentenceEncoder()

    def run(data: datasets.Dataset, some: Sequence[Example]) -> Iterator[Prediction | Failed]:
        return predictor.predict_many(
            sources_of(data, some),
            batch_size=options.batch_size,
            candidates=options.candidates,
            style=options.style,
            seed=options.seed,
            ignore_metadata=True,
        )

    name = predictor.located.name if predictor.located is not None else "none"
    several = f"{options.candidates} candidate{'s' * (options.candidates > 1)}"
    return Scorer(name, f"{name}, {options.style} prompts, {several}", run, partial(judge, encoder=encoder))


def _of_embeddings(options: argparse.Namespace) -> Scorer:
    from img2prompt.jobs.embedding import embedded
    from img2prompt.jobs.judging import judge_embeddings, sources_of
    from img2prompt.models.sentence import MINILM, SentenceEncoder

    embedder = load_embedder(options)
    encoder = SentenceEncoder(embedder.sentence_model or MINILM)

    def run(data: datasets.Dataset, some: Sequence[Example]) -> Iterator[Any]:
        return embedded(embedder, sources_of(data, some), options.batch_size)

    title = f"{embedder.name}, embeddings against those of the {_manner(options)} prompts"
    return Scorer(embedder.name, title, run, partial(judge_embeddings, encoder=encoder))


def label_of(path: str, data: datasets.Dataset) -> str:
    """What stands over the source's column: the split of a data set of ours, else the name of the file or folder."""
    splits = set(data["split"]) if "split" in data.column_names else set()
    if len(splits) == 1:
        return str(splits.pop())
    place = Path(path).resolve()
    return place.parent.name if place.stem in ("pairs", "metadata") else place.name


def _compare_confidence(reports: Sequence[Report]) -> None:
    """Adds how well confidence tells the first source's pictures from each other source's."""
    from img2prompt.metrics import auroc

    first, *others = [
        [row["confidence"] for row in report.rows if row.get("confidence") is not None] for report in reports
    ]
    for report, other in zip(reports[1:], others, strict=True):
        if first and other:
            report.metrics["confidence_auroc"] = auroc(first, other)


def _draw(options: argparse.Namespace, sources: Sequence[datasets.Dataset], reports: Sequence[Report]) -> None:
    from img2prompt.jobs.judging import examples_of, sources_of
    from img2prompt.jobs.plots import draw_evaluation
    from img2prompt.pairs.images import open_image

    strips = []
    for data, report in zip(sources, reports, strict=True):
        rows = {example.name: example for example in examples_of(data, _manner(options), options.limit)}
        worst = [rows[case["name"]] for case in report.worst]
        strips.append([open_image(source) for source in sources_of(data, worst)])
    try:
        draw_evaluation(options.png, reports, strips)
    except OSError as error:
        raise OutputError(f"{options.png}: {error.strerror}; choose a place that can be written") from error


def _write_json(options: argparse.Namespace, preset: str, reports: Sequence[Report]) -> None:
    from img2prompt.jobs.doctor import installation
    from img2prompt.pairs.atomic import write_atomically

    settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items()}
    result = {
        "preset": preset,
        "settings": settings,
        "machine": installation(),
        "sources": [report.to_dict() for report in reports],
    }
    try:
        write_atomically(options.json, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{options.json}: {error.strerror}; choose a place that can be written") from error

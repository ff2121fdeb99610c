"""`img2prompt evaluate`: how good a model's prompts are on pictures whose prompts are known."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import OutputError
from img2prompt.jobs.options import add_model_options, number
from img2prompt.progress import track

if TYPE_CHECKING:
    import datasets

    from img2prompt.jobs.judging import Example, Report
    from img2prompt.predictor import Predictor
    from img2prompt.results import Failed, Prediction

ROWS: dict[str, tuple[str, str]] = {  # metric -> its line in the table and how its value is written
    "mean_cosine": ("MiniLM cosine, mean", "{:.3f}"),
    "bleu": ("BLEU-4", "{:.3f}"),
    "identical_share": ("identical prompts", "{:.1%}"),
    "object_precision": ("object precision", "{:.3f}"),
    "object_recall": ("object recall", "{:.3f}"),
    "object_f1": ("object F1", "{:.3f}"),
    "count_accuracy": ("count accuracy", "{:.3f}"),
    "colour_binding": ("colour binding", "{:.3f}"),
    "size_accuracy": ("size accuracy", "{:.3f}"),
    "relation_accuracy": ("relation accuracy", "{:.3f}"),
    "setting_accuracy": ("setting accuracy", "{:.3f}"),
    "style_accuracy": ("style accuracy", "{:.3f}"),
    "time_accuracy": ("time accuracy", "{:.3f}"),
    "weather_accuracy": ("weather accuracy", "{:.3f}"),
    "mean_confidence": ("confidence, mean", "{:.3f}"),
    "in_domain_share": ("inside the model's world", "{:.1%}"),
    "confidence_auroc": ("AUROC of confidence, first source against this", "{:.3f}"),
    "ms_per_image": ("ms an image, warm", "{:.0f}"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add = parser.add_argument
    add(
        "pairs",
        nargs="+",
        metavar="PAIRS",
        help="data set, table (.csv, .tsv, .jsonl) or folder; several: a column each",
    )
    add_model_options(parser)
    add("--limit", type=number(int, 1), metavar="N", help="only the first N pictures of each source")
    add("--image-column", metavar="NAME", help="column of the images, where it is not found by itself")
    add("--prompt-column", metavar="NAME", help="column of the true prompts, where it is not found by itself")
    add("--json", type=Path, metavar="FILE", help="write everything: scores, every prompt, versions, machine")


def evaluate(options: argparse.Namespace) -> int:
    """Predicts, scores and prints the table; returns 1 when some pictures failed, else 0.

    Raises:
        DataError, PresetError, MissingExtra, ConfigError, OutputError: see those.
    """
    if options.json is not None and not options.json.parent.is_dir():
        raise OutputError(f"{options.json}: there is no folder {options.json.parent}")
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.pairs.sources import open_pairs
    from img2prompt.predictor import Predictor

    columns = {"image": options.image_column, "prompt": options.prompt_column}
    columns = {ours: theirs for ours, theirs in columns.items() if theirs is not None}
    # All that can be wrong is found before the first picture is predicted.
    sources = [(path, open_pairs(path, columns)) for path in options.pairs]
    predictor = Predictor.from_preset(options.preset, device=options.device)
    encoder = SentenceEncoder()
    reports = [_report(path, data, predictor, encoder, options) for path, data in sources]
    _compare_confidence(reports)
    preset = predictor.located.name if predictor.located is not None else "none"
    print(f"{preset}, {options.style} prompts, {options.candidates} candidate{'s' * (options.candidates > 1)}\n")
    print("\n".join(table(reports)))
    for failed in [failed for report in reports for failed in report.failed]:
        print(f"{failed.source}: {failed.error}", file=sys.stderr)
    if options.json is not None:
        _write_json(options, preset, reports)
    return 1 if any(report.failed for report in reports) else 0


def _report(
    path: str, data: datasets.Dataset, predictor: Predictor, encoder: Any, options: argparse.Namespace
) -> Report:
    from img2prompt.jobs.judging import examples_of, judge

    style = "prompt" if options.prompt_column else options.style
    examples = examples_of(data, style, options.limit)
    results, ms_per_image = _predict(data, examples, predictor, options)
    report = judge(label_of(path, data), examples, results, encoder)
    if report.images:
        report.metrics["ms_per_image"] = ms_per_image
    return report


def _predict(
    data: datasets.Dataset, examples: Sequence[Example], predictor: Predictor, options: argparse.Namespace
) -> tuple[list[Prediction | Failed], float]:
    """The result of every example, and wall-clock milliseconds an image once the model is warm."""
    from img2prompt.jobs.judging import sources_of

    def results(some: Sequence[Example]) -> Iterator[Prediction | Failed]:
        return predictor.predict_many(
            sources_of(data, some),
            batch_size=options.batch_size,
            candidates=options.candidates,
            style=options.style,
            seed=options.seed,
            ignore_metadata=True,
        )

    list(results(examples[: options.batch_size]))  # loads the model and warms it up
    start = time.perf_counter()
    rows = list(track(results(examples), total=len(examples), unit="image"))
    return rows, 1000 * (time.perf_counter() - start) / max(len(rows), 1)


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

    first, *others = [[r["confidence"] for r in report.rows if r["confidence"] is not None] for report in reports]
    for report, other in zip(reports[1:], others, strict=True):
        if first and other:
            report.metrics["confidence_auroc"] = auroc(first, other)


def table(reports: Sequence[Report]) -> Iterator[str]:
    """Lines of the readable table: one column a source, one line a metric; then the worst cases."""
    rows: list[tuple[str, list[str]]] = [
        ("", [report.label for report in reports]),
        ("images", [str(report.images) for report in reports]),
        ("failed", [str(len(report.failed)) for report in reports]),
    ]
    for metric, (label, form) in ROWS.items():
        if any(metric in report.metrics for report in reports):
            rows.append((label, [_cell(report.metrics, metric, form) for report in reports]))
        if metric == "mean_cosine" and any(report.cosine_interval for report in reports):
            rows.append(("  95 % interval", [_interval(report.cosine_interval) for report in reports]))
    left = max(len(label) for label, _ in rows)
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(reports))]
    for label, cells in rows:
        yield (label.ljust(left) + "".join("  " + c.rjust(w) for c, w in zip(cells, widths, strict=True))).rstrip()
    for report in reports:
        if report.worst:
            yield f"\nworst of {report.label}, by cosine"
        for row in report.worst:
            yield f"  {row['cosine']:.3f}  {row['name']}"
            yield f"         said: {row['prompt']}"
            yield f"         true: {row['prompts'][0]}"


def _cell(metrics: Mapping[str, float], name: str, form: str) -> str:
    value = metrics.get(name, math.nan)
    return "-" if math.isnan(value) else form.format(value)


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else "{:.3f}-{:.3f}".format(*interval)


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

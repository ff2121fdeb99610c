"""Whether `roundtrip --refine` gives better prompts: predicted against refined prompts of held-out storybook scenes.

    python scripts/bench/refine.py PAIRS... --count 200 --output scripts/bench/results/refine.json

PAIRS are data sets of storybook scenes. Each prompt is scored against the scene's truth (object F1, all facts), against
the true prompt (cosine of sentence embeddings), and by its pictures (other seeds than the search's): with every metric
that the machine has weights for. Tests are paired over scenes. A scene whose line is in OUTPUT.rows.jsonl is done;
a run that is stopped, or that --seconds ends, goes on from there, and the result is written when all are done.

`choices` says what other ways to choose among the same candidates would have given: by the pictures alone, and with
other weights of the ranking.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from img2prompt.comparison import Comparer
from img2prompt.jobs.doctor import installation
from img2prompt.jobs.judging import Example, examples_of, sources_of
from img2prompt.jobs.loop.plan import seeds_for
from img2prompt.jobs.loop.refine import Refiner, Search, search_seeds
from img2prompt.metrics import METRICS, paired_test
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.images import open_image
from img2prompt.pairs.sources import open_pairs
from img2prompt.pairs.storybook.imagine import StorybookGenerator
from img2prompt.pairs.storybook.parse import parse
from img2prompt.pairs.storybook.score import FactScore, score_one
from img2prompt.predictor import Predictor
from img2prompt.results import Failed

Row = dict[str, Any]
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)


class Bench:
    """The models, opened once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._search = Search(seeds=options.search_seeds)
        self._predictor = Predictor.from_preset(device=options.device)
        self._generator = StorybookGenerator(options.size)
        chosen = Comparer.open([self._search.metric], device=options.device, predictor=self._predictor)
        self._refiner = Refiner(self._predictor, self._generator, chosen, self._search)
        self._comparer = Comparer.open(None, device=options.device, predictor=self._predictor)
        self._sentences = SentenceEncoder(device=options.device)

    def row(self, example: Example, source: Any) -> Row:
        """All about one scene."""
        options, truth = self._options, example.truth
        assert truth is not None
        image = open_image(source)
        (found,) = self._predictor.predict_many([image], candidates=options.candidates, ignore_metadata=True)
        assert not isinstance(found, Failed)
        candidates = [{"text": candidate.prompt, "score": candidate.score} for candidate in found.candidates]
        seeds = search_seeds(example.name, self._search.seeds, 0, options.seeds)
        refined = self._refiner.refine(image, candidates, seeds)
        tried = [
            {**trial, "score": next((c["score"] for c in candidates if c["text"] == trial["text"]), None)}
            for trial in refined["trials"]
        ]
        texts = [trial["text"] for trial in tried]
        emb = self._sentences.encode_many([example.prompts[0], *texts])  # (1+T,D)
        for trial, cosine in zip(tried, (emb[1:] @ emb[0]).tolist(), strict=True):
            score = score_one(parse(trial["text"]), truth)
            named = score.precision.of + score.recall.of
            parts = [getattr(score, field.name) for field in fields(FactScore)]
            trial |= {"object_f1": 2 * score.recall.right / named if named else 0.0, "sentence_cosine": cosine}
            trial["facts"] = sum(part.right for part in parts) / max(sum(part.of for part in parts), 1)
        kinds = {"predicted": found.prompt, "refined": refined["text"]}
        return {
            "id": example.name,
            "from": refined["from"],
            **kinds,
            "trials": tried,
            "pictures": self._pictures(image, kinds, example),
        }

    def _pictures(self, image: Any, kinds: dict[str, str], example: Example) -> dict[str, dict[str, float | None]]:
        """Means over the final seeds of every metric between pictures, by kind."""
        seeds = seeds_for(example.name, self._options.seeds, 0)
        scores: dict[str, dict[str, float | None]] = {}
        for kind, text in kinds.items():
            if kind == "refined" and text == kinds["predicted"]:
                scores[kind] = scores["predicted"]
                continue
            made = self._generator.generate_many([text] * len(seeds), seeds)
            images = [item.image for item in made if not isinstance(item, Failed)]
            found = self._comparer.images([image] * len(images), images)
            scores[kind] = {name: float(values.mean()) if len(values) else None for name, values in found.items()}
        return scores


def summarise(rows: Sequence[Row]) -> Row:
    """Means, paired tests and what other ways to choose would have given."""
    result: Row = {"scenes": len(rows), "changed": sum(row["from"] != "predicted" for row in rows)}
    result["edited"] = sum(row["from"] == "edit" for row in rows)
    result["prompts_tried"] = sum(len(row["trials"]) for row in rows)
    for name in ("object_f1", "facts", "sentence_cosine"):
        before = [row["trials"][0][name] for row in rows]
        after = [next(t[name] for t in row["trials"] if t["text"] == row["refined"]) for row in rows]
        result[name] = compared(after, before)
    result["pictures"] = {
        name: compared(
            [row["pictures"]["refined"][name] for row in rows], [row["pictures"]["predicted"][name] for row in rows]
        )
        for name in METRICS
        if rows and name in rows[0]["pictures"]["predicted"]
    }
    ways: dict[str, Row] = {f"pictures + {weight:g} x ranking": choices(rows, weight) for weight in WEIGHTS}
    result["choices"] = {**ways, "best of the candidates by object_f1": best_possible(rows)}
    return result


def compared(after: Sequence[float | None], before: Sequence[float | None]) -> Row:
    """Means of both, and the paired test of refined against predicted."""
    a, b = (np.array(values, float)[:, None] for values in (after, before))
    known = ~(np.isnan(a) | np.isnan(b))[:, 0]
    test = paired_test(a, b).to_dict()
    better, worse = int((a[known] > b[known]).sum()), int((a[known] < b[known]).sum())
    means = {"predicted": float(b[known].mean()), "refined": float(a[known].mean())}
    return {**means, "better": better, "worse": worse, **test}


def choices(rows: Sequence[Row], weight: float) -> Row:
    """What choosing among the candidates alone gives with another weight of the ranking."""
    found: dict[str, list[float]] = {"object_f1": [], "facts": []}
    for row in rows:
        trials = [trial for trial in row["trials"] if trial["from"] != "edit"]
        totals = [
            (-np.inf if t["likeness"] is None else t["likeness"])
            + weight * ((t["score"] or 0) - (trials[0]["score"] or 0))
            for t in trials
        ]
        for name, values in found.items():
            values.append(trials[int(np.argmax(totals))][name])
    return {name: compared(values, [row["trials"][0][name] for row in rows]) for name, values in found.items()}


def best_possible(rows: Sequence[Row]) -> Row:
    """An oracle that knows the truth: no choice among the candidates can do better."""
    return compared(
        [max(t["object_f1"] for t in row["trials"]) for row in rows], [r["trials"][0]["object_f1"] for r in rows]
    )


def scenes(paths: Sequence[str], count: int, skip: int) -> Iterator[tuple[Example, Any]]:
    """Every scene, named after its data set too, with its picture."""
    for path in paths:
        data = open_pairs(path)
        examples = examples_of(data, "short", skip + count)[skip:]
        for example in examples:
            (source,) = sources_of(data, [example])
            yield replace(example, name=f"{Path(path).name}/{example.name}"), source


def main() -> int:
    """Scores the scenes that are left, then writes the result; returns 1 while scenes are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="scenes of each data set")
    parser.add_argument("--skip", type=int, default=0, help="scenes at the start of each that are left out")
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--search-seeds", type=int, default=Search().seeds)
    parser.add_argument("--seeds", type=int, default=2, help="of the final pictures")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no scene is begun")
    parser.add_argument("--finish", action="store_true", help="score no more scenes; write the result of what is done")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    journal, started = options.output.with_name(options.output.name + ".rows.jsonl"), time.monotonic()
    known = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    wanted = list(scenes(options.pairs, options.count, options.skip))
    names = {example.name for example, _ in wanted}
    known = [row for row in known if row["id"] in names]
    done = {row["id"] for row in known}
    bench: Bench | None = None
    with journal.open("a") as file:
        for example, source in wanted:
            if example.name in done or options.finish:
                continue
            if time.monotonic() - started > options.seconds:
                print(f"{len(known)} of {len(wanted)} scenes; run it again", file=sys.stderr)
                return 1
            bench = bench or Bench(options)
            known.append(bench.row(example, source))
            file.write(json.dumps(known[-1], ensure_ascii=False) + "\n")
            file.flush()
    settings = {
        name: value for name, value in vars(options).items() if name not in ("output", "seconds", "pairs", "finish")
    }
    named = {
        Path(path).name: [row for row in known if row["id"].startswith(f"{Path(path).name}/")] for path in options.pairs
    }
    result = {
        "settings": settings,
        "machine": installation(),
        "search": {"weight": Search().weight, "metric": Search().metric},
    }
    result["sets"] = {name: summarise(rows) for name, rows in {**named, "all": known}.items()}
    write_atomically(options.output, (json.dumps(result, indent=1, ensure_ascii=False) + "\n").encode())
    if len(known) == len(wanted):
        journal.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

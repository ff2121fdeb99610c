"""What removing near-duplicates among 100 million prompts would take on Ray, from how its parts grow with the rows.

    python scripts/bench/growth.py measure EMBEDDINGS.npy --rows 62500 125000 250000 500000 > growth.json
    python scripts/bench/growth.py table growth.json --embed-per-core-s 190 --rows 1e8 --cores 256

`measure` does on one core, a task after the other, what Ray's workers and the process that hands out their tasks do,
and times both by stage. `table` also takes what `scripts/bench/dedup.py` writes: the processor seconds of the
approximate way are one stage of workers then. It lays a power of the rows through each stage's seconds and continues
it: stages of workers are divided by the cores, those of the one process that plans and merges are not. Prompts embedded
a second and core come from `scripts/bench/sentences.py`. Nothing that large was run: the table says what was measured,
and what the exponent is, beside every figure that is not.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTS = 8
DRIVER = "gather, plan and merge (one process)"
WORKERS = {  # stage -> its line in the table
    "look": "nearest cells of each row (workers)",
    "pair_cells": "near pairs of each cell (workers)",
    "cells": "near-duplicates by cells (workers)",
}


def measure(embeddings: Path, rows: Sequence[int], threshold: float) -> dict[str, Any]:
    """Seconds of every stage at each number of rows, on one core."""
    import faiss

    from img2prompt.jobs.doctor import installation
    from img2prompt.jobs.pairs.scale_dedup import find_duplicates_in_parts
    from img2prompt.pairs.near.cosines import unit_rows

    faiss.omp_set_num_threads(1)
    emb, lines = np.load(embeddings, mmap_mode="r"), []
    for count in rows:
        if count > len(emb):
            raise SystemExit(f"{embeddings}: {len(emb)} rows, {count} asked for; give fewer --rows")
        seconds: dict[str, float] = {}

        def run(work: Callable[[Any], Any], tasks: Sequence[Any], spent: dict[str, float] = seconds) -> Iterator[Any]:
            for task in tasks:
                begun = time.perf_counter()
                done = work(task)
                spent[work.__name__] = spent.get(work.__name__, 0.0) + time.perf_counter() - begun
                yield done

        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number:05d}.npy" for number in range(PARTS)]
            for path, part in zip(paths, np.array_split(np.array(emb[:count]), PARTS), strict=True):
                np.save(path, unit_rows(part))
            begun = time.perf_counter()
            found = find_duplicates_in_parts(paths, threshold, folder=Path(folder) / "work", run=run)
            whole = time.perf_counter() - begun
        driver = whole - sum(seconds.values())
        line = {
            "rows": count,
            "survivors": int(found.keep.sum()),
            "recall": found.recall,
            "seconds": {DRIVER: driver, **seconds},
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        print(json.dumps(line), file=sys.stderr)
        lines.append(line)
    return {
        "what": "near-duplicates in tasks, one core, a task after the other: seconds by stage",
        "machine": installation(),
        "dimensions": emb.shape[1],
        "threshold": threshold,
        "lines": lines,
    }


def of_bench(written: dict[str, Any]) -> dict[str, Any]:
    """What `scripts/bench/dedup.py` wrote as `measure` would have: one stage, in processor seconds."""
    runs = {run["rows"]: run for run in written["runs"] if run["way"] == "approximate"}
    lines = [
        {"rows": rows, "seconds": {"cells": run["cpu_s"]}, "peak_gb": run["peak_gb"]}
        for rows, run in sorted(runs.items())
    ]
    return {"dimensions": 384, "lines": lines}


def exponent_of(rows: Sequence[float], seconds: Sequence[float]) -> float:
    """Of the power law nearest to the logarithms."""
    return float(np.polyfit(np.log(rows), np.log(seconds), 1)[0])


def table(measured: dict[str, Any], wanted: float, cores: int, embed_per_core_s: float) -> Iterator[str]:
    """Lines of a Markdown table: each stage as measured, its growth, and what the wanted rows would take."""
    rows = [line["rows"] for line in measured["lines"]]
    yield f"| stage | {rows[-1]:,} rows, one core | grows as | {wanted:,.0f} rows, one core | {cores} cores |"
    yield "|---|--:|--:|--:|--:|"
    embed_s = wanted / embed_per_core_s
    whole = embed_s / cores
    yield _line("embeddings (workers)", rows[-1] / embed_per_core_s, "n", embed_s, embed_s / cores)
    for stage in measured["lines"][-1]["seconds"]:
        least = 1.5 if stage in WORKERS else 1.0  # rows times the square root of the rows; rows
        seconds = [line["seconds"][stage] for line in measured["lines"]]
        measured_exponent = exponent_of(rows, seconds)
        exponent = max(measured_exponent, least)  # small numbers of rows flatter; what the algorithm does is the least
        alone = seconds[-1] * (wanted / rows[-1]) ** exponent
        spread = alone / cores if stage in WORKERS else alone
        whole += spread
        grows = f"n^{exponent:.2f}" + (f" (measured {measured_exponent:.2f})" if measured_exponent < least else "")
        yield _line(WORKERS.get(stage, stage), seconds[-1], grows, alone, spread)
    yield f"| together | | | | {_time(whole)} |"
    peaks = [line["peak_gb"] for line in measured["lines"]]
    per_row = (peaks[-1] - peaks[0]) / (rows[-1] - rows[0]) * 2**30
    disk = wanted * measured["dimensions"] * 4
    yield ""
    yield (
        f"Memory of the one process: about {per_row:,.0f} bytes a row (files it maps included),"
        f" {per_row * wanted / 1e9:,.0f} GB; shared disk: {2 * disk / 1e9:,.0f} GB, embeddings and their ordered copy."
    )


def _line(stage: str, measured_s: float, grows: str, alone_s: float, spread_s: float) -> str:
    return f"| {stage} | {_time(measured_s)} | {grows} | {_time(alone_s)} | {_time(spread_s)} |"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    one = actions.add_parser("measure")
    one.add_argument("embeddings", type=Path, help=".npy file (N,D)")
    one.add_argument("--rows", type=int, nargs="+", default=[62_500, 125_000, 250_000, 500_000])
    one.add_argument("--threshold", type=float, default=0.9)
    other = actions.add_parser("table")
    other.add_argument("measured", type=Path, help="what `measure` printed")
    other.add_argument("--rows", type=float, default=1e8)
    other.add_argument("--cores", type=int, default=256)
    other.add_argument("--embed-per-core-s", type=float, required=True, help="prompts embedded a second and core")
    options = parser.parse_args()
    if options.action == "measure":
        print(json.dumps(measure(options.embeddings, options.rows, options.threshold), indent=1))
        return
    measured = json.loads(options.measured.read_text())
    measured = of_bench(measured) if "runs" in measured else measured
    print("\n".join(table(measured, options.rows, options.cores, options.embed_per_core_s)))


if __name__ == "__main__":
    main()

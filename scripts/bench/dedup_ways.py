"""One way of finding near-duplicates, in a process of its own: seconds, peak memory, and what it found.

    python scripts/bench/dedup_ways.py WAY EMBEDDINGS.npy RESULT.npz --threshold 0.9 --queries 1.0

`copied` is what notebooks copy from each other: FAISS IVF with five lists and the default of one probe, the 20 nearest,
and every row deleted that has a near one, so that whole groups go. `range`, `hnsw` and `usearch` find pairs, which then
are resolved in the order of the rows. With --queries below 1 a peer searches for a part of the rows, spread evenly;
the seconds of the search are then divided by that part, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
NEIGHBOURS = 20


def ours(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    """Exact or approximate."""
    from img2prompt.pairs.dedup import DedupSettings, find_duplicates

    settings = DedupSettings(method=options.way, threads=options.threads, probes=options.probes)
    started = time.perf_counter()
    found = find_duplicates(emb, options.threshold, settings=settings)
    took = time.perf_counter() - started
    facts = {"method": found.method, "recall_measured": found.recall, "recall_pairs": found.recall_pairs}
    return {"total_s": took, "facts": facts, "keep": found.keep, "survivor": found.survivor}


def cells(emb: NDArray[np.float32], options: argparse.Namespace) -> NDArray[np.int32]:
    """The cells that the approximate way looks into: the same plan from the same seed."""
    from img2prompt.pairs.near.centres import plan_cells
    from img2prompt.pairs.near.cosines import copies, unit_rows
    from img2prompt.pairs.near.sweep import SAMPLE

    rows = unit_rows(emb)
    unique = np.flatnonzero(copies(rows) == np.arange(len(rows)))
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(len(unique), min(SAMPLE, len(unique)), replace=False))
    plan = plan_cells(rows[unique[some]], len(unique), options.threshold, probes=options.probes)
    return plan.probed(rows)


def truth(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    """All near pairs, for comparison."""
    from img2prompt.pairs.near.centres import near_pairs
    from img2prompt.pairs.near.cosines import unit_rows
    from img2prompt.pairs.near.exact import screened, workers

    rows = unit_rows(emb)
    table, _ = screened(rows, rows, options.threshold)
    parts = []
    with workers(options.threads) as pool:
        for start in range(0, len(rows), 8192):
            i, j = near_pairs(table, np.arange(start, min(start + 8192, len(rows))), options.threshold, pool)
            parts.append((i[i > j], j[i > j]))
    i, j = (np.concatenate(column) for column in zip(*parts, strict=True))
    return {"total_s": 0.0, "facts": {"pairs": len(i)}, "later": i, "earlier": j}


def searched(
    emb: NDArray[np.float32], options: argparse.Namespace, make: Callable[[NDArray[np.float32]], Any],
    search: Callable[[Any, NDArray[np.float32]], Pairs],
) -> dict[str, Any]:  # fmt: skip
    """A peer: an index is built, some or all rows are searched for, pairs that are near are kept."""
    started = time.perf_counter()
    index = make(emb)
    built = time.perf_counter()
    step = max(1, round(1 / options.queries))
    queries = np.arange(0, len(emb), step)
    parts = []
    for start in range(0, len(queries), 16384):
        some = queries[start : start + 16384]
        i, j = search(index, emb[some])
        parts.append((some[i], j))
    took = time.perf_counter() - built
    i, j = (np.concatenate(column) for column in zip(*parts, strict=True))
    i, j = i[(i != j) & (j >= 0)], j[(i != j) & (j >= 0)]
    facts = {
        "build_s": built - started,
        "search_s": took,
        "queries": len(queries),
        "scaled_by": len(emb) / len(queries),
    }
    return {"total_s": built - started + took * len(emb) / len(queries), "facts": facts, "later": i, "earlier": j}


def copied(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    import faiss

    def make(rows: NDArray[np.float32]) -> Any:
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], 5, faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        index.add(rows)
        return index

    return searched(emb, options, make, nearest(options.threshold))


def flat_range(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    import faiss

    def make(rows: NDArray[np.float32]) -> Any:
        index = faiss.IndexFlatIP(rows.shape[1])
        index.add(rows)
        return index

    def search(index: Any, rows: NDArray[np.float32]) -> Pairs:
        limits, _, found = index.range_search(rows, options.threshold)
        return np.repeat(np.arange(len(rows)), np.diff(limits.astype(np.int64))), found

    return searched(emb, options, make, search)


def hnsw(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    import faiss

    def make(rows: NDArray[np.float32]) -> Any:
        index = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        index.add(rows)
        index.hnsw.efSearch = 64
        return index

    return searched(emb, options, make, nearest(options.threshold))


def usearch(emb: NDArray[np.float32], options: argparse.Namespace) -> dict[str, Any]:
    from usearch.index import Index

    def make(rows: NDArray[np.float32]) -> Any:
        index = Index(ndim=rows.shape[1], metric="ip", dtype="f32", connectivity=16)
        index.add(np.arange(len(rows)), rows, threads=options.threads)
        return index

    def search(index: Any, rows: NDArray[np.float32]) -> Pairs:
        found = index.search(rows, NEIGHBOURS, threads=options.threads)
        i, k = np.nonzero(1 - found.distances >= options.threshold)
        return i, found.keys[i, k].astype(np.int64)

    return searched(emb, options, make, search)


def nearest(threshold: float) -> Callable[[Any, NDArray[np.float32]], Pairs]:
    """Searches a FAISS index for the nearest rows and keeps those that are near enough."""

    def search(index: Any, rows: NDArray[np.float32]) -> Pairs:
        values, found = index.search(rows, NEIGHBOURS)
        i, k = np.nonzero(values >= threshold)
        return i, found[i, k]

    return search


WAYS: dict[str, Callable[[NDArray[np.float32], argparse.Namespace], dict[str, Any]]] = {
    "exact": ours,
    "approximate": ours,
    "copied": copied,
    "range": flat_range,
    "hnsw": hnsw,
    "usearch": usearch,
    "truth": truth,
}


def main() -> int:
    """Runs the way and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--queries", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--probes", type=int)
    parser.add_argument("--rows", type=int, help="only the first so many")
    options = parser.parse_args()
    import faiss

    faiss.omp_set_num_threads(options.threads)
    emb = np.load(options.embeddings, mmap_mode="r")
    emb = np.ascontiguousarray(emb[: options.rows])
    busy = time.process_time()
    made = WAYS[options.way](emb, options)
    facts = {
        "way": options.way, "rows": len(emb), "threshold": options.threshold, "seconds": made.pop("total_s"),
        "cpu_s": time.process_time() - busy, "threads": options.threads,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, **made.pop("facts"),
    }  # fmt: skip
    if options.way == "approximate":
        made["probed"] = cells(emb, options)
    np.savez(options.result, **made)
    options.result.with_suffix(".json").write_text(json.dumps(facts, indent=1))
    print(json.dumps(facts), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

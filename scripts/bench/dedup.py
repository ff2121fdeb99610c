"""Near-duplicates: ours against what people use, on real prompts with planted paraphrases and on synthetic vectors.

    python scripts/bench/dedup.py real  --prompts PROMPTS.jsonl.gz --folder F --ways exact approximate copied:0.2 ...
    python scripts/bench/dedup.py synthetic --rows 300000 --folder F --ways truth exact range:0.1
    python scripts/bench/dedup.py plot --folder F --png imgs/dedup_growth.png

Every way runs in a process of its own (`dedup_ways.py`). A number behind the colon is the share of the rows that a
peer searches for; its seconds are scaled, and the result says so. Results are added to the JSON file in --results, so
that ways can be measured one after another. `truth`, all near pairs, has to come first: recall, pairs and wrong
deletions are counted against it. Embeddings of the prompts are kept in F, and in the user's cache.

Wrong deletions are rows that went although no row that stayed has the cosine: their content is lost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from dedup_data import planted, read_prompts, synthetic
from numpy.typing import NDArray

from img2prompt.jobs.doctor import installation

HERE = Path(__file__).parent
PLANTED = 6000


def embeddings(options: argparse.Namespace) -> tuple[Path, int]:
    """The file of embeddings, and how many of its rows are no planted ones."""
    if options.data == "synthetic":
        path = options.folder / "synthetic.npy"
        if not path.exists():
            np.save(path, synthetic(options.most_rows))
        return path, options.rows
    path = options.folder / "real.npy"
    prompts = read_prompts(options.prompts)
    if not path.exists():
        from img2prompt.models.sentence import SentenceEncoder

        np.save(path, SentenceEncoder(cache="default").encode_many(prompts + planted(prompts, PLANTED)[0]))
    return path, len(prompts)


def measure(way: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs a way and compares what it found with the truth."""
    name, _, share = way.partition(":")
    result = options.folder / f"{options.data}-{options.rows or 'all'}-{name}.npz"
    command = [sys.executable, str(HERE / "dedup_ways.py"), name, str(path), str(result)]
    command += ["--threshold", str(options.threshold), "--queries", share or "1"]
    command += ["--rows", str(options.rows)] if options.rows else []
    subprocess.run(command, check=True, env=None)
    facts: dict[str, Any] = json.loads(result.with_suffix(".json").read_text())
    truth = options.folder / f"{options.data}-{options.rows or 'all'}-truth.npz"
    if name != "truth" and truth.exists():
        with np.load(truth) as true, np.load(result) as found:
            facts |= compared(facts, dict(true), dict(found), options)
    return facts


def compared(
    facts: dict[str, Any], true: dict[str, NDArray[Any]], found: dict[str, NDArray[Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Pairs found, wrong deletions, planted paraphrases found."""
    later, earlier, rows = true["later"], true["earlier"], facts["rows"]
    keys = later * rows + earlier
    if "survivor" in found:
        keep = found["keep"]
        seen = np.ones(len(later), bool)
        if "probed" in found:
            a, b = found["probed"][later], found["probed"][earlier]
            seen = (a == b[:, :1]).any(1) | (b == a[:, :1]).any(1)
    else:
        step = max(1, round(facts["scaled_by"]))
        asked = (later % step == 0) | (earlier % step == 0)  # a pair can be found from either side
        later, earlier, keys = later[asked], earlier[asked], keys[asked]
        i, j = found["later"], found["earlier"]
        told = np.unique(np.maximum(i, j) * rows + np.minimum(i, j))
        seen = np.isin(keys, told)
        keep = resolved(facts["way"], rows, told) if step == 1 else None
    result: dict[str, Any] = {"true_pairs": len(later), "pairs_found": int(seen.sum())}
    result["recall"] = float(seen.mean()) if len(seen) else 1.0
    if options.data == "real":
        own = planted_pairs(rows, options)
        mine = np.isin(keys, own)
        result["planted_near"] = int(mine.sum())
        result["planted_found"] = int((mine & seen).sum())
    if keep is not None:
        near_kept = np.zeros(rows, bool)
        near_kept[true["later"][keep[true["earlier"]]]] = True
        near_kept[true["earlier"][keep[true["later"]]]] = True
        both = keep[true["later"]] & keep[true["earlier"]]
        result |= {
            "removed": int((~keep).sum()),
            "wrong_deletions": int((~keep & ~near_kept).sum()),
            "near_pairs_left": int(both.sum()),
        }
    return result


def resolved(way: str, rows: int, told: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Who stays: the first of near rows; in the copied way, nobody who has a near one."""
    later, earlier = np.divmod(told, rows)
    keep = np.ones(rows, bool)
    if way == "copied":
        keep[later] = keep[earlier] = False
        return keep
    for i, j in zip(later.tolist(), earlier.tolist(), strict=True):  # in the order of the later rows
        if keep[j]:
            keep[i] = False
    return keep


def planted_pairs(rows: int, options: argparse.Namespace) -> NDArray[np.int64]:
    """Keys of the pairs of a planted paraphrase and its original."""
    prompts = read_prompts(options.prompts)
    _, origins = planted(prompts, PLANTED)
    return (len(prompts) + np.arange(len(origins))) * rows + origins


def plot(options: argparse.Namespace) -> None:
    """Seconds and recall over rows, from the growth file."""
    from matplotlib.figure import Figure

    measured = [run for run in json.loads(options.results.read_text())["runs"] if run["way"] != "truth"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for way in dict.fromkeys(run["way"] for run in measured):
        runs = sorted((run for run in measured if run["way"] == way), key=lambda run: run["rows"])
        scaled = any(run.get("scaled_by", 1) > 1 for run in runs)
        label = f"{way}{' (scaled from a part of the queries)' if scaled else ''}"
        axes.loglog([run["rows"] for run in runs], [run["seconds"] for run in runs], "o-", label=label)
    axes.set(xlabel="rows of 384 numbers", ylabel="seconds on two cores", title="Near-duplicates at cosine 0.9")
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    options.png.parent.mkdir(exist_ok=True)
    figure.savefig(options.png, dpi=130, metadata={"Software": None})


def main() -> int:
    """Measures the ways, or draws what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("real", "synthetic", "plot"))
    parser.add_argument("--folder", type=Path, default=Path("dedup-bench"), help="for embeddings and what ways found")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--rows", type=int, help="of the synthetic ones")
    parser.add_argument("--most-rows", type=int, default=1_000_000, help="of the file that smaller ones are cut from")
    parser.add_argument("--ways", nargs="+", default=[])
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--png", type=Path, default=Path("imgs/dedup_growth.png"))
    options = parser.parse_args()
    options.results = (
        options.results or HERE / "results" / f"dedup_{'real' if options.data == 'real' else 'growth'}.json"
    )
    if options.data == "plot":
        plot(options)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    path, prompts = embeddings(options)
    for way in options.ways:
        facts = measure(way, path, options)
        report = json.loads(options.results.read_text()) if options.results.exists() else {"runs": []}
        others = [run for run in report["runs"] if (run["way"], run["rows"]) != (facts["way"], facts["rows"])]
        report["machine"] = {**installation(), "threads": facts["threads"]}
        report["data"] = {"kind": options.data, "prompts": prompts} if options.data == "real" else {"kind": "synthetic"}
        report["runs"] = sorted([*others, facts], key=lambda run: (run["rows"], run["way"]))
        options.results.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Sentences a second: our encoder against a plain `SentenceTransformer.encode(batch_size=32)`, same model and texts.

    python scripts/bench/sentences.py PROMPTS.jsonl.gz --limit 4096 --threads 2 --repeats 5 --output sentences.json

PROMPTS is a file of JSON lines with a "prompt" in each (gzip or not); --limit takes a random sample of them, always the
same one, and 0 takes all. The two take turns, so that other load on the machine meets both, and each starts every other
round; medians are reported, tokenizing included, the cache of embeddings not used. On a machine that other work shares,
take --threads 1 and read the processor seconds (`times_less_cpu`).

The agreement is the cosine of the two embeddings of each text. With --precision, `precision` in the result says which
one was used after the check that the encoder makes; --unchecked measures a precision that fails it, to see what it
would give. `texts_below` counts those of less than `enough_cosine`, which the encoder asks of the worst text of its own
sample. `filled` says how many of the tokens that the plain one computes are not padding.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray

from img2prompt.models import sentence_backends
from img2prompt.models.sentence import MINILM, SentenceEncoder, find_model

PLAIN_BATCH = 32


def read_prompts(path: Path, limit: int) -> list[str]:
    """Prompts of the file: all, or a sample that depends on nothing but the file and the limit."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        prompts = [json.loads(line)["prompt"] for line in file]
    if not limit or limit >= len(prompts):
        return prompts
    return [prompts[i] for i in np.random.default_rng(0).permutation(len(prompts))[:limit]]


def filled_share(model: Any, texts: Sequence[str]) -> tuple[float, float]:
    """Mean tokens of a text, and the share of tokens that are no padding when batches are sorted by characters."""
    texts = sorted(texts, key=len, reverse=True)
    lengths = np.array([len(ids) for ids in model.tokenizer(texts, truncation=True)["input_ids"]])
    batches = [lengths[i : i + PLAIN_BATCH] for i in range(0, len(lengths), PLAIN_BATCH)]
    return float(lengths.mean()), float(lengths.sum() / sum(batch.max() * len(batch) for batch in batches))


def seconds(run: Callable[[], NDArray[np.float32]]) -> tuple[float, float, NDArray[np.float32]]:
    """Wall-clock seconds, the processor seconds of all threads, and the embeddings."""
    start, busy = time.perf_counter(), time.process_time()
    emb = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy, emb


def measure(texts: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Both, in turns."""
    folder = find_model(options.model)
    plain = sentence_transformers.SentenceTransformer(str(folder), device=options.device, local_files_only=True)
    enough = sentence_backends.ENOUGH_COSINE
    if options.unchecked:
        sentence_backends.ENOUGH_COSINE = -1.0
    encoder = SentenceEncoder(folder, options.device, precision=options.precision)
    runs: dict[str, Callable[[], NDArray[np.float32]]] = {
        "plain": lambda: plain.encode(
            list(texts), batch_size=PLAIN_BATCH, normalize_embeddings=True, show_progress_bar=False
        ),
        "ours": lambda: encoder.encode_many(texts),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    emb: dict[str, NDArray[np.float32]] = {}
    plain.encode(list(texts[:64]), show_progress_bar=False)  # first touch of the weights
    encoder.encode_many(texts[:64])
    for repeat in range(options.repeats):
        for name in sorted(runs, reverse=bool(repeat % 2)):
            wall, busy, emb[name] = seconds(runs[name])
            times[name].append((wall, busy))
            print(f"{name}: {len(texts) / wall:.1f} sentences/s", file=sys.stderr)
    wall, busy = ({name: statistics.median(t[k] for t in times[name]) for name in runs} for k in (0, 1))
    cosines = (emb["plain"].astype(np.float64) * emb["ours"]).sum(1)
    mean_tokens, filled = filled_share(plain, texts)
    return {
        "texts": len(texts),
        "mean_tokens": mean_tokens,
        "filled": filled,
        "precision": encoder.precision,
        "backend": type(encoder._backend).__name__,
        "plain_sentences_s": len(texts) / wall["plain"],
        "ours_sentences_s": len(texts) / wall["ours"],
        "times_faster": wall["plain"] / wall["ours"],
        "times_less_cpu": busy["plain"] / busy["ours"],
        "worst_cosine": float(cosines.min()),
        "mean_cosine": float(cosines.mean()),
        "enough_cosine": enough,
        "texts_below": int((cosines < enough).sum()),
        "largest_difference": float(np.abs(emb["plain"] - emb["ours"]).max()),
        "plain_all_s": times["plain"],
        "ours_all_s": times["ours"],
    }


def main() -> int:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--limit", type=int, default=4096, help="texts of the sample; 0: all")
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default=MINILM)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "int8"])
    parser.add_argument("--unchecked", action="store_true", help="use the precision however far it is from float32")
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()
    result = {
        "what": "sentences a second, tokenizing included, no cache",
        "peer": f"sentence-transformers {sentence_transformers.__version__} encode(batch_size={PLAIN_BATCH})",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": options.threads,
        "device": options.device,
        "torch": torch.__version__,
        "asked_precision": options.precision,
        "checked": not options.unchecked,
        **measure(read_prompts(options.prompts, options.limit), options),
        "load": [load, os.getloadavg()],
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

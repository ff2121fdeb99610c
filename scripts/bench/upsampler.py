"""The bundled upsampler on held-out storybook scenes: facts kept, tokens, words, prompts a second.

    img2prompt storybook data/test --count 1000 --seed 1 --split test
    python scripts/bench/upsampler.py data/test --json scripts/bench/results/storybook_upsampler.json
    python scripts/bench/upsampler.py data/test --model runs/storybook-upsampler/last

Facts are those that the parser of the storybook world reads; an object that the short prompt does not name is none to
add. "first" is the model's first answer alone. After it the upsampler asks again, and falls back to the short prompt
where nothing holds: "every_fact_kept" counts what comes out, "and_rich" without what fell back.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from img2prompt.jobs.doctor import installation
from img2prompt.models.local_chat import open_local_chat
from img2prompt.pairs.prompts import read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.storybook.drift import lost_facts, made_up
from img2prompt.results import Upsampled
from img2prompt.upsampler import BackEndSettings, PromptUpsampler, UpsampleSettings, upsampler_of
from img2prompt.upsampling.backends import BACK_ENDS


def share(flags: Sequence[bool]) -> float:
    """Of the true ones."""
    return round(sum(flags) / len(flags), 4)


def measure(upsampler: PromptUpsampler, shorts: Sequence[str], seed: int) -> dict[str, Any]:
    """Upsamples every prompt, and reads what came of it."""
    begun = time.perf_counter()
    found = upsampler.upsample_many(shorts, [seed] * len(shorts))
    seconds = time.perf_counter() - begun
    rows = [row for row in found if isinstance(row, Upsampled)]
    rich = [row for row in rows if row.outcome != "base"]
    cosines = sorted(row.drift.cosine for row in rich if row.drift and row.drift.cosine is not None)
    kept = [not lost_facts(row.base, row.prompt) and not made_up(row.base, row.prompt) for row in rows]
    first = [row.outcome == "upsampled" and row.attempts == 1 for row in rows]
    return {
        "prompts": len(shorts),
        "failed": len(found) - len(rows),
        "every_fact_kept_first": share([a and b for a, b in zip(kept, first, strict=True)]),
        "every_fact_kept": share(kept),
        "every_fact_kept_and_rich": share([a and row.outcome != "base" for a, row in zip(kept, rows, strict=True)]),
        "outcomes": {name: share([row.outcome == name for row in rows]) for name in ("upsampled", "trimmed", "base")},
        "attempts_mean": round(statistics.mean(row.attempts for row in rows), 3),
        "tokens_most": max(row.tokens for row in rows),
        "tokens_mean": round(statistics.mean(row.tokens for row in rows), 1),
        "words_before_mean": round(statistics.mean(len(row.base.split()) for row in rows), 1),
        "words_after_mean": round(statistics.mean(len(row.prompt.split()) for row in rows), 1),
        "cosine_least": round(cosines[0], 3) if cosines else None,
        "cosine_median": round(statistics.median(cosines), 3) if cosines else None,
        "seconds": round(seconds, 2),
        "prompts_per_second": round(len(shorts) / seconds, 1),
        "why_base": [f"{row.base!r}: {row.why}" for row in rows if row.outcome == "base"][:10],
        "example": [rows[0].base, rows[0].prompt],
    }


def main() -> None:
    """Measures and prints, and writes JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="storybook shards that training never showed")
    parser.add_argument("--model", type=Path, help="folder of another model than the bundled one")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shorts = [row.prompt for row in read_prompts(options.pairs, columns={"prompt": "short"}, skips=Skips())]
    shorts = shorts[: options.limit]
    run = BackEndSettings(device="cpu", batch_size=options.batch_size)
    row = BACK_ENDS["bundled"]
    if options.model:
        row = replace(
            row, open=lambda folder, run: open_local_chat(folder, device=run.device, batch_size=run.batch_size)
        )
    upsampler = upsampler_of(row, str(options.model or ""), UpsampleSettings(temperature=options.temperature), run)
    result = measure(upsampler, shorts, options.seed) | {"settings": upsampler.settings()}
    result["machine"] = {**installation(), "threads": torch.get_num_threads()}
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

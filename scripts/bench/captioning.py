"""Our cached decoding against open_clip's own `CoCa.generate`, on the same random weights.

    python scripts/bench/captioning.py --quick
    python scripts/bench/captioning.py --models coca_ViT-B-32 coca_ViT-L-14 --batches 1 4 16 --threads 2

Random weights need no download and cost what trained ones cost: no caption ends early, so every one runs to the full
length. Runs alternate, ours and theirs, so that other load on the machine meets both; the reported times are medians
and include the vision tower. On a machine that other work shares, take --threads 1 and read the processor seconds
(`times_less_cpu`): waiting for a turn is no part of them. The line's `load` says how busy the machine was.

captioning_peer.py says how open_clip's `generate` is made to run.

What is checked. Greedy (their top-k = 1) and beam search: the token ids, after the end token is cut off. A mismatch
can be a near-tie (see the tests, which compare the scores). Top-p: open_clip draws with the
global generator, we with a seed for each image, so the timed texts differ by design; a second, untimed run draws
with open_clip's own call from the same generator state and must then give the same tokens.

With --alone open_clip's `generate`, which takes minutes for a large model, stays out: the vision tower and our whole
time alternate, and the medians of both and their ratio are reported.

The floor is what cannot be saved in float32: the vision tower (measured alone) and the arithmetic of one cached pass
at the speed this machine reaches in a 512 x 2048 product of as many rows (measured).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from captioning_peer import enable_generate
from transformers import TopPLogitsWarper

from img2prompt.models.coca import new_coca
from img2prompt.models.decoding import Decoding, TokenIds
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.generation import decode, fast_dtype

END, START = 49407, 49406
MODES: dict[str, tuple[dict[str, Any], Decoding]] = {  # mode -> open_clip's arguments, our settings
    "greedy": ({"generation_type": "top_k", "top_k": 1}, Decoding(strategy="greedy")),
    "top_p": ({"generation_type": "top_p", "top_p": 0.9}, Decoding(strategy="sample", top_p=0.9)),
    "beam": ({"generation_type": "beam_search"}, Decoding(strategy="beam")),
}


def cut(tokens: list[int], end: int = END) -> list[int]:
    """Tokens up to and with the end token."""
    return tokens[: tokens.index(end) + 1] if end in tokens else tokens


def multinomial(top_p: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """open_clip's own draw from the nucleus, with the global generator."""
    warp = TopPLogitsWarper(top_p)

    def drawn_by(logits: torch.Tensor) -> torch.Tensor:
        return torch.multinomial(warp(None, logits).softmax(-1), 1)[:, 0]

    return drawn_by


def seconds(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall-clock seconds of `run`, the processor seconds of all its threads, and what it returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start, busy = time.perf_counter(), time.process_time()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - busy, result


def our_run(decoder: CachedDecoder, images: torch.Tensor, settings: Decoding, drawn_by: Any = None) -> list[list[int]]:
    """Tokens of the best caption of each image, vision tower included."""
    with torch.inference_mode():
        tokens = decoder.encode(images)[1]
    found = decode(decoder, tokens, settings, TokenIds(), seeds=list(range(len(images))), drawn_by=drawn_by)
    return [cut(list(some[0].tokens)) for some in found]


def floor_seconds(model: Any, images: torch.Tensor, rows: int, length: int) -> dict[str, float]:
    """Vision tower alone, and the arithmetic of one cached pass at the measured speed of its products."""
    with torch.inference_mode():
        vision = min(seconds(lambda: model._encode_image(images))[0] for _ in range(3))
        x, weight = torch.randn(rows, 512, device=images.device), torch.randn(512, 2048, device=images.device)
        product = min(seconds(lambda: [x @ weight for _ in range(20)])[0] for _ in range(5)) / 20
    speed = 2 * rows * 512 * 2048 / product
    blocks = [*model.text.transformer.resblocks, *model.text_decoder.resblocks, *model.text_decoder.cross_attn]
    width, image_tokens = model.text_decoder.text_projection.shape[0], model._encode_image(images[:1])[1].shape[1]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)
    cross = len(model.text_decoder.cross_attn)
    per_token = 2 * (weights - 2 * cross * width**2 + model.text_decoder.text_projection.numel())
    keys = 4 * cross * width**2 * image_tokens * len(images)
    return {"vision_s": vision, "cached_pass_s": (per_token * rows * (length - 1) + keys) / speed}


def set_up(name: str, batch: int, options: argparse.Namespace) -> tuple[Any, torch.Tensor]:
    """A model with random weights and pictures (B,3,224,224), the same each time."""
    model = new_coca(open_clip.get_model_config(name), seed=0).to(options.device, options.dtype).eval()
    pixels = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    return model, pixels.to(options.device, options.dtype)


def measure(name: str, batch: int, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table."""
    model, images = set_up(name, batch, options)
    arguments, settings = MODES[mode]
    decoder = CachedDecoder(model)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    load = os.getloadavg()
    our_run(decoder, images[:1], settings)  # first touch of the weights
    our_tokens = our_run(decoder, images, settings)
    their_tokens: list[list[int]] = []
    for repeat in range(options.repeats):
        torch.manual_seed(2)
        wall, busy, out = seconds(lambda: model.generate(images, seq_len=settings.max_tokens, **arguments))
        theirs.append((wall, busy))
        their_tokens = [cut(row) for row in out.tolist()]
        for _ in range(1 if repeat or options.repeats > 1 else 3):
            ours.append(seconds(lambda: our_run(decoder, images, settings))[:2])
    if mode == "top_p":
        torch.manual_seed(2)
        our_tokens = our_run(decoder, images, settings, multinomial(0.9))
    rows = batch * (settings.searched_beams if mode == "beam" else 1)
    floor = floor_seconds(model, images, rows, settings.max_tokens)
    our_s, our_busy = (statistics.median(times) for times in zip(*ours, strict=True))
    their_s, their_busy = (statistics.median(times) for times in zip(*theirs, strict=True))
    identical = sum(a == b for a, b in zip(our_tokens, their_tokens, strict=True))
    return {
        "model": name,
        "batch": batch,
        "mode": mode,
        "ours_s": our_s,
        "open_clip_s": their_s,
        "times_faster": their_s / our_s,
        "ours_cpu_s": our_busy,
        "open_clip_cpu_s": their_busy,
        "times_less_cpu": their_busy / our_busy,
        "identical": identical,
        "captions": batch,
        "floor_s": sum(floor.values()),
        **floor,
        "ours_over_vision": our_s / floor["vision_s"],
        "ours_all_s": ours,
        "open_clip_all_s": theirs,
        "load": [load, os.getloadavg()],
    }


def measure_alone(name: str, batch: int, mode: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table without open_clip's `generate`: our time beside that of the vision tower."""
    model, images = set_up(name, batch, options)
    decoder = CachedDecoder(model)
    our_run(decoder, images, MODES[mode][1])
    vision: list[float] = []
    ours: list[float] = []
    load = os.getloadavg()
    for _ in range(options.repeats):
        with torch.inference_mode():
            vision.append(seconds(lambda: model._encode_image(images))[0])
        ours.append(seconds(lambda: our_run(decoder, images, MODES[mode][1]))[0])
    our_s, vision_s = statistics.median(ours), statistics.median(vision)
    return {
        "model": name,
        "batch": batch,
        "mode": mode,
        "ours_s": our_s,
        "vision_s": vision_s,
        "ours_over_vision": our_s / vision_s,
        "ours_all_s": ours,
        "vision_all_s": vision,
        "load": [load, os.getloadavg()],
    }


def main() -> int:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["coca_ViT-B-32"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--repeats", type=int, default=3, help="alternating runs of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 weights for both")
    parser.add_argument("--quick", action="store_true", help="coca_ViT-B-32, batch 1, one repeat")
    parser.add_argument("--alone", action="store_true", help="without open_clip's generate: beside the vision tower")
    parser.add_argument("--output", type=Path, help="write the JSON here too, after every line")
    options = parser.parse_args()
    if options.quick:
        options.models, options.batches, options.repeats = ["coca_ViT-B-32"], [1], 1
    options.dtype = torch.bfloat16 if options.bf16 else torch.float32
    torch.set_num_threads(options.threads)
    how = enable_generate()
    has_bf16 = fast_dtype(options.device) == torch.bfloat16
    result: dict[str, Any] = {
        "what": "seconds for captions of 30 tokens, vision tower included, random weights",
        "peer": "none (--alone)" if options.alone else f"open_clip {open_clip.__version__} CoCa.generate; {how}",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": options.threads,
        "device": options.device,
        "dtype": str(options.dtype),
        "torch": torch.__version__,
        "bf16": "measured with --bf16" if has_bf16 else "not measured: this processor multiplies no bfloat16",
        "lines": [],
    }
    for name in options.models:
        for mode in options.modes:
            for batch in options.batches:
                result["lines"].append((measure_alone if options.alone else measure)(name, batch, mode, options))
                line = result["lines"][-1]
                shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in line.items() if "all" not in k}
                print(json.dumps(shown), file=sys.stderr)
                if options.output:
                    options.output.parent.mkdir(parents=True, exist_ok=True)
                    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

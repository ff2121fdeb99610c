"""Options that several verbs share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from img2prompt.results import STYLES


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model captions, and how: --preset, --style, --candidates, --seed, --batch-size, --device, --precision."""
    add = parser.add_argument
    add(
        "--preset",
        help="model: a name of `img2prompt presets`, a folder, or hf-hub:OWNER/NAME (default: the best here)",
    )
    add("--style", choices=STYLES, default="short", help="manner of the prompt (default: short)")
    add(
        "--candidates",
        type=number(int, 1, 64),
        default=1,
        metavar="N",
        help="captions to propose; the best comes first (default: 1)",
    )
    add("--seed", type=number(int, 0, 2**63 - 1), default=0, help="of the sampling of candidates (default: 0)")
    add("--batch-size", type=number(int, 1, 4096), default=16, metavar="N", help="pictures at once (default: 16)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the captioner (default: bfloat16 where the processor multiplies it)",
    )


def number(kind: Callable[[str], Any], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """The type of an option: a number between two others, both included."""

    possible = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"

    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: {possible} is possible")
        return value

    return number

"""`img2prompt presets`: the models that have a name, and which of them are on this machine."""

from __future__ import annotations

import argparse
import json

from img2prompt.presets import PRESETS, Preset, cached


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")


def presets(options: argparse.Namespace) -> int:
    """Prints one line a preset, best first; loads no model and touches no network."""
    if options.json:
        for preset in PRESETS.values():
            path = cached(preset)
            row = {
                "name": preset.name,
                "size_mb": preset.size_mb,
                "licence": preset.licence,
                "cached": path is not None,
                "path": None if path is None else str(path),
                "knows": preset.knows,
                "repository": preset.repository,
            }
            print(json.dumps(row, ensure_ascii=False))
        return 0
    for line in table(["name", "size", "licence", "here", "knows"], [_cells(p) for p in PRESETS.values()]):
        print(line)
    return 0


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]


def _cells(preset: Preset) -> list[str]:
    return [preset.name, size(preset.size_mb), preset.licence, here(preset), preset.knows]


def size(megabytes: int) -> str:
    """ "12 MB", "2.55 GB"."""
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.2f} GB"


def here(preset: Preset) -> str:
    """Whether the preset is on this machine, in a word."""
    if cached(preset) is None:
        return "no"
    return "bundled" if preset.folder is not None else "cached"

"""`img2prompt pull`: download a model and verify it. The only verb that downloads models."""

from __future__ import annotations

import argparse
import sys

from img2prompt.presets import PRESETS, cached
from img2prompt.presets import pull as pull_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "name", nargs="+", help=f"{', '.join(n for n, p in PRESETS.items() if p.general)}, or hf-hub:OWNER/NAME"
    )


def pull(options: argparse.Namespace) -> int:
    """Downloads each model with progress on stderr, verifies its checksum, and prints where it lies.

    An interrupted download goes on where it stopped; what is on the disk is verified again.
    """
    for name in options.name:
        preset = PRESETS.get(name)
        if preset is not None and preset.folder is not None and cached(preset) is not None:
            print(f"{name}: comes with the package, nothing to download", file=sys.stderr)
        located = pull_model(name)
        print(f"{name}\t{located.folder}")
    return 0

"""Puts a trained captioner or regressor into the package: float16 weights, at most 12 MB.

    python scripts/bundle.py runs/storybook/last
    python scripts/bundle.py runs/storybook-regressor/best

Then fit what belongs to them, in this order: scripts/fit_ranking.py and scripts/fit_confidence.py, both with
--preset storybook.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

from img2prompt.models.coca import load_coca, save_coca
from img2prompt.models.regressor import is_regressor, load_regressor, save_regressor
from img2prompt.presets import BUNDLED

MAX_BYTES = 12_000_000


def bundle_captioner(source: Path, folder: Path) -> None:
    """Writes a captioner with its vocabulary."""
    loaded = load_coca(str(source))
    save_coca(loaded.model, loaded.config, folder, Tokenizer.from_file(str(source / "tokenizer.json")), half=True)


def bundle_regressor(source: Path, folder: Path) -> None:
    """Writes a regressor."""
    save_regressor(load_regressor(source), folder, dtype=torch.float16)


def main(source: Path) -> None:
    """Writes the bundled folder from a model folder."""
    name, write = ("regressor", bundle_regressor) if is_regressor(source) else ("captioner", bundle_captioner)
    write(source, BUNDLED / name)
    # confidence.safetensors lies beside a captioner's weights and is none of them
    weights = [p for p in (BUNDLED / name).glob("*.safetensors") if p.name != "confidence.safetensors"]
    size = sum(path.stat().st_size for path in weights)
    if size > MAX_BYTES:
        sys.exit(f"{BUNDLED / name}: {size} bytes of weights, at most {MAX_BYTES} may ship; train a smaller model")
    print(f"{BUNDLED / name}: {size} bytes of weights")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

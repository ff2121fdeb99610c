"""Puts a trained model into the package, in float16: captioner, regressor, upsampler (12 MB), text2image (24 MB).

    python scripts/bundle.py runs/storybook/last
    python scripts/bundle.py runs/storybook-regressor/best
    python scripts/bundle.py runs/storybook-upsampler/best
    python scripts/bundle.py runs/storybook-text2image/best

After a captioner or regressor fit what belongs to them, in this order: scripts/fit_ranking.py and
scripts/fit_confidence.py, both with --preset storybook.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

from img2prompt.models.coca import load_coca, save_coca
from img2prompt.models.regressor import is_regressor, load_regressor, save_regressor
from img2prompt.presets import BUNDLED

MAX_BYTES = {"captioner": 12_000_000, "regressor": 12_000_000, "upsampler": 12_000_000, "text2image": 24_000_000}


def bundle_captioner(source: Path, folder: Path) -> None:
    """Writes a captioner with its vocabulary."""
    loaded = load_coca(str(source))
    save_coca(loaded.model, loaded.config, folder, Tokenizer.from_file(str(source / "tokenizer.json")), half=True)


def bundle_regressor(source: Path, folder: Path) -> None:
    """Writes a regressor."""
    save_regressor(load_regressor(source), folder, dtype=torch.float16)


def bundle_as_it_is(source: Path, folder: Path) -> None:
    """Copies a folder that training has written as it ships, in float16."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)


def kind_of(source: Path) -> str:
    """Which model a folder holds."""
    if is_regressor(source):
        return "regressor"
    if (source / "model_index.json").is_file():
        return "text2image"
    return "upsampler" if (source / "chat_template.jinja").is_file() else "captioner"


WRITERS = {
    "captioner": bundle_captioner,
    "regressor": bundle_regressor,
    "upsampler": bundle_as_it_is,
    "text2image": bundle_as_it_is,
}


def main(source: Path) -> None:
    """Writes the bundled folder from a model folder."""
    name = kind_of(source)
    WRITERS[name](source, BUNDLED / name)
    # confidence.safetensors lies beside a captioner's weights and is none of them
    weights = [p for p in (BUNDLED / name).rglob("*.safetensors") if p.name != "confidence.safetensors"]
    size = sum(path.stat().st_size for path in weights)
    if size > MAX_BYTES[name]:
        sys.exit(
            f"{BUNDLED / name}: {size} bytes of weights, at most {MAX_BYTES[name]} may ship; train a smaller model"
        )
    print(f"{BUNDLED / name}: {size} bytes of weights")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

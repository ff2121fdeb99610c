"""Puts a trained captioner into the package: float16 weights, at most 12 MB.

    python scripts/bundle_captioner.py runs/storybook/last

Then fit its confidence: python scripts/fit_confidence.py --preset storybook
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer

import img2prompt
from img2prompt.models.coca import load_coca, save_coca

BUNDLED = Path(img2prompt.__file__).parent / "bundled" / "captioner"
MAX_BYTES = 12_000_000


def main(source: str) -> None:
    """Writes the bundled folder from a model folder."""
    loaded = load_coca(source)
    vocabulary = Tokenizer.from_file(str(Path(source) / "tokenizer.json"))
    save_coca(loaded.model, loaded.config, BUNDLED, vocabulary, half=True)
    size = (BUNDLED / "open_clip_model.safetensors").stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{BUNDLED}: {size} bytes of weights, at most {MAX_BYTES} may ship; train a smaller model")
    print(f"{BUNDLED}: {size} bytes of weights")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

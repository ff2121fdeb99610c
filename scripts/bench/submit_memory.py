"""Whether `img2prompt submit` takes more memory for more pictures: the peak of two runs, each in a process of its own.

python scripts/bench/submit_memory.py --counts 200 1000 --preset storybook
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

# The child measures itself: the parent's rusage of children is the largest of all.
CHILD = """
import resource, sys
from img2prompt.cli import main
code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def make_pictures(folder: Path, count: int, image_px: int) -> None:
    """Smooth random pictures, as JPEG."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((image_px, image_px)).save(folder / f"{i:06}.jpg")


def peak_mib(pictures: Path, output: Path, model: list[str]) -> int:
    """Peak resident memory of a submission."""
    command = [sys.executable, "-c", CHILD, "submit", str(pictures), "--output", str(output), *model]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "MALLOC_ARENA_MAX": "2"}
    )
    code, mib = done.stdout.split()[-2:]
    if code != "0":
        raise SystemExit(done.stderr)
    return int(mib)


def main() -> None:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[200, 1000], help="pictures of each run")
    parser.add_argument("--image-px", type=int, default=512, help="their width and height (default: 512)")
    parser.add_argument("--preset", default="storybook")
    parser.add_argument("--regressor", help="a folder, instead of the preset")
    options = parser.parse_args()
    model = ["--regressor", options.regressor] if options.regressor else ["--preset", options.preset]
    peaks = {}
    with tempfile.TemporaryDirectory() as root:
        for count in options.counts:
            folder = Path(root) / str(count)
            make_pictures(folder, count, options.image_px)
            peaks[count] = peak_mib(folder, Path(root) / f"{count}.csv", model)
    print(json.dumps({"model": model[1], "image_px": options.image_px, "peak_mib": peaks}, indent=1))


if __name__ == "__main__":
    main()

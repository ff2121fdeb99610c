"""A table of small pictures with everything that can be wrong with a row, for tests of formatting."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from img2prompt.pairs.filters import settings_of
from img2prompt.pairs.making.format_run import FormatPlan, format_pairs
from img2prompt.pairs.making.formatting import FormatSettings
from img2prompt.pairs.pool import in_processes

COUNT = 60  # rows of the table


@cache
def picture_file(number: int, kind: str = "JPEG") -> bytes:
    """A file of noise, another for every number."""
    file = io.BytesIO()
    noise = random.Random(number).randbytes(12 * 10 * 3)
    Image.frombytes("RGB", (12, 10), noise).resize((48, 40), Image.Resampling.NEAREST).save(file, kind, quality=90)
    return file.getvalue()


def write_table(folder: Path, name: str = "table", count: int = COUNT) -> Path:
    """A CSV and its pictures; of `COUNT` rows 9 are dropped, and one has no prompt."""
    (folder / "pictures").mkdir(parents=True)
    prompts = [f"picture number {i} of a fox" for i in range(count)]
    prompts[0] = "cafe\u0301  number\n0, a “fox”"
    prompts[5] = "fox " * 13  # words
    prompts[20] = "雪地里的狐狸"
    prompts[21] = "a naked fox"
    prompts[22] = " \t"
    prompts[6] = "fox foxfox" + "9" * 77  # tokens
    files = {i: picture_file(i) for i in range(count)}
    files[7] = files[7][: len(files[7]) // 2]
    files[8] = b"<html>not found</html>"
    files[9] = b""
    for again, first in ((30, 2), (31, 3), (55, 2)):
        files[again], prompts[again] = files[first], prompts[first]
    for i, data in files.items():
        if i != 10:
            (folder / "pictures" / f"{i}.jpg").write_bytes(data)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "prompt", "id", "stars"])
        writer.writerows([f"pictures/{i}.jpg", prompt, f"own-{i}", i % 5] for i, prompt in enumerate(prompts))
    return folder / f"{name}.csv"


def plan(source: Path, *, rows_per_shard: int = 10, keep: tuple[str, ...] | None = None, **given: Any) -> FormatPlan:
    """Formats a source with a short limit of words."""
    settings = FormatSettings(filters=settings_of({"words": "0-12"}), **given)
    return FormatPlan((str(source),), settings, keep, rows_per_shard)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != ".lock"
    }


def finished(folder: Path) -> dict[str, Any]:
    """The manifest."""
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def run(arguments: list[str]) -> None:
    """SOURCE OUT WORKERS, for processes that are to be killed."""
    print("ready", flush=True)
    sys.stdin.readline()
    format_pairs(Path(arguments[1]), plan(Path(arguments[0])), partial(in_processes, workers=int(arguments[2])))


if __name__ == "__main__":
    run(sys.argv[1:])

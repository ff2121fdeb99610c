"""Pictures a second and peak memory of `img2prompt pairs format`, from a table of JPEG files and from WebDataset tars.

    python scripts/bench/formatting.py --counts 1000 4000 > formatting.json

Each run is the whole command in a process of its own: start, counting, every picture decoded, shards, manifest. Memory
is the sum over its processes. The JPEGs (512 px, quality 92, no two alike) are crops of the photographs in --photos, or
storybook scenes where there are none. The first run warms nothing for the others but the file cache.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
from PIL import Image
from PIL import __version__ as pillow_version

from img2prompt.jobs.doctor import installation
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import sample_scene

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "pairs" / "flickr8k_1k" / "images"
ROWS_PER_TAR = 1000


def pictures(photos: Path, count: int, image_px: int) -> Iterator[bytes]:
    """JPEG files, no two alike."""
    files = sorted(photos.glob("*.jpg")) if photos.is_dir() else []
    for number in range(count):
        if files:
            crop = 0.02 * (number // len(files))  # another one of the same photograph when all were used
            with Image.open(files[number % len(files)]) as photo:
                side = min(photo.size) * (1 - crop)
                image = photo.convert("RGB").resize((image_px, image_px), box=(0, 0, side, side))
        else:
            image = render(sample_scene(number, "train"), image_px)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92)
        yield file.getvalue()


def make_sources(folder: Path, photos: Path, count: int, image_px: int) -> dict[str, Path]:
    """The same pictures as files with a table, and in tars."""
    table, tars = folder / f"files-{count}", folder / f"tars-{count}"
    (table / "images").mkdir(parents=True)
    tars.mkdir()
    archive: tarfile.TarFile | None = None
    with (table / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "prompt"])
        for number, data in enumerate(pictures(photos, count, image_px)):
            prompt = describe(sample_scene(number, "train"), "short")
            (table / "images" / f"{number:06d}.jpg").write_bytes(data)
            writer.writerow([f"images/{number:06d}.jpg", prompt])
            if number % ROWS_PER_TAR == 0:
                if archive is not None:
                    archive.close()
                archive = tarfile.open(tars / f"{number // ROWS_PER_TAR:05d}.tar", "w")  # noqa: SIM115
            for suffix, content in (("jpg", data), ("txt", prompt.encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                assert archive is not None
                archive.addfile(member, io.BytesIO(content))
    if archive is not None:
        archive.close()
    return {"files": table, "tars": tars}


def measure(source: Path, out: Path, workers: int, further: list[str]) -> dict[str, float]:
    """Seconds, and the peak of the memory that its processes have to themselves and share."""
    command = [sys.executable, "-m", "img2prompt", "pairs", "format", str(source), str(out), "--json"]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", str(workers), *further], stdout=subprocess.PIPE, text=True)
    peak_kib = 0
    while process.poll() is None:
        peak_kib = max(peak_kib, sum(map(rss_kib, tree(process.pid))))
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    assert process.stdout is not None
    report = json.loads(process.stdout.read())
    if process.returncode:
        raise SystemExit(f"{source}: not all pictures were formatted: {report}")
    return {
        "rows": report["rows"],
        "seconds": seconds,
        "images_per_s": report["rows"] / seconds,
        "peak_mib": peak_kib / 1024,
    }


def tree(pid: int) -> list[int]:
    """A process and those below it (Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in tree(int(child)))]


def rss_kib(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> None:
    """Command line; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 4000], help="pictures of each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the median is reported (default: 3)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--image-px", type=int, default=512, help="width and height of the JPEGs (default: 512)")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of JPEG photographs")
    parser.add_argument(
        "--folder", type=Path, help="where data is made, and kept for another call (default: temporary)"
    )
    parser.add_argument("further", nargs="*", help="further options of the command, after --")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or Path(temporary)
        for count in options.counts:
            sources = {kind: root / f"{kind}-{count}" for kind in ("files", "tars")}
            if not sources["tars"].exists():
                sources = make_sources(root, options.photos, count, options.image_px)
            for kind, source in sources.items():
                runs = []
                for number in range(options.repeats):
                    with tempfile.TemporaryDirectory(dir=root) as out:
                        runs.append(measure(source, Path(out) / "out", options.workers, options.further))
                    print(kind, count, number, {k: round(v, 1) for k, v in runs[-1].items()}, file=sys.stderr)
                median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
                lines.append({"source": kind, **median, "all_s": [run["seconds"] for run in runs]})
        size = statistics.mean(path.stat().st_size for path in (root / f"files-{count}" / "images").iterdir())
    print(
        json.dumps(
            {
                "what": "the whole command: images a second, and peak memory of all its processes",
                "machine": installation(),
                "workers": options.workers,
                "image_px": options.image_px,
                "mean_bytes": round(size),
                "further": options.further,
                "pillow": pillow_version,
                "pyarrow": pyarrow.__version__,
                "lines": lines,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

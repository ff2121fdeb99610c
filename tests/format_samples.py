"""A small data set in each format of pairs: three pictures whose colours say which rows they are."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL.PngImagePlugin import PngInfo
from tiny_pairs import picture, png, write_parquet

PROMPTS = ["a red fox in the snow", 'two "robots", playing chess\non a roof', "日本の城 🏯, вечер, مدينة"]


def jpg(number: int) -> bytes:
    """Picture `number` as a JPEG file."""
    out = io.BytesIO()
    picture(number).save(out, "JPEG", quality=95)
    return out.getvalue()


def save(folder: Path, names: Iterable[str]) -> Path:
    """The pictures under these names below a folder, in PNG or JPEG by their endings."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number) if name.endswith("png") else jpg(number))
    return folder


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w") -> Path:
    """A tar of files, as WebDataset's writer makes it."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_table(path: Path, columns: Mapping[str, list[Any]]) -> Path:
    """A parquet file."""
    pq.write_table(pa.table(dict(columns)), path)
    return path


def shards(folder: Path) -> Path:
    """Our own."""
    return write_parquet(folder / "ours", PROMPTS)


def table(folder: Path) -> Path:
    """What open_clip trains on: tabs, filepath and title."""
    save(folder, (f"pictures/{n}.jpg" for n in range(3)))
    with (folder / "train.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["filepath", "title"])
        writer.writerows((f"pictures/{n}.jpg", text) for n, text in enumerate(PROMPTS))
    return folder / "train.tsv"


def table_folder(folder: Path) -> Path:
    """An image folder of `datasets`: train/metadata.jsonl."""
    save(folder, (f"train/{n}.png" for n in range(3)))
    lines = (json.dumps({"file_name": f"{n}.png", "text": text}) for n, text in enumerate(PROMPTS))
    (folder / "train" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def pictures(folder: Path) -> Path:
    """One picture with a .txt, one with a .json, one with what AUTOMATIC1111 leaves in it."""
    save(folder, ("0.jpg", "sub/1.png"))
    (folder / "0.txt").write_text(PROMPTS[0] + "\n", encoding="utf-8")
    (folder / "sub" / "1.json").write_text(json.dumps({"caption": PROMPTS[1], "score": 7.5}), encoding="utf-8")
    info = PngInfo()
    info.add_itxt("parameters", f"{PROMPTS[2]}\nNegative prompt: fog\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5")
    picture(2).save(folder / "sub" / "2.png", pnginfo=info)
    return folder


def webdataset(folder: Path) -> Path:
    """Two plain tars, the second compressed, with a member of another kind."""
    samples = [{"cls": b"3", "jpg": jpg(n), "txt": text.encode()} for n, text in enumerate(PROMPTS)]
    members = [{f"{n}.{kind}": data for kind, data in sample.items()} for n, sample in enumerate(samples)]
    write_tar(folder / "a-000000.tar", members[0] | members[1])
    write_tar(folder / "a-000001.tar.gz", members[2], "w:gz")
    return folder


def img2dataset(folder: Path) -> Path:
    """Its tars, with one URL that failed."""
    told = {"status": "success", "error_message": None, "width": 40, "exif": "{}"}
    for shard, numbers in enumerate(((0, 1), (2,))):
        members = {}
        for n in numbers:
            key = f"{shard:05d}{n:04d}"
            facts = {"caption": PROMPTS[n], "url": f"https://example.org/{n}", "key": key, **told}
            members |= {f"{key}.jpg": jpg(n), f"{key}.txt": PROMPTS[n].encode()}
            members[f"{key}.json"] = json.dumps(facts).encode()
        write_tar(folder / f"{shard:05d}.tar", members)
        write_table(folder / f"{shard:05d}.parquet", {"url": ["https://example.org"], "caption": ["x"]})
        stats = {"count": len(numbers) + shard, "status_dict": {"success": len(numbers), "HTTP Error 404": shard}}
        (folder / f"{shard:05d}_stats.json").write_text(json.dumps(stats))
    return folder


def diffusiondb(folder: Path) -> Path:
    """A part that is unpacked and one that is not, as its own downloader leaves them."""
    names = [f"0{n}-uuid.png" for n in range(3)]
    told = [{"p": text, "se": 7 + n, "c": 7.5, "st": 50, "sa": "k_lms"} for n, text in enumerate(PROMPTS)]
    facts = dict(zip(names, told, strict=True))
    save(folder / "images" / "part-000001", names[:2])
    (folder / "images" / "part-000001" / "part-000001.json").write_text(json.dumps({n: facts[n] for n in names[:2]}))
    with zipfile.ZipFile(folder / "images" / "part-000002.zip", "w") as file:
        file.writestr(names[2], png(2))
        file.writestr("part-000002.json", json.dumps({names[2]: facts[names[2]]}))
    return folder


def diffusiondb_table(folder: Path) -> Path:
    """Its metadata.parquet, with a row of a part that is not there."""
    names = [f"0{n}-uuid.png" for n in range(3)]
    save(folder / "part-000001", names)
    columns = {"image_name": [*names, "x.png"], "prompt": [*PROMPTS, "far away"], "part_id": [1, 1, 1, 2]}
    columns |= {"seed": [1, 2, 3, 4], "step": [50] * 4, "cfg": [7.0] * 4, "user_name": ["u"] * 4}
    return write_table(folder / "metadata.parquet", columns)


def coco(folder: Path) -> Path:
    """annotations/captions_val2017.json beside val2017/."""
    names = [f"{n:012d}.jpg" for n in range(3)]
    save(folder / "val2017", names)
    told = {
        "info": {"year": 2017},
        "images": [{"id": 90 + n, "file_name": name, "height": 40, "width": 40} for n, name in enumerate(names)],
        "annotations": [{"image_id": 90 + n, "id": 500 + n, "caption": text} for n, text in enumerate(PROMPTS)],
    }
    (folder / "annotations").mkdir()
    text = json.dumps(told, ensure_ascii=False)
    (folder / "annotations" / "captions_val2017.json").write_text(text, encoding="utf-8")
    return folder


def parquet(folder: Path) -> Path:
    """A repository of the hub: data/train-00000-of-00002.parquet with an image column of `datasets`."""
    (folder / "data").mkdir(parents=True)
    for shard, numbers in enumerate(((0, 1), (2,))):
        images = [{"bytes": jpg(n), "path": f"{n}.jpg"} for n in numbers]
        write_table(
            folder / "data" / f"train-0000{shard}-of-00002.parquet",
            {"image": images, "caption": [PROMPTS[n] for n in numbers], "score": [0.5] * len(numbers)},
        )
    return folder


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "shards": shards,
    "img2dataset": img2dataset,
    "diffusiondb": diffusiondb,
    "diffusiondb-table": diffusiondb_table,
    "coco": coco,
    "table": table,
    "table folder": table_folder,
    "webdataset": webdataset,
    "parquet": parquet,
    "pictures": pictures,
}

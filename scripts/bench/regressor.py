"""Pictures a second of training and inference: ours against the plain loop of published notebooks.

    python scripts/bench/regressor.py --images 256 --repeats 3 > regressor.json

The plain loop is what notebooks for "image to prompt" do: a DataLoader with 2 workers that opens each picture with
Pillow and transforms it with torchvision in every epoch, float32, CosineEmbeddingLoss, AdamW, one `SentenceTransformer.
encode` a batch in the collator ("plain"), or targets computed beforehand ("plain, targets ready"). Ours is
`RegressorTraining` on `EmbeddingPairs` under Lightning, decode and targets included: in float32 as it is, compiled, and
on a processor with matrix units in bfloat16. All train the same timm tower with random weights on the same JPEG files
at the same batch size.

Training is timed in rounds of one epoch, taken in turn. What happens only once is timed too: our decoding ahead and
targets before the first epoch, and the targets of the plain loop where they are ready. "pictures_per_s" is over a run
of --epochs epochs, everything included but for loading models and compiling: the first round of every side, in which
that happens, is not counted (its seconds are the first of each list). "steady" is an epoch by itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from regressor_peer import LR, Plain, PlainImages, plain_model
from torch import Tensor
from torch.utils.data import DataLoader

from img2prompt.jobs.doctor import installation
from img2prompt.jobs.embedding import Embedder, embedded
from img2prompt.models.regressor import EmbeddingRegressor, RegressorConfig, new_regressor
from img2prompt.models.sentence import SentenceEncoder, find_model
from img2prompt.models.towers import TowerSpec
from img2prompt.pairs.storybook.dataset import StorybookRows
from img2prompt.training.embedding_data import EmbeddingPairs
from img2prompt.training.embedding_settings import Pictures, Prompts, Validation
from img2prompt.training.optim import Optimiser
from img2prompt.training.pair_table import PairSource
from img2prompt.training.regressor import RegressorTraining
from img2prompt.training.settings import RegressorModel

FILE_PX = 512
WAYS: dict[str, tuple[str, bool]] = {  # of ours: precision, compiled
    "img2prompt": ("32-true", False),
    "img2prompt compiled": ("32-true", True),
    "img2prompt bf16": ("bf16-mixed", False),
}


def write_pairs(folder: Path, seed: int, count: int) -> Path:
    """Storybook pictures as JPEG files with a table."""
    folder.mkdir()
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt"])
        for i, row in enumerate(StorybookRows(seed, image_px=FILE_PX)(range(count))):
            (folder / f"{i}.jpg").write_bytes(row["image"])
            writer.writerow([f"{i}.jpg", row["prompt"]])
    return table


def read_pairs(table: Path) -> list[tuple[Path, str]]:
    """Path and prompt of every row."""
    with table.open(newline="", encoding="utf-8") as file:
        return [(table.parent / row["image"], row["prompt"]) for row in csv.DictReader(file)]


class Rounds(Callback):
    """Measures our epochs, and has the other sides do one between each two."""

    def __init__(self, steps: int, others: dict[str, Plain], seconds: dict[str, list[float]], name: str) -> None:
        self.steps, self.others, self.seconds, self.name = steps, others, seconds, name

    def on_train_start(self, *_: Any) -> None:
        """Starts the clock."""
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends a round."""
        if trainer.global_step % self.steps == 0:
            note(self.seconds, self.name, time.perf_counter() - self.since)
            for name, other in self.others.items():
                timed(self.seconds, name, other.epoch)
            self.since = time.perf_counter()


def note(seconds: dict[str, list[float]], name: str, value: float) -> None:
    """Takes down a time, and says it."""
    seconds.setdefault(name, []).append(value)
    print(f"{name}: {value:.2f} s", file=sys.stderr, flush=True)


def timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    """Does it and takes down how long it took."""
    since = time.perf_counter()
    result = work()
    note(seconds, name, time.perf_counter() - since)
    return result


def our_data(options: argparse.Namespace, folder: Path, cache: Path) -> EmbeddingPairs:
    """Our data module with caches of its own."""
    pictures = Pictures(cache_folder=cache / "pixels")
    validation = Validation([PairSource(folder / "validation" / "pairs.csv")])
    return EmbeddingPairs(
        [PairSource(folder / "train" / "pairs.csv")],
        validation,
        options.batch_size,
        Prompts(cache_folder=cache / "targets"),
        pictures,
    )


def our_tower(options: argparse.Namespace) -> TowerSpec:
    """The same tower."""
    return TowerSpec("timm", options.tower, image_px=options.image_px)


def train_ours(options: argparse.Namespace, folder: Path, name: str, others: dict[str, Plain], seconds: Any) -> None:
    """Rounds of ours in one precision, in turn with the others."""
    steps = options.images // options.batch_size
    precision, compiled = WAYS[name]
    settings = RegressorModel(our_tower(options), pooling="class", compile=compiled)
    module = RegressorTraining(settings, optimiser=Optimiser(lr=LR, warmup_steps=1))
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_steps=steps * (options.repeats + 1), max_epochs=-1,  # type: ignore[arg-type]
        default_root_dir=folder / "run", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, gradient_clip_val=1.0, limit_val_batches=0,
        callbacks=[Rounds(steps, others, seconds, name)],
    )  # fmt: skip
    trainer.fit(module, datamodule=our_data(options, folder, folder / "cache"))


def measure_training(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of everything that is timed."""
    from sentence_transformers import SentenceTransformer

    seconds: dict[str, list[float]] = {}
    pairs = read_pairs(folder / "train" / "pairs.csv")
    encoder = SentenceTransformer(str(find_model()), device="cpu")
    texts = [prompt for _, prompt in pairs]
    for i in range(options.repeats + 1):  # what happens once a run; the first warms up
        emb = timed(seconds, "once: plain, targets ready", lambda: encoder.encode(texts, show_progress_bar=False))
        data = our_data(options, folder, folder / f"cache-{i}")
        data.encoder = SentenceEncoder(data.prompts.model)
        timed(seconds, "once: img2prompt", lambda data=data: data.prepare(options.image_px))
    ready = [(path, target) for (path, _), target in zip(pairs, torch.as_tensor(emb), strict=True)]
    others = {"plain": Plain(options, pairs, encoder), "plain, targets ready": Plain(options, ready)}
    for name in options.ways:
        train_ours(options, folder, name, others, seconds)
    return seconds


def measure_inference(options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds to embed all pictures, in turn."""
    seconds: dict[str, list[float]] = {}
    paths = [path for path, _ in read_pairs(folder / "train" / "pairs.csv")]
    model = new_regressor(RegressorConfig(our_tower(options), pooling="class"))
    ours = Embedder("ours", (), EmbeddingRegressor(model, options.batch_size))
    plain = plain_model(options).eval()
    images = PlainImages([(path, 0) for path in paths], options.image_px, train=False)
    loader = DataLoader(images, options.batch_size, num_workers=2)

    def theirs() -> list[Tensor]:
        with torch.no_grad():
            return [plain(batch) for batch, _ in loader]

    def rows() -> Iterator[Any]:
        return embedded(ours, map(str, paths), options.batch_size)

    for _ in range(options.repeats + 1):
        timed(seconds, "img2prompt", lambda: list(rows()))
        timed(seconds, "plain", theirs)
    return seconds


def rates(options: argparse.Namespace, seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Pictures a second by side, over a whole run and in an epoch by itself."""
    middle = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first allocates
    seen = options.images // options.batch_size * options.batch_size
    once = dict.fromkeys(options.ways, middle["once: img2prompt"])
    once["plain, targets ready"] = middle["once: plain, targets ready"]
    found = {}
    for name in (*options.ways, "plain", "plain, targets ready"):
        whole = once.get(name, 0.0) + options.epochs * middle[name]
        found[name] = {"pictures_per_s": options.epochs * seen / whole, "steady": seen / middle[name]}
    return found


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", default="vit_tiny_patch16_224", help="a ViT of timm")
    parser.add_argument("--image-px", type=int, default=224, help="of the tower")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3, help="of the run that rates are given for")
    parser.add_argument("--repeats", type=int, default=3, help="rounds each, in turn")
    usual = [name for name in WAYS if "bf16" not in name or torch.cpu._is_amx_tile_supported()]
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=usual, metavar="WAY", help="of ours")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "train", 1, options.images)
        write_pairs(folder / "validation", 2, 8)
        training, inference = measure_training(options, folder), measure_inference(options, folder)
    trained = rates(options, training)
    ours = {name: trained[name]["pictures_per_s"] for name in options.ways}
    seen = {name: options.images / statistics.median(times[1:]) for name, times in inference.items()}
    ratios = {
        f"{name} / {other}": rate / trained[other]["pictures_per_s"]
        for name, rate in ours.items()
        for other in ("plain", "plain, targets ready")
    }
    result = {
        **vars(options),
        "training": trained,
        "training_ratios": ratios,
        "inference_pictures_per_s": seen,
        "inference_ratio": seen["img2prompt"] / seen["plain"],
        "seconds": {"training": training, "inference": inference},
        "machine": installation(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""Training samples a second: ours against `open_clip_train`, same model, data, batch and optimiser settings.

    python scripts/bench/training.py --model coca_ViT-B-32 --batch-size 8 --steps 3 --repeats 5 > training.json

Both train a CoCa of random weights with a contrastive weight of 0 on pictures and prompts that lie in memory;
open_clip_train gets them normalised, we normalise in the step. Its captions are padded to the context length, as its
own data pipeline does; ours to the longest of the batch. The two take turns; medians are reported.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from open_clip.loss import CoCaLoss
from open_clip_train.train import train_one_epoch

from img2prompt.jobs.doctor import installation
from img2prompt.models.coca import new_coca
from img2prompt.models.tokenizer import ClipTokenizer, token_rows
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.training.captioner import CaptionTraining
from img2prompt.training.data import PlannedBatches
from img2prompt.training.optim import Optimiser, build
from img2prompt.training.pair_set import Batch
from img2prompt.training.plan import Manner
from img2prompt.training.settings import Model

SMALL: dict[str, Any] = {  # of the bundled captioner's size
    "embed_dim": 192,
    "vision_cfg": {
        "image_size": 128,
        "patch_size": 16,
        "width": 192,
        "head_width": 32,
        "layers": 6,
        "attentional_pool": True,
        "attn_pooler_queries": 65,
        "attn_pooler_heads": 6,
        "output_tokens": True,
    },
    "text_cfg": {"context_length": 76, "width": 192, "heads": 6, "layers": 1, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "width": 192, "heads": 6, "layers": 3},
}


def config_of(name: str) -> dict[str, Any]:
    """A model configuration of open_clip by name, or "small"."""
    if name == "small":
        return SMALL
    found: dict[str, Any] = open_clip.get_model_config(name)
    return found


@dataclass
class InMemory:
    """Batches as both sides take them."""

    images: list[torch.Tensor]  # (B,3,H,W) uint8
    tokens: list[torch.Tensor]  # (B,T) int64, padded to the context length

    def trimmed(self, number: int) -> Batch:
        """One batch for us."""
        tokens = self.tokens[number]
        longest = int((tokens != 0).sum(dim=1).max())
        return Batch(number, "short", tuple(range(len(tokens))), self.images[number], tokens[:, :longest], 1)


def batches(config: dict[str, Any], size: int, count: int, manner: str) -> InMemory:
    """Random pictures with storybook prompts in CLIP's tokens."""
    rng = torch.Generator().manual_seed(0)
    px, length = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    texts = [describe(sample_scene(i), manner) for i in range(size * count)]
    tokens = token_rows(ClipTokenizer(), texts, length)
    images = [torch.randint(256, (size, 3, px, px), generator=rng, dtype=torch.uint8) for _ in range(count)]
    return InMemory(images, list(tokens.split(size)))


class Prepared(LightningDataModule):
    """Hands out batches that are ready."""

    def __init__(self, data: InMemory) -> None:
        super().__init__()
        self.data, self.next_batch, self.batch_size = data, 0, len(data.tokens[0])
        self.manners = {"short": Manner("prompt")}

    def prepare(self, *_: Any) -> None:
        """Nothing is left to do."""

    def train_dataloader(self) -> PlannedBatches:
        """All batches, again and again."""
        count = len(self.data.tokens)
        return PlannedBatches(lambda: (self.data.trimmed(number % count) for number in itertools.count()))


class TakeTurns(Callback):
    """Measures our rounds, and lets the other side run one between each two.

    Args:
        steps: batches of a round.
        other: seconds of its rounds.
    """

    def __init__(self, steps: int, other: Iterator[float]) -> None:
        self.steps, self.other = steps, other
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def on_train_start(self, *_: Any) -> None:
        """Starts the clock."""
        self.since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends a round."""
        if trainer.global_step % self.steps == 0:
            self.ours.append(time.perf_counter() - self.since)
            self.theirs.append(next(self.other))
            print(f"round {len(self.ours)}: {self.ours[-1]:.3f} s, {self.theirs[-1]:.3f} s", file=sys.stderr)
            self.since = time.perf_counter()


def measure(config: dict[str, Any], data: InMemory, settings: Optimiser, rounds: int) -> dict[str, list[float]]:
    """Seconds of the rounds of each side, by Lightning's trainer and by open_clip_train."""
    module = CaptionTraining(Model(config=config), optimiser=settings, validate_captions=0)
    turns = TakeTurns(len(data.tokens), theirs(config, data, settings))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_steps=len(data.tokens) * rounds,
            max_epochs=-1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            callbacks=[turns],
        )
        trainer.fit(module, datamodule=Prepared(data))
    return {"img2prompt": turns.ours, "open_clip_train": turns.theirs}


@dataclass
class Loader:
    """What open_clip_train asks of a data loader."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]]

    @property
    def num_batches(self) -> int:
        return len(self.pairs)

    @property
    def num_samples(self) -> int:
        return sum(len(texts) for _, texts in self.pairs)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(self.pairs)


@dataclass
class Info:
    """And of a data set."""

    dataloader: Loader

    def set_epoch(self, epoch: int) -> None:
        """The order is always the same."""


def theirs(config: dict[str, Any], data: InMemory, settings: Optimiser) -> Iterator[float]:
    """Seconds of each round through the batches, by open_clip_train."""
    model = new_coca(config, 42)
    optimizer = build(settings, model, None, 10**6)["optimizer"]
    args = Namespace(
        device="cpu", precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, grad_clip_norm=1.0,
        horovod=False, log_every_n_steps=10**6, world_size=1, rank=0, local_rank=0, wandb=False,
        batch_size=len(data.tokens[0]),
    )  # fmt: skip
    pairs = [(images / 127.5 - 1, tokens) for images, tokens in zip(data.images, data.tokens, strict=True)]
    source, loss = {"train": Info(Loader(pairs))}, CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=0.0)
    while True:
        since = time.perf_counter()
        train_one_epoch(model, source, loss, 0, optimizer, None, None, None, args)
        yield time.perf_counter() - since


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="coca_ViT-B-32", help="a configuration of open_clip, or: small")
    parser.add_argument("--manner", default="short", help="prompts of the storybook: short, long or tags")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3, help="a round")
    parser.add_argument("--repeats", type=int, default=5, help="rounds each, in turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in ("lightning.pytorch", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = config_of(options.model)
    data = batches(config, options.batch_size, options.steps, options.manner)
    settings = Optimiser(lr=1e-5)
    seconds = {n: t[1:] for n, t in measure(config, data, settings, options.repeats + 1).items()}  # the first allocates
    rate = {name: options.batch_size * options.steps / statistics.median(times) for name, times in seconds.items()}
    ratio = rate["img2prompt"] / rate["open_clip_train"]
    found = {"samples_per_s": rate, "ratio": ratio, "seconds": seconds, "machine": installation()}
    print(json.dumps({**vars(options), **found}, indent=1))


if __name__ == "__main__":
    main()

"""Prompt-image pairs as batches for the regressor: pictures and their prompts' embeddings, the same after a resume."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, DataError
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.atomic import write_atomically
from img2prompt.pairs.split import leakage
from img2prompt.training import embedding_split
from img2prompt.training.augment import augment
from img2prompt.training.data import PlannedBatches
from img2prompt.training.decoding import DecodingLoader
from img2prompt.training.embedding_settings import EmbeddingBatch, Pictures, Prompts, Validation
from img2prompt.training.embedding_targets import default_folder as targets_folder
from img2prompt.training.embedding_targets import embeddings_of, first_alone
from img2prompt.training.pair_table import PairSource, PairTable, read_table, told
from img2prompt.training.pixels import default_folder
from img2prompt.training.plan import Mixture, Planned

logger = logging.getLogger(__name__)


class EmbeddingPairs(LightningDataModule):
    """Pairs of images and sentence embeddings from one or several sources.

    Whoever trains calls `prepare` when the size of the pictures is known (again when it changes), and after each
    batch sets `next_batch` to the batch's number + 1.

    Args:
        sources: where pairs come from, each with its weight.
        validation: where validation pairs come from; without sources, a share of the clusters of near-duplicates.
        batch_size: images of a batch, of all processes together.
        prompts: how prompts become targets.
        pictures: how pictures become arrays.
        seed: of the order of rows, the split and the augmentation.

    Attributes:
        next_batch: the first batch that has not been trained on.
        dimensions: of the targets, once prepared.
        encoder: of the prompts; made when it is needed, unless one that is there is given.
        skips: reason -> rows that are not used.
        leakage: what is known about near-duplicates between training and validation, once prepared.
    """

    def __init__(
        self,
        sources: list[PairSource],
        validation: Validation = Validation(),  # noqa: B008 - frozen
        batch_size: int = 64,
        prompts: Prompts = Prompts(),  # noqa: B008
        pictures: Pictures = Pictures(),  # noqa: B008
        seed: int = 42,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError("data.batch_size: must be 1 or more")
        self.sources, self.validation, self.batch_size = sources, validation, batch_size
        self.prompts, self.pictures, self.seed = prompts, pictures, seed
        self.next_batch = 0
        self.dimensions = 0
        self.leakage: dict[str, Any] = {}
        self._tables: dict[str, PairTable] = {}
        self._emb: dict[str, NDArray[np.float32]] = {}
        self._chosen: dict[str, NDArray[np.bool_]] = {}  # split -> (N,) rows of its table that are its
        self._loaders: dict[str, DecodingLoader] = {}
        self.encoder: SentenceEncoder | None = None

    def prepare(self, image_px: int) -> None:
        """Makes both sets ready for pictures of a size. In several processes, one works while the others wait.

        Raises:
            DataError, ConfigError: a source is unusable; the message says which and why.
            OutputError: a cache cannot be written.
        """
        with first_alone(self.trainer):
            if not self._tables:
                self._read()
            folder = self.pictures.cache_folder or default_folder()
            for table in self._unique_tables():
                table.decode(image_px, folder if self.pictures.cache else None)
        for split in self._tables:
            if not len(self.rows(split)):
                raise DataError(f"no usable {split} row is left ({told(self.skips)}); see data.validation")
        if self.skips.total():
            logger.warning("%d rows are skipped: %s", self.skips.total(), told(self.skips))

    def _read(self) -> None:
        train = read_table(self.sources, self.prompts.longest)
        given = self.validation.sources
        validation = read_table(given, self.prompts.longest) if given else train
        self._emb["train"] = self._targets(train)
        self._emb["validation"] = self._targets(validation) if given else self._emb["train"]
        folder = self._folder()
        chosen = train.good.copy()
        if not given:
            held_out = embedding_split.held_out(train, self._emb["train"], self.validation, self.seed, folder)
            self._chosen["validation"] = held_out
            chosen &= ~held_out
        else:
            self._chosen["validation"] = validation.good.copy()
        self._chosen["train"] = chosen
        self._tables = {"train": train, "validation": validation}
        self._report_leakage()

    def _targets(self, table: PairTable) -> NDArray[np.float32]:
        """(N,D) float32; the encoder is needed only for what is not on disk yet."""
        settings = self.prompts
        if self.encoder is None:
            kept = "default" if settings.cache_folder is None else settings.cache_folder / "sentences"
            self.encoder = SentenceEncoder(settings.model, settings.device, cache=kept, precision=settings.precision)
        self.dimensions = self.encoder.dimensions
        name = f"{self.encoder.fingerprint} {self.encoder.precision}"
        return embeddings_of(table.prompts, name, self.encoder.encode_many, self._folder(), self.dimensions)

    def _folder(self) -> Path:
        return self.prompts.cache_folder or targets_folder()

    def _report_leakage(self) -> None:
        """In the run folder and in a line for people."""
        found = leakage(self.targets("train"), self.targets("validation"))
        texts = self.texts("validation"), self.texts("train")
        near = [{"validation": texts[0][i], "training": texts[1][j], "cosine": cosine} for i, j, cosine in found.worst]
        self.leakage = {**found.to_dict(), "training_rows": len(texts[1]), "worst": near}
        if self.trainer is not None and self.trainer.is_global_zero:
            root = Path(self.trainer.default_root_dir)
            root.mkdir(parents=True, exist_ok=True)
            write_atomically(root / "leakage.json", (json.dumps(self.leakage, indent=1) + "\n").encode())
            print(f"leakage: {found}", file=sys.stderr, flush=True)

    def _unique_tables(self) -> list[PairTable]:
        return list({id(table): table for table in self._tables.values()}.values())

    @property
    def skips(self) -> Counter[str]:
        """Reason -> rows that are not used, so far."""
        late = Counter({"unreadable image": sum(len(loader.unreadable) for loader in self._loaders.values())})
        return sum((table.skips for table in self._unique_tables()), +late)

    @property
    def skipped(self) -> int:
        """Rows that are not used, so far."""
        return self.skips.total()

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of "train" or "validation"."""
        return np.flatnonzero(self._chosen[split] & self._tables[split].good)

    def targets(self, split: str) -> NDArray[np.float32]:
        """Embeddings of the rows of `rows(split)`, (M,D)."""
        return self._emb[split][self._chosen[split] & self._tables[split].good]  # (M,D)

    def texts(self, split: str) -> list[str]:
        """Prompts of the rows of `rows(split)`."""
        return [self._tables[split].prompts[row] for row in self.rows(split)]

    def prompt(self, row: int) -> str:
        """The prompt of a row of `rows("train")`."""
        return self._tables["train"].prompts[row]

    def validation_pair(self, row: int) -> tuple[np.ndarray, str]:
        """Picture (H,W,3) uint8 and prompt of a validation row.

        Raises:
            ImageError: the picture cannot be read.
        """
        table = self._tables["validation"]
        return table.picture(row), table.prompts[row]

    def plan(self) -> Mixture:
        """The training batches of all processes together."""
        rows = self.rows("train")
        owner = self._tables["train"].source[rows]
        groups = [rows[owner == number] for number in range(len(self.sources))]
        return Mixture(groups, [source.weight for source in self.sources], self.batch_size, self.seed)

    def train_dataloader(self) -> Any:
        """Batches from `next_batch` on, without end; the trainer's max_steps ends them."""
        rank, world = self._place()
        if self.batch_size % world:
            raise ConfigError(f"data.batch_size {self.batch_size}: cannot be shared by {world} processes")
        plan, size = self.plan(), self.batch_size // world

        def planned() -> Iterator[Planned]:
            for batch in plan.since(self.next_batch):
                yield Planned(batch.number, "", batch.rows[rank * size : (rank + 1) * size])

        return self._batches("train", planned, None)

    def val_dataloader(self) -> Any:
        """Every validation row once. Of several processes each takes its share, the last ones filled up with rows of
        the beginning, so that all have the same number of batches; `rows` of a batch says which came twice."""
        rank, world = self._place()
        rows = self.rows("validation")
        rows = np.resize(rows, -(-len(rows) // world) * world)[rank::world]
        size = min(max(1, self.batch_size // world), len(rows))
        parts = [Planned(i, "", part) for i, part in enumerate(np.split(rows, range(size, len(rows), size)))]
        return self._batches("validation", lambda: iter(parts), len(parts))

    def _place(self) -> tuple[int, int]:
        """This process's number and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _batches(self, split: str, planned: Callable[[], Iterator[Planned]], length: int | None) -> Any:
        table = self._tables[split]

        def cut(batch: Planned, images: np.ndarray | None = None) -> EmbeddingBatch:
            images = table.pictures(batch.rows) if images is None else images
            emb = torch.from_numpy(self._emb[split][batch.rows])  # (B,D)
            seen = torch.from_numpy(images).permute(0, 3, 1, 2)  # (B,3,H,W), channels last in memory
            return EmbeddingBatch(batch.number, tuple(map(int, batch.rows)), seen, emb)

        if self.pictures.cache:
            return PlannedBatches(lambda: map(cut, planned()), length)
        loader = self._loaders[split] = DecodingLoader(table, cut, planned, self.pictures.workers, length)
        return loader

    def on_after_batch_transfer(self, batch: EmbeddingBatch, dataloader_idx: int) -> EmbeddingBatch:
        """Augments training batches, where they are computed on."""
        if self.trainer is None or not self.trainer.training:
            return batch
        seed = (self.seed, 5, batch.number, self._place()[0])
        images = augment(batch.images, self.pictures.augment, seed)
        return EmbeddingBatch(batch.number, batch.rows, images, batch.targets)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"next_batch": self.next_batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.next_batch = int(state["next_batch"])

"""What a regressor's run leaves to look at: metrics.jsonl, plots, and its best and worst validation pictures."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from img2prompt.errors import ImageError
from img2prompt.pairs.atomic import fresh_file, write_atomically
from img2prompt.training.embedding_data import EmbeddingPairs
from img2prompt.training.embedding_settings import EmbeddingBatch
from img2prompt.training.plots import Card, draw_sheet, draw_training, save

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
PLOTS = "plots.png"
SHEET = "best_and_worst.png"


class Reports(Callback):
    """Writes into the run folder, which is the trainer's default_root_dir.

    metrics.jsonl has a line at each log step and each validation: `step`, `seconds` of the run, the learning rates'
    range, and every metric that the module logged; a resumed run goes on in it. plots.png shows loss, validation
    cosine, its distribution and the learning rate; best_and_worst.png validation pictures with their true prompt and
    the training prompts nearest to what was predicted. The module's `validation_step` returns
    `{"predicted": (B,D)}`, or the tensor itself.

    Args:
        pictures: so many best and so many worst are shown; 0 makes no sheet.
        minutes: least time between two drawings; the last one is always made.
    """

    def __init__(self, pictures: int = 6, minutes: float = 1.0) -> None:
        self.pictures, self.minutes = pictures, minutes
        self.history: list[dict[str, Any]] = []
        self._seen: dict[int, tuple[NDArray[np.float32], float]] = {}  # validation row -> prediction, cosine
        self._since = time.monotonic()
        self._drawn_at = -math.inf
        self._drawn = True  # nothing new to draw

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Takes up the history of a run that goes on, up to the step from which it goes on."""
        found = read_metrics(Path(trainer.default_root_dir) / METRICS) if trainer.global_step else []
        self.history = [record for record in found if record["step"] <= trainer.global_step]
        before = self.history[-1]["seconds"] if self.history else 0.0
        self._since = time.monotonic() - before
        if trainer.is_global_zero:
            root = Path(trainer.default_root_dir)
            root.mkdir(parents=True, exist_ok=True)
            write_atomically(root / METRICS, "".join(map(_line, self.history)).encode())

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """A line at every log step."""
        step = trainer.global_step
        logged = self.history[-1]["step"] if self.history else 0
        if trainer.is_global_zero and step != logged and step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
            self._note(trainer, "train/", {"lr": max(rates), "lr_lowest": min(rates)})

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Forgets the last validation."""
        self._seen = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: EmbeddingBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the predictions."""
        predicted = outputs["predicted"] if isinstance(outputs, Mapping) else outputs
        if predicted is None:
            return
        predicted = torch.nn.functional.normalize(predicted.detach().float(), dim=1)  # (B,D)
        cosines = (predicted * batch.targets).sum(1)  # (B,)
        for row, emb, cosine in zip(batch.rows, predicted.cpu().numpy(), cosines.tolist(), strict=True):
            self._seen[row] = (emb, cosine)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """A line with the scores, and drawings when the last ones are old enough."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self._seen)
            self._seen = {row: seen for part in parts for row, seen in part.items()}
        if not trainer.is_global_zero:
            return
        cosines = np.array([cosine for _, cosine in self._seen.values()])
        scores: dict[str, float] = {}
        if len(cosines):
            low, middle = np.quantile(cosines, [0.1, 0.5])
            scores = {"val/cosine": cosines.mean(), "val/cosine_p10": low, "val/cosine_median": middle}
        self._note(trainer, "val", scores)
        self._drawn = False
        if time.monotonic() - self._drawn_at >= 60 * self.minutes:
            self.draw(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Draws what is not drawn yet."""
        if trainer.is_global_zero and not self._drawn:
            self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Makes the pictures. One that fails is told about and does not end the run."""
        root, data = Path(trainer.default_root_dir), trainer.datamodule  # type: ignore[attr-defined]
        try:
            cosines = np.array([cosine for _, cosine in self._seen.values()])
            figure = draw_training(self.history, cosines)
            with fresh_file(root / PLOTS) as fresh:
                save(figure, fresh)
            if self.pictures and self._seen and isinstance(data, EmbeddingPairs):
                figure = draw_sheet(*self._cards(data))
                with fresh_file(root / SHEET) as fresh:
                    save(figure, fresh)
        except OSError as error:
            logger.warning("%s: no plots: %s", root, error)
        self._drawn, self._drawn_at = True, time.monotonic()

    def _cards(self, data: EmbeddingPairs) -> tuple[list[Card], list[Card]]:
        """The best, best first, and the worst, worst first; no picture twice."""
        rows = sorted(self._seen, key=lambda row: -self._seen[row][1])
        count = min(self.pictures, max(1, len(rows) // 2))
        best, worst = rows[:count], rows[count:][::-1][:count]
        chosen = best + worst
        nearest = nearest_prompts(np.stack([self._seen[row][0] for row in chosen]), data.targets("train"), data)
        cards = []
        for row, near in zip(chosen, nearest, strict=True):
            try:
                picture, prompt = data.validation_pair(row)
            except ImageError:
                continue
            cards.append((row, Card(picture, self._seen[row][1], prompt, near)))
        return [card for row, card in cards if row in best], [card for row, card in cards if row in worst]

    def _note(self, trainer: Trainer, prefix: str, more: Mapping[str, float]) -> None:
        """One line of metrics.jsonl."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}
        seconds = round(time.monotonic() - self._since, 1)
        values = {name: float(value) for name, value in {**metrics, **more}.items()}
        record: dict[str, Any] = {"step": trainer.global_step, "seconds": seconds}
        record |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.history.append(record)
        with (Path(trainer.default_root_dir) / METRICS).open("a", encoding="utf-8") as file:
            file.write(_line(record))


def nearest_prompts(
    predicted: NDArray[np.float32], known: NDArray[np.float32], data: EmbeddingPairs, count: int = 3
) -> list[list[tuple[str, float]]]:
    """The training prompts nearest to each predicted embedding, each text once, with their cosines.

    Args:
        predicted: (K,D) unit rows.
        known: (N,D) unit rows of the training prompts.
        data: whose training prompts they are.
        count: of each.
    """
    cosines = predicted @ known.T  # (K,N)
    rows, texts = data.rows("train"), data.prompt
    found = []
    for line in cosines:
        near: dict[str, float] = {}
        for place in np.argsort(-line, kind="stable"):
            near.setdefault(texts(int(rows[place])), float(line[place]))
            if len(near) == count:
                break
        found.append(list(near.items()))
    return found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that was cut by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int) and "seconds" in record:
            records.append(record)
    return records


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps({name: _short(value) for name, value in record.items()}) + "\n"


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value

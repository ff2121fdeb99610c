"""What a regressor's run leaves to look at."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from tiny_pairs import prompts, write_csv
from torch import Tensor, nn

from img2prompt.errors import MissingExtra
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.training.augment import Augment
from img2prompt.training.embedding_data import EmbeddingPairs
from img2prompt.training.embedding_settings import EmbeddingBatch, Pictures, Prompts, Validation
from img2prompt.training.pair_table import PairSource
from img2prompt.training.plots import Card, draw_sheet, draw_training, save, shown
from img2prompt.training.reports import METRICS, PLOTS, SHEET, Reports, nearest_prompts, read_metrics

TEXTS = [
    *prompts(18),
    "costs $5 and $10, a_b^c \\frac{1}{2} {braces",  # what matplotlib would take for a formula
    "two\nlines\x07 and a bell, 汉字 and 😀, " + "very " * 300 + "long",
]


class Linear(LightningModule):
    """The smallest regressor that Lightning trains: a linear map of the mean colour."""

    def __init__(self, data: EmbeddingPairs) -> None:
        super().__init__()
        self.data = data
        torch.manual_seed(0)
        self.map = nn.Linear(3, 384)

    def predict(self, batch: EmbeddingBatch) -> Tensor:
        return nn.functional.normalize(self.map(batch.images.float().mean((2, 3)) / 255), dim=1)

    def training_step(self, batch: EmbeddingBatch, index: int) -> Tensor:
        loss = 1 - (self.predict(batch) * batch.targets).sum(1).mean()
        self.log("train/loss", loss)
        self.data.next_batch = batch.number + 1
        return loss

    def validation_step(self, batch: EmbeddingBatch, index: int) -> dict[str, Tensor]:
        predicted = self.predict(batch)
        self.log("val/loss", 1 - (predicted * batch.targets).sum(1).mean(), batch_size=len(batch.rows))
        return {"predicted": predicted}

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.map.weight], "lr": 1e-2}, {"params": [self.map.bias], "lr": 1e-3}]
        return torch.optim.Adam(groups)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingPairs:
    """20 pairs to learn from and 7 to validate on."""
    folder = tmp_path_factory.mktemp("pairs")
    train, other = write_csv(folder / "t", TEXTS), write_csv(folder / "v", [*TEXTS[-2:], *prompts(5)], first=30)
    off = Augment(crop=1, stretch=0, erase=0, colour=0)
    try:
        SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))
    return EmbeddingPairs(
        [PairSource(train)],
        Validation([PairSource(other)]),
        4,
        Prompts(cache_folder=folder / "targets"),
        Pictures(cache_folder=folder / "pixels", augment=off),
    )


def run(data: EmbeddingPairs, root: Path, steps: int, checkpoint: Path | None = None, **options: Any) -> Trainer:
    """Trains to `steps`, with a validation every two."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, log_every_n_steps=1, val_check_interval=2,
        check_val_every_n_epoch=None, default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Reports(**options)],
    )  # fmt: skip
    data.trainer = trainer
    data.prepare(16)
    data.next_batch = 0
    trainer.fit(Linear(data), datamodule=data, ckpt_path=checkpoint)
    return trainer


@pytest.fixture(scope="module")
def finished(data: EmbeddingPairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps and its checkpoint."""
    root = tmp_path_factory.mktemp("run")
    run(data, root, 6, pictures=3).save_checkpoint(root / "at6.ckpt")
    return root


def test_a_line_at_each_log_step_and_validation(finished: Path) -> None:
    records = [json.loads(line) for line in (finished / METRICS).read_text().splitlines()]
    steps = [record["step"] for record in records]
    assert steps == sorted(steps)
    trained = [record for record in records if "train/loss" in record]
    assert [record["step"] for record in trained] == [1, 2, 3, 4, 5, 6]
    assert all(record["lr"] == 1e-2 and record["lr_lowest"] == 1e-3 for record in trained)
    validated = [record for record in records if "val/cosine" in record]
    assert [record["step"] for record in validated] == [2, 4, 6]
    for record in validated:
        assert record["val/cosine"] == pytest.approx(1 - record["val/loss"], abs=1e-5)
        assert record["val/cosine_p10"] <= record["val/cosine_median"]
    assert validated[-1]["val/cosine"] > validated[0]["val/cosine"], "it learns"


@pytest.mark.parametrize("name", [PLOTS, SHEET])
def test_pictures_show_something(finished: Path, name: str) -> None:
    picture = np.asarray(Image.open(finished / name).convert("L"))
    assert min(picture.shape) > 400
    assert 0.005 < (picture < 200).mean() < 0.6
    assert not list(finished.glob(".*")), "no half file stays"


def test_a_resumed_run_goes_on_in_the_same_history(data: EmbeddingPairs, finished: Path, tmp_path: Path) -> None:
    lines = (finished / METRICS).read_text()
    # Steps 7 and 8 were written, then the run was killed in the middle of a line; its checkpoint is that of step 6.
    lost = '{"step": 7, "seconds": 1.0, "train/loss": 9.0}\n{"step": 8, "seconds": 1.0, "train/lo'
    (tmp_path / METRICS).write_text(lines + lost)
    run(data, tmp_path, 8, finished / "at6.ckpt")
    records = read_metrics(tmp_path / METRICS)
    assert (tmp_path / METRICS).read_text().startswith(lines)
    assert [r["step"] for r in records if "train/loss" in r] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(r.get("train/loss") != 9.0 for r in records)
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds), "the clock goes on too"


def test_a_new_run_starts_a_new_history(data: EmbeddingPairs, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1, "seconds": 1.0, "train/loss": 9.0}\n')
    run(data, tmp_path, 2, pictures=0)
    assert [r["step"] for r in read_metrics(tmp_path / METRICS) if "train/loss" in r] == [1, 2]
    assert not (tmp_path / SHEET).exists()


def test_nan_is_written_as_null(tmp_path: Path) -> None:
    from types import SimpleNamespace

    metrics = {"train/loss": torch.tensor(float("nan"))}
    trainer = SimpleNamespace(callback_metrics=metrics, default_root_dir=str(tmp_path), global_step=3)
    Reports()._note(trainer, "train/", {})  # type: ignore[arg-type]
    assert json.loads((tmp_path / METRICS).read_text(), parse_constant=pytest.fail)["train/loss"] is None


class Known:
    """Training rows 4, 2, 9 with prompts of which two are equal."""

    def rows(self, split: str) -> np.ndarray:
        assert split == "train"
        return np.array([4, 2, 9])

    def prompt(self, row: int) -> str:
        return {4: "fox", 2: "fox", 9: "hat"}[row]


def test_nearest_prompts_come_once_each_and_in_order() -> None:
    known = np.array([[0.8, 0.6], [1, 0], [0, 1]], np.float32)
    found = nearest_prompts(np.array([[1, 0], [0, 1]], np.float32), known, Known(), 3)  # type: ignore[arg-type]
    assert [[text for text, _ in near] for near in found] == [["fox", "hat"], ["hat", "fox"]]
    assert found[0][0][1] == pytest.approx(1.0)
    assert found[1][1][1] == pytest.approx(0.6)


@pytest.fixture
def strict() -> Iterator[None]:
    """Every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("cosines", [np.zeros(0), np.array([np.nan]), np.array([-0.4, 0.2, 0.9]), np.ones(1)])
def test_plots_of_little_or_nothing(tmp_path: Path, cosines: np.ndarray) -> None:
    one = {"step": 1, "seconds": 0.0, "train/loss": None, "lr": 0.1, "lr_lowest": 0.1}
    for i, history in enumerate(([], [one], [one, {"step": 2, "seconds": 1.0, "val/cosine": 0.3}])):
        save(draw_training(history, cosines), tmp_path / f"{i}.png")


@pytest.mark.usefixtures("strict")
def test_sheet_of_any_text(tmp_path: Path) -> None:
    cards = [Card(np.zeros((8, 8, 3), np.uint8), 0.5, text, [(text, 0.1)] * 3) for text in TEXTS[-2:]]
    save(draw_sheet(cards, cards[:1]), tmp_path / "sheet.png")
    save(draw_sheet(cards[:1], []), tmp_path / "one.png")


def test_shown_text_fits_and_prints() -> None:
    lines = shown(TEXTS[-1], 40, 3).split("\n")
    assert len(lines) == 3 and max(map(len, lines)) <= 40
    assert "\x07" not in lines[0] and lines[-1].endswith("…")

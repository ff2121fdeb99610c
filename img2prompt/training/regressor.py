"""The regressor in training: from pictures to their prompts' sentence embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from img2prompt.errors import ConfigError
from img2prompt.models.regressor import Regressor, RegressorConfig, load_regressor, new_regressor, save_regressor
from img2prompt.models.towers import TowerSpec
from img2prompt.presets import PRESETS, resolve
from img2prompt.training import embedding_loss, optim, tower_layers
from img2prompt.training.embedding_data import EmbeddingPairs
from img2prompt.training.embedding_loss import EmbeddingLoss
from img2prompt.training.embedding_settings import EmbeddingBatch
from img2prompt.training.learner import Learner, head_from_texts
from img2prompt.training.module import Training
from img2prompt.training.reports import Reports
from img2prompt.training.settings import Probe, RegressorModel
from img2prompt.training.strategies import STRATEGIES, Sharded, shard


class RegressorTraining(Training):
    """Trains a vision tower with a head to regress sentence embeddings.

    Args:
        model: what is trained.
        loss: what is made small.
        probe: a first part of the run for the head alone.
        optimiser: how the weights move; `head_lr_factor` is that of pooling and head while all trains.
    """

    strategies: ClassVar[Mapping[str, Callable[[], Any]]] = STRATEGIES

    def __init__(
        self,
        model: RegressorModel,
        loss: EmbeddingLoss = EmbeddingLoss(),  # noqa: B008 - frozen
        probe: Probe = Probe(),  # noqa: B008
        optimiser: optim.Optimiser = optim.Optimiser(),  # noqa: B008
    ) -> None:
        super().__init__()
        if (model.source is None) == (model.tower is None):
            raise ConfigError("model.model: give either tower (of a new regressor) or source (one to go on from)")
        if not 0 <= probe.until < 1:
            raise ConfigError(f"model.probe.until {probe.until}: give a share of the run, 0 or more and below 1")
        embedding_loss.check(loss)
        self.settings, self.loss, self.probe, self.optimiser = model, loss, probe, optimiser
        self.learner: Learner | None = None
        self._frozen: list[nn.Module] = []
        self._probed: bool | None = None

    @property
    def trained(self) -> Regressor:
        """The regressor."""
        assert self.learner is not None
        return self.learner.regressor

    @property
    def probe_steps(self) -> int:
        """Steps for the head alone."""
        return round(self.probe.until * self.trainer.max_steps)

    @property
    def probing(self) -> bool:
        """Whether the tower is left alone now."""
        return self.global_step < self.probe_steps

    def setup(self, stage: str) -> None:
        """Makes or loads the model, and has the data read and decoded for it."""
        if self.learner is not None:
            return
        data: EmbeddingPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        model = self._load(data) if self.settings.source else self._make(data)
        data.prepare(model.tower.image_px)
        if data.dimensions != model.config.dimensions:
            raise ConfigError(
                f"model.model.dimensions {model.config.dimensions}: embeddings of {data.prompts.model} have"
                f" {data.dimensions}"
            )
        if self.settings.head_init == "text_map" and self.trainer.ckpt_path is None:
            head_from_texts(model, data.texts("train"), data.targets("train"))
        model.tower.set_grad_checkpointing(self.settings.grad_checkpointing)
        self.learner = Learner(model.train())
        if self.settings.freeze is not None:
            self._frozen = tower_layers.freeze_up_to(model.tower, self.settings.freeze)
        if self.settings.compile:
            self.learner.compile()

    def _make(self, data: EmbeddingPairs) -> Regressor:
        settings, tower = self.settings, self.settings.tower
        assert tower is not None
        if tower.family == "open_clip" and tower.source in PRESETS:
            tower = replace(tower, source=resolve(str(tower.source)).source)
        if settings.image_px is not None:
            tower = replace(tower, image_px=settings.image_px)
        sizes = {"hidden": settings.hidden, "dimensions": settings.dimensions}
        config = RegressorConfig(
            tower, settings.pooling, settings.head, **sizes, sentence_model=str(data.prompts.model)
        )
        return new_regressor(config, settings.seed)

    def _load(self, data: EmbeddingPairs) -> Regressor:
        model = load_regressor(self.settings.source or "")
        if model.config.sentence_model != str(data.prompts.model):
            raise ConfigError(
                f"{self.settings.source}: estimates embeddings of {model.config.sentence_model},"
                f" but data.prompts.model is {data.prompts.model}"
            )
        if self.settings.image_px is not None:
            model.tower.resize(self.settings.image_px)
        return model

    def configure_model(self) -> None:
        """Shares the model out among processes where the strategy says so."""
        if not isinstance(self.trainer.strategy, Sharded) or self.learner is None:
            return
        if self.optimiser.muon_lr:
            raise ConfigError("model.optimiser.muon_lr: Muon needs whole matrices; set it to 0 with fsdp, or take ddp")
        blocks = [block for _, block in self.trained.tower.blocks]
        shard([*blocks, self.learner], self.device_mesh)

    def configure_callbacks(self) -> list[Callback]:
        """Metrics and pictures for the run folder."""
        return [Reports()]

    @property
    def fused(self) -> bool:
        """As in `Training`."""
        return super().fused and not isinstance(self.trainer.strategy, Sharded)

    def configure_optimizers(self) -> Any:
        """AdamW (and Muon), with a schedule for the tower and one for pooling and head."""
        model, settings = self.trained, self.optimiser
        tower = optim.parameter_groups(settings, model.tower, tower_layers.places(model.tower))
        head = optim.head_groups(settings, nn.ModuleDict({"pool": model.pool, "head": model.head}))
        factors = [self._tower_factor] * len(tower) + [self._head_factor] * len(head)
        return optim.assembled(settings, tower + head, factors, self.fused)

    def _tower_factor(self, step: int) -> float:
        begin = self.probe_steps
        return 0.0 if step < begin else optim.factor(self.optimiser, step - begin, self.trainer.max_steps - begin)

    def _head_factor(self, step: int) -> float:
        if step >= self.probe_steps:
            return self._tower_factor(step)
        warmup = min(self.optimiser.warmup_steps, self.probe_steps // 5)
        whole = self.probe.lr / (self.optimiser.lr * self.optimiser.head_lr_factor)
        return whole * optim.factor(replace(self.optimiser, warmup_steps=warmup), step, self.probe_steps)

    def on_train_batch_start(self, batch: EmbeddingBatch, batch_idx: int) -> None:
        """Draws what the model drops from the batch's number, so that a resumed run drops the same."""
        torch.manual_seed((self.settings.seed << 40) + (batch.number << 10) + self.global_rank)
        if self._probed != self.probing:
            self._probed = self.probing
            self.trained.tower.train(not self.probing)
            for module in self._frozen:
                module.eval()

    def training_step(self, batch: EmbeddingBatch, index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: it is not finite.
        """
        predicted, parts, total = self._judged(batch, self.probing)
        self.check(total, parts, batch.number)
        if self.logs_now:
            cosine = (predicted.detach() * batch.targets).sum(1).mean()
            values: dict[str, Any] = {f"loss_{name}": value.detach() for name, value in parts.items()}
            values |= {"loss": total.detach(), "cosine": cosine, "batch": float(batch.number)}
            self.log_dict({f"train/{name}": value for name, value in values.items()}, sync_dist=True)
        self.trainer.datamodule.next_batch = batch.number + 1  # type: ignore[attr-defined]
        return total

    def _judged(self, batch: EmbeddingBatch, probing: bool = False) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        assert self.learner is not None
        predicted = self.learner(batch.images, probing)  # (B,D)
        parts = embedding_loss.losses(predicted, batch.targets, self.loss)
        return predicted, parts, embedding_loss.total(parts, self.loss)

    def validation_step(self, batch: EmbeddingBatch, index: int) -> dict[str, Tensor]:
        """Logs the loss and the mean cosine; returns the embeddings."""
        predicted, _, total = self._judged(batch)
        cosine = (predicted * batch.targets).sum(1).mean()
        scores = {"val/loss": total, "val/cosine": cosine}
        self.log_dict(scores, batch_size=len(batch.rows), on_epoch=True, sync_dist=True)
        return {"predicted": predicted}

    def export(self, folder: Path) -> None:
        """Writes a folder that `load_regressor` reads."""
        model = self.trained
        if isinstance(self.trainer.strategy, Sharded):
            state = {name: optim.whole(value) for name, value in model.state_dict().items()}
            own = model.config.tower
            tower = TowerSpec(own.family, own.name, None, model.tower.image_px, model.tower.config)
            model = new_regressor(replace(model.config, tower=tower))
            model.load_state_dict(state)
        if self.trainer.is_global_zero:
            save_regressor(model, folder, {"steps": self.global_step})

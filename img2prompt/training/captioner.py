"""The captioner in training: an open_clip CoCa, its losses, and what a recipe can say about them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from img2prompt.errors import ConfigError, TrainingError
from img2prompt.models.coca import freeze, load_coca, new_coca, save_coca
from img2prompt.models.tokenizer import ClipTokenizer, CocaTokenizer, own_tokenizer
from img2prompt.training import optim
from img2prompt.training.contrast import see_and_contrast
from img2prompt.training.data import Batch, CaptionPairs
from img2prompt.training.forward import decode, see
from img2prompt.training.grounding import Grounding, Heads


@dataclass(frozen=True)
class Model:
    """What is trained.

    Attributes:
        source: a model to start from: a folder, "hf-hub:..." or "ARCHITECTURE/TAG" that is on this machine.
        config: or open_clip's model_cfg of a new one with random weights.
        vocab_size: tokens of a new model's own vocabulary, learned from the captions; None: CLIP's.
        mean: of the new model's pictures, per channel, of values in 0..1.
        std: likewise.
        freeze: parts that do not train, as `img2prompt.models.coca.freeze` names them.
        grad_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: torch.compile the vision tower.
        seed: of random weights.
    """

    source: str | None = None
    config: dict[str, Any] | None = None
    vocab_size: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    freeze: list[str] = field(default_factory=list)
    grad_checkpointing: bool = False
    compile: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Loss:
    """Weights of the losses.

    Attributes:
        caption: cross-entropy of the caption's tokens after the prefix.
        contrastive: CLIP's loss; at 0 nothing of its side is computed.
        label_smoothing: of the caption loss.
    """

    caption: float = 1.0
    contrastive: float = 0.0
    label_smoothing: float = 0.0


class CaptionTraining(LightningModule):
    """Trains an open_clip CoCa to caption.

    Args:
        model: what is trained.
        loss: weights of the losses.
        grounding: auxiliary losses for data with known scenes.
        optimiser: how the weights move.
    """

    model: Any

    def __init__(
        self,
        model: Model,
        loss: Loss = Loss(),  # noqa: B008 - frozen
        grounding: Grounding = Grounding(),  # noqa: B008
        optimiser: optim.Optimiser = optim.Optimiser(),  # noqa: B008
    ) -> None:
        super().__init__()
        if (model.source is None) == (model.config is None):
            raise ConfigError("model.model: give either source (a model to start from) or config (a new one)")
        self.settings, self.loss, self.grounding, self.optimiser = model, loss, grounding, optimiser
        self.coca: Any = None
        self.heads: Heads | None = None

    def setup(self, stage: str) -> None:
        """Makes or loads the model, and has the data tokenised and decoded for it."""
        if self.coca is not None:
            return
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        self._load() if self.settings.source else self._make(data)
        if self.settings.freeze:
            freeze(self.coca, self.settings.freeze)
        self.coca.set_grad_checkpointing(self.settings.grad_checkpointing)
        visual = self.coca.visual
        image_px, grid = visual.image_size[0], visual.grid_size[0]
        data.prepare(self.tokenizer, self.coca.context_length, image_px, grid)
        prefixes = {name: manner.prefix for name, manner in data.manners.items() if manner.prefix}
        if prefixes:
            self.config["img2prompt"] = {**self.config.get("img2prompt", {}), "prefixes": prefixes}
        mean, std = (torch.tensor(self.config["preprocess_cfg"][key]).view(3, 1, 1) for key in ("mean", "std"))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        if self.grounding.on:
            self.heads = Heads(visual.transformer.width, self.coca.text_decoder.cross_attn[0].attn.embed_dim)
        self._see = torch.compile(see) if self.settings.compile else see

    def _load(self) -> None:
        loaded = load_coca(str(self.settings.source))
        self.coca, self.config = loaded.model.train(), dict(loaded.config)
        self.tokenizer: CocaTokenizer = loaded.tokenizer
        self.vocabulary: Tokenizer | None = getattr(loaded.tokenizer, "inner", None)

    def _make(self, data: CaptionPairs) -> None:
        cfg = deepcopy(self.settings.config) or {}
        self.tokenizer, self.vocabulary = ClipTokenizer(), None
        if self.settings.vocab_size is not None:
            kept = Path(self.trainer.default_root_dir) / "tokenizer.json"  # a resumed run keeps its vocabulary
            if kept.exists():
                self.vocabulary = Tokenizer.from_file(str(kept))
            else:
                self.vocabulary = data.new_tokenizer(self.settings.vocab_size)
                kept.parent.mkdir(parents=True, exist_ok=True)
                self.vocabulary.save(str(kept))
            self.tokenizer = own_tokenizer(self.vocabulary)
        for part in ("text_cfg", "multimodal_cfg"):
            cfg.setdefault(part, {})["vocab_size"] = self.tokenizer.vocab_size
        self.coca = new_coca(cfg, self.settings.seed)
        preprocess = {"size": cfg["vision_cfg"]["image_size"], "mean": self.settings.mean, "std": self.settings.std}
        self.config = {"model_cfg": cfg, "preprocess_cfg": preprocess}

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: it is not finite.
        """
        share = self.global_step / max(1, self.trainer.max_steps)
        losses = self.losses(batch)
        total = self.total(losses, share)
        logs = index % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if (logs or total.device.type == "cpu") and not torch.isfinite(total):
            parts = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise TrainingError(
                f"the loss of batch {batch.number} is not finite ({parts}); the last good checkpoint is kept: "
                "lower optimiser.lr or set trainer.gradient_clip_val, then go on with --resume"
            )
        if logs:
            self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
            self.log("train/loss", total.detach(), prog_bar=True)
        self.trainer.datamodule.next_batch = batch.number + 1  # type: ignore[attr-defined]
        return total

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Every loss of a batch whose weight is not 0, unweighted."""
        images = batch.images.to(self.scale.dtype) * self.scale + self.shift  # (B,3,H,W)
        losses = {}
        if self.loss.contrastive:
            seen, losses["contrastive"] = see_and_contrast(self.coca, images, batch.tokens)
        else:
            seen = self._see(self.coca.visual, images)
        labels = batch.tokens[:, 1:]
        wanted = labels != self.coca.pad_id  # (B,T-1)
        wanted[:, : batch.prefix_length - 1] = False
        logits = decode(self.coca, seen.tokens, batch.tokens[:, :-1], wanted)  # (M,V)
        losses["caption"] = F.cross_entropy(logits, labels[wanted], label_smoothing=self.loss.label_smoothing)
        if self.heads is not None and batch.targets is not None:
            losses |= self.heads.losses(seen, batch.targets, self.grounding)
        return losses

    def total(self, losses: Mapping[str, Tensor], share: float) -> Tensor:
        """The weighted sum after `share` (0..1) of the run."""
        total = losses["caption"] * self.loss.caption
        for name, value in losses.items():
            if name == "contrastive":
                total = total + value * self.loss.contrastive
            elif name != "caption":
                total = total + value * (getattr(self.grounding, name) * self.grounding.scale(share))
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs the losses of one batch, each manner's caption loss by itself."""
        losses = self.losses(batch)
        count = len(batch.rows)
        self.log("val/loss", losses["caption"], batch_size=count)
        self.log(f"val/loss_{batch.manner}", losses["caption"], batch_size=count)
        self.log_dict({f"val/{k}": v for k, v in losses.items() if k != "caption"}, batch_size=count)

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        return optim.build(self.optimiser, self.coca, self.heads, self.trainer.max_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random state too: patch dropout, where a configuration has it, draws from it."""
        checkpoint["rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        torch.set_rng_state(checkpoint["rng"].cpu())

    def export(self, folder: Path) -> None:
        """Writes the model alone in open_clip's format, without heads."""
        save_coca(self.coca, self.config, folder, self.vocabulary)

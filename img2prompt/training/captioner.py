"""The captioner in training: an open_clip CoCa, its losses, and what a recipe can say about them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt.errors import ConfigError
from img2prompt.models.coca import freeze, load_coca, new_coca, save_coca
from img2prompt.models.tokenizer import ClipTokenizer, CocaTokenizer, own_tokenizer
from img2prompt.presets import resolve
from img2prompt.training import optim
from img2prompt.training.contrast import see_and_contrast
from img2prompt.training.data import CaptionPairs
from img2prompt.training.forward import decode, see
from img2prompt.training.grounding import Grounding, Heads
from img2prompt.training.judging import Judge, write_captions
from img2prompt.training.module import Training
from img2prompt.training.pair_set import Batch
from img2prompt.training.settings import Loss, Model
from img2prompt.training.windows import windows_around


class CaptionTraining(Training):
    """Trains an open_clip CoCa to caption.

    Args:
        model: what is trained.
        loss: weights of the losses.
        grounding: auxiliary losses for data with known scenes.
        optimiser: how the weights move.
        validate_captions: validation pictures of each manner that captions are written for.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss = Loss(),  # noqa: B008 - frozen
        grounding: Grounding = Grounding(),  # noqa: B008
        optimiser: optim.Optimiser = optim.Optimiser(),  # noqa: B008
        validate_captions: int = 200,
    ) -> None:
        super().__init__()
        if (model.source is None) == (model.config is None):
            raise ConfigError("model.model: give either source (a model to start from) or config (a new one)")
        self.settings, self.loss, self.grounding, self.optimiser = model, loss, grounding, optimiser
        self.validate_captions = validate_captions
        self.judge: Judge | None = None
        self.coca: Any = None
        self.heads: Heads | None = None
        self._ready = False

    def setup(self, stage: str) -> None:
        """Makes or loads the model, and has the data tokenised and decoded for it."""
        if self._ready:
            return
        self._ready = True
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        self._load() if self.settings.source else self._make(data)
        if self.settings.freeze:
            freeze(self.coca, self.settings.freeze)
        self.coca.set_grad_checkpointing(self.settings.grad_checkpointing)
        visual = self.coca.visual
        image_px, grid = visual.image_size[0], visual.grid_size[0]
        if self.grounding.window > grid:
            raise ConfigError(
                f"model.grounding.window {self.grounding.window}: the pictures have {grid} patches a side"
            )
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
        loaded = load_coca(resolve(str(self.settings.source)).source)
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
        losses = self.losses(batch, captions=share >= self.loss.caption_from)
        total = self.total(losses, share)
        self.check(total, losses, batch.number)
        if self.logs_now:
            self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
            self.log_dict({"train/loss": total.detach(), "train/batch": float(batch.number)})
        self.trainer.datamodule.next_batch = batch.number + 1  # type: ignore[attr-defined]
        return total

    def normalised(self, images: Tensor) -> Tensor:
        """(B,3,H,W) uint8 as the tower wants them."""
        return images.to(self.scale.dtype) * self.scale + self.shift  # (B,3,H,W)

    def losses(self, batch: Batch, captions: bool = True) -> dict[str, Tensor]:
        """Every loss of a batch whose weight is not 0, unweighted."""
        images = self.normalised(batch.images)
        losses, keep = {}, None
        if self.loss.contrastive:
            seen, losses["contrastive"] = see_and_contrast(self.coca, images, batch.tokens)
        else:
            if not captions and self.grounding.window and batch.targets is not None:
                keep = windows_around(batch.targets.centres, self.grounding.window, seed=batch.number)
            seen = self._see(self.coca.visual, images, keep)
        if captions:
            losses["caption"] = self._caption_loss(seen.tokens, batch)
        if self.heads is not None and batch.targets is not None:
            losses |= self.heads.losses(seen, batch.targets, self.grounding, keep)
        return losses

    def _caption_loss(self, tokens: Tensor, batch: Batch) -> Tensor:
        labels = batch.tokens[:, 1:]
        wanted = labels != self.coca.pad_id  # (B,T-1)
        wanted[:, : batch.prefix_length - 1] = False
        logits = decode(self.coca, tokens, batch.tokens[:, :-1], wanted)  # (M,V)
        return F.cross_entropy(logits, labels[wanted], label_smoothing=self.loss.label_smoothing)

    def total(self, losses: Mapping[str, Tensor], share: float) -> Tensor:
        """The weighted sum after `share` (0..1) of the run."""
        total = torch.zeros((), device=self.scale.device)
        for name, value in losses.items():
            if name in ("caption", "contrastive"):
                total = total + value * getattr(self.loss, name)
            else:
                total = total + value * (getattr(self.grounding, name) * self.grounding.scale(share))
        return total

    def on_validation_epoch_start(self) -> None:
        """Forgets the pictures of the last validation."""
        self._shown: dict[str, list[Batch]] = {}

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs the losses of one batch, each manner's caption loss by itself."""
        losses, count = self.losses(batch), len(batch.rows)
        self.log("val/loss", losses["caption"], batch_size=count)
        self.log(f"val/loss_{batch.manner}", losses["caption"], batch_size=count)
        self.log_dict({f"val/{k}": v for k, v in losses.items() if k != "caption"}, batch_size=count)
        shown = self._shown.setdefault(batch.manner, [])
        if sum(len(earlier.rows) for earlier in shown) < self.validate_captions:
            shown.append(batch)

    def on_validation_epoch_end(self) -> None:
        """Writes captions and logs how good they are."""
        if not self.validate_captions:
            return
        self.judge = self.judge or Judge()
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        every_scene = data.validation_scenes()
        for manner, shown in self._shown.items():
            rows = [row for batch in shown for row in batch.rows][: self.validate_captions]
            pictures = (self.normalised(batch.images) for batch in shown)
            prefix, longest = data.manners[manner].prefix, data.longest(manner)
            written = write_captions(self.coca, self.tokenizer, pictures, prefix, longest)[: len(rows)]
            every_text = data.validation_texts(manner)
            truth = [every_text[row] for row in rows]
            scores = self.judge.score(written, truth, None if every_scene is None else [every_scene[r] for r in rows])
            self.log_dict({f"val_{manner}/{name}": value for name, value in scores.items()})
            self.examples = {**self.examples, manner: (written[0], truth[0])}

    @property
    def trained(self) -> nn.Module:
        """The captioner."""
        return self.coca

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule."""
        return optim.build(self.optimiser, self.coca, self.heads, self.trainer.max_steps, self.fused)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random state too: patch dropout, where a configuration has it, draws from it."""
        checkpoint["rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        torch.set_rng_state(checkpoint["rng"].cpu())

    def export(self, folder: Path) -> None:
        """Writes the model alone in open_clip's format, without heads."""
        save_coca(self.coca, self.config, folder, self.vocabulary)

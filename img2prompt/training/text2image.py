"""A text-to-image model in training: a pixel diffusion transformer and its text encoder, from prompt-image pairs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt.errors import ConfigError
from img2prompt.models.text2image_making import TextToImage, load_text_to_image, new_networks, save_pipeline
from img2prompt.models.tokenizer import OwnTokenizer, own_tokenizer
from img2prompt.training import optim
from img2prompt.training.data import CaptionPairs
from img2prompt.training.forward import Seen
from img2prompt.training.grounding import Grounding, Heads
from img2prompt.training.module import Training
from img2prompt.training.pair_set import Batch
from img2prompt.training.text2image_networks import Networks, middle_of, places, predict_pictures
from img2prompt.training.text2image_noise import Noise, draw, noised, weights
from img2prompt.training.text2image_sheet import Sheet, write_sheet


@dataclass(frozen=True)
class TextToImageSettings:
    """Which text-to-image model is trained.

    Attributes:
        source: a folder of an earlier run to go on from, its last/ or best/; it says what all the others say.
        transformer: or fields of diffusers' `PRXTransformer2DModel`, of a new, random one; null beside source.
        text_encoder: fields of transformers' `T5Config`, likewise.
        vocab_size: tokens of a new model's own vocabulary, learned from the prompts.
        image_px: side of a new model's pictures.
        max_tokens: of a prompt, start and end included; longer ones are cut.
        shift: of the sampler's time steps; above 1 spends more of them on noise.
        compile: torch.compile the transformer; texts are then padded to the longest of their manner.
        seed: of random weights.
    """

    source: Path | None = None
    transformer: dict[str, Any] | None = None
    text_encoder: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 1024
    image_px: int = 64
    max_tokens: int = 80
    shift: float = 1.0
    compile: bool = False
    seed: int = 42


class TextToImageTraining(Training):
    """Trains a `PRXPixelPipeline`: its transformer predicts the clean picture, its T5 encoder learns with it.

    Where the data knows its scenes, two things turn a short run's attention from backgrounds, which are most of a
    picture, to objects: `foreground`, and heads on the middle of the transformer that tell what covers each patch, as
    they do for the captioner's tower.

    Args:
        model: what is trained.
        noise: times, noise and weights.
        optimiser: how the weights move.
        sheet: the sample pictures of each validation.
        foreground: what the error of a patch counts that an object covers, next to 1 elsewhere.
        grounding: weights of the heads' losses, next to a diffusion loss that comes down to some hundredths.
    """

    def __init__(
        self,
        model: TextToImageSettings,
        noise: Noise = Noise(),  # noqa: B008 - frozen
        optimiser: optim.Optimiser = optim.Optimiser(),  # noqa: B008
        sheet: Sheet = Sheet(),  # noqa: B008
        foreground: float = 1.0,
        grounding: Grounding = Grounding(),  # noqa: B008
    ) -> None:
        super().__init__()
        if grounding.window or grounding.facts or grounding.counts or (grounding.on and model.compile):
            raise ConfigError("model.grounding: kinds, colours and centres are possible here, without model.compile")
        self.foreground, self.grounding = foreground, grounding
        self.heads: Heads | None = None
        if (model.source is None) == (not model.transformer):
            raise ConfigError("model.model: give either source (a model to go on from) or transformer (a new one)")
        self.settings, self.noise, self.optimiser, self.sheet = model, noise, optimiser, sheet
        self.networks: Any = None

    def setup(self, stage: str) -> None:
        """Makes or loads the model, and has the data tokenised and decoded for it."""
        if self.networks is not None:
            return
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        if any(manner.prefix for manner in data.manners.values()):
            raise ConfigError("data.manners: a prefix would be no part of the prompts that pictures are made from")
        self.made = load_text_to_image(self.settings.source) if self.settings.source else self._make(data)
        if self.made.noise_scale != self.noise.scale:
            raise ConfigError(
                f"model.noise.scale {self.noise.scale:g}: the model was trained with {self.made.noise_scale:g}"
            )
        self.networks = Networks(self.made.transformer, self.made.text_encoder).train()
        self.tokenizer: OwnTokenizer = own_tokenizer(self.made.tokenizer)
        grid = self.made.image_px // self.made.transformer.config.patch_size
        known = self.foreground != 1 or self.grounding.on
        data.prepare(self.tokenizer, self.made.max_tokens, self.made.image_px, grid if known else 0)
        if self.grounding.on:
            width = self.made.transformer.config.hidden_size
            self.heads = Heads(width, width)
        self._predict = torch.compile(predict_pictures) if self.settings.compile else predict_pictures

    def _make(self, data: CaptionPairs) -> TextToImage:
        asked = self.settings
        kept = Path(self.trainer.default_root_dir) / "tokenizer.json"  # a resumed run keeps its vocabulary
        if kept.exists():
            tokenizer = Tokenizer.from_file(str(kept))
        else:
            tokenizer = data.new_tokenizer(asked.vocab_size)
            kept.parent.mkdir(parents=True, exist_ok=True)
            tokenizer.save(str(kept))
        networks = new_networks(asked.transformer or {}, asked.text_encoder, tokenizer, asked.seed)
        return TextToImage(*networks, tokenizer, asked.image_px, asked.max_tokens, self.noise.scale, asked.shift)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: it is not finite.
        """
        losses = self.losses(batch, seed=batch.number)
        total, scale = losses["loss"], self.grounding.scale(self.global_step / max(1, self.trainer.max_steps))
        for name in [name for name in losses if name not in ("loss", "error")]:
            total = total + losses[name] * (getattr(self.grounding, name) * scale)
        self.check(total, losses, batch.number)
        if self.logs_now:
            self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
            self.log("train/batch", float(batch.number))
        self.trainer.datamodule.next_batch = batch.number + 1  # type: ignore[attr-defined]
        return total

    def losses(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Of pictures in -1..1 the weighted loss, the mean squared error without weights, and what the heads say."""
        clean = batch.images.contiguous().to(self.dtype) / 127.5 - 1  # (B,3,H,W)
        # What a batch draws depends on its number alone, so that a resumed run draws it again.
        drawn = draw(self.noise, tuple(clean.shape), seed=self.settings.seed * 1_000_003 + seed)
        times, noise = drawn.times.to(clean.device), drawn.noise.to(clean.device)
        tokens = self._padded(batch)
        tokens = torch.where(drawn.dropped.to(clean.device)[:, None], self._empty(tokens), tokens)  # (B,T)
        mask = tokens != self.tokenizer.pad_id  # (B,T)
        # Compiling once more, without gradients, would take longer than validation does.
        predict = self._predict if torch.is_grad_enabled() else predict_pictures
        with self._tapped() as middle:
            seen = predict(self.networks, noised(clean, times, noise), times, tokens, mask)
        errors = F.mse_loss(seen, clean, reduction="none").mean(dim=1)  # (B,H,W)
        losses = {"error": errors.detach().mean()}
        patches = F.avg_pool2d(errors, self.made.transformer.config.patch_size).flatten(1)  # (B,P)
        if self.foreground != 1 and batch.targets is not None:
            counts = 1 + (self.foreground - 1) * (batch.targets.kinds > 0)  # (B,P)
            patches = patches * counts / counts.mean(dim=1, keepdim=True)
        losses["loss"] = (patches.mean(dim=1) * weights(self.noise, times)).mean()
        if self.heads is not None and batch.targets is not None:
            losses |= self.heads.losses(Seen(middle[0], middle[0]), batch.targets, self.grounding)
        return losses

    def _tapped(self) -> AbstractContextManager[list[Tensor]]:
        return nullcontext([]) if self.heads is None else middle_of(self.made.transformer)

    def _padded(self, batch: Batch) -> Tensor:
        if not self.settings.compile:
            return batch.tokens
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        return F.pad(batch.tokens, (0, data.longest(batch.manner) - batch.tokens.shape[1]), value=self.tokenizer.pad_id)

    def _empty(self, tokens: Tensor) -> Tensor:
        """The empty prompt, as the pipeline's tokenizer gives it, padded to (T,)."""
        row = torch.full_like(tokens[0], self.tokenizer.pad_id)
        row[0], row[1] = self.tokenizer.sot_id, self.tokenizer.eot_id
        return row

    def validation_step(self, batch: Batch, index: int) -> None:
        """Logs the loss of one batch, under noise that is the same in every validation."""
        losses, count = self.losses(batch, seed=-1 - index), len(batch.rows)
        self.log_dict({f"val/{name}": value for name, value in losses.items()}, batch_size=count)
        self.log(f"val/loss_{batch.manner}", losses["loss"], batch_size=count)

    def on_validation_epoch_end(self) -> None:
        """Writes a sheet of sample pictures."""
        if not self.sheet.pictures or not self.trainer.is_global_zero:
            return
        data: CaptionPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        prompts = data.validation_texts(next(iter(data.manners)))[: self.sheet.pictures]
        folder = Path(self.trainer.default_root_dir) / "samples"
        write_sheet(self.made, prompts, self.sheet, folder / f"step-{self.global_step:06d}.png")

    @property
    def trained(self) -> nn.Module:
        """The transformer and the text encoder."""
        networks: nn.Module = self.networks
        return networks

    def configure_optimizers(self) -> Any:
        """AdamW (and Muon on the transformer blocks' matrices) with its schedule."""
        groups = optim.parameter_groups(self.optimiser, self.networks, places(self.networks))
        if self.heads is not None:
            groups += optim.head_groups(self.optimiser, self.heads)
        factors = [lambda step: optim.factor(self.optimiser, step, self.trainer.max_steps)] * len(groups)
        return optim.assembled(self.optimiser, groups, factors, self.fused)

    def export(self, folder: Path) -> None:
        """Writes a folder that `DiffusionPipeline.from_pretrained` reads."""
        if self.trainer.is_global_zero:
            save_pipeline(self.made, folder)

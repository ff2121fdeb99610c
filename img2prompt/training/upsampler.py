"""The upsampler in training: a small language model that answers a short prompt with a long one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt.errors import ConfigError
from img2prompt.models.language import ChatModel, Sampling, load_chat_model
from img2prompt.models.language_making import new_chat_model, new_chat_tokenizer, save_chat_model
from img2prompt.pairs.storybook.drift import kept_share
from img2prompt.training import optim
from img2prompt.training.judging import Judge
from img2prompt.training.module import Training
from img2prompt.training.text_pairs import IGNORED, TextBatch, TextPairs


@dataclass(frozen=True)
class LanguageSettings:
    """Which language model is trained.

    Attributes:
        source: a chat model to go on from: a folder, or a name in the machine's cache.
        config: or the fields of transformers' `LlamaConfig` of a new one with random weights.
        vocab_size: tokens of a new model's own vocabulary, learned from the texts.
        grad_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        compile: torch.compile the model.
        seed: of random weights.
    """

    source: str | None = None
    config: dict[str, Any] | None = None
    vocab_size: int = 2048
    grad_checkpointing: bool = False
    compile: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Validate:
    """What validation writes.

    Attributes:
        texts: short prompts that are upsampled.
        storybook: count the facts that were kept, for texts of the storybook world.
        max_tokens: of an answer.
    """

    texts: int = 100
    storybook: bool = False
    max_tokens: int = 256


class UpsamplerTraining(Training):
    """Trains a causal language model on pairs of short and long prompts; the loss is that of the long one's tokens.

    Args:
        model: what is trained.
        optimiser: how the weights move.
        validate: what validation writes.
    """

    def __init__(
        self,
        model: LanguageSettings,
        optimiser: optim.Optimiser = optim.Optimiser(),  # noqa: B008 - frozen
        validate: Validate = Validate(),
    ) -> None:
        super().__init__()
        if (model.source is None) == (model.config is None):
            raise ConfigError("model.model: give either source (a chat model to go on from) or config (a new one)")
        self.settings, self.optimiser, self.validate = model, optimiser, validate
        self.language: Any = None
        self.tokenizer: Any = None
        self.judge: Judge | None = None

    def setup(self, stage: str) -> None:
        """Makes or loads the model, and has the data tokenised for it."""
        if self.language is not None:
            return
        data: TextPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        made = self._load() if self.settings.source else self._make(data)
        self.language, self.tokenizer = made.model.train(), made.tokenizer
        data.prepare(self.tokenizer, made.context_length)
        if self.settings.grad_checkpointing:
            self.language.gradient_checkpointing_enable()
        body = self.language.get_decoder()
        self._body = torch.compile(body, dynamic=True) if self.settings.compile else body

    def _load(self) -> ChatModel:
        return load_chat_model(self.settings.source or "", dtype=torch.float32)

    def _make(self, data: TextPairs) -> ChatModel:
        from transformers import AutoTokenizer

        kept = Path(self.trainer.default_root_dir) / "tokenizer"  # a resumed run keeps its vocabulary
        if kept.exists():
            tokenizer = AutoTokenizer.from_pretrained(kept, local_files_only=True)
        else:
            data.read()
            tokenizer = new_chat_tokenizer(
                (text for pair in data.texts["train"] for text in pair), self.settings.vocab_size
            )
            tokenizer.save_pretrained(kept)
        tokenizer.padding_side = "left"
        return new_chat_model(self.settings.config or {}, tokenizer, self.settings.seed)

    def training_step(self, batch: TextBatch, index: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: it is not finite.
        """
        loss = self.loss(batch)
        self.check(loss, {"loss": loss}, batch.number)
        if self.logs_now:
            self.log_dict({"train/loss": loss.detach(), "train/batch": float(batch.number)})
        self.trainer.datamodule.next_batch = batch.number + 1  # type: ignore[attr-defined]
        return loss

    def loss(self, batch: TextBatch) -> Tensor:
        """Mean cross-entropy of the answers' tokens."""
        labels = batch.labels[:, 1:]
        wanted = labels != IGNORED  # (B,T-1)
        # Padding stands on the right, where the causal mask hides it: no mask is needed.
        hidden = self._body(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state  # (B,T-1,W)
        logits = self.language.get_output_embeddings()(hidden[wanted])  # (M,V)
        return F.cross_entropy(logits.float(), labels[wanted])

    def validation_step(self, batch: TextBatch, index: int) -> None:
        """Logs the loss."""
        self.log("val/loss", self.loss(batch), batch_size=len(batch.rows))

    def on_validation_epoch_end(self) -> None:
        """Upsamples prompts and logs how good the results are."""
        if not self.validate.texts:
            return
        data: TextPairs = self.trainer.datamodule  # type: ignore[attr-defined]
        pairs = data.texts["validation"][: self.validate.texts]
        model = ChatModel(self.language.eval(), self.tokenizer, data.batch_size)
        answers = model.answer_many(
            [data.chat(short) for short, _ in pairs], Sampling(self.validate.max_tokens), [0] * len(pairs)
        )
        written = [answer.text for answer in answers]
        self.judge = self.judge or Judge()
        scores: Mapping[str, float] = self.judge.score(written, [long for _, long in pairs], None)
        self.log_dict({f"val/{name}": value for name, value in scores.items()})
        self.log("val/finished", sum(answer.finished for answer in answers) / len(answers))
        if self.validate.storybook:
            self.log("val/facts_kept", kept_share([short for short, _ in pairs], written))
        self.examples = {"upsampled": (written[0], pairs[0][0])}
        self.language.train()

    @property
    def trained(self) -> nn.Module:
        """The language model."""
        model: nn.Module = self.language
        return model

    def configure_optimizers(self) -> Any:
        """AdamW (and Muon on the blocks' matrices) with its schedule."""
        groups = optim.parameter_groups(self.optimiser, self.language, _places(self.language))
        factors = [lambda step: optim.factor(self.optimiser, step, self.trainer.max_steps)] * len(groups)
        return optim.assembled(self.optimiser, groups, factors, self.fused)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the random state too: a model with dropout draws from it."""
        checkpoint["rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        torch.set_rng_state(checkpoint["rng"].cpu())

    def export(self, folder: Path) -> None:
        """Writes a folder that `load_chat_model` and transformers read."""
        save_chat_model(self.language, self.tokenizer, folder)


_BLOCK = re.compile(r"\.layers\.(\d+)\.")  # as transformers names the blocks of decoders


def _places(model: nn.Module) -> dict[str, optim.Place]:
    """Where the parameters lie: before the blocks is the input, after them are the last norm and the output."""
    names = [name for name, _ in model.named_parameters()]
    found = {name: int(block[1]) for name in names if (block := _BLOCK.search(name))}
    top = max(found.values(), default=-1) + 1
    return {
        name: optim.Place(top - found[name], True)
        if name in found
        else optim.Place(top + 1 if "embed" in name else 0, False)
        for name in names
    }

"""Small text-to-image pipelines of our own: made with random weights, saved as diffusers reads them.

The pipeline is diffusers' `PRXPixelPipeline`: a transformer over patches of pixels that predicts the clean picture (Li
and He 2025, arXiv:2511.13720) and needs no autoencoder. `DiffusionPipeline.from_pretrained` loads a folder of
`save_pipeline`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn

from img2prompt.errors import ConfigError, ModelError, OutputError
from img2prompt.extras import need
from img2prompt.models.diffusion_loading import load_pipeline
from img2prompt.models.diffusion_settings import RunSettings
from img2prompt.models.quiet import quietly
from img2prompt.models.tokenizer import read_tokenizer, write_tokenizer

PIPELINE = "PRXPixelPipeline"
_WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class TextToImage:
    """The parts of a pipeline.

    Attributes:
        transformer: diffusers' PRXTransformer2DModel.
        text_encoder: transformers' T5EncoderModel.
        tokenizer: of the prompts.
        image_px: side of the pictures.
        max_tokens: of a prompt, start and end included.
        noise_scale: standard deviation of the noise that pictures start from.
        shift: of the sampler's time steps, as `FlowMatchEulerDiscreteScheduler` means it.
    """

    transformer: Any
    text_encoder: Any
    tokenizer: Tokenizer
    image_px: int
    max_tokens: int
    noise_scale: float = 1.0
    shift: float = 1.0

    def pipeline(self, folder: Path) -> Any:
        """The parts as a pipeline.

        Args:
            folder: where the tokenizer is written, as transformers reads it.
        """
        from diffusers import FlowMatchEulerDiscreteScheduler, PRXPixelPipeline
        from transformers import PreTrainedTokenizerFast

        write_tokenizer(self.tokenizer, folder, self.max_tokens)
        return PRXPixelPipeline(
            transformer=self.transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=self.shift),
            text_encoder=self.text_encoder,
            tokenizer=PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True),
            default_sample_size=self.image_px,
            prompt_max_tokens=self.max_tokens,
            noise_scale=self.noise_scale,
        )


def new_networks(
    transformer: Mapping[str, Any], text_encoder: Mapping[str, Any], tokenizer: Tokenizer, seed: int
) -> tuple[nn.Module, nn.Module]:
    """A transformer and a text encoder with random weights.

    Args:
        transformer: fields of `PRXTransformer2DModel`, e.g. hidden_size, num_heads, depth, patch_size.
        text_encoder: fields of transformers' `T5Config`, e.g. d_model, num_layers.
        tokenizer: of the prompts.
        seed: of the weights.

    Raises:
        MissingExtra: diffusers is not installed.
        ConfigError: a configuration does not hold together.
    """
    diffusers = need("diffusers", "diffusion")
    from transformers import T5Config, T5EncoderModel

    ids = {"pad_token_id": tokenizer.token_to_id("<pad>"), "eos_token_id": tokenizer.token_to_id("<end>")}
    try:
        settings = T5Config(**{"dropout_rate": 0.0, **text_encoder, **ids, "vocab_size": tokenizer.get_vocab_size()})
        fields = {"in_channels": 3, **transformer, "context_in_dim": settings.d_model}
        width = int(fields["hidden_size"]) // int(fields["num_heads"])
        fields.setdefault("axes_dim", [width // 4 * 2, width - width // 4 * 2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return diffusers.PRXTransformer2DModel(**fields), T5EncoderModel(settings)
    except (TypeError, ValueError, KeyError, ZeroDivisionError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"model.model: {' '.join(str(error).split())}") from error


def load_text_to_image(folder: Path) -> TextToImage:
    """The parts of a folder of `save_pipeline`, in float32.

    Raises:
        MissingExtra: diffusers is not installed.
        ModelError: it is unusable, or another kind of pipeline.
    """
    pipeline = load_pipeline(folder, RunSettings(device="cpu", dtype="float32"), "cpu")
    if type(pipeline).__name__ != PIPELINE or type(pipeline.text_encoder).__name__ != "T5EncoderModel":
        raise ModelError(
            f"{folder}: a {type(pipeline).__name__}; only a {PIPELINE} with a T5 encoder can go on training"
        )
    config = pipeline.config
    return TextToImage(
        pipeline.transformer,
        pipeline.text_encoder,
        read_tokenizer(folder / "tokenizer").inner,
        config.default_sample_size,
        config.prompt_max_tokens,
        config.noise_scale,
        pipeline.scheduler.config.shift,
    )


def save_pipeline(model: TextToImage, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes a folder that diffusers reads; the files appear one by one, each whole or not at all, weights last.

    Raises:
        OutputError: it cannot be written.
    """
    with quietly("diffusers"):
        transformer, text_encoder = (
            deepcopy(part).to("cpu", dtype) for part in (model.transformer, model.text_encoder)
        )
    parts = replace(model, transformer=transformer, text_encoder=text_encoder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder.parent) as scratch:
            fresh, words = Path(scratch) / "model", Path(scratch) / "words"
            words.mkdir()
            with quietly("diffusers"):
                parts.pipeline(words).save_pretrained(fresh, safe_serialization=True)
            shutil.rmtree(fresh / "tokenizer")
            words.rename(fresh / "tokenizer")  # as written: transformers adds keys of its version
            _rewrite(fresh / "model_index.json", tokenizer=["transformers", "PreTrainedTokenizerFast"])
            # transformers would load the text encoder in the precision of the file, diffusers the rest in float32.
            _rewrite(fresh / "text_encoder" / "config.json", dtype="float32")
            _rewrite(fresh / "transformer" / "config.json", _name_or_path=None)  # where its start was read
            files = sorted((p for p in fresh.rglob("*") if p.is_file()), key=lambda path: path.suffix == _WEIGHTS)
            for path in files:
                path.chmod(0o644)
                target = folder / path.relative_to(fresh)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from error


def _rewrite(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file, to what every version of the libraries reads alike; None takes one away."""
    known = json.loads(path.read_text(encoding="utf-8")) | changes
    known = {key: value for key, value in known.items() if value is not None or key not in changes}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")

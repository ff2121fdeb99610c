"""open_clip CoCa (Yu et al. 2022, arXiv:2205.01917): make, load, save, freeze, and the way pictures go in.

A model folder is open_clip's own "local-dir" format, so open_clip itself loads what `save_coca` writes:
open_clip_config.json (model_cfg, preprocess_cfg and, for facts that only this package reads, img2prompt),
open_clip_model.safetensors, and tokenizer.json with tokenizer_config.json when the vocabulary is the model's own.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from open_clip import CoCa
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from safetensors.torch import save_file
from torch import Tensor

from img2prompt.errors import ModelError, OutputError
from img2prompt.models.checkpoint import CONFIG, WEIGHTS, Checkpoint, fill, find_checkpoint
from img2prompt.models.freezing import freeze
from img2prompt.models.tokenizer import (
    ClipTokenizer,
    CocaTokenizer,
    own_tokenizer,
    read_tokenizer,
    token_rows,
    train_tokenizer,
    write_tokenizer,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from tokenizers import Tokenizer

__all__ = [
    "LoadedCoca",
    "encode_images",
    "freeze",
    "load_coca",
    "new_coca",
    "own_tokenizer",
    "save_coca",
    "token_rows",
    "train_tokenizer",
]


@dataclass(frozen=True)
class LoadedCoca:
    """A captioner ready for use.

    Attributes:
        model: `open_clip.CoCa` in evaluation mode.
        tokenizer: encode, decode, and the ids of start, end and padding.
        image_px: side of the square the tower sees.
        mean: per channel, of values in 0..1.
        std: likewise.
        config: the whole open_clip_config.json: model_cfg, preprocess_cfg, perhaps img2prompt.
        source: what the user named.
    """

    model: CoCa
    tokenizer: CocaTokenizer
    image_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    config: dict[str, Any]
    source: str

    @property
    def prefixes(self) -> dict[str, str]:
        """Style -> the words that ask for it, e.g. {"short": "short:"}; empty for a general CoCa."""
        return dict(self.config.get("img2prompt", {}).get("prefixes", {}))

    @property
    def context_length(self) -> int:
        """Tokens that fit, start and end included."""
        return int(self.model.context_length)

    def transform(self) -> Callable[[Image], Tensor]:
        """open_clip's own evaluation transform of this model: Image -> (3,H,W) float32."""
        settings = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), self.config.get("preprocess_cfg", {})))
        return image_transform_v2(settings, is_train=False)  # type: ignore[no-any-return]


def new_coca(config: dict[str, Any], seed: int) -> CoCa:
    """A CoCa with random weights that depend on `seed` only.

    Args:
        config: the layout of open_clip_config.json, or its "model_cfg" alone.
        seed: of the weights; the global random state is left as it was.

    Raises:
        ModelError: the configuration is no CoCa that can caption.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _build(_model_cfg(config), "the configuration")
        with torch.no_grad():
            # open_clip leaves the vocabulary projection as allocated: whatever was in memory.
            width = model.text_decoder.text_projection.shape[0]
            model.text_decoder.text_projection.normal_(std=width**-0.5)
    return model


def load_coca(source: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LoadedCoca:
    """Loads a CoCa that is on this machine; never downloads.

    Args:
        source: a folder, "local-dir:FOLDER", "hf-hub:ORG/NAME", or "ARCHITECTURE/TAG" of open_clip
            (e.g. "coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k"); the last two from Hugging Face's cache.
        device: where the weights go.
        dtype: of the weights.

    Raises:
        ModelError: files are missing or damaged, hold code, or do not fit the architecture; or it is no CoCa.
        PresetError: the model is not in the cache.
    """
    found: Checkpoint = find_checkpoint(str(source))
    model_cfg = _model_cfg(found.config)
    with torch.device("meta"):  # weights come from the file: filling them with random numbers first costs seconds
        model = _build(model_cfg, str(source))
    fill(model, found.weights, dtype)
    for part in (model.text, model.text_decoder):  # masks are buffers that no checkpoint holds
        if getattr(part, "attn_mask", None) is not None:
            rebuild = part.build_causal_mask if part is model.text else part.build_attention_mask
            part.attn_mask = rebuild().to(dtype)
    settings = merge_preprocess_dict(asdict(PreprocessCfg()), found.config.get("preprocess_cfg", {}))
    settings["size"] = model.visual.image_size
    tokenizer: CocaTokenizer = ClipTokenizer(pad_id=model.pad_id)
    if model_cfg["text_cfg"].get("hf_tokenizer_name"):
        tokenizer = read_tokenizer(found.folder)
    if tokenizer.vocab_size > model.text.vocab_size:
        raise ModelError(f"{source}: {tokenizer.vocab_size} tokens, but the model knows {model.text.vocab_size}")
    model.visual.preprocess_cfg = settings  # where open_clip itself keeps it
    return LoadedCoca(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        image_px=int(model.visual.image_size[0]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        config={**found.config, "preprocess_cfg": settings},
        source=str(source),
    )


def save_coca(
    model: CoCa, config: dict[str, Any], folder: str | Path, tokenizer: Tokenizer | None = None, *, half: bool = False
) -> Path:
    """Writes a model folder that `load_coca` and plain open_clip ("local-dir:FOLDER") read.

    Files appear complete or not at all: they are written beside the folder and then renamed, the configuration
    last. Other files of an existing folder stay.

    Args:
        model: the model.
        config: the layout of open_clip_config.json, or its "model_cfg" alone.
        folder: created if absent.
        tokenizer: the model's own vocabulary from `train_tokenizer`; None: CLIP's.
        half: float16 weights (half the bytes) instead of float32.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    whole = {"model_cfg": _model_cfg(config)} | {
        k: v for k, v in config.items() if k in ("preprocess_cfg", "img2prompt")
    }
    whole["model_cfg"]["custom_text"] = True  # open_clip builds a CoCa only when this is set
    whole.setdefault("preprocess_cfg", {"mean": PreprocessCfg().mean, "std": PreprocessCfg().std})
    if tokenizer is not None:
        whole["model_cfg"]["text_cfg"].setdefault("hf_tokenizer_name", "tokenizer.json")
    weights = {
        name: value.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
        for name, value in model.state_dict().items()
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            save_file(weights, fresh / WEIGHTS, metadata={"format": "pt"})
            if tokenizer is not None:
                write_tokenizer(tokenizer, fresh, model.context_length)
            text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
            (fresh / CONFIG).write_text(text, encoding="utf-8")
            folder.mkdir(exist_ok=True)
            for path in sorted(fresh.iterdir(), key=lambda path: path.name == CONFIG):
                path.chmod(0o644)  # mkdtemp's files may be private
                path.replace(folder / path.name)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}; choose a folder that can be written") from error
    return folder


def encode_images(loaded: LoadedCoca, images: Sequence[Image], *, draft: bool = False) -> Tensor:
    """Pictures as the tower wants them: open_clip's own transform of this model.

    Args:
        loaded: the model.
        images: B pictures.
        draft: let a JPEG that has not been read yet be decoded at a half, quarter or eighth of its size, but at
            least twice what the tower sees. Nearly twice as fast from 512 px; values differ in the last bits of 8.

    Returns:
        (B,3,H,W) float32 on the CPU.
    """
    if not images:
        return torch.zeros(0, 3, loaded.image_px, loaded.image_px)
    transform = loaded.transform()
    if draft:
        for image in images:
            image.draft("RGB", (2 * loaded.image_px, 2 * loaded.image_px))
    return torch.stack([transform(image) for image in images])  # (B,3,H,W)


def _model_cfg(config: dict[str, Any]) -> dict[str, Any]:
    return deepcopy(config.get("model_cfg", config))


def _build(model_cfg: dict[str, Any], where: str) -> CoCa:
    if not all(isinstance(model_cfg.get(key), dict) for key in ("vision_cfg", "text_cfg", "multimodal_cfg")):
        raise ModelError(
            f"{where}: not a CoCa (vision_cfg, text_cfg and multimodal_cfg are needed); choose a coca model"
        )
    vision, pool = model_cfg["vision_cfg"], model_cfg["vision_cfg"].get("attentional_pool")
    if not pool and not vision.get("output_tokens"):
        raise ModelError(
            f"{where}: without attentional_pool, vision_cfg needs output_tokens for the decoder to look at"
        )
    # The decoder adds what it sees to what it reads, so these meet: pooled tokens, or else the patches themselves.
    widths = {f"{key}.width": model_cfg[key].get("width", 512) for key in ("text_cfg", "multimodal_cfg")}
    if pool:
        widths["embed_dim"] = model_cfg.get("embed_dim")
    if not pool or isinstance(pool, str):  # "parallel" and "cascade" normalize before they pool
        widths["vision_cfg.width"] = vision.get("width", 768)
    if len(set(widths.values())) != 1:
        raise ModelError(f"{where}: these must be equal: {', '.join(f'{k} {v}' for k, v in widths.items())}")
    for tower, key in (("text_cfg", "hf_model_name"), ("vision_cfg", "timm_model_name")):
        if model_cfg[tower].get(key):
            raise ModelError(f"{where}: {key} in {tower} is not supported; choose a CoCa with open_clip's own towers")
    arguments = {key: value for key, value in deepcopy(model_cfg).items() if key != "custom_text"}
    try:
        return CoCa(**arguments)
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        raise ModelError(f"{where}: open_clip cannot build this model ({error}); check model_cfg") from error

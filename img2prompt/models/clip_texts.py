"""The text side of a CLIP whose vision side is a regressor's tower: texts into the space that both share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from img2prompt.errors import ConfigError, ModelError, first_lines
from img2prompt.models.checkpoint import fill
from img2prompt.models.coca import load_coca
from img2prompt.models.quiet import quietly
from img2prompt.models.tokenizer import ClipTokenizer, CocaTokenizer, read_tokenizer, token_rows
from img2prompt.models.tower_base import TowerSpec, find_folder
from img2prompt.models.tower_open_clip import find_open_clip

_Encode = Callable[[list[str]], Tensor]  # B texts -> (B,E)


class ClipTexts:
    """Embeds texts as the checkpoint of a tower does."""

    def __init__(self, tower: TowerSpec, device: str = "cpu") -> None:
        """Loads the text side from where the tower's weights lie.

        Raises:
            ConfigError: the tower's family has no texts, or the specification names no source.
            ModelError, PresetError: the checkpoint is damaged, absent or holds no text side.
        """
        if tower.family not in _FAMILIES or tower.source is None:
            raise ConfigError(
                f"{tower.family} {tower.source or 'without a source'}: holds no text side; take a CLIP of"
                f" {' or '.join(_FAMILIES)} with its source"
            )
        self._encode = _FAMILIES[tower.family](tower.source, device)

    @torch.inference_mode()
    def embed_many(self, texts: Sequence[str], batch_size: int = 64) -> NDArray[np.float32]:
        """(N,E) float32 of unit length; a text longer than the model reads is cut."""
        rows = [
            nn.functional.normalize(self._encode(list(texts[start : start + batch_size])).float(), dim=-1).cpu()
            for start in range(0, len(texts), batch_size)
        ]
        return torch.cat(rows).numpy() if rows else np.zeros((0, 0), np.float32)


def _open_clip(source: str, device: str) -> _Encode:
    from open_clip import CLIP, CustomTextCLIP

    found = find_open_clip(source)
    model_cfg = dict(found.config.get("model_cfg", {}))
    tokenizer: CocaTokenizer = ClipTokenizer()
    if "multimodal_cfg" in model_cfg:
        loaded = load_coca(source, device=device)
        model, tokenizer = loaded.model, loaded.tokenizer
    else:
        text = model_cfg.get("text_cfg", {})
        if text.get("hf_model_name"):
            raise ModelError(f"{source}: its text tower is {text['hf_model_name']}; choose a CLIP with open_clip's own")
        if text.get("hf_tokenizer_name"):
            tokenizer = read_tokenizer(found.folder)
        make = CustomTextCLIP if model_cfg.pop("custom_text", False) else CLIP
        try:
            model = make(**{k: v for k, v in model_cfg.items() if k != "non_strict"})
        except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
            raise ModelError(f"{source}: open_clip cannot build this model ({first_lines(error)})") from error
        fill(model, found.weights, torch.float32)
    model = model.to(device).eval()

    def encode(texts: list[str]) -> Tensor:
        rows = token_rows(tokenizer, texts, model.context_length)
        return model.encode_text(rows.to(device))  # type: ignore[no-any-return]

    return encode


def _transformers(source: str, device: str) -> _Encode:
    import transformers

    folder = find_folder(source, "config.json")
    model, tokenizer = _whole(folder, transformers)
    model = model.to(device).eval()
    siglip = model.config.model_type == "siglip"  # learned from rows of full length
    length = model.config.text_config.max_position_embeddings

    def encode(texts: list[str]) -> Tensor:
        rows = tokenizer(
            texts, padding="max_length" if siglip else True, truncation=True, max_length=length, return_tensors="pt"
        )
        mask = {} if siglip else {"attention_mask": rows["attention_mask"].to(device)}
        found: Tensor = model.get_text_features(input_ids=rows["input_ids"].to(device), **mask).pooler_output
        return found

    return encode


def _whole(folder: Path, transformers: Any) -> tuple[Any, Any]:
    """The whole model and its tokenizer."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in ("clip", "siglip"):
            raise ModelError(f"{folder}: a {config.model_type} holds no text side; take the whole CLIP or SigLIP")
        with quietly():
            model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return model, transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: transformers cannot load it ({first_lines(error)}); copy it again") from error


# One row a family that has texts.
_FAMILIES: dict[str, Callable[[str, str], _Encode]] = {"open_clip": _open_clip, "transformers": _transformers}

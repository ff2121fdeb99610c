"""Small chat models of our own: made with random weights, saved as transformers reads them.

`AutoModelForCausalLM` and `AutoTokenizer` load a folder of `save_chat_model`, the chat template included.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2prompt.errors import ConfigError, OutputError
from img2prompt.models.language import ChatModel
from img2prompt.models.quiet import quietly

PAD, END = "<|pad|>", "<|end|>"
_ROLES = ("system", "user", "assistant")
# Each message is its role, its text and an end; an answer begins after "<|assistant|>".
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def new_chat_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE with its own small vocabulary and a chat template; upper and lower case are kept.

    Raises:
        ConfigError: `vocab_size` has no room for the 256 bytes and the special tokens.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, END, *(f"<|{role}|>" for role in _ROLES)]
    if vocab_size < 256 + len(special):
        raise ConfigError(f"a vocabulary of {vocab_size} tokens: at least {256 + len(special)} are needed")
    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    # A space before the first word too, so that a word is the same token wherever it stands.
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=special[2:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def new_chat_model(config: Mapping[str, Any], tokenizer: Any, seed: int) -> ChatModel:
    """A Llama-like model with random weights.

    Args:
        config: fields of transformers' `LlamaConfig`, e.g. hidden_size, num_hidden_layers.
        tokenizer: of `new_chat_tokenizer`.
        seed: of the weights.

    Raises:
        ConfigError: the configuration does not hold together.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    try:
        settings = LlamaConfig(**{"tie_word_embeddings": True, **config, **ids, "vocab_size": len(tokenizer)})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(settings)
    except (TypeError, ValueError, ZeroDivisionError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"model.model.config: {' '.join(str(error).split())}") from error
    tokenizer.model_max_length = settings.max_position_embeddings
    return ChatModel(model, tokenizer)


def save_chat_model(model: nn.Module, tokenizer: Any, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes a folder that transformers reads; the files appear one by one, the weights whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".tmp", dir=folder.parent) as scratch:
            fresh = Path(scratch) / folder.name
            state = {name: value.detach().to("cpu", dtype) for name, value in model.state_dict().items()}
            tied = getattr(model.config, "tie_word_embeddings", False)
            kept = {name: value for name, value in state.items() if not (tied and name == "lm_head.weight")}
            with quietly():
                model.save_pretrained(fresh, state_dict=kept, safe_serialization=True)  # type: ignore[operator]
            tokenizer.save_pretrained(fresh)
            folder.mkdir(exist_ok=True)
            for path in sorted(fresh.iterdir(), key=lambda path: path.suffix == ".safetensors"):  # the weights last
                path.chmod(0o644)
                shutil.move(path, folder / path.name)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}") from error

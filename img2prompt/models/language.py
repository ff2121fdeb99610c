"""Chat models: causal language models of transformers that answer messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from img2prompt.errors import MissingExtra, ModelError
from img2prompt.models.chat import Answer, Chat, ChatBackend, Sampling
from img2prompt.models.devices import fast_dtype
from img2prompt.models.quiet import quietly

__all__ = ["Answer", "Chat", "ChatBackend", "ChatModel", "Sampling", "load_chat_model"]


@dataclass
class ChatModel:
    """A language model with its tokenizer, ready to answer.

    Attributes:
        model: of transformers, causal.
        tokenizer: of transformers, with a chat template.
        batch_size: chats that are answered together.
    """

    model: Any
    tokenizer: Any
    batch_size: int = 16

    @property
    def context_length(self) -> int:
        """Tokens of question and answer together."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 20))

    def answer_many(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Answers each chat with its own seed: the same chat and seed give the same answer in any company.

        Raises:
            ModelError: a chat leaves no room for an answer.
        """
        if len(chats) != len(seeds):
            raise ValueError("every chat has its seed")
        asked = [self.ids(chat) for chat in chats]
        # Alike in length go together; the answers come back in the order of the questions.
        order = sorted(range(len(asked)), key=lambda i: len(asked[i]))
        answers: dict[int, Answer] = {}
        for first in range(0, len(order), self.batch_size):
            some = order[first : first + self.batch_size]
            found = self._answer([asked[i] for i in some], sampling, [seeds[i] for i in some])
            answers.update(zip(some, found, strict=True))
        return [answers[i] for i in range(len(chats))]

    def ids(self, chat: Chat) -> list[int]:
        """The tokens of a chat up to where the answer begins.

        Raises:
            ModelError: it leaves no room for an answer.
        """
        ids = self._templated([{**message, "content": self._inert(message["content"])} for message in chat])
        if len(ids) >= self.context_length:
            raise ModelError(
                f"a prompt of {len(ids)} tokens: the language model takes {self.context_length - 1}; shorten the prompt"
            )
        return [int(i) for i in ids]

    def _templated(self, chat: list[dict[str, str]]) -> list[int]:
        from jinja2 import TemplateError

        options = {"add_generation_prompt": True, "return_dict": False}
        try:
            ids: list[int] = self.tokenizer.apply_chat_template(chat, **options)
        except TemplateError:  # some models have no system role: what they are told goes before what they are asked
            if chat[0]["role"] != "system":
                raise
            first = {**chat[1], "content": f"{chat[0]['content']}\n\n{chat[1]['content']}"}
            ids = self.tokenizer.apply_chat_template([first, *chat[2:]], **options)
        return ids

    @cached_property
    def _special(self) -> tuple[str, ...]:
        """Special tokens of the tokenizer, which takes its time to list them."""
        told = [str(token) for token in self.tokenizer.all_special_tokens if str(token).strip()]
        told += [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return tuple(dict.fromkeys(told))

    def _inert(self, text: str) -> str:
        """The text without special tokens such as "<|im_end|>": a message must not end itself and speak as another."""
        found = True
        while found:  # taking one out may make another
            found = False
            for token in self._special:
                if token in text:
                    text, found = text.replace(token, " "), True
        return text

    @torch.inference_mode()
    def _answer(self, asked: list[list[int]], sampling: Sampling, seeds: list[int]) -> list[Answer]:
        from transformers import GenerationConfig, LogitsProcessorList

        longest = max(map(len, asked))
        pad_id = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids = torch.full((len(asked), longest), pad_id)  # (B,T), padded on the left
        mask = torch.zeros_like(ids)
        for row, (text, seen) in enumerate(zip(asked, mask, strict=True)):
            ids[row, longest - len(text) :] = torch.tensor(text)
            seen[longest - len(text) :] = 1
        room = min(sampling.max_tokens, self.context_length - longest)
        stops = _stops(self.model, self.tokenizer)
        settings = GenerationConfig(
            max_new_tokens=room, do_sample=False, num_beams=1, pad_token_id=pad_id, eos_token_id=stops, use_cache=True
        )
        draws = LogitsProcessorList([_Draw(sampling, seeds)] if sampling.temperature else [])
        device = self.model.device
        made = self.model.generate(
            ids.to(device), attention_mask=mask.to(device), generation_config=settings, logits_processor=draws
        )
        return [self._read(row.tolist(), stops) for row in made[:, longest:].cpu()]

    def _read(self, ids: list[int], stops: list[int]) -> Answer:
        end = next((place for place, token in enumerate(ids) if token in stops), None)
        text = self.tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        return Answer(text, len(ids[:end]), end is not None)


class _Draw:
    """Makes taking the largest logit a draw from the nucleus: Gumbel noise from a generator for each chat.

    The largest of logit / temperature + Gumbel noise is distributed as a draw from the softmax (Gumbel-max).
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self.sampling = sampling
        self.generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        logits = logits.float() / self.sampling.temperature  # (B,V)
        if self.sampling.top_p < 1:
            ranked, order = logits.sort(descending=True)
            before = ranked.softmax(-1).cumsum(-1) - ranked.softmax(-1)  # (B,V) probability of the likelier ones
            logits = logits.masked_fill((before >= self.sampling.top_p).gather(1, order.argsort(1)), -torch.inf)
        noise = torch.stack([torch.rand(logits.shape[1], generator=g) for g in self.generators]).to(logits.device)
        return logits - (-(noise.clamp_min(1e-20).log())).log()


def _stops(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the tokenizer's and those that the model's own settings name."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return sorted({int(i) for i in (*several, tokenizer.eos_token_id) if i is not None})


def load_chat_model(
    source: str | Path,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    batch_size: int = 16,
    bits: int | None = None,
) -> ChatModel:
    """Loads a causal language model and its tokenizer from a folder or the machine's cache; nothing is downloaded.

    Args:
        source: a folder, or a repository's name whose files are in the cache.
        device: where it computes.
        dtype: of the weights; None: bfloat16 where the device multiplies it, else float32.
        batch_size: chats that are answered together.
        bits: 4 or 8 loads the weights so, through bitsandbytes (Dettmers et al. 2022 and 2023, arXiv:2208.07339 and
            2305.14314).

    Raises:
        MissingExtra: bits are asked for and bitsandbytes is not installed.
        ModelError: there is no such model here, it is damaged, or its tokenizer has no chat template.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    quantized = _quantized(bits, device)
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(str(source), **options)
            model = AutoModelForCausalLM.from_pretrained(
                str(source), dtype=dtype or fast_dtype(device), use_safetensors=True, **quantized, **options
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{source}: not a language model that is on this machine ({line})") from error
    if not tokenizer.chat_template:
        raise ModelError(f"{source}: its tokenizer has no chat template; take a chat or instruct model")
    tokenizer.padding_side = "left"
    return ChatModel(model.eval() if quantized else model.eval().to(device), tokenizer, batch_size)


def _quantized(bits: int | None, device: str) -> dict[str, Any]:
    """Arguments that load weights in few bits, onto their device."""
    if bits is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise MissingExtra(f"{bits} bits: bitsandbytes is not installed; install it with: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_8bit=bits == 8,
        load_in_4bit=bits == 4,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=fast_dtype(device),
    )
    return {"quantization_config": config, "device_map": {"": device}}

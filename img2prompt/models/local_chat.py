"""A chat model of transformers on this machine, as a back end that a batch cannot break."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from img2prompt import hub
from img2prompt.errors import ModelError, PresetError
from img2prompt.models.chat import Answer, Chat, Sampling
from img2prompt.models.devices import usable
from img2prompt.models.language import ChatModel, load_chat_model
from img2prompt.results import Failed

_log = logging.getLogger(__name__)

_SHA256 = re.compile("[0-9a-f]{64}")


class LocalChat:
    """Answers chats with a model on this machine; a `ChatBackend`.

    Args:
        model: what answers.
        name: of the model, as results have it.
        about: plain data that settles its answers beside the sampling: fingerprint, precision.
    """

    def __init__(self, model: ChatModel, name: str, about: Mapping[str, Any]) -> None:
        self.model, self.name = model, name
        self._about = dict(about)

    @property
    def batch_size(self) -> int:
        """Chats that are answered together; it shrinks when memory runs out."""
        return self.model.batch_size

    def settings(self) -> dict[str, Any]:
        """What settles an answer beside chat, sampling and seed."""
        return dict(self._about)

    def answer_many(self, chats: Sequence[Chat], sampling: Sampling, seeds: Sequence[int]) -> list[Answer | Failed]:
        """An answer for each; a chat without room for an answer is a Failed row."""
        found: dict[int, Answer | Failed] = {}
        lengths: dict[int, int] = {}
        for i, chat in enumerate(chats):
            try:
                lengths[i] = len(self.model.ids(chat))
            except ModelError as error:
                found[i] = Failed(chat[-1]["content"], str(error), "PromptTooLong")
        waiting = sorted(lengths, key=lambda i: lengths[i])  # alike in length go together
        while waiting:
            some = waiting[: self.model.batch_size]
            answers: Sequence[Answer | Failed]
            try:
                answers = self.model.answer_many([chats[i] for i in some], sampling, [seeds[i] for i in some])
            except torch.OutOfMemoryError:
                if len(some) > 1:
                    self._shrink(len(some) // 2)
                    continue
                answers = [Failed(chats[some[0]][-1]["content"], _NO_MEMORY, "OutOfMemory")]
            found.update(zip(some, answers, strict=True))
            waiting = waiting[len(some) :]
        return [found[i] for i in range(len(chats))]

    def _shrink(self, batch_size: int) -> None:
        self.model.batch_size = batch_size
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _log.warning("%s: out of memory; going on with %d prompts at once", self.name, batch_size)


_NO_MEMORY = "not enough memory for a single answer; take a smaller model, or load this one in 4 bits"


def open_local_chat(
    source: str, name: str | None = None, device: str = "cpu", batch_size: int = 16, bits: int | None = None
) -> LocalChat:
    """Loads a chat model from a folder or the machine's cache; nothing is downloaded.

    Args:
        source: a folder, or a repository "OWNER/NAME" whose files are in the cache.
        name: for results; None: the source, of a folder only its own name.
        device: where it computes; "auto" takes CUDA when there is one.
        batch_size: chats that are answered together.
        bits: 4 or 8 loads the weights so, through bitsandbytes.

    Raises:
        MissingExtra: bits are asked for and bitsandbytes is not installed.
        PresetError: the model is not on this machine.
        ModelError: it is damaged, or no chat model.
        ConfigError: there is no such device.
    """
    folder = _folder(source)
    device = usable(device)
    # On a processor float32: so fine that rounding, which a batch changes, all but never decides between two tokens.
    dtype = None if device.startswith("cuda") else torch.float32
    model = load_chat_model(folder, device, dtype, batch_size, bits)
    precision = f"{bits} bits" if bits else str(model.model.dtype).removeprefix("torch.")
    shown = name or (folder.resolve().name if Path(source).is_dir() else source)
    return LocalChat(model, shown, {"fingerprint": _fingerprint(folder), "precision": precision})


def download_of(repository: str) -> str:
    """The command that brings what is read of a repository, and none of its other formats."""
    return f"hf download {repository} --exclude '*.bin' '*.gguf' 'original/*'"


def _folder(source: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise PresetError(f"{source}: neither a folder nor a repository's name; give a folder or OWNER/NAME")
    config = hub.cached_file(source, "config.json")
    if config is None:
        raise PresetError(f"{source}: not on this machine; get it with: {download_of(source)}")
    return config.parent


def _fingerprint(folder: Path) -> str:
    """Of every file that settles an answer, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".jinja", ".safetensors", ".model", ".txt"):
            # The hub's cache calls a large file by its SHA-256: no need to read gigabytes for it.
            stored = path.resolve().name
            digest.update(f"{path.name} {stored if _SHA256.fullmatch(stored) else hub.sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]

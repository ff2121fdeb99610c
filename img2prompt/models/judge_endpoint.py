"""A judge behind an OpenAI-compatible endpoint: a vision-language model checks a picture against its prompt.

The model lists what the prompt asks for and whether the picture shows it; the score is the share that is met, computed
here. So nothing that a model likes beside the prompt can raise a score: neither beauty nor objects nobody asked for.
(The way of Cho et al., "Davidsonian Scene Graph", ICLR 2024, and Hu et al., "TIFA", ICCV 2023, in one question.)
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from img2prompt.errors import ConfigError
from img2prompt.models.chat import Answer, Chat, ChatBackend, Sampling
from img2prompt.models.judge_answers import Verdict, read_verdict
from img2prompt.results import Failed
from img2prompt.tracing import span

if TYPE_CHECKING:
    from PIL.Image import Image

RUBRIC = Path(__file__).with_name("judge_rubric.md")
MOST_PX = 768  # longer side of a picture that is sent: what usual models see of it
MOST_BYTES = 512 * 1024  # of its file
ASKED = 2  # times, before an answer that cannot be read becomes a failure
_SAMPLING = Sampling(max_tokens=2048)
_MOST_CHARACTERS = 8000  # of a prompt
_REQUIREMENT = {
    "type": "object",
    "properties": {"asked": {"type": "string"}, "met": {"type": "string", "enum": ["yes", "partly", "no"]}},
    "required": ["asked", "met"],
    "additionalProperties": False,
}
_SCHEMA = {
    "type": "object",
    "properties": {
        "requirements": {"type": "array", "items": _REQUIREMENT},
        "unrequested": {"type": "array", "items": {"type": "string"}},
        "why": {"type": "string"},
    },
    "required": ["requirements", "unrequested", "why"],
    "additionalProperties": False,
}
# What a request holds beside the messages; a server that does not know it is asked without.
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": _SCHEMA}}


@dataclass(frozen=True, slots=True)
class Rubric:
    """How a model is to judge.

    Attributes:
        text: the system message.
        label: name and hash, as results have it.
    """

    text: str
    label: str


def load_rubric(path: str | Path | None = None) -> Rubric:
    """Reads a rubric; None: ours.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    path = RUBRIC if path is None else Path(path)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"rubric {path}: cannot be read as text ({error}); give a readable file") from error
    if not text:
        raise ConfigError(f"rubric {path}: is empty; say in it how to judge")
    return Rubric(text, f"{path.stem}@{hashlib.sha256(text.encode()).hexdigest()[:12]}")


class EndpointJudge:
    """Judges pictures through a chat back end that takes pictures.

    Args:
        backend: what is asked, such as an `EndpointChat`.
        rubric: how it is to judge.
    """

    def __init__(self, backend: ChatBackend, rubric: Rubric) -> None:
        self._backend, self._rubric = backend, rubric
        self.name = backend.name

    def settings(self) -> dict[str, Any]:
        """What settles a verdict beside picture and prompt, as far as an endpoint can."""
        return {"model": self._backend.name, **self._backend.settings(), "rubric": self._rubric.label}

    def judge_many(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Verdict | Failed]:
        """A verdict on each picture and the prompt at its place.

        What gets no answer that can be read, or none at all, is a Failed row whose source is the prompt.
        """
        pairs = list(zip(images, prompts, strict=True))
        found: list[Verdict | Failed] = []
        step = max(self._backend.batch_size, 1)
        for start in range(0, len(pairs), step):  # only so many pictures at once as text in memory
            found += self._judge(pairs[start : start + step])
        return found

    def _judge(self, pairs: Sequence[tuple[Image, str]]) -> list[Verdict | Failed]:
        chats = [self._chat(image, prompt) for image, prompt in pairs]
        found: list[Verdict | Failed] = [Failed(prompt, "was not asked", "Malformed") for _, prompt in pairs]
        waiting = list(range(len(pairs)))
        for attempt in range(ASKED):
            with span("judge", model=self.name, rubric=self._rubric.label, prompts=[pairs[i][1] for i in waiting]) as s:
                answers = self._backend.answer_many(
                    [cast(Chat, chats[i]) for i in waiting], _SAMPLING, [attempt] * len(waiting)
                )
                for i, answer in zip(waiting, answers, strict=True):
                    found[i] = _read(answer, pairs[i][1])
                s.set(scores=[v.score for i in waiting if isinstance(v := found[i], Verdict)], attempt=attempt + 1)
            waiting = [i for i in waiting if isinstance(v := found[i], Failed) and v.kind == "Malformed"]
            if not waiting:
                break
            for i in waiting:
                chats[i] = [*chats[i], *_again(found[i])]
        return found

    def _chat(self, image: Image, prompt: str) -> list[dict[str, Any]]:
        words = json.dumps(prompt[:_MOST_CHARACTERS], ensure_ascii=False)
        question = f"The text, as a JSON string:\n\n{words}\n\nCheck the picture against it, and answer as JSON."
        content = [
            {"type": "text", "text": question},
            {"type": "image_url", "image_url": {"url": picture_uri(image)}},
        ]
        return [{"role": "system", "content": self._rubric.text}, {"role": "user", "content": content}]


def picture_uri(image: Image, *, most_px: int = MOST_PX, most_bytes: int = MOST_BYTES) -> str:
    """A picture as the data URI of a JPEG: its longer side at most `most_px`, its file at most `most_bytes`."""
    small = image.convert("RGB")
    small.thumbnail((most_px, most_px))
    for quality in (90, 75, 50, 25):
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=quality, subsampling=0 if quality > 80 else 2)
        if sink.tell() <= most_bytes:
            return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode('ascii')}"
    return picture_uri(small, most_px=max(small.size) // 2, most_bytes=most_bytes)


def _read(answer: Answer | Failed, prompt: str) -> Verdict | Failed:
    if isinstance(answer, Failed):
        return replace(answer, source=prompt)
    found = read_verdict(answer.text, prompt)
    if isinstance(found, Failed) and not answer.finished:
        return replace(found, error=f"{found.error}; it was cut off")
    return found


def _again(failed: Verdict | Failed) -> list[dict[str, Any]]:
    """What a model is told whose answer could not be read; the answer itself is not sent back."""
    why = failed.error if isinstance(failed, Failed) else ""
    told = f"That could not be read ({why}). Answer once more, with the JSON object alone."
    return [{"role": "assistant", "content": "{}"}, {"role": "user", "content": told}]

"""What a language model said -> the prompt in it, or why there is none."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_I = re.IGNORECASE
_THINKING = re.compile(r"<(think|thinking|thought|reasoning|analysis)\b[^>]*>.*?(</\1\s*>|\Z)", re.DOTALL | _I)
_HTML = re.compile(r"\s*(<!doctype|<html|<head|<body|<\?xml)", _I)
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_MARK = re.compile(r"</?(prompt|answer|rich_prompt|caption|output)\s*>", _I)
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+.*$", re.MULTILINE)
_LIST = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+")
_EMPHASIS = re.compile(r"(\*\*|__|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)|`)")
_LABEL = re.compile(  # "Upsampled prompt:"
    r"^\W*(?:(?:rich|rewritten|upsampled|expanded|detailed|enhanced|improved|revised|new|final|image|answer|output|result"
    r"|description|caption|text[- ]to[- ]image|your)\s+){0,3}"
    r"(?:prompt|caption|description|answer|version|output)\W{0,3}:\s*",
    _I,
)
_LEAD_IN = re.compile(  # "Sure! Here is a richer version:"
    r"^(?:(?:sure|certainly|of course|okay|ok|absolutely|great|yes)(?: thing)?[.:!,]\s*)?"
    r"(?:(?:here(?:['’]s| is| are)|below is|this is|i(?:['’]ve| have) (?:written|rewritten|expanded|created))\b"
    r"[^:\n]{0,120}:\s*)?",
    _I,
)
_REMARK = re.compile(
    r"^\W*(?:note|explanation|remarks?|p\.?s\.?|let me know|i (?:hope|added|kept|have|tried|made)"
    r"|this (?:prompt|version|answer)|word count|tokens?)\b",
    _I,
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i(?: am|['’]m) (?:\w+ )?sorry|sorry|unfortunately|i apologi[sz]e|as an ai)\b"
    r"|(?:i|we)(?: can(?:['’]t|not| not)| am (?:unable|not able)|['’]m (?:unable|not able)| won['’]t| will not"
    r"| must decline| do not| don['’]t) (?:\w+ ){0,2}(?:assist|help|create|generate|provide|fulfill?|comply|write"
    r"|produce|engage|continue|do|describe|answer))",
    _I,
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "`": "`"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ufffd]")


@dataclass(frozen=True, slots=True)
class Read:
    """The prompt in an answer, or what is wrong with it."""

    prompt: str = ""
    trouble: str = ""  # in words that a model understands too; "": none


def read_answer(text: str, base: str) -> Read:
    """Takes off what models put around a prompt: thinking, lead-ins, labels, Markdown, quotes, remarks.

    Of several paragraphs the first that is a prompt counts.

    Args:
        text: the whole answer.
        base: the short prompt, which an answer must not merely repeat.
    """
    if _HTML.match(text):
        return Read(trouble="it was a web page, not a prompt")
    text = html.unescape(text)
    aloud = _THINKING.search(text)
    text = _THINKING.sub("", text)
    if "</think>" in text:  # templates that open the block for the model
        text = text.rpartition("</think>")[2]
    text = _CONTROL.sub("", _MARK.sub("", _HEADING.sub("", _FENCE.sub("", text))))
    # Of soft line breaks one paragraph is made; an empty line, or an item of a list, begins another.
    paragraphs = [part for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if part.strip()]
    for paragraph in paragraphs:
        if _REFUSAL.match(paragraph) and not _REFUSAL.match(base):
            return Read(trouble="the model refused to answer")
        prompt = _paragraph(paragraph)
        if prompt and not _REMARK.match(prompt):
            if _bare(prompt) == _bare(base):
                return Read(trouble="it only repeated the short prompt")
            return Read(prompt)
    if aloud and not aloud[2]:
        return Read(trouble="it ended in the middle of thinking; think less, or allow longer answers")
    return Read(trouble="it was empty")


def _paragraph(text: str) -> str:
    lines = [_LIST.sub("", line).strip() for line in text.split("\n")]
    text = _EMPHASIS.sub("", " ".join(line for line in lines if line))
    text = " ".join(text.split())
    for pattern in (_LEAD_IN, _LABEL):
        text = pattern.sub("", text, count=1).strip()
    while (
        len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1] and text[-1] not in text[1:-1]
    ):
        text = text[1:-1].strip()
    return text


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

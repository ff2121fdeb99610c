"""What a language model is asked: files with a system text, examples, and the request around the prompt.

A template is a Markdown file of sections, of which only the request is needed:

    ## System         what the model is told first
    ## Prompt         an example's short prompt
    ## Answer         and its rich one; any number of such pairs
    ## Request        the question, which holds {prompt}

The request may hold {token_limit} and {word_limit}, and {trouble}: what was wrong with the last answer; a line with
{trouble} is left out of the first request. What stands before the first section is for the reader of the file.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from img2prompt.errors import ConfigError

FOLDER = Path(__file__).parent / "templates"
TEMPLATES: dict[str, str] = {  # name -> what it is for; the file beside this one has the same name
    "detailed": "one paragraph with concrete visual detail, every fact kept; for any chat model",
    "bare": "the prompt alone; for models that were trained on pairs of prompts, such as the bundled one",
    "fields": "prompt, limit and trouble as they are; for DSPy programs, which write their own request",
}
_SECTION = re.compile(r"^## +(.+?) *$", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_KNOWN = ("prompt", "token_limit", "word_limit", "trouble")
_WORDS_A_TOKEN = 0.72  # of English prose in the vocabularies of CLIP and T5, with a reserve
_MOST_CHARACTERS = 200_000

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Template:
    """How a prompt is put to a language model.

    Attributes:
        name: of the file, without its ending.
        system: what the model is told first; "": nothing.
        examples: pairs of a short and a rich prompt.
        request: the question, with its placeholders.
        hash: of all that, 12 hexadecimal digits.
    """

    name: str
    system: str
    examples: tuple[tuple[str, str], ...]
    request: str
    hash: str

    @property
    def label(self) -> str:
        """Name and hash, as results have it."""
        return f"{self.name}@{self.hash}"

    def chat(self, prompt: str, token_limit: int, trouble: str = "") -> list[Message]:
        """The messages that ask for a rich prompt.

        Args:
            prompt: the short one. It is data: it cannot close the marks that the request puts around it.
            token_limit: most tokens of the answer, start and end included.
            trouble: what was wrong with the last answer, in words; "": there was none.
        """
        chat = [{"role": "system", "content": _filled(self.system, "", token_limit, "")}] if self.system else []
        for short, rich in self.examples:
            chat.append({"role": "user", "content": _filled(self.request, short, token_limit, "")})
            chat.append({"role": "assistant", "content": rich})
        return [*chat, {"role": "user", "content": _filled(self.request, prompt, token_limit, trouble)}]


def load_template(source: str | Path) -> Template:
    """Reads a template by its name in TEMPLATES or from a file.

    Raises:
        ConfigError: there is none, or it is no template.
    """
    path = FOLDER / f"{source}.md" if str(source) in TEMPLATES else Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(str(source), TEMPLATES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"take a file or one of {', '.join(TEMPLATES)}"
        raise ConfigError(f"template {source}: neither a file nor a template's name; {hint}") from None
    except (OSError, ValueError) as error:  # ValueError: bytes that are no UTF-8, a NUL in the name
        raise ConfigError(f"template {source}: cannot be read as text ({error})") from error
    return _parsed(path.stem, text)


def _parsed(name: str, text: str) -> Template:
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"template {name}: has {len(text)} characters; {_MOST_CHARACTERS} are the most")
    _, *parts = _SECTION.split(text.replace("\r\n", "\n").removeprefix("\ufeff"))
    sections = [(title.lower(), body.strip()) for title, body in zip(parts[::2], parts[1::2], strict=True)]
    titles = [title for title, _ in sections]
    bodies = {title: [body for other, body in sections if other == title] for title in titles}
    if unknown := sorted(set(titles) - {"system", "prompt", "answer", "request"}):
        raise ConfigError(f"template {name}: no section {unknown[0]!r}; there are System, Prompt, Answer, Request")
    if titles.count("request") != 1 or titles.count("system") > 1:
        raise ConfigError(f"template {name}: takes one section '## Request' and at most one '## System'")
    turns = [title for title in titles if title in ("prompt", "answer")]
    if turns != ["prompt", "answer"] * (len(turns) // 2):
        raise ConfigError(f"template {name}: every '## Prompt' takes its '## Answer' after it")
    request, system = bodies["request"][0], "\n".join(bodies.get("system", []))
    _check_placeholders(name, request, system)
    examples = tuple(zip(bodies.get("prompt", []), bodies.get("answer", []), strict=True))
    if not all(short and rich for short, rich in examples):
        raise ConfigError(f"template {name}: an example is empty")
    digest = hashlib.sha256(repr((system, examples, request)).encode("utf-8", "surrogatepass")).hexdigest()
    return Template(name, system, examples, request, digest[:12])


def _check_placeholders(name: str, request: str, system: str) -> None:
    if "{prompt}" not in request:
        raise ConfigError(f"template {name}: its request holds no {{prompt}}")
    if {"prompt", "trouble"} & set(_PLACEHOLDER.findall(system)):
        raise ConfigError(f"template {name}: {{prompt}} and {{trouble}} belong into the request")
    for found in _PLACEHOLDER.findall(request + system):
        if found not in _KNOWN:
            raise ConfigError(f"template {name}: {{{found}}} is unknown; {', '.join(_KNOWN)} are filled in")


def _filled(text: str, prompt: str, token_limit: int, trouble: str) -> str:
    """One pass, so that braces inside a prompt stay what they are."""
    if not trouble:
        text = "\n".join(line for line in text.split("\n") if "{trouble}" not in line).strip()
    values = {
        "prompt": _inert(prompt, text),
        "token_limit": str(token_limit),
        "word_limit": str(max(int((token_limit - 2) * _WORDS_A_TOKEN), 4)),
        "trouble": trouble,
    }
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def _inert(prompt: str, request: str) -> str:
    """The prompt in one line, without the marks (such as </prompt>) that the request itself puts around it."""
    prompt = " ".join(prompt.encode("utf-8", "replace").decode().split())  # lone surrogates cannot be sent
    for mark in re.findall(r"<\s*/?\s*(\w+)\s*>", request):
        prompt = re.sub(rf"<\s*/?\s*{mark}\s*/?\s*>", " ", prompt, flags=re.IGNORECASE)
    return " ".join(prompt.split())

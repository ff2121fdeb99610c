"""Which prompts stay: one table of filters, each of which says why it drops a prompt."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from img2prompt.errors import ConfigError
from img2prompt.extras import need
from img2prompt.pairs.making.normalising import normalise

Judge = Callable[[str], str | None]  # a normalised prompt -> None when it stays, else why it goes

OFF = "off"
MODEL = "data/model.npz.xz"  # the one that py3langid brings
# Short prompts, names and brands look like any language. Of 4,000 real English prompts 0.03 % lie below this
# probability of being English, the likeliest of them in Spanish; sentences of three words in other languages all do.
LEAST_LIKELY = 0.005
NSFW_WORDS = """
blowjob bondage boobs bukkake cock cum cumshot cunt dick dildo ejaculation erotic erotica fellatio fetish fuck
fucking gangbang genitals handjob hardcore hentai horny incest masturbating masturbation milf naked nipple
nipples nsfw nude nudes nudity orgasm orgy penis porn porno pornographic pornography pussy rape sex sexual
slut softcore threesome tits topless vagina vulva whore xxx
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter.

    Attributes:
        keeps: what it keeps, for the help.
        metavar: how its setting looks.
        parse: the user's text -> plain data that goes to workers and into the manifest; raises ValueError.
        judge: that data -> the judge of prompts.
        default: the setting when the user says nothing; `OFF` for none.
    """

    keeps: str
    metavar: str
    parse: Callable[[str], Any]
    judge: Callable[[Any], Judge]
    default: str = OFF


def settings_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """The settings of the filters that are on, from what the user wrote; filters not named have their defaults.

    Raises:
        ConfigError: a setting cannot be read; the message says how it looks.
    """
    settings = {}
    for name, row in FILTERS.items():
        text = texts.get(name, row.default)
        if text == OFF:
            continue
        try:
            settings[name] = row.parse(text)
        except ValueError as error:
            raise ConfigError(f"--{name} {text}: {error or 'not a setting'}; give {row.metavar}, or off") from None
    return settings


def build(settings: Mapping[str, Any]) -> dict[str, Judge]:
    """The judges of the filters that are on, in the order of the table.

    Raises:
        ConfigError: there is no such filter.
        MissingExtra: a filter needs a library that is not installed.
    """
    unknown = sorted(set(settings) - set(FILTERS))
    if unknown:
        raise ConfigError(f"there is no filter {unknown[0]!r}; the filters are {', '.join(FILTERS)}")
    return {name: row.judge(settings[name]) for name, row in FILTERS.items() if name in settings}


# What a prompt is measured by


# Scripts that are written without spaces: each character of them counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|\w+(?:['’]\w+)*")


def count_words(prompt: str) -> int:
    """Runs of letters and digits; of Chinese characters and Japanese kana every one."""
    return len(_WORD.findall(prompt))


def letter_share(prompt: str) -> float:
    """Letters and marks among the characters that are no space, 0 to 1."""
    visible = [char for char in prompt if not char.isspace()]
    return sum(unicodedata.category(char)[0] in "LM" for char in visible) / max(len(visible), 1)


@cache
def script_of(char: str) -> str:
    """The script of a letter by the first word of its Unicode name, e.g. "LATIN", "CJK"; "" for what is no letter."""
    if not char.isalpha():
        return ""
    return unicodedata.name(char, "UNKNOWN").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split(" ")[0]


# Judges


def _within(limits: tuple[int, int | None], *, measure: Callable[[str], int], unit: str) -> Judge:
    least, most = limits

    def judge(prompt: str) -> str | None:
        count = measure(prompt)
        if count < least or (most is not None and count > most):
            return f"{count} {unit}"
        return None

    return judge


def _letters(least: float) -> Judge:
    def judge(prompt: str) -> str | None:
        share = letter_share(prompt)
        return None if share >= least else f"{share:.0%} letters"

    return judge


def _scripts(wanted: list[str]) -> Judge:
    def judge(prompt: str) -> str | None:
        scripts = [script for char in prompt if (script := script_of(char))]
        foreign = sum(script not in wanted for script in scripts)
        if 2 * foreign > len(scripts):  # a foreign name in a prompt is no foreign prompt
            return f"mostly {max(set(scripts) - set(wanted), key=scripts.count).lower()} letters"
        return None

    return judge


def _languages(wanted: list[str]) -> Judge:
    identifier = need("py3langid.langid", "language").LanguageIdentifier.from_model_file(MODEL, norm_probs=True)
    unknown = sorted(set(wanted) - set(identifier.labels))
    if unknown:
        raise ConfigError(f"--language {unknown[0]}: not a code that py3langid knows, as en, de and zh are")

    def judge(prompt: str) -> str | None:
        ranked = identifier.rank(prompt)
        likely = sum(probability for language, probability in ranked if language in wanted)
        return None if likely >= LEAST_LIKELY else f"rather {ranked[0][0]}"

    return judge


def _tokens(most: int) -> Judge:
    from img2prompt.pairs.making.clip_tokens import count_tokens

    return _within((0, most), measure=count_tokens, unit="tokens")


def _no_words(words: list[str]) -> Judge:
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(words)))})(?!\w)") if words else None

    def judge(prompt: str) -> str | None:
        found = pattern.search(prompt.casefold()) if pattern is not None else None
        return None if found is None else f"has the word {found[0]}"

    return judge


# What the user writes


def _range(text: str) -> list[int | None]:
    least, dash, most = text.partition("-")
    limits = int(least or 0), int(most) if most else None if dash else int(least)
    if limits[1] is not None and limits[0] > limits[1]:
        raise ValueError("the first number is the smaller one")
    return list(limits)


def _share(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise ValueError("a share from 0 to 1")
    return float(text)


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError("at least 1")
    return int(text)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("at least one")
    return names


def _script_names(text: str) -> list[str]:
    names = [name.upper() for name in _names(text)]
    for name in names:
        if not any(name == script_of(chr(code)) for code in range(0x20000)):
            raise ValueError(f"there is no script {name.lower()!r}")
    return names


def _word_list(text: str) -> list[str]:
    """The words of a file, one a line, or our own with "on"."""
    if text == "on":
        return sorted(NSFW_WORDS.split())
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    return sorted({normalise(line).casefold() for line in lines} - {""})


# Name, which is also the option and what reports call it -> filter; a prompt counts for the first that drops it.
FILTERS: dict[str, Filter] = {
    "words": Filter(
        "prompts of so many words", "LEAST-MOST", _range, partial(_within, measure=count_words, unit="words"), "0-300"
    ),
    "characters": Filter(
        "prompts of so many characters",
        "LEAST-MOST",
        _range,
        partial(_within, measure=len, unit="characters"),
        "1-2000",
    ),
    "letters": Filter(
        "prompts with at least this share of letters among their visible characters", "SHARE", _share, _letters
    ),
    "script": Filter("prompts mostly in these scripts, e.g. latin,cyrillic,cjk", "NAME,...", _script_names, _scripts),
    "language": Filter(
        "prompts that may be in these languages, e.g. en,de (needs the extra language)", "CODE,...", _names, _languages
    ),
    "tokens": Filter("prompts of no more CLIP tokens than this, start and end included", "MOST", _count, _tokens, "77"),
    "nsfw": Filter(
        "prompts without the words of a list: on for a short one of ours, or a file with a word a line",
        "on|FILE",
        _word_list,
        _no_words,
    ),
}

"""Filters keep what they should keep and drop what they should drop; prompts come out in one form."""

from __future__ import annotations

import gzip
import importlib.util
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2prompt.errors import ConfigError
from img2prompt.pairs.filters import FILTERS, OFF, build, count_words, letter_share, settings_of
from img2prompt.pairs.making.clip_tokens import count_tokens
from img2prompt.pairs.making.normalising import normalise

PROMPTS = Path(__file__).parents[2] / "shared" / "data" / "prompts" / "prompts_176k.jsonl.gz"
ALL_SCRIPTS = (
    "a fox in the snow",
    "лиса в снегу",
    "雪の中の狐",
    "雪地里的狐狸",
    "눈 속의 여우",
    "ثعلب في الثلج",
    "बर्फ में लोमड़ी",
    "สุนัขจิ้งจอกในหิมะ",
    "🦊❄️",
    "👩‍👩‍👧‍👦",
    "8k",
)

# Filter -> its setting as a user writes it, prompts that stay, prompts that go.
CASES: dict[str, tuple[str, list[str], list[str]]] = {
    "words": (
        "2-4",
        ["red fox", "a dog's red ball", "one, two; three -- four!", "赤い犬"],
        ["fox", "one two three four five", "", "雪地里的狐狸"],
    ),
    "characters": ("3-8", ["fox", "red fox!"], ["ox", "a red fox"]),
    "letters": ("0.5", ["fox 12", "狐 1", "a 1"], ["12345", "🦊", "f 123 456", "((((::))))"]),
    "script": (
        "latin,cyrillic",
        ["a fox", "лиса", "portrait of 王菲 in the style of Klimt", "123", "Ｆｏｘ"],
        ["雪地里的狐狸", "ثعلب", "fox: 雪地里的狐狸在树林里"],
    ),
    "language": (
        "en",
        [
            "a taxi",
            "trending on artstation, 8k",
            "art by greg rutkowski and alphonse mucha",
            "a dog runs through the snow",
        ],
        ["Ein Hund läuft über die Wiese", "un chien rouge dans la neige", "кошка на крыше", "一只红色的狗在雪地里"],
    ),
    "tokens": ("8", ["a red fox in snow", "fox"], ["a red fox sits in the deep snow", "犬" * 8]),
    "nsfw": (
        "on",
        ["a cockatoo in Scunthorpe", "Essex by night", "a classic car", "grape juice"],
        ["naked woman", "NSFW", "an erotic, dark painting"],
    ),
}


def judge_of(name: str, text: str):  # type: ignore[no-untyped-def]
    if name == "language" and importlib.util.find_spec("py3langid") is None:
        pytest.skip("py3langid is not installed")
    off = dict.fromkeys(FILTERS, OFF)
    return build(settings_of({**off, name: text}))[name]


def test_every_filter_has_cases() -> None:
    assert list(CASES) == list(FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_keeps_what_it_should_keep(name: str) -> None:
    judge = judge_of(name, CASES[name][0])
    assert {prompt: judge(prompt) for prompt in CASES[name][1]} == dict.fromkeys(CASES[name][1])


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_drops_what_it_should_drop_and_says_why(name: str) -> None:
    judge = judge_of(name, CASES[name][0])
    reasons = {prompt: judge(prompt) for prompt in CASES[name][2]}
    assert all(reasons.values()), reasons
    assert all("\n" not in str(reason) for reason in reasons.values())


@pytest.mark.parametrize("name", FILTERS)
def test_off_is_off(name: str) -> None:
    assert name not in settings_of({name: OFF})


def test_nsfw_language_and_script_are_off_by_default() -> None:
    assert set(settings_of({})) == {"words", "characters", "tokens"}


@pytest.mark.parametrize("prompt", ALL_SCRIPTS)
def test_by_default_no_script_is_dropped(prompt: str) -> None:
    assert [judge(prompt) for judge in build(settings_of({})).values()] == [None] * 3


@given(
    st.integers(0, 30),
    st.integers(0, 30),
    st.lists(st.sampled_from(["fox", "don't", "ÄÖ", "42"]), max_size=40),
)
def test_word_counts_at_and_around_the_limits(least: int, more: int, words: list[str]) -> None:
    judge = judge_of("words", f"{least}-{least + more}")
    assert (judge(", ".join(words)) is None) == (least <= len(words) <= least + more)


@pytest.mark.parametrize(
    ("text", "limits"), [("3", [3, 3]), ("3-", [3, None]), ("-9", [0, 9]), ("3-9", [3, 9]), ("0-0", [0, 0])]
)
def test_ranges(text: str, limits: list[int | None]) -> None:
    assert settings_of({"words": text})["words"] == limits


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("words", "9-3"),
        ("words", "many"),
        ("words", ""),
        ("letters", "1.5"),
        ("tokens", "0"),
        ("script", "klingon"),
        ("language", ","),
        ("nsfw", "/no/such/file"),
    ],
)
def test_wrong_settings_are_one_line(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{name} .*; give .*, or off$"):
        settings_of({name: text})


def test_an_unknown_filter_or_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="no filter 'wrods'"):
        build({"wrods": [1, 2]})
    with pytest.raises(ConfigError, match="--language xx"):
        judge_of("language", "en,xx")


def test_a_word_list_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Fox\nice cream\n\nc++\n", encoding="utf-8")
    judge = judge_of("nsfw", str(tmp_path / "words.txt"))
    assert judge("a FOX!") and judge("two ice creams, one ice cream") and judge("written in c++")
    assert judge("foxes") is None and judge("ice creams") is None and judge("c+") is None
    (tmp_path / "none.txt").write_text("\n")
    assert judge_of("nsfw", str(tmp_path / "none.txt"))("anything") is None


def test_measures() -> None:
    assert count_words("It's a “dog”, isn’t it? 8k") == 6
    assert count_words("赤い犬 runs") == 4
    assert letter_share("ab 12") == 0.5
    assert letter_share("") == 0


def test_tokens_are_those_of_open_clip() -> None:
    from open_clip import SimpleTokenizer

    prompts = [*ALL_SCRIPTS, "It's “quoted” &amp; fixed — naïve café", "a  b\tc", "!!!!", "x" * 300, "I'VE 123"]
    if PROMPTS.exists():
        with gzip.open(PROMPTS, "rt", encoding="utf-8") as file:
            prompts += [json.loads(line)["prompt"] for number, line in enumerate(file) if number % 300 == 0]
    tokenizer = SimpleTokenizer()
    wrong = [p for p in prompts if count_tokens(p) != len(tokenizer.encode(p)) + 2]
    assert wrong == []


# One form


@given(st.text())
def test_normalising_is_idempotent_and_leaves_one_form(text: str) -> None:
    done = normalise(text)
    assert normalise(done) == done
    assert unicodedata.is_normalized("NFC", done)
    assert done == " ".join(done.split())
    done.encode()  # no half characters


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp"])))
def test_normalising_changes_nothing_but_the_form(text: str) -> None:
    assert normalise(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("  a\t\n red\u00a0fox \u3000", "a red fox"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufeffa\u200bb\u00adc", "abc"),
        ("a\x00b\x1bc\x85d\x1ce", "abc d e"),
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("ﬁne ＦＯＸ", "ﬁne ＦＯＸ"),
        ("", ""),
        (" \n", ""),
    ],
)
def test_forms(text: str, form: str) -> None:
    assert normalise(text) == form

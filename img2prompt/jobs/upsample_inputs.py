"""Which prompts `img2prompt upsample` is given: texts, lines of a file or of standard input, a column, a benchmark."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import ConfigError, DataError
from img2prompt.results import Failed

if TYPE_CHECKING:
    from img2prompt.pairs.skips import Skips

MOST_CHARACTERS = 20_000  # of a prompt: a book in a cell is no prompt
_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".gz")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One prompt to be made rich, with its seed."""

    name: str  # unique, the same in every run
    prompt: str
    seed: int
    kept: Mapping[str, str] = field(default_factory=dict)  # of its row: category, ...


@dataclass(slots=True)
class Inputs:
    """Every prompt that was named.

    Attributes:
        wanted: each prompt with each of its seeds.
        failed: rows that are no prompts.
        single: one text was given by itself.
    """

    wanted: list[Wanted] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    single: bool = False

    def digest(self) -> str:
        """Of all prompts and seeds: an unfinished run goes on only with the same ones."""
        found = hashlib.sha256()
        for one in self.wanted:
            found.update(f"{one.name}\0{one.prompt}\0{one.seed}\0".encode("utf-8", "surrogatepass"))
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    prompt: str
    kept: Mapping[str, str] = field(default_factory=dict)


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    parser.add_argument(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="a text; a file: .txt with one prompt a line, or .csv, .tsv, .jsonl, .parquet; a data set's folder; or -"
        " for standard input, one prompt a line",
    )
    parser.add_argument("--column", metavar="NAME", help="of the prompts, where it is not found by itself")
    parser.add_argument("--benchmark", metavar="NAME", help="a standard set: drawbench, parti, geneval or dpg")
    parser.add_argument(
        "--benchmark-folder", type=Path, metavar="FOLDER", help="that holds it (default: the cache of the hub)"
    )


def find_prompts(options: argparse.Namespace) -> Inputs:
    """The prompts in the order in which they are named.

    Raises:
        ConfigError: nothing was named, or options do not go together.
        DataError: a file cannot be read.
    """
    words: Sequence[str] = options.prompts
    if options.benchmark is None and options.benchmark_folder is not None:
        raise ConfigError("--benchmark-folder needs the set's name too: --benchmark drawbench")
    if bool(words) == (options.benchmark is not None):
        raise ConfigError("name a prompt, a file, - for standard input, or a set with --benchmark")
    if list(words).count("-") > 1:
        raise ConfigError("standard input can be read once; name - only once")
    found = Inputs(single=len(words) == 1 and options.variants == 1 and _is_text(words[0]))
    lines = _benchmark(options, found) if options.benchmark else _lines(words, options.column, found)
    seen: set[str] = set()
    for line in lines:
        if line.name in seen:  # a file that was named twice
            continue
        seen.add(line.name)
        trouble = _trouble(line.prompt)
        if trouble is not None:
            found.failed.append(Failed(line.name, *trouble))
            continue
        for variant in range(options.variants):
            name = f"{line.name}#{variant + 1}" if options.variants > 1 else line.name
            found.wanted.append(Wanted(name, line.prompt, options.seed + variant, line.kept))
    if not found.wanted and not found.failed:
        raise DataError(f"{', '.join(words) or options.benchmark}: no prompts")
    return found


def _is_text(word: str) -> bool:
    """Whether a word of the command line is a prompt rather than the name of a file or folder."""
    if word == "-":
        return False
    if not word.strip():
        return True
    try:
        exists = Path(word).exists()
    except (OSError, ValueError):  # too long for a name
        exists = False
    looks_like_file = word.lower().endswith(_SUFFIXES) and not any(space in word for space in " \n\t")
    return not exists and not looks_like_file


def _lines(words: Sequence[str], column: str | None, found: Inputs) -> Iterator[_Line]:
    if column is not None and all(_is_text(word) or word == "-" for word in words):
        raise ConfigError(f"--column {column}: of which table? Name a .csv, .tsv, .jsonl or .parquet file")
    for number, word in enumerate(words, 1):
        if word == "-":
            yield from _standard_input()
        elif _is_text(word):
            yield _Line(f"prompt {number}", word)
        else:
            yield from _source(word, column, found)


def _standard_input() -> Iterator[_Line]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        text = line.decode("utf-8", "surrogateescape").strip()
        if text:
            yield _Line(f"<stdin>:{number}", text)


def _source(word: str, column: str | None, found: Inputs) -> Iterator[_Line]:
    from img2prompt.pairs.prompts import read_prompts
    from img2prompt.pairs.skips import Skips

    skips = Skips()
    for row in read_prompts(word, {"prompt": column} if column else {}, skips=skips):
        yield _Line(f"{word}:{row.number + 1}", row.prompt)
    _take_skips(skips, found)


def _benchmark(options: argparse.Namespace, found: Inputs) -> Iterator[_Line]:
    from img2prompt.pairs.benchmarks import read_benchmark
    from img2prompt.pairs.skips import Skips

    skips = Skips()
    for row in read_benchmark(options.benchmark, options.benchmark_folder, skips=skips):
        yield _Line(row.id, row.prompt, row.kept)
    _take_skips(skips, found)


def _take_skips(skips: Skips, found: Inputs) -> None:
    """Rows without a prompt become failed rows; of very many only the first examples are kept."""
    for kind, count in skips.counts.items():
        examples = skips.examples.get(kind, [])
        found.failed += examples
        if count > len(examples):
            found.failed.append(Failed("...", f"{count - len(examples)} more rows like these", kind))


def _trouble(prompt: str) -> tuple[str, str] | None:
    """Why a text is no prompt, and the kind of that."""
    if not prompt.strip():
        return "an empty prompt", "EmptyPrompt"
    if len(prompt) > MOST_CHARACTERS:
        return f"has {len(prompt)} characters; {MOST_CHARACTERS} are the most of a prompt", "PromptTooLong"
    strange = sum(character in "\x00\ufffd" or "\ud800" <= character <= "\udfff" for character in prompt)
    if strange or sum(not c.isprintable() and not c.isspace() for c in prompt) > len(prompt) // 10:
        return "is no text; save it as UTF-8", "NotText"
    return None

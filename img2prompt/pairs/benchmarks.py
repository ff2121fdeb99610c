"""The standard sets of prompts for text-to-image models: BENCHMARKS, one row a set.

None of them comes with this package. They are read from a folder, or from the machine's cache of the Hugging Face hub.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from img2prompt.errors import ConfigError, DataError
from img2prompt.hub import cached_file
from img2prompt.pairs.formats.columns import peek
from img2prompt.pairs.prompts import READERS_OF_TEXT, read_prompts
from img2prompt.pairs.skips import Skips


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Where a set of prompts comes from and how its file is read.

    Attributes:
        about: what it asks of a model, and how many prompts it has.
        source: where to get it.
        licence: as its source states it.
        files: names under which it is found in a folder; the first that is there counts.
        prompt: columns that may hold the prompt.
        columns: our name -> the file's name of what is kept beside the prompt, where the file has it.
        hub: repository and file on the hub, of type "dataset"; None: it is not there under a name that is settled.
        paper: that it comes from.
    """

    about: str
    source: str
    licence: str
    files: tuple[str, ...]
    prompt: tuple[str, ...]
    columns: Mapping[str, str]
    paper: str
    hub: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkPrompt:
    """One prompt of a set; `kept` holds what its row says of it, such as its category."""

    id: str
    prompt: str
    kept: Mapping[str, str] = field(default_factory=dict)


BENCHMARKS: dict[str, Benchmark] = {
    "drawbench": Benchmark(
        "200 prompts in 11 categories: colours, counting, positions, text, misspellings, ...",
        "https://imagen.research.google (a table of the columns Prompt and Category)",
        "not stated",
        ("drawbench.csv", "DrawBench.csv", "drawbench.tsv"),
        ("prompt", "Prompts"),
        {"category": "Category"},
        "Saharia et al. 2022, arXiv:2205.11487",
    ),
    "parti": Benchmark(
        "PartiPrompts (P2): 1,632 prompts with category and challenge",
        "https://github.com/google-research/parti, PartiPrompts.tsv",
        "Apache-2.0",
        ("PartiPrompts.tsv", "parti-prompts.tsv", "partiprompts.tsv"),
        ("prompt",),
        {"category": "Category", "challenge": "Challenge"},
        "Yu et al. 2022, arXiv:2206.10789",
        hub=("nateraw/parti-prompts", "PartiPrompts.tsv"),
    ),
    "geneval": Benchmark(
        "553 prompts of objects, counts, colours and positions that a detector can check",
        "https://github.com/djghosh13/geneval, prompts/evaluation_metadata.jsonl",
        "MIT",
        ("geneval_evaluation_metadata.jsonl", "evaluation_metadata.jsonl", "geneval.jsonl"),
        ("prompt",),
        {"category": "tag"},
        "Ghosh et al. 2023, arXiv:2310.11513",
    ),
    "dpg": Benchmark(
        "DPG-Bench: 1,065 long, dense prompts",
        "https://github.com/TencentQQGYLab/ELLA, dpg_bench",
        "Apache-2.0",
        ("dpg_bench.jsonl", "dpg_bench.csv", "dpg.jsonl"),
        ("prompt", "text"),
        {"category": "category"},
        "Hu et al. 2024, arXiv:2403.05135",
    ),
}


def read_benchmark(name: str, folder: Path | None = None, *, skips: Skips) -> list[BenchmarkPrompt]:
    """The prompts of a set in their order, each once, with what its file says of them.

    Args:
        name: of BENCHMARKS.
        folder: that holds the file; None: the machine's cache of the hub.
        skips: counts rows that cannot be read.

    Raises:
        ConfigError: there is no such set.
        DataError: it is not here, or its file is damaged; the message says where to get it.
    """
    row = BENCHMARKS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, BENCHMARKS, 1)
        hint = f"did you mean {near[0]}?" if near else f"take one of {', '.join(BENCHMARKS)}"
        raise ConfigError(f"no benchmark {name!r}; {hint}")
    path = _found(name, row, folder)
    header = _header(path)
    prompt = next((header[word.lower()] for word in row.prompt if word.lower() in header), None)
    if prompt is None:
        raise DataError(f"{path}: no column {' or '.join(map(repr, row.prompt))}; found: {', '.join(header.values())}")
    kept = {ours: header[theirs.lower()] for ours, theirs in row.columns.items() if theirs.lower() in header}
    found: dict[str, BenchmarkPrompt] = {}
    for one in read_prompts(path, {"prompt": prompt}, extra=tuple(kept.values()), skips=skips):
        told = {ours: value.strip() for ours, theirs in kept.items() if (value := one.extra[theirs])}
        found.setdefault(one.prompt, BenchmarkPrompt(f"{name}:{one.number + 1}", one.prompt, told))
    return list(found.values())


def _found(name: str, row: Benchmark, folder: Path | None) -> Path:
    if folder is not None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        path = next((folder / file for file in row.files if (folder / file).is_file()), None)
        if path is None:
            raise DataError(f"{folder}: holds no {' or '.join(row.files)}; the set {name} comes from {row.source}")
        return path
    cached = None if row.hub is None else cached_file(*row.hub, kind="dataset")
    if cached is None:
        hub = f"with: hf download --repo-type dataset {row.hub[0]} - or " if row.hub else ""
        raise DataError(
            f"{name}: is not on this machine; get it {hub}from {row.source}, and name its folder: --benchmark-folder"
        )
    return cached


def _header(path: Path) -> dict[str, str]:
    """The columns of a table: lower-case name -> name as it stands."""

    names, _ = peek(READERS_OF_TEXT[path.suffix.lower()](path, Skips()))
    return {str(name).strip().lower(): str(name) for name in names}

"""The members of an ensemble as its YAML file names them, checked before anything is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt import presets
from img2prompt.errors import ConfigError
from img2prompt.results import STYLES


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    least: int
    most: int

    def check(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Positive:
    """A number above 0."""

    def check(self, value: Any) -> bool:
        """Whether it is one."""
        return _is_number(value) and value > 0

    def __str__(self) -> str:
        return "a number above 0"


@dataclass(frozen=True, slots=True)
class Word:
    """A text; with `choices` one of them."""

    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, str) and bool(value) and (not self.choices or value in self.choices)

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else "a text"


@dataclass(frozen=True, slots=True)
class Words:
    """A list of texts."""

    def check(self, value: Any) -> bool:
        """Whether it is one."""
        return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)

    def __str__(self) -> str:
        return "a list of words"


# Kind of member -> its options. What each kind does with them: members.KINDS.
OPTIONS: dict[str, dict[str, Whole | Positive | Word | Words]] = {
    "regressor": {"views": Words()},
    "captioner": {"candidates": Whole(1, 64), "style": Word(STYLES), "seed": Whole(0, 2**63 - 1)},
    "bank": {"k": Whole(1, 10_000), "temperature": Positive(), "encoder": Word()},
}
KEYS = ("members", "sentence_model", "fitted")  # of the file
PATHS = frozenset({"encoder"})  # options that name a model, as the member itself does


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """One member.

    Attributes:
        kind: a row of `OPTIONS`.
        source: a preset's name or a folder, relative ones from the folder of the file that names it.
        name: what tables and errors call it.
        weight: in the mean; only its share of all weights counts.
        options: of its kind.
    """

    kind: str
    source: str
    name: str
    weight: float
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The member as it stands in a file."""
        return {self.kind: self.source, "name": self.name, "weight": self.weight, **self.options}


@dataclass(frozen=True)
class EnsembleSpec:
    """An ensemble's file, checked; nothing is loaded yet."""

    path: Path
    members: tuple[MemberSpec, ...]
    sentence_model: str

    @property
    def weights(self) -> NDArray[np.float64]:
        """(M,), from 0 on, summing to 1."""
        weights: NDArray[np.float64] = np.array([member.weight for member in self.members])
        weights /= weights.sum()
        return weights


def read_ensemble(path: str | os.PathLike[str]) -> EnsembleSpec:
    """Reads and checks an ensemble's file.

    Raises:
        ConfigError: it cannot be read or something in it is wrong; the message says in which member.
    """
    import yaml

    from img2prompt.models.sentence import MINILM

    place = Path(path)
    try:
        read = yaml.safe_load(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}; name an ensemble's YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(read, dict) or "members" not in read:
        raise ConfigError(f"{place}: no ensemble; it needs members: and a list, such as - bank: FOLDER")
    unknown = [str(key) for key in read if key not in KEYS]
    if unknown:
        raise ConfigError(f"{place}: no setting {unknown[0]!r}; choose from {', '.join(KEYS)}")
    sentence_model = read.get("sentence_model", MINILM)
    if not isinstance(sentence_model, str):
        raise ConfigError(f"{place}: sentence_model: a name or a folder is needed, not {sentence_model!r}")
    return EnsembleSpec(place, read_members(read["members"], place), resolved(sentence_model, place))


def read_members(rows: Any, where: Path) -> tuple[MemberSpec, ...]:
    """Checks the list of members in a file.

    Args:
        rows: what YAML gave for `members`.
        where: the file, for relative folders and for messages.

    Raises:
        ConfigError: something is wrong; the message says in which member.
    """
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where}: members: a list with one or more members is needed, such as - bank: FOLDER")
    members = tuple(_read_member(row, f"{where}: member {number}", where) for number, row in enumerate(rows, 1))
    names = [member.name for member in members]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: two members are called {twice!r}; give each a name of its own (name: ...)")
    if not sum(member.weight for member in members) > 0:
        raise ConfigError(f"{where}: all weights are 0; one member at least must count")
    return members


def _read_member(row: Any, where: str, path: Path) -> MemberSpec:
    kinds = [key for key in row if key in OPTIONS] if isinstance(row, dict) else []
    if len(kinds) != 1:
        raise ConfigError(f"{where}: it must be one of {', '.join(OPTIONS)}, such as bank: FOLDER")
    kind = kinds[0]
    source = row[kind]
    if not isinstance(source, str) or not source:
        raise ConfigError(f"{where}: {kind}: a preset or a folder is needed, not {source!r}")
    rules = OPTIONS[kind]
    unknown = [key for key in row if key not in (kind, "name", "weight", *rules)]
    if unknown:
        known = ", ".join(("name", "weight", *rules))
        raise ConfigError(f"{where}: no option {unknown[0]!r} for a {kind}; choose from {known}")
    options = {key: value for key, value in row.items() if key in rules}
    for key, value in options.items():
        if not rules[key].check(value):
            raise ConfigError(f"{where}: {key}: {rules[key]} is needed, not {value!r}")
    weight = row.get("weight", 1.0)
    if not _is_number(weight) or weight < 0:
        raise ConfigError(f"{where}: weight: a number from 0 on is needed, not {weight!r}")
    name = str(row.get("name", f"{kind} {source}"))
    options = {key: resolved(value, path) if key in PATHS else value for key, value in options.items()}
    return MemberSpec(kind, resolved(source, path), name, float(weight), options)


def resolved(source: str, path: Path) -> str:
    """A folder as seen from anywhere; a name stays as it is."""
    folder = path.parent / Path(source).expanduser()
    return source if source in presets.PRESETS or not folder.exists() else str(folder.resolve())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

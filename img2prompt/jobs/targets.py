"""What the words after `img2prompt predict` name: files, folders, patterns, URLs, standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from img2prompt.errors import ConfigError
from img2prompt.pairs.sniffing import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Target:
    """One picture to predict."""

    source: str  # for `open_image`: a path, a URL or "-"
    name: str  # how rows and messages call it
    path: Path | None  # None: it is no file


def find_targets(words: Sequence[str]) -> list[Target]:
    """The pictures in the order they are named, folders sorted and searched recursively, each once.

    Hidden files and folders are passed over, and links to folders are not followed.

    Raises:
        ConfigError: nothing or an empty word is named, a folder or a pattern holds no picture, or "-" is named twice.
    """
    if not words or "" in words:
        raise ConfigError("name a picture, a folder, a pattern, a URL, or - for standard input")
    if list(words).count("-") > 1:
        raise ConfigError("standard input can be read once; name - only once")
    return list({target.name: target for word in words for target in _expand(word)}.values())


def is_single(words: Sequence[str], targets: Sequence[Target]) -> bool:
    """Whether the user named one picture itself, rather than a folder that happens to hold one."""
    return len(words) == 1 and len(targets) == 1 and not os.path.isdir(words[0])  # noqa: PTH112


def _expand(word: str) -> Iterator[Target]:
    from img2prompt.pairs.fetch import is_url

    if word == "-" or is_url(word):
        yield _target(word, None)
    elif os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises where a name is too long or a folder closed to us
        yield from _required((_target(str(path), path) for path in _walk(word)), f"{word}: holds no pictures")
    elif glob.has_magic(word) and not os.path.lexists(word):
        # Path.glob takes no absolute pattern.
        paths = (Path(found) for found in sorted(glob.glob(word, recursive=True)))  # noqa: PTH207
        yield from _required(
            (_target(str(path), path) for path in paths if path.is_file()), f"{word}: no file matches the pattern"
        )
    else:
        yield _target(word, Path(word))


def _target(source: str, path: Path | None) -> Target:
    from img2prompt.pairs.images import name_of

    return Target(source, name_of(source), path)


def _required(targets: Iterator[Target], problem: str) -> Iterator[Target]:
    found = False
    for target in targets:
        found = True
        yield target
    if not found:
        raise ConfigError(problem)


def _walk(folder: str) -> Iterator[Path]:
    """The pictures of a folder; a folder that may not be looked into stands for its pictures, and fails when opened."""
    closed: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(root) / name
    yield from (Path(error.filename) for error in closed)

"""The files that sources are made of: what one worker can read by itself, and how many rows there are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from img2prompt.errors import ConfigError, DataError
from img2prompt.pairs.formats.columnar import schema_of
from img2prompt.pairs.formats.folders import parquet_files, tar_files
from img2prompt.pairs.formats.hub_sets import hub_name
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sources import FORMATS, find_format, label_of, stream_rows

_EDGE_BYTES = 1 << 16  # of a file's beginning and end, which tell whether it changed
_NOT_KEPT = frozenset(
    {"image", "prompt", "source", "id", "source_id"}
)  # the shards have columns of their own for these


def _filled_parquet_files(path: Path) -> list[Path]:
    files = parquet_files(path)
    for file in files:
        schema_of(file)  # says in one line which one is cut
    return [file for file in files if pq.read_metadata(file).num_rows] if len(files) > 1 else files


FILES: dict[str, Callable[[Path], list[Path]]] = {  # formats of which every file can be read by itself -> their files
    "webdataset": tar_files,
    "parquet": _filled_parquet_files,
}


@dataclass(frozen=True, slots=True)
class Input:
    """What workers open.

    Attributes:
        source: for `stream_rows`: a source, or one file of it.
        label: what its rows name as their source.
        fingerprint: changes when the input does; made of names, sizes and the edges of files.
    """

    source: str
    label: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What an input holds.

    Attributes:
        source: of the input.
        rows: that `stream_rows` gives.
        columns: of its rows beside those that every shard has, in the order in which they first appear.
        left_out: what `stream_rows` left out.
    """

    source: str
    rows: int
    columns: tuple[str, ...]
    left_out: Skips

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "source": self.source,
            "rows": self.rows,
            "columns": list(self.columns),
            "left_out": self.left_out.to_dict(),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Survey:
        """What `to_dict` gave."""
        return cls(facts["source"], facts["rows"], tuple(facts["columns"]), Skips.from_dict(facts["left_out"]))


def inputs_of(sources: Sequence[str]) -> list[Input]:
    """The inputs of several sources, in their order; folders of tars or parquet files give one for each file.

    Raises:
        ConfigError: a source is given twice.
        DataError: a source is not there, or nothing that can be read as pairs.
    """
    found = [made for source in sources for made in _inputs_of(source)]
    twice = sorted(name for name, count in _counts(found).items() if count > 1)
    if twice:
        raise ConfigError(f"{twice[0]}: given twice; name every source once")
    return found


def survey(item: tuple[Input, Mapping[str, str]]) -> Survey:
    """Counts the rows of an input by reading them once; pictures that are files are not opened.

    Args:
        item: the input, and the names that it uses for columns of ours, see `stream_rows`.

    Raises:
        DataError: it cannot be read.
    """
    made, names = item
    left_out = Skips()
    rows, columns = 0, dict[str, None]()
    try:
        for row in stream_rows(made.source, names, skips=left_out):
            rows += 1
            if not row.keys() <= columns.keys():
                columns |= dict.fromkeys(row)
    except DataError as error:
        is_file_of_several = label_of(made.source) != made.label
        if rows or not (left_out or (is_file_of_several and made.source.lower().endswith(".tar"))):
            raise
        if not left_out:
            left_out.add("NoRows", made.source, error)
    return Survey(made.source, rows, tuple(name for name in columns if name not in _NOT_KEPT), left_out)


def _inputs_of(source: str) -> Iterator[Input]:
    path = Path(source).absolute()
    try:
        label = label_of(source)
        if hub_name(source) is not None:
            yield Input(source, label, "")
            return
        known = find_format(path)
        files = next((list_files(path) for name, list_files in FILES.items() if FORMATS[name] is known), [path])
        for file in files:
            yield Input(str(file), label, _fingerprint(file))
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror or error}") from error


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    if path.is_file():
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{size} ".encode() + file.read(_EDGE_BYTES))
            file.seek(max(size - _EDGE_BYTES, 0))
            digest.update(file.read())
    else:
        for name, size in _listing(str(path), ""):
            digest.update(f"{size} {name}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _listing(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Relative path and size of every file below a folder, hidden ones left out, sorted."""
    if prefix and not os.access(folder, os.R_OK | os.X_OK):
        return  # its pictures are counted as left out when they are read
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _listing(entry.path, f"{prefix}{entry.name}/")
            elif Path(entry.path).is_file():  # DirEntry's raises where links lead in a circle
                yield prefix + entry.name, entry.stat().st_size


def _counts(found: Sequence[Input]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for made in found:
        counts[made.source] = counts.get(made.source, 0) + 1
    return counts

"""Pairs as rows with ids: what a bank is made of and what an ensemble is fitted on. What cannot be used is counted."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.pairs.images import DEFAULT_LIMITS
from img2prompt.reading import Reader
from img2prompt.results import Failed

if TYPE_CHECKING:
    import datasets
    from PIL.Image import Image

SHOWN = 3  # skipped rows of a kind that a message names
LISTED = 100  # skipped rows that a manifest names


@dataclass(frozen=True)
class PairRow:
    """A pair of which only the picture has not been looked at yet."""

    number: int  # in the data set
    id: str
    prompt: str


@dataclass(frozen=True)
class PairRows:
    """Rows with a prompt and an id of their own, and those that have none."""

    data: datasets.Dataset  # `image` as {"bytes", "path"}
    rows: list[PairRow]
    skipped: list[Failed]
    left_out: int = 0  # rows of tables without image or prompt, which `open_pairs` leaves out itself

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, count: int | None) -> PairRows:
        """The first so many; None: all."""
        return self if count is None else replace(self, rows=self.rows[:count])

    @cached_property
    def fingerprint(self) -> str:
        """What tells these pairs from others: SHA-256 of ids, prompts, and the pictures' paths or sizes."""
        import pyarrow.compute as pc

        digest = hashlib.sha256()
        images = self.data.select_columns(["image"]).flatten().with_format("arrow")
        for batch in images.iter(1000):
            sizes = pc.binary_length(batch["image.bytes"]).to_pylist()
            digest.update(repr((sizes, batch["image.path"].to_pylist())).encode("utf-8", "surrogatepass"))
        for row in self.rows:
            digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def batches(self, some: range, batch_size: int, skips: list[Failed]) -> Iterator[tuple[list[PairRow], list[Image]]]:
        """Reads the pictures of some rows, ahead of whoever looks at them; unreadable ones go to `skips`."""
        rows = [self.rows[i] for i in some]
        sources = (_source(self.data[row.number]["image"]) for row in rows)
        opened = zip(rows, Reader(DEFAULT_LIMITS, metadata=False).open_many(sources, 2 * batch_size), strict=True)
        while batch := list(islice(opened, batch_size)):
            pictures = [(row, o.image) for row, o in batch if o.image is not None]
            skips += [
                Failed(row.id, str(o.error).removeprefix(f"{o.name}: "), type(o.error).__name__)
                for row, o in batch
                if o.image is None
            ]
            if pictures:
                yield [row for row, _ in pictures], [image for _, image in pictures]


def open_rows(paths: Sequence[str], columns: Mapping[str, str]) -> PairRows:
    """Opens one or more sources of pairs as one.

    A row's id is its `id`, else its picture's path. Rows that repeat an id are skipped; where the path is the id, the
    same picture may have several prompts.

    Args:
        paths: for `open_pairs`.
        columns: likewise.

    Raises:
        DataError: a source cannot be used.
    """
    import datasets

    from img2prompt.pairs.sources import open_pairs

    left_out: list[int] = []
    opened = [open_pairs(path, columns, on_left_out=left_out.append) for path in paths]
    rows: list[PairRow] = []
    skipped: list[Failed] = []
    seen: set[str] = set()
    first = 0
    for path, data in zip(paths, opened, strict=True):
        for number, (name, has_id, prompt) in enumerate(_named(path, data), start=first):
            row = PairRow(number, name, prompt)
            key = name if has_id else f"{name}\0{prompt}"
            if not prompt:
                skipped.append(Failed(name, "has no prompt", "NoPrompt"))
            elif key in seen:
                skipped.append(Failed(name, "the id is there already", "DuplicateId"))
            else:
                seen.add(key)
                rows.append(row)
        first += len(data)
    pictures = [data.select_columns(["image"]) for data in opened]
    return PairRows(datasets.concatenate_datasets(pictures), rows, skipped, sum(left_out))


def count_skips(skips: Iterable[Failed], left_out: int = 0) -> dict[str, Any]:
    """Skipped rows as facts for a manifest: how many of each kind, and the first of them."""
    skips = list(skips)
    counts = Counter(skip.kind for skip in skips)
    if left_out:
        counts["NoImageOrPrompt"] += left_out
    return {"skipped": dict(counts.most_common()), "skipped_first": [skip.to_dict() for skip in skips[:LISTED]]}


def skip_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """What `count_skips` counted, a line a kind."""
    for kind, count in facts["skipped"].items():
        named = [f"{s['source']}: {s['error']}" for s in facts["skipped_first"] if s["kind"] == kind][:SHOWN]
        more = f"; and {count - len(named)} more" if named and count > len(named) else ""
        yield f"  {count} {kind}{': ' if named else ''}{'; '.join(named)}{more}"


def pack_skips(skips: Iterable[Failed]) -> NDArray[np.uint8]:
    """Skipped rows as bytes, for a part."""
    return np.frombuffer(json.dumps([skip.to_dict() for skip in skips]).encode(), np.uint8)


def read_skips(packed: NDArray[np.generic]) -> list[Failed]:
    """What `pack_skips` packed."""
    return [Failed(**skip) for skip in json.loads(packed.tobytes())]


def _named(path: str, data: datasets.Dataset) -> Iterator[tuple[str, bool, str]]:
    """Id, whether it is the row's own, and prompt of every row."""
    ids = list(data["id"]) if "id" in data.column_names else [None] * len(data)
    paths = list(data.select_columns(["image"]).flatten()["image.path"])
    for number, (own, picture, prompt) in enumerate(zip(ids, paths, data["prompt"], strict=True)):
        has_id = own is not None and str(own).strip() != ""
        name = str(own) if has_id else picture or f"{path}, row {number}"
        yield name, has_id, (prompt or "").strip()


def _source(image: Mapping[str, Any]) -> bytes | str | Path:
    """What the image door opens: bytes, a URL or a path."""
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    path = str(image["path"])
    return path if path.startswith(("http://", "https://")) else Path(path)

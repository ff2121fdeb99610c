"""Data sets of the Hugging Face hub by name: `hf:owner/name`, `hf:owner/name:config@split`, or just `owner/name`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError
from img2prompt.pairs.formats.columnar import one_line
from img2prompt.pairs.formats.columns import Row, is_url, match_columns, renamed
from img2prompt.pairs.images import DEFAULT_LIMITS
from img2prompt.pairs.skips import Skips

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?::[\w.+ -]+)?(?:@[\w.-]+)?")
_FILES = re.compile(r"\.(?:csv|tsv|jsonl?|ndjson|parquet|tar|t?gz|zip|txt|png|jpe?g|webp|pkl|pickle)$", re.IGNORECASE)
_DEFAULT_SPLIT = "train"


@dataclass(frozen=True, slots=True)
class HubName:
    """A data set of the hub, or a local folder in the hub's layout.

    Attributes:
        name: owner/name, or the folder.
        config: its configuration; None: the only one.
        split: None: "train", or the only one.
    """

    name: str
    config: str | None = None
    split: str | None = None


def hub_name(source: object) -> HubName | None:
    """What a source names on the hub, or None; a Path, and what exists on this machine, never is on the hub."""
    if not isinstance(source, str):
        return None
    explicit = source.startswith("hf:")
    text = source.removeprefix("hf:").removeprefix("//datasets/")
    if not explicit:
        first = text.partition("/")[0]
        if not _NAME.fullmatch(text) or _FILES.search(text) or os.path.exists(text) or os.path.exists(first):  # noqa: PTH110
            return None
    rest, _, split = text.partition("@") if not Path(text).exists() else (text, "", "")
    name, _, config = rest.partition(":") if not Path(rest).exists() else (rest, "", "")
    return HubName(name, config or None, split or None)


def hub_rows(hub: HubName, columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The rows of a data set as they come over the line; pictures stay encoded.

    Raises:
        DataError: it cannot be opened (no such name, no connection, offline), has several splits and no "train", or
            a column is missing.
    """
    import datasets

    try:
        data = _opened(hub)
        pictures = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
        given = {"image": pictures[0], **columns} if pictures else columns
        names = match_columns(list(data.features), given, hub.name)
        for name in pictures:
            data = data.cast_column(name, datasets.Image(decode=False))
        for number, row in enumerate(data):
            pair = renamed(row, names)
            if _is_elsewhere(pair["image"]) and not _fetch(pair, f"{hub.name}, row {number}", skips):
                continue
            yield pair
    except _errors() as error:
        raise DataError(_explained(hub, error)) from error


def _is_elsewhere(image: object) -> bool:
    """Whether a picture is a file of the repository that has not come along with the row."""
    return isinstance(image, dict) and not image.get("bytes") and "://" in (image.get("path") or "")


def _fetch(row: Row, name: str, skips: Skips) -> bool:
    """Gets the bytes of a picture; False and counted when that fails."""
    from datasets.utils.file_utils import xopen

    path = row["image"]["path"]
    if is_url(path):  # the image door fetches these itself
        row["image"] = path
        return True
    try:
        with xopen(path, "rb") as file:
            row["image"] = {"bytes": file.read(DEFAULT_LIMITS.max_bytes + 1), "path": path}
    except (OSError, ValueError) as error:
        skips.add("FetchError", name, one_line(error))
        return False
    return True


def _opened(hub: HubName) -> Any:
    import datasets

    found = datasets.load_dataset(hub.name, hub.config, streaming=True)
    splits = list(found)
    split = hub.split or (_DEFAULT_SPLIT if _DEFAULT_SPLIT in splits or len(splits) != 1 else splits[0])
    if split not in splits:
        raise DataError(f"{hub.name}: no split {split!r}; choose one: {', '.join(f'{hub.name}@{s}' for s in splits)}")
    data = found[split]
    return data if data.features is not None else data._resolve_features()


def _errors() -> tuple[type[BaseException], ...]:
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    # ValueError: no such configuration; RuntimeError: a data set that is a script; httpx's errors are OSErrors there
    return (OSError, ValueError, RuntimeError, DatasetsError, pa.ArrowException)


def _explained(hub: HubName, error: BaseException) -> str:
    import datasets

    what = f"{hub.name}: no such file or folder here, and as a data set of the Hugging Face hub it cannot be opened"
    if datasets.config.HF_HUB_OFFLINE:
        return f"{what}: HF_HUB_OFFLINE is set; unset it, or download the data set and give its folder"
    return f"{what} ({one_line(error)}); check the name and the connection, for a private one run: hf auth login"

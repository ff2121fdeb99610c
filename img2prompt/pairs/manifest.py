"""What a folder of shards says of itself: config.json at the start, manifest.json at the end."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from img2prompt.errors import DataError, OutputError
from img2prompt.pairs.atomic import write_atomically

FORMAT = "img2prompt-shards-1"


def read_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a finished data set as plain data.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or sum(shard["rows"] for shard in manifest["shards"]) != manifest["rows"]:
            raise DataError(f"{path}: not a manifest of this format ({FORMAT})")
    except FileNotFoundError:
        unfinished = (Path(folder) / "config.json").exists()
        what = "unfinished; run the command that was writing it again" if unfinished else "no data set of ours"
        raise DataError(f"{folder}: no manifest.json: {what}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}); run the command that wrote it again") from error
    return dict(manifest)


def check_shard(path: Path, shard: Mapping[str, Any], verify: bool) -> None:
    """Compares a shard's size, and with `verify` its bytes, with what the manifest says.

    Raises:
        DataError: it is missing, cut or damaged.
    """
    try:
        size = path.stat().st_size
        if size != shard["bytes"]:
            raise DataError(f"{path}: {size} bytes where the manifest says {shard['bytes']}; make the data set again")
        if verify and hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            raise DataError(f"{path}: damaged (its SHA-256 is not the manifest's); make the data set again")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; make the data set again") from error


def claim(root: Path, wanted: Mapping[str, Any]) -> None:
    """Makes a folder the one of this plan; clears away what a killed run left half written.

    Raises:
        OutputError: the folder holds something else, or another plan's data.
    """
    path = root / "config.json"
    try:
        present = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        strangers = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
        if strangers:
            raise OutputError(
                f"{root}: holds other files ({strangers[0]}, ...); choose an empty or new folder"
            ) from None
        write_atomically(path, _json_bytes(wanted))
        return
    except ValueError:
        raise OutputError(f"{path}: damaged; choose another folder or delete this one") from None
    if present != json.loads(json.dumps(wanted)):
        raise OutputError(
            f"{root}: holds another configuration ({_difference(present, wanted)}); choose another folder"
        )
    _clear_halves(root)


def write_manifest(root: Path, plan: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Says that the data set is finished: the plan, and each shard's rows, size and SHA-256.

    Args:
        root: the folder, in which every shard stands.
        plan: what was claimed.
        rows: file name of each shard and its rows.
    """
    shards = []
    for name, count in rows.items():
        data = (root / name).read_bytes()
        shards.append({"file": name, "rows": count, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    close_manifest(root, {**plan, "shards": shards})


def close_manifest(root: Path, manifest: Mapping[str, Any]) -> None:
    """Writes a manifest whose shards stand and are described in it (`file`, `rows`, `bytes`, `sha256` of each)."""
    _clear_halves(root)  # a killed run's worker may have died only after this run began
    write_atomically(root / "manifest.json", _json_bytes(manifest))


def _clear_halves(root: Path) -> None:
    for rest in root.glob(".*.tmp"):
        rest.unlink(missing_ok=True)


def _difference(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first setting in which two plans differ, for one line of an error."""
    for key in sorted({*present, *wanted}, key=str):
        old, new = present.get(key), wanted.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, Mapping):
                return _difference(old, new)
            return f"{key} {old!r} there, {new!r} asked for"
    return "written in another way"


def _json_bytes(data: Mapping[str, Any]) -> bytes:
    """Plain data as the text of a file."""
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()

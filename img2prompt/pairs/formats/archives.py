"""WebDataset tars, img2dataset's among them: read as a stream, so nothing of them is ever written to a disk.

A sample is a run of members that share their name up to its first dot: `000001.jpg`, `000001.txt`, `000001.json`.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from img2prompt.errors import DataError, MetadataError
from img2prompt.pairs.embedded.values import parse_object
from img2prompt.pairs.fetch import printable
from img2prompt.pairs.formats.columns import COLUMN_NAMES, Row, is_plain
from img2prompt.pairs.formats.texts import decode_text
from img2prompt.pairs.images import DEFAULT_LIMITS
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.sniffing import IMAGE_SUFFIXES

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
TEXT_KINDS = ("txt", "caption", "cap", "prompt", "text")  # endings of members that hold the prompt
TEXT_LIMIT = 1 << 20  # bytes of a text or JSON member
_BUFFER_BYTES = 1 << 20
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)


def tar_rows(paths: Sequence[Path], columns: Mapping[str, str], skips: Skips) -> Iterator[Row]:
    """The samples of one archive after the other.

    The prompt is a member (`txt`, `caption`, ...) or a value of the JSON member; further plain values of the JSON are
    columns. `columns` may name the ending of a member or a key of the JSON. Members with names that lead out of the
    archive, links and devices are counted; so is an archive that is cut, whose whole samples are read.

    Raises:
        DataError: a given column is not in the first sample.
    """
    unchecked = bool(columns)
    for path in paths:
        for key, members in _samples(path, skips):
            fields = _fields(members, f"{path}/{key}", skips)
            if unchecked and any(_ending(name) in _IMAGE_KINDS for name in members):
                _check(columns, fields, path)
                unchecked = False
            image = columns.get("image") or _picture(fields, f"{path}/{key}", skips)
            yield _pair(fields, image, columns, path, key)


_IMAGE_KINDS = frozenset(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
_READ_KINDS = _IMAGE_KINDS | {*TEXT_KINDS, "json"}  # nothing else is read: pickles and arrays among them


def _samples(path: Path, skips: Skips) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members (ending -> bytes) of each sample; one that a cut ends is not given."""
    current, members = "", dict[str, bytes]()
    try:
        with tarfile.open(path, "r|*", bufsize=_BUFFER_BYTES, tarinfo=_Member) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # the list would grow with the archive
                name = _safe_name(member, path, skips)
                if name is None:
                    continue
                folder, _, base = name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                ending = ending.lower()
                if members and (key != current or ending in members):  # a second a.jpg begins a second sample
                    yield current, members
                    members = {}
                current = key
                if _ending(ending) in _READ_KINDS and _fits(member, ending, f"{path}/{name}", skips):
                    members[ending] = tar.extractfile(member).read()  # type: ignore[union-attr]
            if not getattr(tar, "ended", False):
                raise tarfile.ReadError("its end mark is missing")
            if members:
                yield current, members
    except _DAMAGED as error:
        what = " ".join(str(error).split()) or type(error).__name__
        skips.add("CutArchive", path, f"cut or damaged after {current or 'its beginning'} ({what}); get it again")


class _Member(tarfile.TarInfo):
    """A member that notes on its archive when the end mark was read: tarfile itself takes a cut for an end."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except _EndMark:
            tarfile.ended = True
            raise


_EndMark: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]


def _safe_name(member: tarfile.TarInfo, path: Path, skips: Skips) -> str | None:
    """The name of a file that may be read, else None; what is odd is counted."""
    if member.isdir():
        return None
    parts = PurePosixPath(member.name.replace("\\", "/")).parts
    if not member.isreg():
        skips.add("UnsafeMember", f"{path}/{member.name}", "is a link or device, not a file")
        return None
    if not parts or ".." in parts or parts[0] == "/" or parts[0].endswith(":"):
        skips.add("UnsafeMember", f"{path}/{member.name}", "its name leads out of the archive")
        return None
    if parts[-1].startswith("."):
        return None  # what file managers leave behind
    return printable("/".join(parts))


def _fits(member: tarfile.TarInfo, ending: str, name: str, skips: Skips) -> bool:
    limit = DEFAULT_LIMITS.max_bytes if _ending(ending) in _IMAGE_KINDS else TEXT_LIMIT
    if member.size > limit:
        skips.add("TooLarge", name, f"has {member.size:,} bytes, over the limit of {limit:,}")
    return member.size <= limit


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _fields(members: Mapping[str, bytes], name: str, skips: Skips) -> dict[str, Any]:
    """A sample's members and the values of its JSON, by name; texts decoded."""
    fields: dict[str, Any] = {}
    for ending, data in members.items():
        kind = _ending(ending)
        if kind == "json":
            fields = {**_json_values(data, f"{name}.{ending}", skips), **fields}
        else:
            fields[ending] = data if kind in _IMAGE_KINDS else decode_text(data)
    return fields


def _json_values(data: bytes, name: str, skips: Skips) -> dict[str, Any]:
    try:
        values = parse_object(decode_text(data))
    except MetadataError as error:
        values = None
        skips.add("BadJson", name, error)
    return values or {}


def _picture(fields: Mapping[str, Any], place: str, skips: Skips) -> str:
    """The ending of the sample's picture, "" without one: a.jpg comes before a.mask.png; what is left is counted."""
    held = sorted((name for name, value in fields.items() if isinstance(value, bytes)), key=lambda name: "." in name)
    for other in held[1:]:
        reason = f"its sample has the picture {place}.{held[0]} already: a name counts up to its first dot"
        skips.add("MorePictures", f"{place}.{other}", reason)
    return next(iter(held), "")


def _pair(fields: Mapping[str, Any], image: str, columns: Mapping[str, str], path: Path, key: str) -> Row:
    likely = [columns["prompt"]] if "prompt" in columns else [*TEXT_KINDS, *COLUMN_NAMES["prompt"]]
    prompt = next((name for name in likely if name in fields), "")
    data = fields.get(image)
    row: Row = {
        "image": {"bytes": data, "path": f"{path}/{key}.{image}"} if data and isinstance(data, bytes) else None,
        "prompt": fields.get(prompt),
        "id": str(fields[columns["id"]]) if columns.get("id") in fields else f"{path.name.partition('.')[0]}/{key}",
    }
    for name, value in fields.items():
        if name not in (image, prompt, *TEXT_KINDS) and is_plain(value):
            row.setdefault(f"table_{name}" if name in COLUMN_NAMES else name, value)
    for ours in ("source", "scene"):
        if columns.get(ours) in fields:
            row[ours] = fields[columns[ours]]
    return row


def _check(columns: Mapping[str, str], fields: Mapping[str, Any], path: Path) -> None:
    """The names that the user gave are there."""
    for ours, theirs in columns.items():
        if ours not in COLUMN_NAMES:
            raise DataError(f"{path}: there is no column {ours!r} to name; choose from {', '.join(COLUMN_NAMES)}")
        if theirs not in fields:
            raise DataError(f"{path}: no column {theirs!r}; found: {', '.join(fields) or 'none'}")

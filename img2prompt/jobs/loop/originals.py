"""The first step: originals are read once, and stay as PNG files in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ImageError, Img2PromptError, MetadataError
from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.plan import Item
from img2prompt.progress import track

if TYPE_CHECKING:
    from PIL.Image import Image

ORIGINAL_PX = 1024  # longest side that is kept: more than any model of the loop sees, and a report stays small


def read_originals(run: RunFolder, items: Sequence[Item], *, metadata: bool = True) -> None:
    """Keeps each original as images/ID/original.png; what cannot be read becomes a row that says why.

    Args:
        run: the run.
        items: its pictures.
        metadata: a prompt inside of the file is the true one, where no other is known.

    Raises:
        OutputError: a picture cannot be written.
    """
    todo = [item for item in items if run.get("original", item.id) is None]
    for item in track(todo, total=len(todo), unit="picture", label="read"):
        try:
            image, written = _opened(item, metadata)
        except Img2PromptError as error:
            reason = error.reason if isinstance(error, ImageError) else str(error)
            run.put("original", item.id, {"error": reason, "kind": type(error).__name__})
            continue
        file = BytesIO()
        image.save(file, "PNG")
        run.write(original_file(item.id), file.getvalue())
        run.put("original", item.id, {"written": written})


def original_file(name: str) -> str:
    """Where the original of an id lies inside of the run's folder."""
    return f"images/{name}/original.png"


def readable(run: RunFolder, items: Sequence[Item]) -> list[Item]:
    """The items whose originals are there."""
    return [item for item in items if "error" not in run.get("original", item.id)]


def truth_of(run: RunFolder, item: Item) -> dict[str, Any] | None:
    """The true prompt of an original and where it comes from; None: not known."""
    if item.truth is not None:
        return {"text": item.truth, "from": "pairs"}
    written = run.get("original", item.id).get("written")
    return None if written is None else {"text": written, "from": "metadata"}


def open_pictures(root: Path, files: Sequence[str]) -> Iterator[Image]:
    """Pictures of a run, one after the other."""
    from img2prompt.pairs.images import open_image

    for file in files:
        yield open_image(root / file)


def _opened(item: Item, metadata: bool) -> tuple[Image, str | None]:
    from img2prompt.pairs.images import name_of, open_image, read_bytes
    from img2prompt.pairs.metadata import read_prompt

    source = item.read()
    name = item.name if isinstance(source, bytes) else name_of(source)
    data, written = read_bytes(source, name=name), None
    if metadata and item.truth is None:
        try:
            found = read_prompt(data, name=name)
            written = found.prompt if found is not None else None
        except MetadataError:  # hostile: the picture itself may be sound
            written = None
    image = open_image(data, name=name)
    image.thumbnail((ORIGINAL_PX, ORIGINAL_PX))
    return image, written

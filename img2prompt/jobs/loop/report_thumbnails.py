"""Small copies of a run's pictures, inside of its page."""

from __future__ import annotations

from pathlib import Path

from img2prompt.errors import ImageError
from img2prompt.jobs.blocks import Picture, thumbnail
from img2prompt.jobs.loop.report_run import Run
from img2prompt.pairs.images import open_image

LISTED = 400  # originals whose pictures are on the page; the scores of all are in its table
# Longer side of a picture by how many there are: some 12, 9, 5 and 2.6 kB each in the page, so that all of them
# together stay below some 16 MB whatever the run.
SIZES_PX = ((320, 320), (1200, 208), (3000, 128), (6000, 80))
ORIGINAL_PX = 208  # of originals, at least: they are shown larger


class Thumbnails:
    """Small copies of a run's pictures for its page.

    Args:
        run: whose pictures.
    """

    def __init__(self, run: Run) -> None:
        self._root = run.folder.resolve()
        total, self.shown = 0, 0
        most = SIZES_PX[-1][0]
        for row in run.rows[:LISTED]:
            count = 1 + sum(len(pictures) for pictures in (row.get("pictures") or {}).values())
            if total + count > most and self.shown:
                break
            total, self.shown = total + count, self.shown + 1
        self.px = next((px for count, px in SIZES_PX if total <= count), SIZES_PX[-1][1])

    def of(self, file: str | None, alt: str, caption: str = "", *, least_px: int = 0) -> Picture | None:
        """A picture of the run's folder, no smaller than asked for; None where there is none that can be read."""
        px = max(self.px, least_px)
        path = self._root / file if isinstance(file, str) and file else None
        if path is None or not self._is_inside(path):
            return None
        try:
            return thumbnail(open_image(path, least_px=px), alt, most_px=px, caption=caption)
        except ImageError:
            return None

    def _is_inside(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._root)
        except (OSError, ValueError):  # a loop of links, a zero byte
            return False

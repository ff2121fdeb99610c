"""Progress of long work on stderr; silent when stderr is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], *, total: int | None = None, unit: str = "it", label: str = "") -> Iterator[T]:
    """Yields `items` while showing count, rate and remaining time on stderr."""
    from tqdm import tqdm

    yield from tqdm(
        items, total=total, unit=f" {unit}", desc=label or None, file=sys.stderr, disable=not sys.stderr.isatty()
    )

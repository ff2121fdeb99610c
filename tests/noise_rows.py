"""Rows for tests of shards; in a file of its own so that worker processes start fast."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator
from typing import Any

from PIL import Image

from img2prompt.pairs.shards import ShardPlan

COLUMNS = ("id", "image", "prompt")


class Noise:
    """Rows with small real pictures; slow ones for runs that are to be interrupted."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def __call__(self, rows: range) -> Iterator[dict[str, Any]]:
        for i in rows:
            time.sleep(self.delay_s)
            file = io.BytesIO()
            Image.frombytes("RGB", (8, 8), random.Random(i).randbytes(192)).save(file, "PNG")
            yield {"id": f"row-{i}", "image": file.getvalue(), "prompt": f"noise {i} “ü”"}


class TooFew:
    def __call__(self, rows: range) -> Iterator[dict[str, Any]]:
        yield from list(Noise()(rows))[1:]


def plan(rows: int = 25, **config: Any) -> ShardPlan:
    return ShardPlan(rows=rows, columns=COLUMNS, config=config, rows_per_shard=4)

"""How close pictures are to a picture, and to a text: the rows of `metrics.METRICS` that need a model."""

from __future__ import annotations

from img2prompt.comparison.comparer import Comparer

__all__ = ["Comparer"]

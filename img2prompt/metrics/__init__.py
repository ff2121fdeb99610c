"""Scores and what they say: arrays in, floats out. `METRICS` holds one row a metric. No torch in here."""

from __future__ import annotations

from img2prompt.metrics.pictures import colour_distance
from img2prompt.metrics.rows import METRICS, Metric
from img2prompt.metrics.statistics import (
    Estimate,
    PairedTest,
    auroc,
    bootstrap_interval,
    bootstrap_over,
    estimate,
    fraction_of_way,
    fraction_over,
    holm,
    paired_test,
)
from img2prompt.metrics.texts import bleu, cider_d, cosines, identical_share, mean_cosine

__all__ = [
    "METRICS",
    "Estimate",
    "Metric",
    "PairedTest",
    "auroc",
    "bleu",
    "bootstrap_interval",
    "bootstrap_over",
    "cider_d",
    "colour_distance",
    "cosines",
    "estimate",
    "fraction_of_way",
    "fraction_over",
    "holm",
    "identical_share",
    "mean_cosine",
    "paired_test",
]

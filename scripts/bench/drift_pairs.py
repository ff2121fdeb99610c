"""Short prompts with rich ones that keep every fact, written by hand for scripts/bench/drift.py, in drift_pairs.tsv.

They were written before the rules of the general check were run on any of them. No line comes from a benchmark.
"""

from __future__ import annotations

from pathlib import Path

_LINES = Path(__file__).with_suffix(".tsv").read_text("utf-8").splitlines()[1:]
FAITHFUL: list[tuple[str, str]] = [(base, rich) for base, rich in (line.split("\t") for line in _LINES)]

"""The work of `img2prompt pairs split`: rows in, sides out, and how much still leaks."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.doctor import installation
from img2prompt.jobs.pairs.split_report import Divided, leakage_report, report_of
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.atomic import fresh_file, sole_writer, write_atomically
from img2prompt.pairs.clustering import clusters, joined
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.manifest import claim
from img2prompt.pairs.pinning import ASSIGNMENT, Pins, name_of, read_pins, settled, write_assignment
from img2prompt.pairs.prompts import HASHED, PromptRow, folded, read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.pairs.split import SplitSettings, divide
from img2prompt.progress import track

REPORT = "report.json"
_CLUSTERS = "clusters.npy"  # of an unfinished run
_AT_ONCE = 4096  # prompts between two steps of the progress


@dataclass(frozen=True)
class Plan:
    """What settles the sides, beside the rows.

    Attributes:
        settings: shares and seed.
        threshold: smallest cosine of near-duplicates.
        group: column whose values are groups, or None.
        clusters: near-duplicates share a side.
        sentence_model: name or folder.
        leakage: measure it.
        shards: write the rows of each side as a data set.
    """

    settings: SplitSettings
    threshold: float
    group: str | None
    clusters: bool
    sentence_model: str
    leakage: bool
    shards: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, which knows no infinity."""
        facts = asdict(self)
        if math.isinf(self.settings.tolerance):
            facts["settings"]["tolerance"] = None
        return facts


@dataclass(frozen=True)
class Material:
    """What is divided: all rows in their order, what they are called, what came before, and what was left out."""

    rows: list[PromptRow]
    names: list[str]
    pins: Pins
    benchmarks: dict[str, list[str]]
    skips: Skips

    def fingerprint(self) -> str:
        """SHA-256 of all that the division depends on beside the plan."""
        digest = hashlib.sha256(repr((sorted(self.pins.sides.items()), self.benchmarks)).encode(errors="replace"))
        for row, name in zip(self.rows, self.names, strict=True):
            digest.update(repr((name, row)).encode(errors="replace"))
        return digest.hexdigest()


def read_material(
    sources: Sequence[str],
    columns: Mapping[str, str],
    group: str | None,
    previous: Path | None,
    benchmarks: Sequence[str],
) -> Material:
    """Reads the rows of all sources, an earlier assignment, and the benchmarks' prompts.

    Raises:
        DataError: one of them cannot be read, or there is nothing to divide.
    """
    skips = Skips()
    extra = () if group is None else (group,)
    found = (
        row for source in sources for row in read_prompts(source, columns, extra=extra, pictures=True, skips=skips)
    )
    rows = list(track(found, unit="prompt", label="read"))
    if len(rows) < 2:
        raise DataError(f"{', '.join(sources)}: rows with a prompt: {len(rows)}; nothing to divide")
    pins = Pins({}, {}) if previous is None else read_pins(previous, skips)
    texts = {path: [row.prompt for row in read_prompts(path, skips=skips)] for path in benchmarks}
    return Material(rows, [row.id or name_of(row.prompt) for row in rows], pins, texts, skips)


def written(root: Path, material: Material, plan: Plan, device: str) -> dict[str, Any]:
    """The report, once everything is written; that of a finished run as it stands.

    Raises:
        DataError: all rows are one cluster.
        OutputError: the folder is in use, holds something else, or cannot be written.
        MissingExtra, ModelError: no sentence model.
    """
    config = {**plan.to_dict(), "rows": len(material.rows), "fingerprint": material.fingerprint()}
    try:
        with sole_writer(root):
            claim(root, config)
            if (root / REPORT).exists():
                return _finished(root / REPORT)
            report = _Division(root, material, plan, device).run() | {"config": config, "versions": installation()}
            write_atomically(root / REPORT, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
            (root / _CLUSTERS).unlink(missing_ok=True)
            return report
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; run the same command again to go on") from error


def _finished(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise OutputError(f"{path}: damaged; delete it and run the same command again") from None


@dataclass(frozen=True)
class _Division:
    """One run. Rows of an earlier division that are not among the rows now take part as ghosts, behind the others:
    what is near them goes to their side all the same."""

    root: Path
    material: Material
    plan: Plan
    device: str

    def run(self) -> dict[str, Any]:
        """Divides, writes the assignment and the shards; the report."""
        rows, names, count = self.material.rows, self.material.names, len(self.material.rows)
        pinned, ghosts = self._pinned()
        embedded = _Embedder(self.plan.sentence_model, self.device) if self.plan.leakage else None
        prompts = [row.prompt for row in rows] + ghosts
        emb = np.zeros((len(prompts), 1), np.float32) if embedded is None else embedded(prompts, "embed")  # (N,D)
        ties = self._ties(len(ghosts))
        labels = joined(self._clusters(emb), ties.tolist()) if self.plan.clusters else ties
        if labels.max() == 0:
            raise DataError("all rows are one cluster; raise --threshold, or give --group a column of more values")
        asked = pinned
        if self.plan.clusters:
            pinned = settled(emb, labels, pinned, self.plan.threshold, ties.tolist())
        sides = divide(
            labels, self.plan.settings, contents=self._contents(ghosts), strata=self._strata(ghosts), pinned=pinned
        )[:count]
        write_assignment(self.root / ASSIGNMENT, zip(names, rows, strict=True), sides, labels[:count])
        if self.plan.shards:
            from img2prompt.jobs.pairs.split_shards import write_sides

            write_sides(self.root, rows, sides, self.material.fingerprint())
        report = report_of(Divided(rows, labels[:count], sides, asked[:count], len(ghosts)), self.material.skips)
        if embedded is not None:
            benchmarks = {path: (texts, embedded(texts, path)) for path, texts in self.material.benchmarks.items()}
            report |= leakage_report(prompts[:count], emb[:count], sides, self.plan.threshold, benchmarks)
        return report

    def _pinned(self) -> tuple[NDArray[np.int64], list[str]]:
        """The sides (N,) that rows had, ghosts last, and the ghosts' prompts."""
        pins, rows, names = self.material.pins, self.material.rows, self.material.names
        sides = [pins.side(name, row) for name, row in zip(names, rows, strict=True)]
        here = {(name, row.prompt) for name, row in zip(names, rows, strict=True)}
        old = pins.sides.items() if self.plan.clusters else ()
        gone = [(prompt, side) for (name, prompt), side in old if (name, prompt) not in here]
        return np.array([*sides, *(side for _, side in gone)], np.int64), [prompt for prompt, _ in gone]

    def _ties(self, ghosts: int) -> NDArray[np.int64]:
        """What shares a side whatever its prompt: rows of one picture, of one id in a file, of one group."""
        rows = self.material.rows
        pictures = [None if row.image is None else _place(row) for row in rows]
        ids = [None if row.id is None else (row.file, row.id) for row in rows]
        groups = [None if self.plan.group is None else row.extra[self.plan.group] for row in rows]
        ties = np.arange(len(rows) + ghosts)
        for keys in (pictures, ids, groups):
            ties = joined(ties, [*keys, *([None] * ghosts)])
        return ties

    def _clusters(self, emb: NDArray[np.float32]) -> NDArray[np.int64]:
        """Kept on the disk until the run is finished, because finding them takes a while."""
        path = self.root / _CLUSTERS
        try:
            labels = np.load(path, allow_pickle=False)
            if labels.shape == (len(emb),) and labels.dtype == np.int64:
                return np.asarray(labels)
        except (OSError, ValueError, EOFError):
            pass
        labels = clusters(emb, self.plan.threshold)
        with fresh_file(path) as fresh, fresh.open("wb") as file:
            np.save(file, labels)
        return labels

    def _contents(self, ghosts: list[str]) -> list[str]:
        """What a cluster's draw comes from: letter case and white space must not matter."""
        by_group = self.plan.group is not None and not self.plan.clusters
        own = [(row.extra[self.plan.group or ""] if by_group else None) or row.prompt for row in self.material.rows]
        return own if by_group else [folded(text) for text in [*own, *ghosts]]

    def _strata(self, ghosts: list[str]) -> list[str]:
        return [row.source for row in self.material.rows] + [""] * len(ghosts)


class _Embedder:
    """Prompts -> embeddings (N,D), through the user's cache, so that a killed run goes on where it was."""

    def __init__(self, model: str, device: str) -> None:
        from img2prompt.models.devices import usable

        self._encoder = SentenceEncoder(model, usable(device), cache="default")

    def __call__(self, texts: Sequence[str], label: str) -> NDArray[np.float32]:
        starts = track(range(0, len(texts), _AT_ONCE), unit=f"x {_AT_ONCE} prompts", label=Path(label).name)
        return np.concatenate([self._encoder.encode_many(texts[start : start + _AT_ONCE]) for start in starts])


def _place(row: PromptRow) -> str:
    """What tells the row's picture from others: tables give paths from where they lie."""
    image = str(row.image)
    folder = row.file if Path(row.file).is_dir() else str(Path(row.file).parent)
    return image if is_url(image) or image.startswith(HASHED) else os.path.normpath(os.path.join(folder, image))  # noqa: PTH118

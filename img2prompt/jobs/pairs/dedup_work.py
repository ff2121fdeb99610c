"""The work of `img2prompt pairs dedup`: prompts in, survivors, what went, and the report out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.doctor import installation
from img2prompt.jobs.pairs.dedup_report import Group, Rows, groups_of, write_report
from img2prompt.jobs.pairs.products import finder_for
from img2prompt.jobs.pairs.split_shards import write_rows
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.atomic import fresh_file, sole_writer
from img2prompt.pairs.dedup import DedupSettings, Duplicates, against, find_duplicates, ranked, survivor_curve
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.manifest import claim
from img2prompt.pairs.prompts import PromptRow, is_shards, read_prompts
from img2prompt.pairs.skips import Skips
from img2prompt.progress import track

_AT_ONCE = 8192  # prompts between two steps of the progress


@dataclass(frozen=True)
class Plan:
    """What settles the result, beside the rows.

    Attributes:
        threshold: smallest cosine of near-duplicates.
        keep: "first", "longest", "shortest" or "best:COLUMN".
        among: near-duplicates among the rows go, not only those near other rows.
        curve: count survivors at many thresholds.
        method, budget_s, seed: of `DedupSettings`.
        sentence_model: name or folder.
    """

    threshold: float
    keep: str
    among: bool
    curve: bool
    method: Literal["auto", "exact", "approximate"]
    budget_s: float
    seed: int
    sentence_model: str

    @property
    def column(self) -> str | None:
        """The column of --keep best:COLUMN."""
        return self.keep.partition(":")[2] or None


@dataclass(frozen=True)
class Material:
    """What is looked at: all rows in their order, others that they must not be near, and what was left out."""

    sources: list[str]
    rows: list[PromptRow]
    others: list[PromptRow]
    skips: Skips

    def fingerprint(self) -> str:
        """SHA-256 of all that the result depends on beside the plan."""
        digest = hashlib.sha256()
        for row in itertools.chain(self.rows, [None], self.others):
            digest.update(repr(row).encode(errors="replace"))
        return digest.hexdigest()


def read_material(
    sources: Sequence[str], others: Sequence[str], columns: Mapping[str, str], column: str | None
) -> Material:
    """Reads the prompts of all sources.

    Raises:
        DataError: one of them cannot be read, or has no prompts.
    """
    skips, extra = Skips(), () if column is None else (column,)
    found = (row for source in sources for row in read_prompts(source, columns, extra=extra, skips=skips))
    rows = list(track(found, unit="prompt", label="read"))
    if not rows:
        raise DataError(f"{', '.join(sources)}: no row has a prompt")
    return Material(list(sources), rows, [row for other in others for row in read_prompts(other, skips=skips)], skips)


def written(root: Path, material: Material, plan: Plan, device: str, threads: int) -> dict[str, Any]:
    """The facts of the report, once everything is written.

    Raises:
        OutputError: the folder is in use, holds something else, or cannot be written.
        DataError: the column of --keep holds no number.
        MissingExtra, ModelError: no sentence model.
    """
    config = {**asdict(plan), "rows": len(material.rows), "fingerprint": material.fingerprint()}
    try:
        root.mkdir(parents=True, exist_ok=True)
        with sole_writer(root):
            claim(root, config)
            return _Removal(root, material, plan, device, threads).run(config)
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; run the same command again to go on") from error


@dataclass(frozen=True)
class _Removal:
    root: Path
    material: Material
    plan: Plan
    device: str
    threads: int

    def run(self, config: Mapping[str, Any]) -> dict[str, Any]:
        from img2prompt.models.devices import usable

        rows, started = self.material.rows, time.perf_counter()
        device = usable(self.device)
        encoder = SentenceEncoder(self.plan.sentence_model, device, cache="default")
        emb = _embedded(encoder, [row.prompt for row in rows])  # (N,D)
        settings = DedupSettings(
            self.plan.method, self.plan.budget_s, self.threads, seed=self.plan.seed, finder=finder_for(device)
        )
        rank = ranked([row.prompt for row in rows], self.plan.keep.partition(":")[0], self._values())
        near = self._near_others(encoder, emb, settings)
        left = np.flatnonzero(near.keep)  # (L,)
        found = self._among(emb[left], rank[left], settings) if self.plan.among else _all_kept(len(left))
        curve = survivor_curve(emb, rank=rank, settings=settings).points() if self.plan.curve else []
        keep = near.keep.copy()
        keep[left] = found.keep
        facts = {
            "rows": len(rows),
            "survivors": int(keep.sum()),
            "removed": int((~keep).sum()),
            "near_others": int((~near.keep).sum()),
            "threshold": self.plan.threshold,
            "keep": self.plan.keep,
            "method": found.method,
            "recall": found.recall,
            "recall_pairs": found.recall_pairs if found.recall is not None else None,
            "sentence_model": self.plan.sentence_model,
            "seconds": time.perf_counter() - started,
            "sources": self.material.sources,
            "against": sorted({row.file for row in self.material.others}) or None,
            "left_out": dict(self.material.skips.counts),
            "settings": dict(config),
            "versions": installation(),
        }
        self._write(keep)
        write_report(self.root, self._groups(near, left, found), curve, facts)
        return facts

    def _values(self) -> NDArray[np.float64] | None:
        """The numbers of the column of --keep best:COLUMN; NaN where there is none."""
        column = self.plan.column
        if column is None:
            return None
        values = np.full(len(self.material.rows), np.nan)
        for place, row in enumerate(self.material.rows):
            try:
                values[place] = float(row.extra[column] or "nan")
            except ValueError:
                self.material.skips.add("NoNumber", f"{row.file}, row {row.number}", f"{column}: {row.extra[column]!r}")
        if np.isnan(values).all():
            raise DataError(f"{self.material.sources[0]}: column {column!r} holds no number; --keep needs some")
        return values

    def _near_others(self, encoder: SentenceEncoder, emb: NDArray[np.float32], settings: DedupSettings) -> Duplicates:
        others = self.material.others
        if not others:
            return _all_kept(len(emb))
        return against(emb, _embedded(encoder, [row.prompt for row in others]), self.plan.threshold, settings=settings)

    def _among(self, emb: NDArray[np.float32], rank: NDArray[np.int64], settings: DedupSettings) -> Duplicates:
        return find_duplicates(emb, self.plan.threshold, rank, settings=settings)

    def _groups(self, near: Duplicates, left: NDArray[np.int64], found: Duplicates) -> Iterator[Group]:
        """Groups for the report, and each of their rows for removed.jsonl, as they come."""
        rows, others = _told(self.material.rows), _told(self.material.others)
        among = _all_kept(len(near.keep))
        among.keep[left], among.survivor[left], among.cosine[left] = found.keep, left[found.survivor], found.cosine
        with fresh_file(self.root / "removed.jsonl") as fresh, fresh.open("w", encoding="utf-8") as file:
            for other, groups in ((True, groups_of(near, rows, others)), (False, groups_of(among, rows))):
                table = self.material.others if other else self.material.rows
                for group in groups:
                    survivor = table[group.survivor.row]
                    for member in group.removed:
                        gone = self.material.rows[member.row]
                        line = {**_plain(gone), "cosine": member.cosine, "survivor": _plain(survivor)}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    yield group

    def _write(self, keep: NDArray[np.bool_]) -> None:
        """The survivors, as a data set of ours where all sources are."""
        if all(is_shards(Path(source)) for source in self.material.sources):
            write_rows(self.root / "survivors", self.material.rows, np.flatnonzero(keep), {"of": self._config()})
            return
        with fresh_file(self.root / "survivors.jsonl") as fresh, fresh.open("w", encoding="utf-8") as file:
            for place in np.flatnonzero(keep).tolist():
                row = self.material.rows[place]
                file.write(json.dumps({**_plain(row), **_image(row)}, ensure_ascii=False) + "\n")

    def _config(self) -> str:
        return hashlib.sha256((repr(self.plan) + self.material.fingerprint()).encode()).hexdigest()


def _embedded(encoder: SentenceEncoder, prompts: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings (N,D), with progress."""
    emb = np.empty((len(prompts), encoder.dimensions), np.float32)
    starts = range(0, len(prompts), _AT_ONCE)
    for start in track(starts, total=len(starts), unit=f"x{_AT_ONCE} prompts", label="embed"):
        emb[start : start + _AT_ONCE] = encoder.encode_many(prompts[start : start + _AT_ONCE])
    return emb


def _all_kept(count: int) -> Duplicates:
    return Duplicates(np.ones(count, bool), np.arange(count), np.ones(count, np.float32), "nothing compared")


def _told(rows: Sequence[PromptRow]) -> Rows:
    """What the report tells of rows."""
    names = [row.id or f"{row.file}, row {row.number}" for row in rows]
    return Rows([row.prompt for row in rows], names, [row.source for row in rows])


def _plain(row: PromptRow) -> dict[str, Any]:
    facts = {"prompt": row.prompt, "id": row.id, "source": row.source, "file": row.file, "row": row.number}
    return {name: value for name, value in facts.items() if value is not None} | dict(row.extra)


def _image(row: PromptRow) -> dict[str, str]:
    """Where the row's picture is, from anywhere."""
    if row.image is None:
        return {}
    beside = Path(row.file) if Path(row.file).is_dir() else Path(row.file).parent
    found = not is_url(row.image) and (beside / row.image).exists()
    return {"image": os.fspath((beside / row.image).absolute()) if found else row.image}

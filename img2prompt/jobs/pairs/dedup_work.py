"""The work of `img2prompt pairs dedup`: prompts in, survivors, what went, and the report out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.doctor import installation
from img2prompt.jobs.pairs.dedup_plan import Material, Plan
from img2prompt.jobs.pairs.dedup_report import Group, Rows, groups_of, write_report
from img2prompt.jobs.pairs.products import finder_for
from img2prompt.jobs.pairs.scale import Cluster
from img2prompt.jobs.pairs.scale_compare import RayComparison, nothing_compared
from img2prompt.jobs.pairs.split_shards import write_rows
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.pairs.atomic import fresh_file, sole_writer
from img2prompt.pairs.dedup import DedupSettings, Duplicates, against, find_duplicates, ranked, survivor_curve
from img2prompt.pairs.fetch import is_url
from img2prompt.pairs.manifest import claim
from img2prompt.pairs.prompts import PromptRow, is_shards
from img2prompt.progress import track

_TASKS = ".tasks"  # folder of what the tasks of a cluster leave, until the end
_AT_ONCE = 8192  # prompts between two steps of the progress


def written(
    root: Path, material: Material, plan: Plan, device: str, threads: int, cluster: Cluster | None = None
) -> dict[str, Any]:
    """The facts of the report, once everything is written.

    Args:
        root: folder.
        material, plan: what settles the result.
        device, threads: which do not.
        cluster: likewise; None: this machine.

    Raises:
        OutputError: the folder is in use, holds something else, or cannot be written.
        DataError: the column of --keep holds no number.
        MissingExtra, ModelError: no sentence model.
    """
    config = {**asdict(plan), "rows": len(material.rows), "fingerprint": material.fingerprint()}
    try:
        with sole_writer(root):
            claim(root, config)
            return _Removal(root, material, plan, device, threads, cluster).run(config)
    except OSError as error:
        raise OutputError(f"{root}: {error.strerror or error}; run the same command again to go on") from error


@dataclass(frozen=True)
class _Removal:
    root: Path
    material: Material
    plan: Plan
    device: str
    threads: int
    cluster: Cluster | None

    def run(self, config: Mapping[str, Any]) -> dict[str, Any]:
        rows, started = self.material.rows, time.perf_counter()
        rank = ranked([row.prompt for row in rows], self.plan.keep.partition(":")[0], self._values())
        near, found, curve = self._here(rank) if self.cluster is None else self._on_ray(rank, self.cluster)
        left = np.flatnonzero(near.keep)  # (L,)
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
        shutil.rmtree(self.root / _TASKS, ignore_errors=True)
        return facts

    def _here(self, rank: NDArray[np.int64]) -> tuple[Duplicates, Duplicates, list[tuple[float, int]]]:
        """Rows near others, near-duplicates among the rest, and the curve."""
        from img2prompt.models.devices import usable

        device = usable(self.device)
        encoder = SentenceEncoder(self.plan.sentence_model, device, cache="default")
        emb = _embedded(encoder, [row.prompt for row in self.material.rows])  # (N,D)
        settings = DedupSettings(
            self.plan.method, self.plan.budget_s, self.threads, seed=self.plan.seed, finder=finder_for(device)
        )
        near = self._near_others(encoder, emb, settings)
        left = np.flatnonzero(near.keep)  # (L,)
        found = self._among(emb[left], rank[left], settings) if self.plan.among else nothing_compared(len(left))
        curve = survivor_curve(emb, rank=rank, settings=settings).points() if self.plan.curve else []
        return near, found, curve

    def _on_ray(
        self, rank: NDArray[np.int64], cluster: Cluster
    ) -> tuple[Duplicates, Duplicates, list[tuple[float, int]]]:
        """The same, without a curve, which compares all rows with all."""
        folder = self.root / _TASKS
        folder.mkdir(exist_ok=True)
        comparison = RayComparison(
            cluster, folder, self.plan.sentence_model, self.device, self.plan.threshold, self.plan.seed
        )
        prompts, others = ([row.prompt for row in rows] for rows in (self.material.rows, self.material.others))
        return *comparison.compare(prompts, others, rank, among=self.plan.among), []

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
            return nothing_compared(len(emb))
        return against(emb, _embedded(encoder, [row.prompt for row in others]), self.plan.threshold, settings=settings)

    def _among(self, emb: NDArray[np.float32], rank: NDArray[np.int64], settings: DedupSettings) -> Duplicates:
        return find_duplicates(emb, self.plan.threshold, rank, settings=settings)

    def _groups(self, near: Duplicates, left: NDArray[np.int64], found: Duplicates) -> Iterator[Group]:
        """Groups for the report, and each of their rows for removed.jsonl, as they come."""
        rows, others = _told(self.material.rows), _told(self.material.others)
        among = nothing_compared(len(near.keep))
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

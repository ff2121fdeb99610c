"""Tests of removing near-duplicates in tasks over files: the same rows as in memory, whatever was killed before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2prompt.errors import DataError, OutputError
from img2prompt.jobs.pairs import scale_dedup
from img2prompt.jobs.pairs.scale_dedup import against_in_parts, find_duplicates_in_parts
from img2prompt.pairs.dedup import DedupSettings, against, find_duplicates

APPROXIMATE = DedupSettings(method="approximate", threads=1)


def _rows(seed: int, count: int, width: int = 24) -> np.ndarray:
    """Unit rows in groups of near ones, some of them copies."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 4), width))
    rows = centres[rng.integers(0, len(centres), count)] + rng.choice([0, 0.05, 0.2], (count, 1)) * (
        rng.standard_normal((count, width))
    )
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _parts(folder: Path, rows: np.ndarray, cuts: list[int]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate(np.split(rows, cuts)):
        paths.append(folder / f"shard-{number:05d}.npy")
        np.save(paths[-1], part)
    return paths


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch):
    monkeypatch.setattr(scale_dedup, "ROWS_PER_LOOK", 300)
    monkeypatch.setattr(scale_dedup, "MEMBERS_PER_TASK", 150)


def _same(one, other):
    assert (one.survivor == other.survivor).all() and (one.keep == other.keep).all()
    assert (one.cosine == other.cosine).all() and one.method == other.method
    assert (one.recall, one.recall_pairs) == (other.recall, other.recall_pairs)


@pytest.mark.parametrize("ranked", [False, True])
def test_parts_give_the_same_rows_as_memory(tmp_path, ranked):
    rows = _rows(1, 1500)
    rank = np.random.default_rng(2).permutation(1500) if ranked else None
    parts = _parts(tmp_path / "emb", rows, [400, 401, 1100])
    found = find_duplicates_in_parts(parts, 0.9, rank, folder=tmp_path / "work")
    _same(found, find_duplicates(rows, 0.9, rank, settings=APPROXIMATE))
    assert 0 < found.keep.sum() < 1500 and found.recall is not None and found.recall > 0.99
    assert all(len(list((tmp_path / "work").glob(f"{kind}-*"))) > 3 for kind in ("look", "cells"))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 400), threshold=st.sampled_from([0.7, 0.9, 0.98]))
def test_any_rows_and_cuts_give_the_same(tmp_path_factory, seed, count, threshold):
    root = tmp_path_factory.mktemp("any")
    rows = _rows(seed, count)
    rng = np.random.default_rng(seed)
    parts = _parts(root / "emb", rows, sorted(rng.integers(0, count + 1, 2).tolist()))
    rank = rng.integers(0, 5, count)
    found = find_duplicates_in_parts(parts, threshold, rank, folder=root / "work")
    _same(found, find_duplicates(rows, threshold, rank, settings=APPROXIMATE))


def test_a_killed_run_goes_on_from_the_tasks_that_stand(tmp_path):
    rows = _rows(3, 1200)
    parts = _parts(tmp_path / "emb", rows, [600])
    done: list[Path] = []

    def killed_at(count):
        def run(work, tasks, arguments=()):
            for task in tasks:
                if len(done) == count:
                    raise KeyboardInterrupt
                done.append(work(task))
                yield done[-1]

        return run

    for count in (1, 3, 6):
        with pytest.raises(KeyboardInterrupt):
            find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work", run=killed_at(count))
    found = find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work", run=killed_at(-1))
    _same(found, find_duplicates(rows, 0.9, settings=APPROXIMATE))
    assert len(done) == len(set(done)) > 7  # no task was done twice


def test_a_damaged_file_is_made_again_by_the_next_run(tmp_path):
    rows = _rows(4, 700)
    parts = _parts(tmp_path / "emb", rows, [])
    expected = find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work")
    (tmp_path / "work" / "cells-00001.npz").write_bytes(b"PK")
    with pytest.raises(OutputError, match=r"cells-00001.npz: damaged or gone; run the same"):
        find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work")
    _same(find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work"), expected)


def test_other_rows_do_not_meet_the_files_of_earlier_ones(tmp_path):
    for seed in (5, 6):
        rows = _rows(seed, 500)
        parts = _parts(tmp_path / "emb", rows, [])
        found = find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work")
        _same(found, find_duplicates(rows, 0.9, settings=APPROXIMATE))


def test_rows_that_are_no_unit_vectors_are_refused(tmp_path):
    parts = _parts(tmp_path / "emb", 2 * _rows(7, 50), [])
    with pytest.raises(DataError, match="have not unit length"):
        find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work")


def test_a_part_that_was_cut_is_named(tmp_path):
    parts = _parts(tmp_path / "emb", _rows(8, 50), [20])
    parts[1].write_bytes(parts[1].read_bytes()[:200])
    with pytest.raises(DataError, match=r"shard-00001.npy: is no part of embeddings"):
        find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work")


def test_some_of_the_rows_are_compared_among_themselves(tmp_path):
    rows = _rows(9, 900)
    parts = _parts(tmp_path / "emb", rows, [333, 500])
    rng = np.random.default_rng(0)
    among = np.flatnonzero(rng.random(900) < 0.6)
    rank = rng.permutation(len(among))
    found = find_duplicates_in_parts(parts, 0.9, rank, folder=tmp_path / "work", among=among)
    _same(found, find_duplicates(rows[among], 0.9, rank, settings=APPROXIMATE))
    none = find_duplicates_in_parts(parts, 0.9, folder=tmp_path / "work", among=among[:0])
    assert len(none.keep) == 0


def test_rows_near_others_are_those_that_memory_finds(tmp_path):
    rows, others = _rows(10, 400), _rows(10, 90)
    parts = _parts(tmp_path / "emb", rows, [150])
    found = against_in_parts(parts, _parts(tmp_path / "other", others, [40]), 0.9, folder=tmp_path / "work")
    expected = against(rows, others, 0.9)
    assert (found.survivor == expected.survivor).all() and (found.keep == expected.keep).all()
    assert (found.cosine == expected.cosine).all() and 0 < found.keep.sum() < 400

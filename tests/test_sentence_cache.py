"""The cache of embeddings: what is stored comes back, whatever else is there is found out and computed again."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from img2prompt.errors import MissingExtra, OutputError
from img2prompt.models import cache_file, sentence_cache
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.models.sentence_cache import SentenceCache, default_cache_file

D = 8


def unit(count: int, seed: int = 0) -> NDArray[np.float32]:
    emb = np.random.default_rng(seed).normal(size=(count, D)).astype(np.float32)  # (N,D)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(), unique=True, max_size=20), st.integers(0, 20))
def test_what_is_stored_comes_back(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], stored_count: int
) -> None:
    cache = SentenceCache(tmp_path_factory.mktemp("cache") / "c.sqlite", "model float32", D)
    stored = texts[:stored_count]
    if stored:
        cache.put_many(stored, unit(len(stored)))
    emb, found = cache.get_many(texts)
    assert found.tolist() == [text in stored for text in texts]
    np.testing.assert_array_equal(emb[: len(stored)], unit(len(stored)))
    assert not emb[len(stored) :].any()
    assert cache.hits == len(stored)


def test_more_texts_than_one_query_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "_AT_ONCE", 3)
    cache = SentenceCache(tmp_path / "c.sqlite", "m", D)
    texts = [str(i) for i in range(11)]
    cache.put_many(texts, unit(11))
    emb, found = cache.get_many([*reversed(texts), "0", "new"])
    assert found.tolist() == [True] * 12 + [False]
    np.testing.assert_array_equal(emb[:11], unit(11)[::-1])
    np.testing.assert_array_equal(emb[11], unit(11)[0])


def test_kinds_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    SentenceCache(path, "m1", D).put_many(["a", "1a"], unit(2))
    for kind in ("m", "m11", "m2"):
        assert not SentenceCache(path, kind, D).get_many(["a", "1a", "11a"])[1].any()
    assert SentenceCache(path, "m1", D).get_many(["a", "1a"])[1].all()


def _spoilt(path: Path, change: str, value: object) -> None:
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE embeddings SET {change}", (value,))
    database.close()


@pytest.mark.parametrize(
    "stored",
    [
        np.full(D, np.nan, "<f4").tobytes(),
        np.full(D, np.inf, "<f4").tobytes(),
        np.zeros(D, "<f4").tobytes(),
        unit(1)[0].tobytes()[:-4],
        b"",
        "text",
        None,
    ],
    ids=["nan", "inf", "zero", "short", "empty", "text", "null"],
)
def test_damaged_rows_count_as_missing_and_are_replaced(
    tmp_path: Path, stored: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    cache = SentenceCache(tmp_path / "c.sqlite", "m", D)
    cache.put_many(["a", "b"], unit(2))
    # The checksum is right for the stored bytes: the content itself has to be looked at.
    checksum = sentence_cache.zlib.crc32(stored) if isinstance(stored, bytes) else 0
    _spoilt(cache.path, f"checksum = {checksum}, emb = ?", stored)
    assert not cache.get_many(["a", "b"])[1].any()
    assert cache.damaged == 2
    assert "2 damaged embeddings" in caplog.text
    cache.put_many(["a", "b"], unit(2))
    assert cache.get_many(["a", "b"])[1].all()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = SentenceCache(tmp_path / "c.sqlite", "m", D)
    cache.put_many(["a"], unit(1))
    other = bytearray(unit(1)[0].tobytes())
    other[0] ^= 1  # still a unit vector
    _spoilt(cache.path, "emb = ?", bytes(other))
    assert not cache.get_many(["a"])[1].any()
    assert cache.damaged == 1


def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = SentenceCache(tmp_path / "c.sqlite", "m", D)
    cache.path.write_bytes(b"this was a cache once " * 500)
    assert not cache.get_many(["a"])[1].any()
    cache.put_many(["a"], unit(1))
    assert cache.get_many(["a"])[1].all()
    assert (tmp_path / "c.sqlite.damaged").read_bytes().startswith(b"this was")
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = SentenceCache(tmp_path / "file" / "c.sqlite", "m", D)
    assert not cache.get_many(["a"])[1].any()
    with pytest.raises(OutputError, match=r"file/c\.sqlite: the cache of embeddings cannot be written"):
        cache.put_many(["a"], unit(1))


def test_a_read_only_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SentenceCache(tmp_path / "c.sqlite", "m", D)
    cache.put_many(["a"], unit(1))
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may write anywhere
    assert cache.get_many(["a"])[1].all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.sqlite"]


WRITER = """
import sys
import numpy as np
from pathlib import Path
from img2prompt.models.sentence_cache import SentenceCache
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache = SentenceCache(Path(path), "m", 8)
for start in range(first, first + count, 50):
    numbers = np.arange(start, start + 50)
    emb = np.zeros((50, 8), np.float32)
    emb[np.arange(50), numbers % 8] = 1
    cache.put_many([str(n) for n in numbers], emb)
    print(start, flush=True)
"""


def _writer(path: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _expected(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.eye(D, dtype=np.float32)[numbers % D]


def test_three_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    writers = [_writer(path, first, 1000) for first in (0, 500, 5000)]  # two of them write some of the same
    for writer in writers:
        assert writer.communicate(timeout=60)[0].count("\n") == 20
        assert writer.returncode == 0
    numbers = np.concatenate([np.arange(1500), np.arange(5000, 6000)])
    cache = SentenceCache(path, "m", D)
    emb, found = cache.get_many([str(n) for n in numbers])
    assert found.all() and cache.damaged == 0
    np.testing.assert_array_equal(emb, _expected(numbers))


def test_a_writer_that_is_killed_loses_nothing_it_had_stored(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    writer = _writer(path, 0, 500_000)
    assert writer.stdout is not None
    done = [int(writer.stdout.readline()) for _ in range(10)]
    time.sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    done += [int(line) for line in writer.communicate(timeout=60)[0].splitlines()]
    numbers = np.arange(done[-1] + 50)
    cache = SentenceCache(path, "m", D)
    emb, found = cache.get_many([str(n) for n in numbers])
    assert found.all() and cache.damaged == 0
    np.testing.assert_array_equal(emb, _expected(numbers))
    later = np.arange(done[-1] + 50, done[-1] + 1000)
    found = cache.get_many([str(n) for n in later])[1]
    assert found[:50].all() or not found[:50].any()  # what it was writing is there whole or not at all
    assert not found[50:].any()
    cache.put_many(["x"], unit(1))  # and the next writer goes on
    assert cache.get_many(["x"])[1].all()


def test_the_user_folder_for_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_file() == tmp_path / "img2prompt" / "sentences.sqlite"


def test_an_encoder_computes_only_what_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        encoder = SentenceEncoder(cache="default")
    except MissingExtra as error:
        pytest.skip(str(error))
    seen: list[str] = []
    embed = encoder._backend.embed
    monkeypatch.setattr(encoder._backend, "embed", lambda texts, size: seen.extend(texts) or embed(texts, size))
    first = encoder.encode_many(["cat", "dog", "cat"])
    second = encoder.encode_many(["bird", "dog", "cat"])
    assert seen == ["cat", "dog", "bird"]
    np.testing.assert_array_equal(first[[1, 2]], second[[1, 2]])
    assert encoder.cache is not None
    assert encoder.cache.hits == 2
    _spoilt(encoder.cache.path, "emb = ?", np.full(384, np.nan, "<f4").tobytes())
    np.testing.assert_allclose(encoder.encode_many(["cat"]), first[:1], atol=1e-6)
    assert encoder.cache.damaged == 1
    assert encoder.encode_many(["cat"]).shape == (1, 384) and encoder.cache.damaged == 1  # it was replaced
    encoder.cache.path = tmp_path / "img2prompt" / "sentences.sqlite" / "c.sqlite"  # no folder: it cannot be written
    np.testing.assert_allclose(encoder.encode_many(["dog"]), first[1:2], atol=1e-6)
    assert encoder.cache is None
    assert "going on without it" in caplog.text

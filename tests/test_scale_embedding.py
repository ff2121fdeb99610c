"""Tests of embeddings in parts: those of the encoder itself, once, whatever was killed or damaged before."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from img2prompt.errors import DataError, Img2PromptError
from img2prompt.jobs.pairs import scale_embedding
from img2prompt.jobs.pairs.scale_embedding import EmbedTask, EmbedWorker, embed_prompts, read_parts
from img2prompt.models.sentence import MINILM, SentenceEncoder

PROMPTS = [
    f"a {kind} on a {place}" for kind in ("fox", "clock", "moss", "", "\ud83d torn") for place in ("hill", "sea")
]


@pytest.fixture(scope="module")
def encoder():
    try:
        return SentenceEncoder(MINILM)
    except Img2PromptError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(scale_embedding, "ROWS_PER_PART", 4)


def _embed(folder, prompts=PROMPTS, run=scale_embedding.in_turn):
    return embed_prompts(prompts, folder, model=MINILM, run=run)


def test_parts_hold_what_the_encoder_gives(tmp_path, encoder):
    parts = _embed(tmp_path / "emb")
    assert [len(part) for part in read_parts(parts)] == [4, 4, 2]
    expected = np.concatenate([encoder.encode_many(PROMPTS[i : i + 4]) for i in (0, 4, 8)])
    np.testing.assert_array_equal(np.concatenate(read_parts(parts)), expected)
    assert sorted(path.suffix for path in (tmp_path / "emb").iterdir()) == [".json", ".npy", ".npy", ".npy"]


def test_parts_that_stand_stay_and_damaged_ones_are_made_again(tmp_path, encoder):
    asked: list[str] = []

    def run(work, tasks, arguments=()):
        asked.extend(task.out.name for task in tasks)
        return scale_embedding.in_turn(work, pickle.loads(pickle.dumps(tasks)), arguments)

    parts = _embed(tmp_path / "emb", run=run)
    first = [path.read_bytes() for path in parts]
    parts[0].write_bytes(first[0][:100])
    np.save(parts[2], np.zeros((3, 384), np.float32))
    _embed(tmp_path / "emb", run=run)
    assert asked == [path.name for path in (*parts, parts[0], parts[2])]
    assert [path.read_bytes() for path in parts] == first


def test_other_prompts_do_not_meet_the_parts_of_earlier_ones(tmp_path, encoder):
    _embed(tmp_path / "emb")
    parts = _embed(tmp_path / "emb", [*PROMPTS[:-1], "another"])
    np.testing.assert_array_equal(read_parts(parts)[2], encoder.encode_many([PROMPTS[8], "another"]))


def test_a_shard_that_is_none_is_named(tmp_path, encoder):
    (tmp_path / "prompts-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"prompts-00000.parquet: .*run the same command again"):
        EmbedWorker(MINILM)(EmbedTask(tmp_path / "prompts-00000.parquet", tmp_path / "part.npy"))

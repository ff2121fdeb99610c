"""Batches for the regressor: right pictures and targets, counted skips, no near-duplicates across the split."""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pairs import is_picture, picture, prompts, write_csv, write_parquet, write_sidecars

from img2prompt.errors import ConfigError, DataError, MissingExtra
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.training import embedding_data, pixels
from img2prompt.training.augment import Augment
from img2prompt.training.embedding_data import EmbeddingPairs
from img2prompt.training.embedding_settings import EmbeddingBatch, Pictures, Prompts, Validation
from img2prompt.training.embedding_split import joined
from img2prompt.training.embedding_targets import embeddings_of
from img2prompt.training.pair_table import PairSource, read_table
from img2prompt.training.plan import Mixture

OFF = Augment(crop=1, stretch=0, erase=0, colour=0)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    """MiniLM, loaded once."""
    try:
        return SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def shared(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> SentenceEncoder:
    """Data modules take the encoder that is loaded."""
    monkeypatch.setattr(embedding_data, "SentenceEncoder", lambda *_, **__: encoder)
    return encoder


def pairs(tmp: Path, sources: Sequence[PairSource | Path], cache: bool = True, **more: Any) -> EmbeddingPairs:
    """A data module that keeps everything under `tmp`."""
    given = [s if isinstance(s, PairSource) else PairSource(s) for s in sources]
    options: dict[str, Any] = {"batch_size": 4, "validation": Validation(share=0.2), **more}
    pictures = Pictures(cache=cache, cache_folder=tmp / "pixels", workers=0, augment=OFF)
    return EmbeddingPairs(given, prompts=Prompts(cache_folder=tmp / "targets"), pictures=pictures, **options)


def of(data: EmbeddingPairs, rank: int = 0, world: int = 1, root: Path = Path()) -> EmbeddingPairs:
    """The data module in process `rank` of `world`; the trainer is only asked for these."""
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank, local_rank=rank, world_size=world, is_global_zero=rank == 0, training=True,
        default_root_dir=str(root), strategy=SimpleNamespace(barrier=lambda _: None),
    )  # fmt: skip
    return data


def first(data: EmbeddingPairs, count: int) -> list[EmbeddingBatch]:
    return list(itertools.islice(iter(data.train_dataloader()), count))


def three_sources(tmp: Path) -> list[Path]:
    """18 rows; the colour of row i is i."""
    texts = prompts(18)
    return [
        write_csv(tmp / "csv", texts[:7]),
        write_sidecars(tmp / "folder", texts[7:11], first=7),
        write_parquet(tmp / "shards", texts[11:], first=11),
    ]


@pytest.mark.parametrize("cache", [True, False])
def test_every_row_has_its_own_picture_and_target(tmp_path: Path, shared: SentenceEncoder, cache: bool) -> None:
    data = pairs(tmp_path, three_sources(tmp_path), cache=cache)
    data.prepare(32)
    truth = shared.encode_many(prompts(18))
    seen: Counter[int] = Counter()
    batches = [*first(data, len(data.rows("train")) // 4), *data.val_dataloader()]
    for batch in batches:
        assert batch.images.shape[1:] == (3, 32, 32)
        for row, image, target in zip(batch.rows, batch.images.numpy(), batch.targets.numpy(), strict=True):
            assert is_picture(image, row)
            np.testing.assert_allclose(target, truth[row], atol=1e-5)
            seen[row] += 1
    assert set(seen.values()) == {1}, "training and validation share no row"
    assert len(seen) >= 18 - 3, "only the rest of an epoch that fills no batch is missing"


def test_another_size_later_decoded_by_other_processes(
    tmp_path: Path, shared: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "IN_PROCESS_ROWS", 0)
    data = pairs(tmp_path, three_sources(tmp_path))
    data.prepare(16)
    before = data.rows("validation")
    data.prepare(24)
    (batch,) = first(data, 1)
    assert batch.images.shape == (4, 3, 24, 24)
    assert all(is_picture(image, row) for row, image in zip(batch.rows, batch.images.numpy(), strict=True))
    np.testing.assert_array_equal(data.rows("validation"), before)


def test_bad_rows_are_counted_and_left_out(tmp_path: Path, shared: SentenceEncoder) -> None:
    texts = prompts(12)
    texts[1], texts[4] = "", "a very long prompt " * 600  # 11,400 characters
    table = write_csv(tmp_path, texts)
    (tmp_path / "images" / "2.jpg").write_bytes(b"no picture")
    (tmp_path / "images" / "3.jpg").unlink()
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[6], ",a prompt without a picture"]) + "\n")
    data = pairs(tmp_path, [table])
    data.prepare(16)
    assert data.skips == {
        "no image or prompt": 2, "prompt too long": 1, "duplicate id": 1, "unreadable image": 2,
    }  # fmt: skip
    assert data.skipped == 6
    used = [data.prompt(row) for row in np.sort(np.concatenate([data.rows("train"), data.rows("validation")]))]
    assert used == [texts[0], *texts[5:]]


def test_the_same_id_twice_in_a_table(tmp_path: Path) -> None:
    write_csv(tmp_path, prompts(3))
    table = tmp_path / "with_ids.csv"
    table.write_text("id,image,prompt\na,images/0.jpg,fox\nb,images/1.jpg,hat\na,images/2.jpg,cup\n")
    read = read_table([PairSource(table)], 100)
    assert read.good.tolist() == [True, True, False]
    assert read.skips == {"duplicate id": 1}


def test_one_picture_may_have_several_captions(tmp_path: Path) -> None:
    table = write_csv(tmp_path, prompts(3))
    table.write_text("image,prompt\nimages/0.jpg,a fox\nimages/0.jpg,an animal\n")
    assert read_table([PairSource(table)], 100).good.all()


def test_wrong_column_names_say_which_there_are(tmp_path: Path) -> None:
    table = write_csv(tmp_path, prompts(3), columns=("bild", "worte"))
    with pytest.raises(DataError, match=r"no column for images; found: bild, worte"):
        read_table([PairSource(table)], 100)
    with pytest.raises(DataError, match=r"no column 'satz'; found: bild, worte"):
        read_table([PairSource(table, prompt_column="satz", image_column="bild")], 100)
    assert len(read_table([PairSource(table, prompt_column="worte", image_column="bild")], 100)) == 3


def test_wrong_column_of_shards_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'text'; found: image, id, prompt"):
        read_table([PairSource(write_parquet(tmp_path, prompts(4)), prompt_column="text")], 100)


def test_a_source_where_nothing_is_usable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable row \\(3 prompt too long\\)"):
        read_table([PairSource(write_csv(tmp_path, prompts(3)))], 5)


@pytest.mark.parametrize("source", [PairSource(Path("x"), weight=-1), PairSource(Path("x"), limit=0)])
def test_settings_that_make_no_sense(source: PairSource) -> None:
    with pytest.raises(ConfigError, match="weight must not be negative"):
        read_table([source], 100)


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    read = read_table([PairSource(write_csv(tmp_path, prompts(5)), limit=2)], 100)
    assert read.good.tolist() == [True, True, False, False, False]
    assert not read.skips


class Counting:
    """Embeds texts as unit vectors drawn from their hash, and counts them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        emb = np.stack([np.random.default_rng(list(text.encode())).normal(size=6) for text in texts])
        return (emb / np.linalg.norm(emb, axis=1, keepdims=True)).astype(np.float32)


def test_targets_are_computed_once_and_equal_texts_too(tmp_path: Path) -> None:
    encode, texts = Counting(), ["a", "b", "a", "c"]
    made = embeddings_of(texts, "m", encode, tmp_path, 6)
    again = embeddings_of(texts, "m", encode, tmp_path, 6)
    assert encode.texts == ["a", "b", "c"]
    np.testing.assert_array_equal(made, again)
    np.testing.assert_array_equal(made[0], made[2])
    embeddings_of(texts, "another model", encode, tmp_path, 6)
    embeddings_of(["a", "b", "c", "a"], "m", encode, tmp_path, 6)
    assert len(encode.texts) == 9, "another model or order is another array"


def nan(emb: np.ndarray) -> np.ndarray:
    emb[1, 2] = np.nan
    return emb


FAULTS = {
    "NaN": nan,
    "not \\(3, 6\\)": lambda emb: emb[:2],
    "holds \\(3, 5\\)": lambda emb: emb[:, :5],
    "float64": lambda emb: emb.astype(np.float64),
    "no unit vectors": lambda emb: emb * 2,
}


@pytest.mark.parametrize("told", FAULTS)
def test_a_wrong_array_on_disk_is_told_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, told: str
) -> None:
    made = np.array(embeddings_of(["a", "b", "c"], "m", Counting(), tmp_path, 6))
    (path,) = tmp_path.glob("*.npy")
    np.save(path, FAULTS[told](made.copy()))
    with caplog.at_level(logging.WARNING):
        again = embeddings_of(["a", "b", "c"], "m", Counting(), tmp_path, 6)
    np.testing.assert_array_equal(again, made)
    assert len(caplog.records) == 1
    assert re.search(told, caplog.text) and "computed anew" in caplog.text
    np.testing.assert_array_equal(np.load(path), made)


@pytest.mark.parametrize("size", [0, 40, 140])
def test_a_cut_array_on_disk_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    made = np.array(embeddings_of(["a", "b", "c"], "m", Counting(), tmp_path, 6))
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:size])
    np.testing.assert_array_equal(embeddings_of(["a", "b", "c"], "m", Counting(), tmp_path, 6), made)
    assert "computed anew" in caplog.text


def test_a_changed_picture_is_decoded_again(tmp_path: Path, shared: SentenceEncoder) -> None:
    table = write_csv(tmp_path, prompts(12))
    pairs(tmp_path, [table]).prepare(16)
    picture(99, 48).save(tmp_path / "images" / "5.jpg")
    data = pairs(tmp_path, [table])
    data.prepare(16)
    assert is_picture(data._tables["train"].picture(5).transpose(2, 0, 1), 99)


def test_near_duplicates_stay_on_one_side(
    tmp_path: Path, shared: SentenceEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{text}{end}" for text in prompts(20) for end in ("", ".", "!")]
    data = of(pairs(tmp_path, [write_csv(tmp_path, texts)], validation=Validation(share=0.3)), root=tmp_path / "run")
    data.prepare(16)
    train, validation = data.targets("train"), data.targets("validation")
    assert len(train) + len(validation) == 60
    assert 9 <= len(validation) <= 30
    assert (validation @ train.T).max() < 0.9
    report = json.loads((tmp_path / "run" / "leakage.json").read_text())
    assert report == json.loads(json.dumps(data.leakage))
    assert report["training_rows"] + report["rows"] == 60
    nearest = report["worst"][0]
    assert nearest["validation"] in data.texts("validation") and nearest["training"] in data.texts("train")
    assert len([line for line in capsys.readouterr().err.splitlines() if "leak" in line]) == 1


def test_the_captions_of_a_picture_stay_on_one_side(tmp_path: Path, shared: SentenceEncoder) -> None:
    table = write_csv(tmp_path, prompts(20))
    table.write_text("image,prompt\n" + "".join(f"images/{i % 10}.jpg,{text}\n" for i, text in enumerate(prompts(20))))
    data = pairs(tmp_path, [table], validation=Validation(share=0.3))
    data.prepare(16)
    sides = [set(data.rows(split) % 10) for split in ("train", "validation")]
    assert sides[1] and not sides[0] & sides[1]


def test_joining_clusters_by_picture() -> None:
    labels = joined(np.array([5, 5, 7, 8, 9]), ["a", "b", "b", None, None])
    assert labels[0] == labels[1] == labels[2]
    assert len(set(labels.tolist())) == 3


def test_validation_of_its_own(tmp_path: Path, shared: SentenceEncoder) -> None:
    train, other = write_csv(tmp_path / "t", prompts(12)), write_sidecars(tmp_path / "v", prompts(3), first=40)
    data = of(pairs(tmp_path, [train], validation=Validation([PairSource(other)])), root=tmp_path)
    data.prepare(16)
    assert len(data.rows("train")) == 12
    (batch,) = data.val_dataloader()
    assert [is_picture(image, 40 + row) for row, image in zip(batch.rows, batch.images.numpy(), strict=True)] == [
        True
    ] * 3
    assert json.loads((tmp_path / "leakage.json").read_text()), "prompts of both sides are equal; the report says so"


def test_more_to_hold_out_than_there_is(tmp_path: Path, shared: SentenceEncoder) -> None:
    texts = ["a red fox in the snow" + end for end in ("", ".", "!", "?", ",", ";")]
    with pytest.raises(ConfigError, match=r"cannot hold out 0\.2 of 6 rows in 1 clusters"):
        pairs(tmp_path, [write_csv(tmp_path, texts)]).prepare(16)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.3])), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(0, 3),
)
def test_weights_say_how_often_an_epoch_shows_a_row(kinds: list[tuple[int, float]], size: int, seed: int) -> None:
    starts = np.cumsum([0, *(count for count, _ in kinds)])
    groups = [np.arange(start, start + count) for start, (count, _) in zip(starts, kinds, strict=False)]
    weights = [weight for _, weight in kinds]
    if sum(round(w * len(g)) for w, g in zip(weights, groups, strict=True)) < size:
        with pytest.raises(ConfigError, match="batch_size"):
            Mixture(groups, weights, size, seed)
        return
    plan = Mixture(groups, weights, size, seed)
    decks = [plan._epoch(epoch) for epoch in range(6)]
    for rows, weight in zip(groups, weights, strict=True):
        share = round(weight * len(rows))
        seen = Counter({int(row): 0 for row in rows})
        for deck in decks:
            drawn = [int(row) for row in deck if row in rows]
            assert len(drawn) == share
            seen.update(drawn)
            assert max(seen.values()) - min(seen.values()) <= 1, "none comes again before all others came"
    whole = list(itertools.islice(plan.since(0), 12))
    again = list(itertools.islice(Mixture(groups, weights, size, seed).since(5), 7))
    for a, b in zip(whole[5:], again, strict=True):
        assert a.number == b.number
        np.testing.assert_array_equal(a.rows, b.rows)


def test_weights_of_sources(tmp_path: Path, shared: SentenceEncoder) -> None:
    one, two = write_csv(tmp_path / "1", prompts(8)), write_csv(tmp_path / "2", prompts(16)[8:], first=8)
    other = Validation([PairSource(write_sidecars(tmp_path / "v", prompts(18)[16:]))])
    data = pairs(tmp_path, [PairSource(one, weight=3), PairSource(two, weight=0.5)], validation=other)
    data.prepare(16)
    rows = Counter(row < 8 for batch in first(data, 14) for row in batch.rows)
    assert rows == {True: 48, False: 8}


def test_going_on_gives_the_same_batches_and_augmentation(tmp_path: Path, shared: SentenceEncoder) -> None:
    sources = three_sources(tmp_path)

    def run(start: int, count: int) -> Iterator[EmbeddingBatch]:
        data = of(pairs(tmp_path, sources), root=tmp_path)
        data.pictures = Pictures(cache_folder=tmp_path / "pixels", augment=Augment(erase=0.5, colour=0.3))
        data.prepare(16)
        data.load_state_dict({"next_batch": start})
        assert data.state_dict() == {"next_batch": start}
        return (data.on_after_batch_transfer(batch, 0) for batch in first(data, count))

    for a, b in zip(itertools.islice(run(0, 9), 6, None), run(6, 3), strict=True):
        assert (a.number, a.rows) == (b.number, b.rows)
        np.testing.assert_array_equal(a.images, b.images)


def test_validation_is_not_augmented(tmp_path: Path, shared: SentenceEncoder) -> None:
    data = of(pairs(tmp_path, three_sources(tmp_path)), root=tmp_path)
    data.pictures = Pictures(cache_folder=tmp_path / "pixels", augment=Augment(colour=0.5))
    data.prepare(16)
    (batch, *_) = data.val_dataloader()
    assert data.on_after_batch_transfer(batch, 0).images is not batch.images
    data.trainer.training = False  # type: ignore[union-attr]
    assert data.on_after_batch_transfer(batch, 0) is batch


def test_processes_share_each_batch(tmp_path: Path, shared: SentenceEncoder) -> None:
    sources = three_sources(tmp_path)
    alone = pairs(tmp_path, sources)
    alone.prepare(16)
    both = [of(pairs(tmp_path, sources), rank, 2, tmp_path) for rank in (0, 1)]
    for data in both:
        data.prepare(16)
    parts = [first(data, 5) for data in both]
    for whole, left, right in zip(first(alone, 5), *parts, strict=True):
        assert whole.rows == left.rows + right.rows
    counts = [[len(batch.rows) for batch in data.val_dataloader()] for data in both]
    assert counts[0] == counts[1], "or one process would wait for the other for ever"
    rows = [row for data in both for batch in data.val_dataloader() for row in batch.rows]
    assert set(rows) == set(alone.rows("validation").tolist())


def test_a_batch_that_cannot_be_shared(tmp_path: Path, shared: SentenceEncoder) -> None:
    data = of(pairs(tmp_path, three_sources(tmp_path)), 0, 3, tmp_path)
    data.prepare(16)
    with pytest.raises(ConfigError, match=r"batch_size 4: cannot be shared by 3 processes"):
        data.train_dataloader()

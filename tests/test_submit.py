"""Submissions: the official file again, verified, resumed after a kill, complete whatever the pictures are."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tiny_model import picture, save_model
from tiny_towers import TIMM

from img2prompt.cli import main
from img2prompt.errors import ConfigError, DataError, MissingExtra, ModelError, OutputError
from img2prompt.jobs.embedding import CaptionEmbedder, Embedder
from img2prompt.jobs.submission import (
    DIMENSIONS,
    Partial,
    read_submission,
    sample_ids,
    stamp,
    verify,
    write_submission,
)
from img2prompt.jobs.submit import _embed, in_order, named_targets

KAGGLE = Path(__file__).parents[2] / "shared" / "data" / "pairs" / "kaggle_sd2_7"


def rows_of(count: int, seed: int = 0) -> NDArray[np.float32]:
    emb = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True)


def values_of(path: Path) -> NDArray[np.float32]:
    return np.array([value for _, value, _ in read_submission(path)], np.float32).reshape(-1, DIMENSIONS)


class Colours:
    """An embedder of the real protocol whose rows are worked out from the pictures' mean colour."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[Image.Image]] = []
        self.most_alive = 0

    def embed_many(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.seen += [weakref.ref(image) for image in images]
        self.most_alive = max(self.most_alive, sum(ref() is not None for ref in self.seen))
        emb = np.ones((len(images), DIMENSIONS), np.float32)
        emb[:, :3] = [np.asarray(image).mean(axis=(0, 1)) for image in images]
        return emb / np.linalg.norm(emb, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures whose names are not in the order in which they were made; one is in a folder of its own."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    for i, name in enumerate(("e", "b", "d", "a", "c", "g")):
        picture(i).save(root / f"{name}.png")
    picture(9).save(root / "more" / "f.jpg")
    return root


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Asks for those seven in another order than that of their names."""
    path = tmp_path / "sample_submission.csv"
    write_submission(path, ["c", "a", "g", "b", "f", "e", "d"], rows_of(7))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from img2prompt.models.sentence import find_model

    try:
        find_model()
    except MissingExtra as error:
        pytest.skip(str(error))
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a submission must not ask the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# The file


def test_the_official_submission_comes_out_again(tmp_path: Path) -> None:
    """The seven pictures of the task: our embeddings of their true prompts, in our writer, are the official file."""
    if not KAGGLE.is_dir():
        pytest.skip("the shared data folder is not there")
    from img2prompt.models.sentence import SentenceEncoder

    try:
        encoder = SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))
    with (KAGGLE / "pairs.csv").open(newline="") as file:
        prompts = {Path(row["image"]).stem: row["prompt"] for row in csv.DictReader(file)}
    sample, output = KAGGLE / "sample_submission.csv", tmp_path / "submission.csv"
    ids = list(in_order(named_targets([str(KAGGLE / "images")]), sample_ids(sample), sample))
    write_submission(output, ids, encoder.encode_many([prompts[name] for name in ids]), sample)
    ours, theirs = list(read_submission(output)), list(read_submission(sample))
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    assert len(ours) == 7 * DIMENSIONS
    assert max(abs(a[1] - b[1]) for a, b in zip(ours, theirs, strict=True)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8), min_size=1, unique=True)
)
def test_any_names_and_every_float_survive_the_file(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("any") / "s.csv"
    names = [name.replace("\r", "?") + str(i) for i, name in enumerate(names)]
    emb = rows_of(len(names), seed=len(names)) * np.float32(1e-3)
    write_submission(path, names, emb)
    assert sample_ids(path) == names
    np.testing.assert_array_equal(values_of(path), emb)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "line 769: nothing where b_383 is asked for"),
        (lambda lines: [*lines, "c_0,0.1"], "line 770: c_0 where nothing is asked for"),
        (lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]], "line 2: a_1 where a_0 is asked for"),
        (lambda lines: [*lines[:5], lines[5].split(",")[0] + ",nan", *lines[6:]], "line 6: 'nan' is no finite"),
        (lambda lines: [*lines[:5], lines[5].split(",")[0] + ",", *lines[6:]], "line 6: '' is no finite"),
        (lambda lines: [*lines[:5], lines[5] + ",1", *lines[6:]], "line 6: 3 fields"),
        (lambda lines: ["id,value", *lines[1:]], "first line must be imgId_eId,val"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "s.csv"
    write_submission(path, ["a", "b"], rows_of(2))
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        verify(path, [f"{name}_{i}" for name in "ab" for i in range(DIMENSIONS)])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([f"a_{i}" for i in range(383)], "ends after a_382"),
        ([f"a_{i}" for i in range(384)] * 2, "a stands twice"),
        ([f"a_{i + 1}" for i in range(384)], "line 2: a_1 where a_0 is expected"),
        (["picture"], "picture where _0 is expected"),
        ([], "no rows"),
    ],
)
def test_a_sample_that_is_none_is_refused(tmp_path: Path, keys: list[str], message: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("imgId_eId,val\n" + "".join(f"{key},0.1\n" for key in keys))
    with pytest.raises(DataError, match=message):
        sample_ids(path)


def test_a_file_that_fails_its_check_never_takes_the_name(tmp_path: Path) -> None:
    path, sample = tmp_path / "s.csv", tmp_path / "sample.csv"
    write_submission(sample, ["a", "b"], rows_of(2))
    path.write_text("the file of before")
    for ids, emb in ((["b", "a"], rows_of(2)), (["a"], rows_of(1)), (["a", "b"], rows_of(2) * np.nan)):
        with pytest.raises(DataError):
            write_submission(path, ids, emb, sample)
    assert path.read_text() == "the file of before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv", "sample.csv"]


# The pictures


def test_two_pictures_of_one_name_are_refused(folder: Path) -> None:
    picture(3).save(folder / "more" / "a.jpg")
    with pytest.raises(ConfigError, match="would both be a;"):
        named_targets([str(folder)])
    with pytest.raises(ConfigError, match="ids are file names"):
        named_targets(["https://example.org/a.png"])


def test_the_sample_decides_the_order_and_what_is_asked_for(folder: Path, sample: Path) -> None:
    named = named_targets([str(folder)])
    assert list(in_order(named, sample_ids(sample), sample)) == ["c", "a", "g", "b", "f", "e", "d"]
    with pytest.raises(DataError, match="does not ask for 2 of the pictures, such as a"):
        in_order(named, ["c", "g", "b", "f", "d"], sample)
    with pytest.raises(DataError, match="asks for 1 pictures that are not given, such as z"):
        in_order(named, [*named, "z"], sample)


# The run


def test_python_m_is_the_same_command(folder: Path, tmp_path: Path) -> None:
    """Where console scripts are not on the path: from any folder, with the exit code and one line for an error."""
    command = [sys.executable, "-m", "img2prompt", "submit", str(folder), "--output", "no/such/folder/s.csv"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PATH": ""})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "img2prompt: no/such/folder/s.csv: there is no folder no/such/folder\n"


@pytest.mark.usefixtures("no_network")
def test_the_verb_from_end_to_end(
    folder: Path, sample: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a folder that cannot be written, without network, in the sample's order, each row its picture's."""
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor

    for path in (folder, folder / "more"):
        path.chmod(0o555)
    output = tmp_path / "submission.csv"
    before = sorted(folder.rglob("*"))
    assert main(["submit", str(folder), "--preset", str(model), "--output", str(output), "--sample", str(sample)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{output}\n" and "7 pictures, 2688 rows" in err
    assert sample_ids(output) == sample_ids(sample)
    assert sorted(folder.rglob("*")) == before
    assert not output.with_name("submission.csv.partial").exists()
    named = named_targets([str(folder)])
    prompts = [Predictor.from_preset(str(model)).predict(named[name].path).prompt for name in sample_ids(sample)]
    emb = SentenceEncoder().encode_many(prompts)
    assert (values_of(output) * emb).sum(axis=1) == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random regressor of the real class in the real format."""
    from img2prompt.models.regressor import RegressorConfig, new_regressor, save_regressor
    from img2prompt.models.towers import TowerSpec

    name, size = TIMM["vit"]
    tower = TowerSpec("timm", name, config={"model_args": size})
    return save_regressor(new_regressor(RegressorConfig(tower)), tmp_path_factory.mktemp("regressor") / "tiny")


@pytest.mark.usefixtures("no_network")
def test_a_regressor_alone_and_as_the_only_member_of_an_ensemble(folder: Path, regressor: Path, tmp_path: Path) -> None:
    from img2prompt.models.regressor import EmbeddingRegressor, load_regressor

    (tmp_path / "e.yaml").write_text(f"members:\n  - regressor: {regressor}\n")
    alone, joined = tmp_path / "alone.csv", tmp_path / "joined.csv"
    assert main(["submit", str(folder), "--regressor", str(regressor), "--output", str(alone)]) == 0
    assert main(["submit", str(folder), "--ensemble", str(tmp_path / "e.yaml"), "--output", str(joined)]) == 0
    images = [Image.open(target.source).convert("RGB") for target in named_targets([str(folder)]).values()]
    expected = EmbeddingRegressor(load_regressor(regressor)).embed_many(images)
    np.testing.assert_allclose(values_of(alone), expected, atol=1e-5)
    np.testing.assert_allclose(values_of(joined), expected, atol=1e-5)


def test_an_unfinished_run_does_not_go_on_with_a_member_that_was_trained_again(
    folder: Path, regressor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    member = shutil.copytree(regressor, tmp_path / "member")
    (tmp_path / "e.yaml").write_text("members:\n  - regressor: member\n")
    words = ["submit", str(folder), "--ensemble", str(tmp_path / "e.yaml"), "--output", str(tmp_path / "s.csv")]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("img2prompt.jobs.submit.write_submission", interrupted)
    assert main(words) == 130 and (tmp_path / "s.csv.partial").exists()
    os.utime(member / "regressor.safetensors", (0, 0))
    assert main(words) == 2 and "another model or other pictures" in capsys.readouterr().err
    shutil.rmtree(member)
    shutil.copytree(regressor, member)
    monkeypatch.undo()
    assert main(words) == 0 and "7 of them from an earlier run" in capsys.readouterr().err


def test_a_presets_regressor_has_half_of_the_say(model: Path) -> None:
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor

    images = [picture(1), picture(2)]
    predictor, encoder = Predictor.from_preset(str(model)), SentenceEncoder()
    prompts = CaptionEmbedder(predictor, encoder).embed_many(images)
    both = CaptionEmbedder(predictor, encoder, Colours()).embed_many(images)
    sums = prompts + Colours().embed_many(images)
    np.testing.assert_allclose(both, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)


def test_a_broken_picture_gets_the_mean_of_the_others(
    folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.png").write_bytes(b"\x89PNG nothing more")
    (folder / "c.png").write_bytes(b"")
    output = tmp_path / "submission.csv"
    assert main(["submit", str(folder), "--preset", str(model), "--output", str(output)]) == 1
    err = capsys.readouterr().err
    assert "2 could not be read and got the mean embedding of the others:" in err
    assert "b.png" in err and "c.png: is empty" in err and "Traceback" not in err
    assert sample_ids(output) == list(named_targets([str(folder)]))
    broken = [name in "bc" for name in sample_ids(output)]
    emb = values_of(output)
    good = emb[~np.array(broken)]
    mean = good.sum(axis=0) / np.linalg.norm(good.sum(axis=0))
    np.testing.assert_allclose(emb[broken], [mean, mean], atol=1e-6)


def test_nothing_readable_is_an_error(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert main(["submit", str(tmp_path), "--preset", str(model), "--output", str(tmp_path / "s.csv")]) == 2
    assert "none of the 1 pictures could be read; the first: " in capsys.readouterr().err
    assert not list(tmp_path.glob("s.csv*"))  # nothing that the next run, with other pictures, would stumble over


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--output", "no/such/folder/s.csv"], "there is no folder"),
        (["--output", "/"], "is a folder; name a file"),
        (["--regressor", "r", "--preset", "storybook"], "--preset and --regressor are two models"),
        (["--preset", "storybok"], "did you mean storybook"),
        (["--sample", "no-such.csv"], "no-such.csv: No such file"),
        (["--regressor", "no/such/folder"], "no/such/folder"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert main(["submit", str(folder), "--output", str(tmp_path / "s.csv"), *extra]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path) -> None:
    output, named = tmp_path / "s.csv", named_targets([str(folder)])

    class Stops(Colours):
        """Fails at its third batch, as a run that is interrupted."""

        def embed_many(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            if len(self.seen) == 4:
                raise ZeroDivisionError
            return super().embed_many(images)

    ids, targets = list(named), list(named.values())
    with pytest.raises(ZeroDivisionError), Partial(output, ids, {"model": "1"}) as partial:
        _embed(partial, targets, Embedder("colours", (tmp_path,), Stops()), 2)
    colours = Colours()
    with Partial(output, ids, {"model": "1"}) as partial:
        assert partial.done.tolist() == [True] * 4 + [False] * 3
        _embed(partial, targets, Embedder("colours", (tmp_path,), colours), 2)
        rows = [row for row in partial.rows() if row is not None]
    assert (len(colours.seen), len(rows)) == (3, 7)
    fresh = Colours().embed_many([Image.open(t.source).convert("RGB") for t in targets])
    np.testing.assert_array_equal(np.array(rows), fresh)
    assert not partial.path.exists()


def test_another_model_or_other_pictures_do_not_go_on_from_it(tmp_path: Path) -> None:
    output = tmp_path / "s.csv"
    with pytest.raises(ZeroDivisionError), Partial(output, ["a", "b"], {"model": "1"}) as begun:
        begun.put(0, rows_of(1)[0])
        raise ZeroDivisionError
    for ids, settings_now in ((["a", "b"], {"model": "2"}), (["a", "c"], {"model": "1"}), (["a"], {"model": "1"})):
        with pytest.raises(OutputError, match="another model or other pictures"), Partial(output, ids, settings_now):
            pass
    with Partial(output, ["a", "b"], {"model": "1"}):
        pass


def test_a_record_that_the_disk_lost_is_made_again(tmp_path: Path) -> None:
    output, ids, emb = tmp_path / "s.csv", ["a", "b", "c"], rows_of(3)
    with pytest.raises(ZeroDivisionError), Partial(output, ids, {}) as partial:
        for i in range(3):
            partial.put(i, emb[i])
        raise ZeroDivisionError
    data = bytearray(partial.path.read_bytes())
    data[-700] ^= 1  # of the last record
    partial.path.write_bytes(data[:-200])  # and its end was cut
    with Partial(output, ids, {}) as partial:
        assert partial.done.tolist() == [True, True, False]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "s.csv"
    with (
        Partial(output, ["a"], {}),
        pytest.raises(OutputError, match="another run is writing it"),
        Partial(output, ["a"], {}),
    ):
        pass


def test_a_later_model_at_the_same_place_is_another(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w.safetensors").write_bytes(b"1234")
    first = stamp(tmp_path / "m")
    assert stamp(tmp_path / "m") == first
    (tmp_path / "m" / "w.safetensors").write_bytes(b"12345")
    assert stamp(tmp_path / "m") != first


@pytest.mark.parametrize(
    ("emb", "message"),
    [(np.full((1, DIMENSIONS), np.nan, np.float32), "gives NaN for"), (np.ones((1, 8), np.float32), "gives 8 numbers")],
)
def test_a_damaged_model_is_said(folder: Path, tmp_path: Path, emb: NDArray[np.float32], message: str) -> None:
    class Damaged:
        def embed_many(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            return np.repeat(emb, len(images), axis=0)

    targets = list(named_targets([str(folder)]).values())
    with pytest.raises(ModelError, match=message), Partial(tmp_path / "s.csv", ["x"] * 7, {}) as partial:
        _embed(partial, targets, Embedder("damaged", (tmp_path,), Damaged()), 2)


def test_only_a_few_pictures_are_in_memory(tmp_path: Path) -> None:
    """Whatever their number: those of the batch, and those that are read ahead for the next two."""
    for i in range(60):
        picture(i, 16).save(tmp_path / f"{i:02}.png")
    named, colours = named_targets([str(tmp_path)]), Colours()
    with Partial(tmp_path / "s.csv", list(named), {}) as partial:
        assert _embed(partial, list(named.values()), Embedder("colours", (tmp_path,), colours), 4) == []
    assert len(colours.seen) == 60
    assert colours.most_alive <= 4 * 4


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_killed_run_goes_on(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, output, whole = tmp_path / "pictures", tmp_path / "s.csv", tmp_path / "whole.csv"
    pictures.mkdir()
    for i in range(80):
        picture(i, 32).save(pictures / f"{i:03}.png")
    command = [sys.executable, "-m", "img2prompt", "submit", pictures, "--preset", model, "--batch-size", "2"]
    partial = tmp_path / "s.csv.partial"
    process = subprocess.Popen([*command, "--output", output], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (partial.exists() and filled(partial) >= 8) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = filled(partial)
    assert 8 <= done < 80 and not output.exists()
    words = ["submit", str(pictures), "--preset", str(model), "--batch-size", "2"]
    assert main([*words, "--output", str(whole)]) == 0
    capsys.readouterr()
    assert main([*words, "--output", str(output)]) == 0
    assert f"80 pictures, 30720 rows, {done} of them from an earlier run" in capsys.readouterr().err
    assert not partial.exists()
    np.testing.assert_allclose(values_of(output), values_of(whole), atol=1e-5)


def filled(partial: Path) -> int:
    """Records of a partial file that are there."""
    data = partial.read_bytes()
    head = data.index(b"\n") + 1 if b"\n" in data else len(data)
    assert not head or json.loads(data[:head])
    records = np.frombuffer(data[head:], np.uint8)
    return int(records[: len(records) // 1540 * 1540].reshape(-1, 1540).any(axis=1).sum())

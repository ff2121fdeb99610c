"""`bank build`, `bank find` and `ensemble fit`, each through the command line, on small models in the real formats."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_model import picture, save_model
from tiny_towers import random_spec, save_open_clip, save_timm

from img2prompt.cli import main
from img2prompt.errors import MissingExtra, OutputError, PresetError
from img2prompt.jobs.parts import claim_parts, in_parts, split_rows
from img2prompt.models.bank import Bank
from img2prompt.models.features import CocaFeatures, load_features
from img2prompt.models.sentence import SentenceEncoder

KAGGLE = Path(__file__).parents[2] / "shared" / "data" / "pairs" / "kaggle_sd2_7"


@pytest.fixture(scope="module", autouse=True)
def _sentences() -> None:
    try:
        SentenceEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("c") / "captioner")


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from img2prompt.models.regressor import RegressorConfig, new_regressor, save_regressor

    return save_regressor(new_regressor(RegressorConfig(random_spec())), tmp_path_factory.mktemp("r") / "regressor")


def write_pairs(folder: Path, count: int = 9, first: int = 0, **columns: list[str]) -> Path:
    """A table of pictures with prompts; `columns` adds others."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prompt", *columns])
        for i in range(first, first + count):
            picture(i).save(folder / f"{i}.png")
            writer.writerow([f"{i}.png", f"prompt number {i}", *(values[i - first] for values in columns.values())])
    return folder / "pairs.csv"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_bank_finds_its_own_pictures(
    tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_pairs(tmp_path / "a")
    monkeypatch.chdir(captioner.parent)
    assert run("bank", "build", table, tmp_path / "bank", "--encoder", "captioner", "--part-rows", 4) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "bank")
    assert "9 prompts; index: kind flat; 0 rows skipped" in err
    assert not (tmp_path / "bank" / "parts").exists()
    monkeypatch.chdir("/")  # the bank knows where its encoder lies
    assert run("bank", "find", tmp_path / "bank", tmp_path / "a" / "3.png", "-k", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0] == "1.000  prompt number 3"
    moved = shutil.copytree(captioner, tmp_path / "moved")
    assert run("bank", "find", tmp_path / "bank", tmp_path / "a" / "3.png", "-k", 1, "--encoder", moved) == 0
    assert capsys.readouterr().out == "1.000  prompt number 3\n"
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    assert run("bank", "find", tmp_path / "bank", tmp_path / "a", "--json", "-k", 1, "--batch-size", 4) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 10
    found = {Path(row["source"]).stem: row["nearest"][0] for row in rows if "nearest" in row}
    assert {stem: near["prompt"] for stem, near in found.items()} == {str(i): f"prompt number {i}" for i in range(9)}
    assert all(near["cosine"] == pytest.approx(1, abs=1e-3) for near in found.values())
    assert [row["kind"] for row in rows if "error" in row] == ["NotAnImage"]


def test_rows_that_cannot_be_used_are_counted(
    tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_pairs(tmp_path / "a", 6, id=["a", "b", "a", "c", "d", "e"])
    (tmp_path / "a" / "1.png").write_bytes(b"no picture")
    (tmp_path / "a" / "3.png").unlink()
    with table.open("a") as file:
        file.write("0.png,,f\n")
    other = write_pairs(tmp_path / "b", 2, first=20, id=["e", "g"])
    assert run("bank", "build", table, other, tmp_path / "bank", "--encoder", captioner) == 0
    bank = Bank.load(tmp_path / "bank")
    assert bank.ids == {"a", "d", "e", "g"}
    skipped = {"NotAnImage": 1, "ImageNotFound": 1, "DuplicateId": 2, "NoImageOrPrompt": 1}
    assert bank.manifest["skipped"] == skipped
    err = capsys.readouterr().err
    assert "4 prompts" in err
    assert "2 DuplicateId: a: the id is there already; e: the id is there already" in err
    assert "1 NotAnImage: b: holds" in err


def test_a_picture_may_have_several_prompts_but_not_one_twice(tmp_path: Path, captioner: Path) -> None:
    table = write_pairs(tmp_path / "a", 2)
    with table.open("a") as file:
        file.write("0.png,another prompt\n0.png,prompt number 0\n")
    assert run("bank", "build", table, tmp_path / "bank", "--encoder", captioner) == 0
    bank = Bank.load(tmp_path / "bank")
    assert len(bank) == 3
    assert bank.manifest["skipped"] == {"DuplicateId": 1}


def test_a_killed_build_loses_one_part_at_most(
    tmp_path: Path, captioner: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_pairs(tmp_path / "a", 10)
    build = ("bank", "build", table, tmp_path / "bank", "--encoder", captioner, "--part-rows", 3)
    assert run(*build[:3], tmp_path / "whole", *build[4:]) == 0
    seen: list[int] = []
    features_many = CocaFeatures.features_many

    def killed(self: CocaFeatures, images: Any) -> Any:
        if sum(seen) >= 6:
            raise KeyboardInterrupt
        seen.append(len(images))
        return features_many(self, images)

    monkeypatch.setattr(CocaFeatures, "features_many", killed)
    assert run(*build) == 130
    assert sum(seen) == 6
    with pytest.raises(Exception, match="unfinished; run the command"):
        Bank.load(tmp_path / "bank")
    (tmp_path / "bank" / "parts" / "part-00001.npz").write_bytes(b"PK half")  # as a disk may leave it

    def counted(self: CocaFeatures, images: Any) -> Any:
        seen.append(len(images))
        return features_many(self, images)

    monkeypatch.setattr(CocaFeatures, "features_many", counted)
    seen.clear()
    assert run(*build) == 0
    assert sum(seen) == 7, "the part that stood whole is not made again"
    one, other = Bank.load(tmp_path / "bank"), Bank.load(tmp_path / "whole")
    assert one.fingerprint == other.fingerprint
    asked = features_many(CocaFeatures(_loaded(captioner)), [picture(77)])
    assert one.neighbours(asked, 10) == other.neighbours(asked, 10)
    seen.clear()
    assert run(*build) == 0
    assert not seen, "a bank that stands is not made again"
    capsys.readouterr()
    assert run(*build[:-1], 4) == 2
    assert "holds another configuration (part_rows 3 there, 4 asked for)" in capsys.readouterr().err


def test_pictures_whose_features_are_nan_are_counted(
    tmp_path: Path, captioner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, features_many = write_pairs(tmp_path / "a", 5), CocaFeatures.features_many

    def broken(self: CocaFeatures, images: Any) -> Any:
        rows = features_many(self, images)
        rows[1] = np.nan
        return rows

    monkeypatch.setattr(CocaFeatures, "features_many", broken)
    assert run("bank", "build", table, tmp_path / "bank", "--encoder", captioner) == 0
    bank = Bank.load(tmp_path / "bank")
    assert bank.manifest["skipped"] == {"NotFinite": 1}
    assert sorted(Path(i).stem for i in bank.ids) == ["0", "2", "3", "4"]


def _loaded(folder: Path) -> Any:
    from img2prompt.models.coca import load_coca
    from img2prompt.models.generation import fast_dtype

    return load_coca(folder, dtype=fast_dtype("cpu"))


def test_errors_of_a_bank_are_one_line(
    tmp_path: Path, captioner: Path, regressor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_pairs(tmp_path / "a", 3)

    def fails(*words: object) -> str:
        assert run("bank", *words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    assert run("bank", "build", table, tmp_path / "bank", "--encoder", captioner) == 0
    capsys.readouterr()
    find = ("find", tmp_path / "bank", tmp_path / "a" / "0.png")
    assert "the bank was built with another one" in fails(*find, "--encoder", regressor)
    assert "gone: neither a preset nor a folder" in fails(*find, "--encoder", "gone")
    index = tmp_path / "bank" / "index.faiss"
    index.write_bytes(index.read_bytes()[:-9])
    assert "index.faiss:" in fails(*find)
    assert "no bank of prompts" in fails("find", tmp_path / "a", tmp_path / "a" / "0.png")
    assert "holds other files" in fails("build", table, tmp_path / "a", "--encoder", captioner)
    assert "no such file" in fails("build", tmp_path / "none.csv", tmp_path / "x", "--encoder", captioner)
    assert "--encoder" in fails("build", table, tmp_path / "x")
    for i in range(3):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"")
    message = fails("build", table, tmp_path / "x", "--encoder", captioner)
    assert "none of 3 pictures can be used; " in message
    assert "is empty" in message
    picture(1).save(tmp_path / "a" / "1.png")
    assert run("bank", "build", table, tmp_path / "x", "--encoder", captioner) == 0, "what was repaired is seen"


def test_every_encoder_sees_alone_what_it_sees_in_a_batch(tmp_path: Path, captioner: Path, regressor: Path) -> None:
    sources = {
        str(captioner): 32,
        str(regressor): 32,
        f"open_clip:{save_open_clip(tmp_path / 'clip')}": 24,  # the space that it shares with texts
        f"timm:{save_timm(tmp_path / 'timm')}": 32,
        f"open_clip:{captioner}": None,
    }
    images, prints = [picture(i) for i in range(5)], set()
    for source, width in sources.items():
        encoder = load_features(source, batch_size=2)
        rows = encoder.features_many(images)
        assert rows.dtype == np.float32, source
        assert rows.shape == (5, encoder.width), source
        assert width in (None, encoder.width), source
        assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5), source
        assert encoder.features_many(images[3:4])[0] == pytest.approx(rows[3], abs=2e-2), source
        assert (rows @ rows.T)[0, 1] < 1 - 1e-5, "pictures differ"
        assert encoder.features_many([]).shape == (0, encoder.width), source
        again = load_features(encoder.name)
        assert (again.fingerprint, again.name) == (encoder.fingerprint, encoder.name)
        prints.add(encoder.fingerprint)
    assert len(prints) == len(sources)
    with pytest.raises(PresetError, match="coca-b32: no regressor of it"):
        load_features("regressor:coca-b32")


def test_the_fingerprint_is_of_the_weights(tmp_path: Path, captioner: Path) -> None:
    one = load_features(str(save_open_clip_as("a", tmp_path, 1))).fingerprint
    assert load_features(str(save_open_clip_as("b", tmp_path, 1))).fingerprint == one
    assert load_features(str(save_open_clip_as("c", tmp_path, 2))).fingerprint != one


def save_open_clip_as(name: str, folder: Path, seed: int) -> str:
    return f"open_clip:{save_open_clip(folder / name, seed)}"


def test_real_pairs_make_a_bank(tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not KAGGLE.exists():
        pytest.skip("../shared/data/pairs/kaggle_sd2_7 is not there")
    assert run("bank", "build", KAGGLE, tmp_path / "bank", "--encoder", captioner, "--index", "ivf") == 0
    assert "7 prompts; index: kind ivf, lists 1, probes 1, recall_at_10 1.0" in capsys.readouterr().err
    with (KAGGLE / "pairs.csv").open() as file:
        pairs = {Path(row["image"]).stem: row["prompt"] for row in csv.DictReader(file)}
    folder = next(path.parent for path in KAGGLE.rglob("*.png"))
    assert run("bank", "find", tmp_path / "bank", folder, "-k", 1, "--json") == 0
    for line in capsys.readouterr().out.splitlines():
        row = json.loads(line)
        assert row["nearest"][0]["prompt"] == pairs[Path(row["source"]).stem]


def test_fitting_an_ensemble(
    tmp_path: Path, captioner: Path, regressor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_pairs(tmp_path / "a", 12)
    (tmp_path / "a" / "5.png").write_bytes(b"no picture")
    assert run("bank", "build", table, tmp_path / "bank", "--encoder", captioner) == 0
    members = [
        {"bank": "bank", "k": 1, "name": "known"},
        {"regressor": str(regressor), "views": ["plain", "zoom"]},
        {"captioner": str(captioner), "candidates": 2},
    ]
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({"members": members}))
    (tmp_path / "sub").mkdir()
    fitted = tmp_path / "sub" / "fitted.yaml"
    capsys.readouterr()
    assert run("ensemble", "fit", tmp_path / "e.yaml", table, "--output", fitted, "--part-rows", 5) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:7]] == [
        "known",
        f"regressor {regressor}",
        f"captioner {captioner}",
        "all, equal weights",
        "all, fitted on the other half",
        "all, fitted on the same pictures",
    ]
    assert lines[-1] == str(fitted)
    assert "warning: member 'known' holds 11 of the 11 pictures and so knows their prompts" in err
    written = yaml.safe_load(fitted.read_text())
    weights = [row["weight"] for row in written["members"]]
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert weights[0] > 0.95, "the bank knows the answers, the others are random"
    assert written["members"][0]["bank"] == "../bank"
    assert written["fitted"]["pictures"] == 11
    assert written["fitted"]["skipped"] == {"NotAnImage": 1}
    assert written["fitted"]["mean_cosine"]["known"] == pytest.approx(1, abs=1e-3)
    assert not fitted.with_name("fitted.yaml.parts").exists()

    from img2prompt.ensemble import Ensemble

    emb = Ensemble.load(fitted, device="cpu").embed_many([picture(2)])
    assert emb[0] @ SentenceEncoder().encode_many(["prompt number 2"])[0] > 0.95


def test_parts_are_of_one_work_only(tmp_path: Path) -> None:
    made: list[range] = []

    def make(rows: range) -> dict[str, Any]:
        made.append(rows)
        return {"rows": np.array(rows)}

    def work(**config: Any) -> list[int]:
        made.clear()
        claim_parts(tmp_path / "parts", config)
        return [int(i) for part in in_parts(tmp_path / "parts", split_rows(7, 3), make) for i in part["rows"]]

    for config, parts in (({"a": ["b", "c"]}, 3), ({"a": ["b", "c"]}, 0), ({"a": ["c", "b"]}, 3), ({}, 3)):
        assert work(**config) == list(range(7))
        assert len(made) == parts, config
    (tmp_path / "parts" / "config.json").unlink()
    with pytest.raises(OutputError, match="holds other files"):
        work()


def test_errors_of_a_fit_are_one_line(tmp_path: Path, captioner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_pairs(tmp_path / "a", 2)
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump({"members": [{"captioner": str(captioner)}, {"bank": "gone", "weight": 0}]}))

    def fails(*words: object) -> str:
        assert run("ensemble", "fit", *words) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    output = ("--output", tmp_path / "f.yaml")
    assert "member 'bank gone': gone: no manifest.json" in fails(path, table, *output)
    assert "f.txt: a name that ends in .yaml" in fails(path, table, "--output", tmp_path / "f.txt")
    path.write_text(yaml.safe_dump({"members": [{"captioner": str(captioner)}]}))
    (tmp_path / "a" / "0.png").write_bytes(b"")
    assert "1 of 2 pictures can be used" in fails(path, table, *output)
    assert not (tmp_path / "f.yaml").exists()
    assert not (tmp_path / "f.yaml.parts").exists()

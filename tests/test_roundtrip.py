"""`img2prompt roundtrip`: what a run holds, how it resumes, what it refuses, and what it does with bad input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_diffusion import save_sd
from tiny_model import save_model

from img2prompt.cli import main
from img2prompt.pairs.metadata import read_prompt
from img2prompt.pairs.parameters import parameters_text, png_bytes
from img2prompt.pairs.storybook.describe import describe
from img2prompt.pairs.storybook.render import render
from img2prompt.pairs.storybook.scene import sample_scene
from img2prompt.results import EmbeddedPrompt

SCENES = [sample_scene((5 << 32) + number, "test") for number in range(3)]
FAST = ("--metrics", "ssim,colour_distance,prompt_cosine", "--seeds", 2, "--size", 64, "--device", "cpu")
PLAIN = (*FAST, "--upsampler", "none", "--no-report")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes; the first file says its prompt."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, scene in enumerate(SCENES):
        image, path = render(scene, 96), folder / f"scene {number}.png"
        if number == 0:
            path.write_bytes(png_bytes(image, parameters_text(EmbeddedPrompt(describe(scene), seed=4))))
        else:
            image.save(path)
    return folder


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run with two candidates and the bundled upsampler; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert run(pictures, "--output", folder, *FAST, "--candidates", 2, "--judge", "coca") == 0
    return folder


@pytest.fixture(scope="module")
def plain(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run without an upsampler; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    assert run(pictures, "--output", folder, *PLAIN) == 0
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with their true prompts."""
    folder = tmp_path_factory.mktemp("pairs")
    for number, scene in enumerate(SCENES[:2]):
        render(scene, 64).save(folder / f"{number}.png")
    lines = [{"image": f"{number}.png", "prompt": describe(scene)} for number, scene in enumerate(SCENES[:2])]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "pairs.jsonl"


def run(*words: object) -> int:
    return main(["roundtrip", *map(str, words)])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def summary_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


def rounded(value: Any) -> Any:
    """The same with five decimals."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def test_a_run_holds_pictures_scores_and_a_report(finished: Path) -> None:
    rows, summary = rows_of(finished), summary_of(finished)
    assert [row["id"] for row in rows] == ["0001-scene-0", "0002-scene-1", "0003-scene-2"]
    assert list(rows[0]["prompts"]) == ["true", "predicted", "upsampled", "candidate-2", "floor"]
    assert list(rows[1]["prompts"]) == ["predicted", "upsampled", "candidate-2", "floor"]
    assert rows[0]["prompts"]["true"] == {"text": describe(SCENES[0]), "from": "metadata"}
    assert rows[0]["ceiling_from"] == "true prompt" and rows[1]["ceiling_from"] == "another seed"
    assert rows[1]["prompts"]["upsampled"]["outcome"] in ("upsampled", "trimmed", "base")
    for row in rows:
        assert (finished / row["original"]).is_file()
        for kind in row["prompts"]:
            for metric in ("ssim", "colour_distance", "prompt_cosine"):
                assert len(row["scores"][kind][metric]) == 2 and None not in row["scores"][kind][metric]
            assert len(row["again"][kind]) == len(row["judged"][kind]) == 2
    assert summary["images"] == 3 and summary["seeds"] == 2 and summary["failed"] == []
    assert set(summary["metrics"]) == {"ssim", "colour_distance", "prompt_cosine"}
    assert summary["config"]["models"]["generator"] == {"model": "storybook", "width_px": 64, "height_px": 64}
    assert set(summary["judge"]["kinds"]) >= {"predicted", "upsampled"}
    assert "<html" in (finished / "report.html").read_text()[:500]


def test_every_kind_starts_from_the_same_seeds_and_files_say_how_they_were_made(finished: Path) -> None:
    rows = rows_of(finished)
    for row in rows:
        seeds = {tuple(picture["seed"] for picture in some) for some in row["pictures"].values()}
        assert len(seeds) == 1
        for kind, some in row["pictures"].items():
            for picture in some:
                said = read_prompt((finished / picture["file"]).read_bytes())
                assert said is not None
                assert (said.prompt, said.seed) == (row["prompts"][kind]["text"], picture["seed"])
    assert len({row["pictures"]["predicted"][0]["seed"] for row in rows}) == 3


def test_the_floor_is_another_pictures_prompt(finished: Path) -> None:
    rows = rows_of(finished)
    floors = [row["prompts"]["floor"]["text"] for row in rows]
    assert sorted(floors) == sorted(row["prompts"]["predicted"]["text"] for row in rows)
    assert all(floor != row["prompts"]["predicted"]["text"] for floor, row in zip(floors, rows, strict=True))
    for metric in summary_of(finished)["metrics"].values():
        better = metric["ceiling"] > metric["floor"]
        assert better == metric["higher_is_better"]
        assert metric["fractions"]["predicted"]["mean"] > 0.5
        assert {(test["a"], test["b"]) for test in metric["tests"]} >= {("upsampled", "predicted")}


def test_the_same_command_again_makes_nothing_and_says_the_same(
    pictures: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in plain.rglob("*.png")}
    journal, summary = (plain / "journal.jsonl").read_bytes(), summary_of(plain)
    capsys.readouterr()
    assert run(pictures, "--output", plain, *PLAIN, "--json") == 0
    assert json.loads(capsys.readouterr().out) == summary == summary_of(plain)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in plain.rglob("*.png")} == before
    assert (plain / "journal.jsonl").read_bytes() == journal


def test_another_configuration_is_refused_in_one_line(
    pictures: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in plain.rglob("*") if path.is_file()}
    assert run(pictures, "--output", plain, *PLAIN, "--seeds", 3, "--size", 32) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "seeds 2, now 3; width px 64, now 32" in said
    assert run(pictures / "scene 1.png", "--output", plain, *PLAIN) == 2
    assert '"count": 3' in (said := capsys.readouterr().err) and 'now {"count": 1' in said
    assert {path: path.read_bytes() for path in plain.rglob("*") if path.is_file()} == before
    (tmp_path / "letter.txt").write_text("mine")
    assert run(pictures, "--output", tmp_path, *PLAIN) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


KILLED = """
import os, signal, sys
from img2prompt.cli import main
from img2prompt.jobs.loop import folder
import datasets, torchmetrics
import img2prompt.comparison, img2prompt.jobs.judging, img2prompt.rating
import img2prompt.models.coca, img2prompt.models.generation, img2prompt.models.ssim

def child(moment, words):
    count = 0
    append, write = folder.RunFolder._append, folder.RunFolder.write
    def dying(leave):
        nonlocal count
        count += 1
        if count == moment:
            leave()
            os.kill(os.getpid(), signal.SIGKILL)
    def appending(self, entry):
        dying(lambda: self._journal.write(b'{"step": "cut in the mid'))
        append(self, entry)
    def writing(self, name, data):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        dying(lambda: (self.root / name).with_name(".cut.tmp").write_bytes(data[:9]))
        write(self, name, data)
    folder.RunFolder._append, folder.RunFolder.write = appending, writing
    os._exit(main(words))

whole, killed, *words = sys.argv[1:]
for folder_of_run, moments in ((whole, [0]), (killed, [1, 6, 13, 0])):
    for moment in moments:
        pid = os.fork()
        if pid == 0:
            child(moment, [*words, "--output", folder_of_run])
        status = os.waitpid(pid, 0)[1]
        if moment:
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
        else:
            assert os.waitstatus_to_exitcode(status) == 1, status  # the tiny captioner's words cannot be drawn
"""


def test_killed_at_any_moment_it_goes_on_to_the_same_results(table: Path, tmp_path: Path) -> None:
    whole, killed, model = tmp_path / "whole", tmp_path / "killed", save_model(tmp_path / "model")
    words = ["roundtrip", "--pairs", table, "--preset", model, *PLAIN, "--metrics", "ssim,colour_distance"]
    command = [sys.executable, "-c", KILLED, whole, killed, *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert summary_of(killed) == summary_of(whole)
    assert summary_of(whole)["metrics"]["ssim"]["kinds"]["true"]["n"] == 2
    assert rounded(rows_of(killed)) == rounded(rows_of(whole))  # confidences come from batches of other sizes
    names = [sorted(str(path.relative_to(run)) for path in run.rglob("*")) for run in (whole, killed)]
    assert names[0] == names[1]


def test_a_full_disk_keeps_what_is_finished(
    pictures: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = sorted(path.stat().st_size for path in plain.rglob("*-*.png"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes[0] + 1, 9000), hard))  # a file of more bytes cannot be written
    try:
        assert run(pictures, "--output", folder, *PLAIN) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "File too large; finished work stays, run the same command again" in said
    stood = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert run(pictures, "--output", folder, *PLAIN) == 0
    assert summary_of(folder) == summary_of(plain)
    assert all(path.stat().st_mtime_ns == when for path, when in stood.items())


def test_what_cannot_be_read_is_a_row_and_the_rest_goes_on(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((pictures / "scene 1.png").read_bytes()[:300])
    folder = tmp_path / "run"
    assert run(broken, pictures / "scene 1.png", tmp_path / "none.png", "--output", folder, *PLAIN) == 1
    first, second, third = rows_of(folder)
    assert first["original"] is None and first["failed"][0]["kind"] == "ImageTruncated" and third["failed"]
    assert second["scores"]["predicted"]["ssim"] and second["prompts"]["floor"]["from"] == "a stock prompt"
    assert second["ceiling_from"] == "another seed" and len(second["ceiling"]["ssim"]) == 2
    assert "failed: 1 ImageTruncated" in capsys.readouterr().err
    assert summary_of(folder)["images"] == 1
    assert run(broken, "--output", tmp_path / "other", *PLAIN) == 2
    assert "none of the pictures can be used" in capsys.readouterr().err


def test_scores_that_cannot_be_had_are_counted_however_often_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    render(SCENES[0], 96).resize((8, 8)).save(tmp_path / "tiny.png")  # too small for SSIM
    render(SCENES[1], 96).save(tmp_path / "usual.png")
    words = (tmp_path / "tiny.png", tmp_path / "usual.png", "--output", tmp_path / "run", "--upsampler", "none")
    words = (*words, "--metrics", "ssim,colour_distance", "--seeds", 2, "--size", 64, "--device", "cpu")
    for _ in range(2):
        assert run(*words) == 0
        assert summary_of(tmp_path / "run")["undefined_metrics"] == {"ssim": 4}  # predicted and floor, two seeds
        assert "pictures without a number: ssim of 4; null in results.jsonl" in capsys.readouterr().err
    assert "Scores that could not be had" in (tmp_path / "run" / "report.html").read_text()


def test_pictures_that_are_no_numbers_are_rows(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from diffusers import UNet2DConditionModel

    model = save_sd(tmp_path / "model")
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    with torch.no_grad():
        next(unet.parameters()).fill_(torch.nan)
    unet.save_pretrained(model / "unet")
    folder, words = tmp_path / "run", ("--generator", model, "--steps", 1, "--upsampler", "none", "--device", "cpu")
    words = (*words, "--metrics", "ssim", "--seeds", 2)
    assert run(pictures / "scene 1.png", "--output", folder, *words) == 1
    (row,) = rows_of(folder)
    assert [picture["kind"] for picture in row["pictures"]["predicted"]] == ["NotFinite"] * 2
    assert len(row["failed"]) == 4 and summary_of(folder)["metrics"] == {}
    out = capsys.readouterr()
    assert "failed: 4 NotFinite" in out.err and "no picture could be compared" in out.out
    assert "NotFinite" in (folder / "report.html").read_text()


def test_a_true_prompt_that_cannot_be_drawn_is_a_row_and_no_ceiling(pictures: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    made = EmbeddedPrompt("wizardry in brass, award winning")
    other.write_bytes(png_bytes(render(SCENES[1], 96), parameters_text(made)))
    assert run(other, pictures / "scene 0.png", "--output", tmp_path / "run", *PLAIN, "--metrics", "ssim") == 1
    first, second = rows_of(tmp_path / "run")
    assert first["prompts"]["true"]["text"] == first["reference"] == made.prompt
    assert [picture["kind"] for picture in first["pictures"]["true"]] == ["NothingToDraw"] * 2
    assert (first["ceiling_from"], second["ceiling_from"]) == ("another seed", "true prompt")
    assert len(first["ceiling"]["ssim"]) == 2
    assert summary_of(tmp_path / "run")["metrics"]["ssim"]["ceiling_from"] == "another seed (1), true prompt (1)"


def test_pairs_bring_their_true_prompts(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--pairs", table, "--output", tmp_path / "run", *PLAIN, "--metrics", "ssim") == 0
    assert [row["reference"] for row in rows_of(tmp_path / "run")] == [describe(scene) for scene in SCENES[:2]]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 pictures, 2 of each prompt")
    assert any(line.startswith("ssim") and "%" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name pictures"),
        (("x.png", "--kinds", "best"), "--kinds best: choose from"),
        (("x.png", "--count", 2), "--count is of --pairs"),
        (("x.png", "--judge", "me"), "judge me: there is none of that name"),
    ],
)
def test_wrong_options_are_said_before_any_work(
    words: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--output", tmp_path / "run") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_runs_do_not_share_a_folder(pictures: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from img2prompt.jobs.loop.folder import RunFolder

    settings = json.loads((plain / "config.json").read_text())["run"]
    with RunFolder(plain, settings):
        assert run(pictures, "--output", plain, *PLAIN) == 2
    assert "another run is writing it" in capsys.readouterr().err


def test_a_copied_folder_is_the_run(pictures: Path, plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "moved")
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        assert run(pictures, "--output", "moved", *PLAIN) == 0
    finally:
        os.chdir(here)
    assert summary_of(tmp_path / "moved") == summary_of(plain)

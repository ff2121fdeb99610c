"""`img2prompt predict`: what it prints and writes, how it resumes, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import picture, save_model, save_with_prompt

from img2prompt import presets
from img2prompt.cli import main
from img2prompt.jobs.outputs import Output
from img2prompt.jobs.tables import read_table, write_table
from img2prompt.jobs.targets import find_targets

FORMATS = (".csv", ".jsonl", ".parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures without a prompt, two with one, a broken one, and files that are no pictures."""
    root = tmp_path / "pictures"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    picture(1).save(root / "a.png")
    picture(2).save(root / "sub" / "b.JPG")
    save_with_prompt(root / "sub" / "c.png", 'a fox, "red"\twith\na tail')
    save_with_prompt(root / "d.png", "a lighthouse")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (root / "notes.txt").write_text("not a picture")
    picture(3).save(root / ".hidden" / "e.png")
    return root


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A folder of pictures that all hold their prompt, so that no model is needed."""
    root = tmp_path / "readable"
    root.mkdir()
    for i in range(5):
        save_with_prompt(root / f"{i}.png", f"prompt {i}")
    return root


def run(*words: object) -> int:
    return main(["predict", *map(str, words)])


def test_one_picture_prints_its_prompt(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "d.png", "--preset", model) == 0
    out = capsys.readouterr()
    assert out.out == "a lighthouse\n" and out.err == ""
    assert run(folder / "a.png", "--preset", model) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_candidates_are_printed_one_a_line(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder / "a.png", "--preset", model, "--candidates", 3, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert run(folder / "a.png", "--preset", model, "--candidates", 3) == 0
    assert capsys.readouterr().out.splitlines() == [" ".join(c["prompt"].split()) for c in row["candidates"]]
    assert len(row["candidates"]) == 3 and row["origin"] == "captioner" and row["seconds"] > 0


def test_json_shows_the_scores_and_the_nearest_prompts(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from img2prompt.pairs.shards import write_shards
    from img2prompt.pairs.storybook.dataset import StorybookRows

    made = StorybookRows(seed=3, image_px=32)
    write_shards(tmp_path / "pairs", made.plan(4), made)
    assert main(["bank", "build", str(tmp_path / "pairs"), str(tmp_path / "bank"), "--encoder", str(model)]) == 0
    capsys.readouterr()
    words = (folder / "a.png", "--preset", model, "--candidates", 2, "--json", "--bank", tmp_path / "bank")
    assert run(*words, "--rank", 4) == 0
    row = json.loads(capsys.readouterr().out)
    assert [sorted(c["scores"]) for c in row["candidates"]] == [["consensus", "contrastive", "likelihood"]] * 2
    assert row["candidates"][0]["score"] >= row["candidates"][1]["score"]
    assert len(row["nearest"]) == 3 and row["nearest"][0]["id"].startswith("storybook-train-3-")
    for suffix in FORMATS:
        path = tmp_path / f"rows{suffix}"
        assert run(*words, "--rank", 1, "--output", path) == 0
        (row,) = read_table(path)
        assert len(row["nearest"]) == 3 and row["candidates"][0]["scores"].keys() == {"likelihood"}
    capsys.readouterr()
    assert run(folder / "a.png", "--preset", model, "--regressor", tmp_path / "none") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run(folder / "a.png", "--preset", model, "--bank", tmp_path / "pairs") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_csv_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("source,prompt,origin\na.png,a fox,captioner\n")
    (row,) = read_table(path)
    assert row["prompt"] == "a fox" and row["nearest"] == [] and row["embedded"] is None


def test_a_folder_prints_a_table_and_counts(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--preset", model) == 1
    out = capsys.readouterr()
    rows = [line.split("\t") for line in out.out.splitlines()]
    assert [Path(name).name for name, _ in rows] == ["a.png", "d.png", "b.JPG", "c.png"]
    assert rows[3][1] == 'a fox, "red" with a tail'
    assert "2 predicted, 2 read from metadata, 0 skipped, 1 failed" in out.err
    assert "broken.png" in out.err and "Traceback" not in out.err


def test_json_lines_keep_newlines_and_failures(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--preset", model, "--json") == 1
    rows = {Path(row["source"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["c.png"]["prompt"].count("\n") == 1 and rows["c.png"]["embedded"]["steps"] == 20
    assert rows["broken.png"]["kind"] and rows["d.png"]["negative_prompt"] == "blurry"
    assert 0 < rows["a.png"]["confidence"] < 1 and rows["a.png"]["preset"] == str(model)


@pytest.mark.parametrize("suffix", FORMATS)
def test_tables(model: Path, folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out" / f"rows{suffix}"
    assert run(folder, "--preset", model, "--output", path, "--candidates", 2) == 1
    assert capsys.readouterr().out == ""
    rows = {Path(row["source"]).name: row for row in read_table(path)}
    assert list(rows) == ["a.png", "broken.png", "d.png", "b.JPG", "c.png"]
    assert rows["c.png"]["prompt"] == 'a fox, "red"\twith\na tail'
    assert len(rows["a.png"]["candidates"]) == 2 and rows["a.png"]["candidates"][0]["log_likelihood"] < 0
    assert rows["broken.png"]["kind"] and "prompt" not in rows["broken.png"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no journal, no temporary file


def test_other_programs_read_the_csv(readable: Path, tmp_path: Path) -> None:
    save_with_prompt(readable / "5.png", 'tab\there, "quotes", a\nline')
    path = tmp_path / "rows.csv"
    assert run(readable, "--metadata-only", "--output", path) == 0
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[5]["prompt"] == 'tab\there, "quotes", a\nline' and rows[0]["prompt"] == "prompt 0"
    pandas = pytest.importorskip("pandas")
    assert list(pandas.read_csv(path).prompt) == [row["prompt"] for row in rows]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_survives_writing_and_reading(tmp_path: Path, suffix: str) -> None:
    from img2prompt.results import Candidate, EmbeddedPrompt, Failed, Neighbour, Prediction

    rows = [
        Prediction(
            "a",
            "p,\n\t\"'",
            "captioner",
            None,
            (Candidate("p", -1.5, 3, 0.1, {"likelihood": -0.5}),),
            0.25,
            False,
            "x",
            None,
            (Neighbour("q", 0.5, "1"),),
            0.5,
        ).to_dict(),
        Prediction("b", "é ☃", "metadata", "no", embedded=EmbeddedPrompt("é ☃", seed=2**40)).to_dict(),
        Failed("c", "is empty", "ImageEmpty").to_dict(),
    ]
    path = tmp_path / f"t{suffix}"
    write_table(path, rows)
    assert list(read_table(path)) == json.loads(json.dumps(rows))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_finished_table_is_added_to(
    readable: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"rows{suffix}"
    assert run(readable, "--metadata-only", "--output", path) == 0
    save_with_prompt(readable / "2b.png", "prompt new")
    (readable / "4.png").unlink()
    capsys.readouterr()
    assert run(readable, "--metadata-only", "--output", path) == 0
    assert "1 read from metadata, 4 skipped, 0 failed" in capsys.readouterr().err
    assert sorted(row["prompt"] for row in read_table(path)) == [*(f"prompt {i}" for i in range(5)), "prompt new"]
    assert run(readable, "--metadata-only", "--output", path, "--overwrite", "replace") == 0
    assert [row["prompt"] for row in read_table(path)] == [f"prompt {i}" for i in (0, 1, 2)] + [
        "prompt new",
        "prompt 3",
    ]


def test_failures_are_tried_again(readable: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    (readable / "2.png").rename(tmp_path / "kept.png")
    picture(1).save(readable / "2.png")
    assert run(readable, "--metadata-only", "--output", path) == 1
    (tmp_path / "kept.png").rename(readable / "2.png")
    assert run(readable, "--metadata-only", "--output", path) == 0
    assert [row.get("prompt") for row in read_table(path)] == [f"prompt {i}" for i in range(5)]


KILLED = """
import os, signal, sys
from img2prompt.jobs.outputs import Output
add = Output.add
count = 0
def dying(self, row):
    global count
    add(self, row)
    count += 1
    if count == 3:
        self._journal.write(b'{"source": "cut in the mid')  # the kill falls into a line
        self._journal.flush()
        os.kill(os.getpid(), signal.SIGKILL)
Output.add = dying
from img2prompt.cli import main
main(sys.argv[1:])
"""


def test_resumes_after_kill_9(readable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    words = ["predict", str(readable), "--metadata-only", "--output", str(path)]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not path.exists() and (tmp_path / "rows.csv.journal").exists()
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    capsys.readouterr()
    assert main([*words[:2], "--metadata-only", "--style", "long", "--output", str(path)]) == 2
    assert "other settings (style 'short', now 'long')" in capsys.readouterr().err
    assert main(words) == 0
    assert "2 read from metadata, 3 skipped, 0 failed" in capsys.readouterr().err
    assert [row["prompt"] for row in read_table(path)] == [f"prompt {i}" for i in range(5)]
    assert not (tmp_path / "rows.csv.journal").exists()


def test_a_second_run_into_the_same_table_is_refused(
    readable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    with Output(path, {}, "skip"):
        start = time.monotonic()
        assert run(readable, "--metadata-only", "--output", path) == 2
        assert time.monotonic() - start < 5
    assert "another run is writing it" in capsys.readouterr().err


def test_a_strangers_table_is_not_touched(readable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mine.csv", "mine.jsonl", "mine.parquet"):
        path = tmp_path / name
        path.write_text("my,own\ndata,here\n")
        assert run(readable, "--metadata-only", "--output", path) == 2
        assert path.read_text() == "my,own\ndata,here\n"
        assert "is no table of predictions" in capsys.readouterr().err
        assert run(readable, "--metadata-only", "--output", path) == 2  # nor when the command is repeated
        assert path.read_text() == "my,own\ndata,here\n"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_table_is_not_replaced_by_what_could_be_read(readable: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    assert run(readable, "--metadata-only", "--output", path) == 0
    path.write_bytes(path.read_bytes()[:-60] + b"\xff")
    damaged = path.read_bytes()
    for _ in range(2):
        assert run(readable, "--metadata-only", "--output", path) == 2
        assert path.read_bytes() == damaged


def test_rows_of_a_table_survive_a_kill_while_they_are_copied(readable: Path, tmp_path: Path) -> None:
    path, journal = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.journal"
    assert run(readable, "--metadata-only", "--output", path) == 0
    with Output(path, {"style": "short"}, "skip"):
        pass
    first, *rows = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + rows[0] + rows[1][:20])  # the kill fell here
    (readable / "4.png").rename(readable / "5.png")  # 4's row is in the old table alone
    assert run(readable, "--metadata-only", "--output", path) == 0
    assert sorted(row["source"][-5:] for row in read_table(path)) == [f"{i}.png" for i in range(6)]


def test_a_run_that_made_nothing_binds_nobody_to_its_settings(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    words = (folder / "a.png", "--preset", model, "--output", path)
    assert run(*words, "--regressor", tmp_path / "misspelt") == 2
    capsys.readouterr()
    assert run(*words) == 0, capsys.readouterr().err
    assert len(list(read_table(path))) == 1


@pytest.mark.parametrize("overwrite", ["skip", "replace"])
def test_a_folder_is_no_table(
    readable: Path, tmp_path: Path, overwrite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").mkdir()
    assert run(readable, "--metadata-only", "--output", tmp_path / "rows.csv", "--overwrite", overwrite) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    assert not (tmp_path / "rows.csv.journal").exists()


def test_sidecars(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "d.txt").write_text("mine\n")
    assert run(folder, "--preset", model, "--sidecar") == 1
    assert (folder / "d.txt").read_text() == "mine\n"
    assert (folder / "sub" / "c.txt").read_text() == 'a fox, "red" with a tail\n'
    assert (folder / "a.txt").exists() and not (folder / "broken.txt").exists()
    assert "2 predicted, 1 read from metadata, 1 skipped, 1 failed" in capsys.readouterr().err
    for _ in range(2):
        assert run(folder / "d.png", "--metadata-only", "--sidecar", "--overwrite", "append") == 0
        assert (folder / "d.txt").read_text() == "mine\na lighthouse\n"
    assert run(folder / "d.png", "--metadata-only", "--sidecar", "--overwrite", "replace") == 0
    assert (folder / "d.txt").read_text() == "a lighthouse\n"


def test_two_pictures_never_share_a_sidecar(readable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_with_prompt(readable / "0.PNG", "another")
    assert run(readable, "--metadata-only", "--sidecar", "--overwrite", "replace") == 1
    assert (readable / "0.txt").read_text() == "another\n"  # 0.PNG sorts first
    assert "already holds the prompt of 0.PNG" in capsys.readouterr().err
    assert run(readable, "--metadata-only", "--sidecar") == 1  # 0.txt is there, and still not that of 0.png
    assert "already holds the prompt of 0.PNG" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a picture"),
        ([""], "name a picture"),
        (["none.png", "--metadata-only"], "none.png: does not exist"),
        (["empty"], "holds no pictures"),
        (["*.xyz"], "no file matches"),
        (["-", "-"], "only once"),
        (["x.png", "--output", "rows.xlsx"], "must end in .csv, .jsonl, .parquet"),
        (["https://example.org/a.png", "--sidecar"], "use --output"),
        (["x.png", "--preset", "coca-l14x"], "did you mean coca-l14?"),
        (["x.png", "--metadata-only"], "holds no prompt"),
        (["x.png", "--candidates", "0"], "from 1 to 64"),
        (["x" * 300 + ".png", "--metadata-only"], "does not exist"),
        (["x.png", "--colour"], "unrecognized arguments: --colour; see img2prompt predict --help"),
        (["x.png", "--max-megapixels", "0.001", "--preset", "MODEL"], "x.png"),
    ],
)
def test_users_errors_are_one_line(
    words: list[str],
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    picture(1).save(tmp_path / "x.png")
    assert run(*(str(model) if word == "MODEL" else word for word in words)) == 2
    out = capsys.readouterr()
    assert message in out.err and out.err.count("\n") == 1 and out.out == ""


def test_patterns_and_duplicates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [t.source for t in find_targets(["**/*.png"])] == ["a.png", "broken.png", "d.png", "sub/c.png"]
    assert [t.source for t in find_targets(["a.png", "a.png", "./sub"])] == ["a.png", "sub/b.JPG", "sub/c.png"]
    (folder / "odd[1].png").touch()
    assert [t.source for t in find_targets(["odd[1].png"])] == ["odd[1].png"]
    assert find_targets(["-"])[0].name == "<stdin>"


def as_owner_only(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs a command without what lets root pass over rights; skips where that is not possible."""
    setpriv = shutil.which("setpriv")
    without = [setpriv, "--bounding-set=-dac_override,-dac_read_search"] if setpriv and os.geteuid() == 0 else []
    if os.geteuid() == 0 and (not without or subprocess.run([*without, "true"], check=False).returncode):
        pytest.skip("root may read everything")
    command = [*without, sys.executable, "-m", "img2prompt", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_closed_folder_is_not_passed_over(readable: Path, tmp_path: Path) -> None:
    closed = readable / "closed"
    closed.mkdir()
    save_with_prompt(closed / "a.png", "a hidden one")
    closed.chmod(0)
    try:
        done = as_owner_only("predict", readable, "--metadata-only")
        assert done.returncode == 1 and "5 read from metadata, 0 skipped, 1 failed" in done.stderr
        assert f"{closed}: is a folder that may not be looked into" in done.stderr
        for words in ([closed], [closed / "a.png"]):
            done = as_owner_only("predict", *words, "--metadata-only")
            assert "permission denied" in done.stderr and "Traceback" not in done.stderr
        done = as_owner_only("submit", readable, "--output", tmp_path / "s.csv")
        assert done.returncode == 2 and f"{closed}: is a folder that may not be looked into" in done.stderr
    finally:
        closed.chmod(0o755)


def test_standard_input(readable: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO((readable / "3.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("-", "--metadata-only") == 0
    assert capsys.readouterr().out == "prompt 3\n"


def test_the_fallback_says_what_it_knows(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(presets, "BUNDLED", tmp_path)
    (tmp_path / "captioner").symlink_to(model)
    assert run(folder / "a.png") == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "storybook world only" in err and "img2prompt pull coca-l14" in err
    assert run(folder / "d.png") == 0  # its prompt is in the file: no model spoke
    assert run(folder / "a.png", "--preset", "storybook") == 0  # chosen: the user knows
    assert capsys.readouterr().err == ""


def test_outside_of_the_models_world_is_said(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from test_predictor import calibrated, static

    noise = tmp_path / "noise.png"
    static(200).save(noise)
    located = calibrated(tmp_path / "m", picture(1), static(200)).located
    assert run(noise, "--preset", located.source, "--json") == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["in_domain"] is False
    assert out.err.count("\n") == 1 and "outside what preset" in out.err and str(noise) in out.err
    assert run(folder / "a.png", "--preset", located.source) == 0
    assert capsys.readouterr().err == ""
    assert run(folder / "a.png", noise, "--preset", located.source) == 0  # outside is no failure
    out = capsys.readouterr()
    assert out.out.count("\n") == 2 and "0 failed" in out.err and f"do not trust the prompt: {noise}\n" in out.err


def test_config_file_sets_options(readable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("metadata-only: true\njson: true\n")
    assert run(readable / "1.png", "--config", tmp_path / "c.yaml") == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "prompt 1"


def test_help_and_metadata_load_nothing_heavy(readable: Path, tmp_path: Path) -> None:
    code = """
import sys
from img2prompt.cli import main
try:
    main(["predict", "--help"])
except SystemExit:
    pass
heavy = {"torch", "datasets", "PIL", "numpy", "huggingface_hub", "pyarrow", "open_clip"} & set(sys.modules)
assert not heavy, heavy
assert main(["predict", sys.argv[1], "--metadata-only", "--output", sys.argv[2]]) == 0
heavy = {"torch", "datasets", "open_clip", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""
    words = [sys.executable, "-c", code, str(readable), str(tmp_path / "rows.csv")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_goes_away_ends_quietly(readable: Path) -> None:
    words = [sys.executable, "-m", "img2prompt", "predict", str(readable), "--metadata-only"]
    reader, writer = os.pipe()
    os.close(reader)  # every write fails, as after `| head`
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr

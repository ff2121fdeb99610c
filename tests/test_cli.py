"""The command line without any model."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from img2prompt import __version__, cli
from img2prompt.errors import ConfigError

HEAVY = (
    "torch",
    "open_clip",
    "transformers",
    "datasets",
    "lightning",
    "sentence_transformers",
    "faiss",
    "PIL",
    "numpy",
)


def loaded_after(*argv: str) -> set[str]:
    """The heavy modules that one call of the program has loaded at its end."""
    code = (
        "import sys\nfrom img2prompt import cli\n"
        f"try:\n    cli.main({list(argv)!r})\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return set(out.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize(
    "argv", [("--help",), ("--version",), ("predict", "--help"), ("storybook", "--help"), ("pull", "--help")]
)
def test_help_loads_nothing_heavy(argv: tuple[str, ...]) -> None:
    assert loaded_after(*argv) == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, img2prompt; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize("verb", [v for v in cli.VERBS if v not in cli.RAW_VERBS])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"img2prompt {verb}" in capsys.readouterr().out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"img2prompt {__version__}\n"
    assert cli.main([]) == 0
    assert "predict" in capsys.readouterr().out


def test_unknown_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predikt"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "predikt" in err


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--style", choices=("short", "long"))
    parser.add_argument("--json", action="store_true")
    return parser


def test_config_sets_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("batch-size: 4\nstyle: long\njson: true\nimages: [a.png]\n", encoding="utf-8")
    assert cli._read_config(str(file), _parser()) == {
        "batch_size": 4,
        "style": "long",
        "json": True,
        "images": ["a.png"],
    }


def test_config_names_what_the_line_would_have_to(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("out: books\ncount: 3\n", encoding="utf-8")

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("out", type=Path)
        parser.add_argument("--count", type=int)

    options = cli._parse("storybook", add, ["--config", str(file), "--count", "4"])
    assert (options.out, options.count) == (Path("books"), 4)
    assert cli._parse("storybook", add, ["tales", "--config", str(file)]).out == Path("tales")
    with pytest.raises(ConfigError, match="required: out; see img2prompt storybook --help"):
        cli._parse("storybook", add, [])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("batchsize: 4", "batchsize"),
        ("batch-size: four", "four"),
        ("style: huge", "huge"),
        ("json: 3", "json"),
        ("- a", "list"),
        ("a: [", "YAML"),
        ("batch-size:", "batch_size has no value"),
        ("images: [null]", "images has no value"),
    ],
)
def test_config_mistakes_are_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        cli._read_config(str(file), _parser())


def test_config_reaches_sub_verbs(tmp_path: Path) -> None:
    from img2prompt.jobs.bank import add_arguments

    file = tmp_path / "bank.yaml"
    file.write_text("encoder: storybook\nbatch_size: 3\n")
    options = cli._parse("bank", add_arguments, ["build", "pairs", "out", "--config", str(file)])
    assert (options.encoder, options.batch_size, options.action) == ("storybook", 3, "build")
    options = cli._parse("bank", add_arguments, ["--config", str(file), "build", "pairs", "out", "--batch-size", "5"])
    assert options.batch_size == 5
    file.write_text("k: 3\n")
    with pytest.raises(ConfigError, match="no option k"):
        cli._parse("bank", add_arguments, ["--config", str(file), "build", "pairs", "out", "--encoder", "x"])


def test_an_empty_value_in_a_config_leaves_an_option_unset(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("style:\nimages:\n")
    assert cli._read_config(str(file), _parser()) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [("exact: true\nbudget_s: 3\n", []), ("exact: true\n", ["--approximate"]), ("exact: true\n", ["--budget-s", "3"])],
)
def test_a_config_cannot_join_what_excludes_each_other(tmp_path: Path, text: str, words: list[str]) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--exact", action="store_true")
        group.add_argument("--approximate", action="store_true")
        group.add_argument("--budget-s", type=float, default=600)

    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"--exact and --.* exclude each other"):
        cli._parse("pairs", add, ["--config", str(file), *words])
    file.write_text("exact: true\n")
    assert cli._parse("pairs", add, ["--config", str(file)]).exact


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["presets"]])
def test_output_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "img2prompt", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        2,
        "img2prompt: No space left on device; make room and run the same command again\n",
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_is_no_fault(closed: str) -> None:
    command = f'"$0" -m img2prompt presets {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_machine_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", "a.png", "--metadata-only", "--preset", "x" * 300]) == 2  # no preset is looked for
    assert "a.png: does not exist" in capsys.readouterr().err
    assert cli.main(["predict", "a.png", "--preset", "x" * 300]) == 2
    err = capsys.readouterr().err
    assert "File name too long; give a shorter name" in err and err.count("\n") == 1


def test_missing_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        cli._read_config(str(tmp_path / "nowhere.yaml"), _parser())


def test_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "img2prompt", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(__version__)

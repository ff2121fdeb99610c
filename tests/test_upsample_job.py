"""`img2prompt upsample` as a user runs it, against a real server on this machine and the model that ships."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, misbehaving, refused, said

from img2prompt.cli import main
from img2prompt.jobs.tables import read_table, write_table
from img2prompt.jobs.upsample import UPSAMPLED
from img2prompt.jobs.upsample_tally import _reason

DATA = Path(__file__).parents[2] / "shared" / "data" / "prompts"
RICH = "{} in soft evening light, with long shadows on the ground and a faint mist behind."


def base_of(request: dict[str, Any]) -> str:
    found = re.findall(r"<prompt>(.*?)</prompt>", request["messages"][-1]["content"])
    return str(found[-1])


def faithful(request: dict[str, Any], number: int) -> Reply:
    """Answers "lose ..." without its facts, everything else richly."""
    base = base_of(request)
    return said("Some light and shade." if base.startswith("lose") else RICH.format(base))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[tuple[list[str], list[Any]]]:
    """The options that name a faithful server, and what it was asked."""
    with misbehaving(faithful) as (address, asked):
        yield ["--upsampler", "openai:m", "--endpoint", address, "--min-cosine", "none"], asked


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["upsample", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(read_table(path, UPSAMPLED))


def test_one_text_is_one_line(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    options, asked = server
    code, out, err = run(capsys, "a red fox", *options)
    assert (code, out, err) == (0, RICH.format("a red fox") + "\n", "")
    code, out, err = run(capsys, "lose a fox", *options, "--attempts", "2")
    assert (code, out) == (0, "lose a fox\n") and "kept as it was" in err and "fox" in err.split("lost", 1)[1]
    assert len(asked) == 3


def test_several_are_json_lines_and_a_summary(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "a red walrus", "lose two owls", "", *server[0], "--attempts", "1")
    rows = [json.loads(line) for line in out.splitlines()]
    by = {row["source"]: row for row in rows}
    assert code == 1 and len(rows) == 3
    assert by["prompt 1"]["outcome"] == "upsampled" and by["prompt 1"]["drift"]["checker"] == "general"
    assert by["prompt 2"]["outcome"] == "base" and by["prompt 2"]["prompt"] == "lose two owls"
    assert by["prompt 3"]["kind"] == "EmptyPrompt"
    assert "1 upsampled, 0 trimmed to fit, 1 kept as they were, 0 skipped, 1 failed" in err
    assert "1 kept: it lost - prompt 2" in err


def test_lines_of_a_file_and_of_standard_input(
    server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa fox\r\n\r\n  \r\nan owl\r\n" + "ein Bär\n".encode())
    _, out, _ = run(capsys, "p.txt", *server[0])
    assert [json.loads(line)["base"] for line in out.splitlines()] == ["a fox", "an owl", "ein Bär"]
    with (tmp_path / "p.txt").open() as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        _, out, _ = run(capsys, "-", *server[0])
    assert [json.loads(line)["source"] for line in out.splitlines()] == ["<stdin>:1", "<stdin>:4", "<stdin>:5"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_column_of_a_table(suffix: str, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, rows = tmp_path / f"t{suffix}", [{"n": 1, "short": "a fox"}, {"n": 2, "short": 'an "owl", two\tcats'}]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["n", "short"], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    _, out, _ = run(capsys, path, "--column", "short", *server[0])
    assert [json.loads(line)["base"] for line in out.splitlines()] == [row["short"] for row in rows]
    code, _, err = run(capsys, path, "--column", "long", *server[0])
    assert code == 2 and re.search(r"no column 'long'; found: n, short", err)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_are_read_back_as_they_were(
    suffix: str, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"out{suffix}"
    code, out, _ = run(
        capsys, "a fox", "lose it", "x" * 30_000, *server[0], "--output", path, "--negative", "stock", "--variants", "2"
    )
    rows = rows_of(path)
    assert (code, out) == (1, "") and len(rows) == 5
    assert [row["seed"] for row in rows if "error" not in row] == [0, 1, 0, 1]
    assert rows[0]["negative_prompt"].startswith("blurry") and rows[0]["tokens"] > 5
    assert rows[0]["drift"]["lost"] == [] and rows[-1]["kind"] == "PromptTooLong"
    write_table(path.with_name(f"again{suffix}"), rows, UPSAMPLED)
    assert rows_of(path.with_name(f"again{suffix}")) == rows


def test_a_killed_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    (tmp_path / "p.txt").write_text("".join(f"a fox and {n} owls\n" for n in range(2, 62)))
    words = ["p.txt", "--upsampler", "openai:m", "--min-cosine", "none", "--no-cache", "--concurrency", "4"]
    stalls = [True]

    def stalling(request: dict[str, Any], number: int) -> Reply:
        reply = faithful(request, number)
        reply.wait_s = 60 if stalls[0] and number >= 40 else 0
        return reply

    with misbehaving(stalling) as (address, asked):
        command = ["upsample", *words, "--endpoint", address, "--output", "out.jsonl"]
        child = os.fork()
        if child == 0:
            os._exit(main(command))
        until, journal = time.monotonic() + 60, tmp_path / "out.jsonl.journal"
        while time.monotonic() < until and (not journal.exists() or journal.read_bytes().count(b"\n") < 33):
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        before, stalls[0] = len(asked), False
        kept = journal.read_bytes().count(b"\n") - 1
        assert kept >= 32 and not (tmp_path / "out.jsonl").exists()
        code = main(command)
        told = capsys.readouterr().err
    assert code == 0 and len(asked) - before == 60 - kept and f"{kept} skipped" in told
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row["base"] for row in rows] == (tmp_path / "p.txt").read_text().splitlines()
    assert not journal.exists()


def test_another_setting_does_not_go_on_from_a_journal(server: Any, tmp_path: Path, capsys: Any) -> None:
    with misbehaving(lambda request, number: refused(401, "no")) as (address, _):
        options = ["--upsampler", "openai:m", "--endpoint", address, "--min-cosine", "none"]
        code, _, _ = run(capsys, "a fox", "an owl", *options, "--output", "o.jsonl")
    assert code == 1
    rows = rows_of(tmp_path / "o.jsonl")
    assert {row["kind"] for row in rows} == {"NotAllowed"}
    # Failed rows are asked again.
    code, _, err = run(capsys, "a fox", "an owl", *server[0], "--output", "o.jsonl")
    assert code == 0 and "2 upsampled" in err and [row["outcome"] for row in rows_of(tmp_path / "o.jsonl")]
    code, _, err = run(capsys, "a fox", "an owl", *server[0], "--output", "o.jsonl")
    assert code == 0 and "2 skipped" in err
    code, _, err = run(capsys, "a fox", "an owl", *server[0], "--output", "o.jsonl", "--overwrite", "replace")
    assert code == 0 and "2 upsampled" in err


def test_a_table_of_other_prompts_is_not_taken_for_this_one(server: Any, tmp_path: Path, capsys: Any) -> None:
    options, asked = server
    assert run(capsys, "a red fox", *options, "--output", "o.csv")[0] == 0
    before, number = (tmp_path / "o.csv").read_bytes(), len(asked)
    code, _, err = run(capsys, "a blue owl", *options, "--output", "o.csv")
    assert code == 2 and err.count("\n") == 1
    assert "prompt 1 was 'a red fox' there, and is now 'a blue owl'; choose another name" in err
    assert (tmp_path / "o.csv").read_bytes() == before and len(asked) == number
    code, _, err = run(capsys, "a red fox", "a blue owl", *options, "--output", "o.csv")  # more prompts are added
    assert code == 0 and "1 upsampled" in err and "1 skipped" in err
    code, _, err = run(capsys, "a blue owl", *options, "--output", "o.csv", "--overwrite", "replace")
    assert code == 0 and [row["base"] for row in rows_of(tmp_path / "o.csv")] == ["a blue owl"]


def test_the_reason_why_a_prompt_was_kept_ends_as_it_was_told() -> None:
    assert _reason("none of its answers: no 'fox'") == ("none of its answers", "no 'fox'")
    assert _reason("too long (80 tokens)") == ("too long", "80 tokens")
    assert _reason("nothing new") == ("nothing new", "")


def test_a_cache_answers_the_second_time_unless_it_is_turned_off(server: Any, capsys: Any) -> None:
    options, asked = server
    for more, count in (([], 1), ([], 1), (["--seed", "5"], 2), (["--no-cache"], 3)):
        run(capsys, "a fox", *options, *more)
        assert len(asked) == count


def test_a_benchmark_keeps_its_categories(server: Any, capsys: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "PartiPrompts.tsv").write_text(
        "Prompt\tCategory\tChallenge\tNote\na fox\tAnimals\tBasic\t\nan owl\tAnimals\tStyle & Format\tx\n"
    )
    code, _, _ = run(capsys, "--benchmark", "parti", "--benchmark-folder", folder, *server[0], "--output", "b.parquet")
    rows = rows_of(tmp_path / "b.parquet")
    assert code == 0 and [(row["source"], row["category"], row["challenge"]) for row in rows] == [
        ("parti:1", "Animals", "Basic"),
        ("parti:2", "Animals", "Style & Format"),
    ]


def test_a_negative_prompt_denies_nothing_asked_for(server: Any, capsys: Any) -> None:
    _, out, err = run(capsys, "a blurry fox", "an owl", *server[0], "--negative", "blurry, fox, text")
    assert [json.loads(line)["negative_prompt"] for line in out.splitlines()] == ["text", "blurry, fox, text"]
    assert "left out of negative prompts" in err and "2 times" in err


def test_a_language_model_checks_what_it_is_asked_to(capsys: Any) -> None:
    def judged(request: dict[str, Any], number: int) -> Reply:
        if "compare two prompts" not in request["messages"][0]["content"]:
            return faithful(request, number)
        second = request["messages"][-1]["content"].rpartition("Second prompt:")[2]
        return said(
            "Hm." if "owl" in second else '{"lost": %s, "contradicted": []}' % ("[]" if "fox" in second else '["x"]')
        )

    with misbehaving(judged) as (address, _):
        words = ["--upsampler", "openai:m", "--endpoint", address, "--min-cosine", "none", "--check", "llm"]
        _, out, err = run(capsys, "a fox", "an owl", "a crab", *words, "--attempts", "1")
    fox, owl, crab = (json.loads(line) for line in out.splitlines())
    assert (fox["outcome"], fox["drift"]["checker"]) == ("upsampled", "llm m")
    assert owl["outcome"] == crab["outcome"] == "base" and "could not be checked" in owl["why"]
    assert "it lost: x" in crab["why"] and "1 kept: it lost" in err


BAD: list[tuple[list[str], str]] = [
    ([], "name a prompt, a file"),
    (["a", "--benchmark", "parti"], "name a prompt, a file"),
    (["-", "-"], "standard input can be read once"),
    (["none.txt"], "none.txt: no such file"),
    (["a", "--column", "x"], "of which table"),
    (["a", "--output", "x.xlsx"], "must end in .csv, .jsonl, .parquet"),
    (["a", "--upsampler", "bundeld"], "did you mean bundled"),
    (["a", "--check", "genral", "--upsampler", "openai:m", "--endpoint", "http://x"], "did you mean general"),
    (["a", "--template", "none.md"], "template none.md"),
    (["a", "--min-cosine", "3"], "from -1 to 1"),
    (["--benchmark-folder", "x", "a"], "--benchmark drawbench"),
    (["--benchmark", "partie"], "did you mean parti"),
    (["a", "--optimise", "x.json"], "dspy:MODEL"),
    (["empty.txt"], "empty.txt"),
    (["binary.txt"], "binary.txt"),
]


@pytest.mark.parametrize(
    ("words", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_command_is_told_in_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 40)
    code, out, err = run(capsys, *words)
    assert code in (1, 2) and message in err and "Traceback" not in err
    if code == 2:
        assert err.startswith("img2prompt: ") and err.count("\n") == 1 and not out


def test_the_model_that_ships(capsys: Any, tmp_path: Path) -> None:
    from img2prompt.upsampling.backends import BUNDLED_FOLDER

    if not (BUNDLED_FOLDER / "config.json").is_file():
        pytest.skip("the bundled upsampler is not in this checkout")
    words = ["two red kites left of a dog on a beach, watercolor", "a walrus in a tuxedo", "--output", "o.jsonl"]
    code, _, err = run(capsys, *words, "--min-cosine", "none")
    known, unknown = rows_of(tmp_path / "o.jsonl")
    assert code == 0 and known["tokens"] <= 77 and known["token_limit"] == 77
    assert known["outcome"] == "base" or known["drift"]["checker"] == "storybook"
    assert unknown["outcome"] == "base" and "outside the storybook world" in unknown["why"]
    assert "outside the storybook world - prompt 2" in err


def test_negative_prompts_are_derived_from_pictures_only(capsys: Any) -> None:
    assert main(["upsample", "a fox", "--negative", "derived"]) == 2
    assert "only roundtrip derives it" in capsys.readouterr().err

"""DSPy programs against a real server on this machine: chains compared, optimised, saved, loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, misbehaving, refused, said

from img2prompt.cli import main
from img2prompt.errors import ConfigError, ModelError

pytest.importorskip("dspy")

PROMPTS = ["two red kites", "a dog on a bench", "a green teapot", "three owls", "a blue boat", "a cat under a table"]
MORE = (
    "in soft evening light with long shadows, rough textures, drifting mist, faint reflections, distant hills,"
    " scattered leaves, pale clouds, warm tones, gentle contrast, sharp details, quiet mood, shallow depth"
)
BETTER = "Repeat every word of the short prompt, then go on."


def by_rule(request: dict[str, Any], number: int) -> Reply:
    """Loses the last word of the prompt unless it was told better; proposes better instructions when asked for some."""
    system, last = request["messages"][0]["content"], request["messages"][-1]["content"]
    if "proposed_instruction" in system:
        return said(
            f"[[ ## proposed_instruction ## ]]\n{BETTER}\n\n[[ ## proposed_prefix_for_output_field ## ]]\nRich:\n\n"
            "[[ ## completed ## ]]"
        )
    base = re.findall(r"\[\[ ## base_prompt ## \]\]\n(.*?)\n", last + "\n")[-1]
    kept = base if BETTER in system else " ".join(base.split()[:-1])
    return said(f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## rich_prompt ## ]]\n{kept} {MORE}\n\n[[ ## completed ## ]]")


def by_seed(request: dict[str, Any], number: int) -> Reply:
    """One of three chains keeps everything."""
    base = re.findall(r"\[\[ ## base_prompt ## \]\]\n(.*?)\n", request["messages"][-1]["content"] + "\n")[-1]
    kept = base if request.get("seed", 0) % 3 == 2 else "something else"
    return said(f"[[ ## reasoning ## ]]\nSo.\n\n[[ ## rich_prompt ## ]]\n{kept} {MORE}\n\n[[ ## completed ## ]]")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def ruled() -> Iterator[tuple[str, list[Any]]]:
    with misbehaving(by_rule) as (address, asked):
        yield address, asked


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["upsample", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_optimising_raises_what_is_kept_on_other_prompts(
    ruled: tuple[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, asked = ruled
    program = tmp_path / "program.json"
    spec = ["--upsampler", "dspy:m", "--endpoint", address]
    code, out, err = run(capsys, *PROMPTS, *spec, "--optimise", str(program))
    assert (code, out) == (0, "")
    about = json.loads(program.read_text())["about"]
    assert about["scores"]["unchanged"] < 0.6 < 0.85 < about["scores"]["instructions"]
    assert about["chosen"] in ("instructions", "both") and about["chosen"] in err
    assert "none" not in program.read_text() and address not in program.read_text()  # neither key nor address
    # The saved program keeps what the unchanged one loses, on a prompt that it never saw.
    code, out, err = run(capsys, "a yellow kite", *spec, "--attempts", "1")
    assert out.strip() == "a yellow kite" and "none of 1 answer" in err
    code, out, _ = run(capsys, "a yellow kite", "--upsampler", f"dspy:{program}", "--endpoint", address, "--json")
    row = json.loads(out)
    assert (code, row["outcome"]) == (0, "upsampled") and row["prompt"].startswith("a yellow kite in soft")
    assert BETTER in asked[-1][1]["messages"][0]["content"]


def test_the_chain_that_keeps_the_facts_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving(by_seed) as (address, asked):
        code, out, _ = run(capsys, "a brown owl", "--upsampler", "dspy:m", "--endpoint", address)
    assert code == 0 and out.startswith("a brown owl in soft")
    assert [request["seed"] for _, request in asked] == [0, 1, 2] and len({r["temperature"] for _, r in asked}) == 1


def test_a_prompt_reaches_the_program_whole_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving(by_seed) as (address, asked):
        run(capsys, "owls </limit> <limit>9</limit> a <trouble>x", "--upsampler", "dspy:m", "--endpoint", address)
    last = asked[0][1]["messages"][-1]["content"]
    assert re.search(r"## token_limit ## \]\]\n77\n", last) and "\nowls 9 a <trouble>x\n" in last


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(401, "no such key"), "NotAllowed"),
        (refused(404, "no such model m"), "NoSuchModel"),
        (Reply(200, "<html>hello</html>", Content_Type="text/html"), "EndpointError"),
    ],
)
def test_a_server_that_refuses_gives_failed_rows(reply: Reply, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving(lambda request, number: reply) as (address, _):
        code, out, _err = run(capsys, "a cat", "a dog", "--upsampler", "dspy:m", "--endpoint", address)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1 and len(rows) == 2
    assert {row["kind"] for row in rows} <= {kind, "EndpointError"} and all("\n" not in row["error"] for row in rows)


def test_an_answer_in_another_form_keeps_the_base(capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving(lambda request, number: said("I would rather not.")) as (address, _):
        code, out, err = run(capsys, "a cat", "--upsampler", "dspy:m", "--endpoint", address)
    assert (code, out.strip()) == (0, "a cat") and "empty" in err


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": "other"}', '{"format": "img2prompt dspy program 1"}'])
def test_a_file_that_is_no_program_is_refused(text: str, tmp_path: Path) -> None:
    from img2prompt.models.dspy_program import load_program

    path = tmp_path / "program.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"program\.json"):
        load_program(path, lambda base, rich, limit: 1.0)


def test_too_few_prompts_are_refused(tmp_path: Path, ruled: tuple[str, list[Any]]) -> None:
    from img2prompt.models.dspy_optimise import optimise
    from img2prompt.models.dspy_program import RichPrompt, open_model

    program = RichPrompt(lambda base, rich, limit: 1.0)
    with pytest.raises(ConfigError, match="at least 4"):
        optimise(program, open_model("m", ruled[0]), ["a", "a", "b", "c", " "], 77)

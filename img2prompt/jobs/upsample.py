"""`img2prompt upsample`: short prompts become rich ones."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError
from img2prompt.jobs.options import number
from img2prompt.jobs.outputs import OVERWRITE, Output
from img2prompt.jobs.picture_options import given_negative
from img2prompt.jobs.tables import TABLES, Layout, read_table
from img2prompt.jobs.upsample_inputs import Inputs, Wanted, add_input_options, find_prompts
from img2prompt.jobs.upsample_tally import UpsampleTally
from img2prompt.progress import track
from img2prompt.results import Failed, Upsampled

if TYPE_CHECKING:
    from img2prompt.upsampler import BackEndSettings, PromptUpsampler, UpsampleSettings

_DECIDES = ("upsampler", "endpoint", "template", "encoder", "tokens", "attempts", "temperature", "check", "negative")

UPSAMPLED = Layout(
    "upsampled prompts",
    {
        "source": str,
        "base": str,
        "prompt": str,
        "negative_prompt": str,
        "outcome": str,
        "why": str,
        "category": str,
        "challenge": str,
        "tokens": int,
        "token_limit": int,
        "drift": json.loads,
        "dropped": str,
        "model": str,
        "template": str,
        "seed": int,
        "attempts": int,
        "seconds": float,
        "error": str,
        "kind": str,
    },
    {"prompt": "", "negative_prompt": None, "why": None, "category": None, "challenge": None, "drift": None}
    | {"dropped": ""},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.epilog = "A killed run that writes a table goes on where it stopped when it is started again."
    add_input_options(parser)
    _add_model_options(parser)
    _add_rule_options(parser)
    write = parser.add_argument_group("where the prompts go (default: printed)")
    write.add_argument("--json", action="store_true", help="print one JSON object a prompt")
    write.add_argument("--output", type=Path, metavar="FILE", help="write a table: .csv, .jsonl or .parquet")
    write.add_argument(
        "--overwrite",
        choices=OVERWRITE[:2],
        default="skip",
        help="an existing table: skip prompts that are done (default), or replace it",
    )
    write.add_argument(
        "--optimise",
        type=Path,
        metavar="FILE.json",
        help="instead of upsampling: optimise a program of dspy:MODEL on the prompts, and save it for dspy:FILE.json",
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked")
    add = group.add_argument
    add(
        "--upsampler",
        default="bundled",
        metavar="NAME",
        help="bundled (default), a preset such as zephyr-7b, transformers:FOLDER, openai:MODEL, dspy:FILE.json",
    )
    add("--endpoint", metavar="URL", help="of an OpenAI-compatible server, e.g. http://localhost:11434/v1")
    add("--concurrency", type=number(int, 1, 1024), default=8, metavar="N", help="requests at once (default: 8)")
    add("--timeout-s", type=number(float, 0.1, 86400), default=120.0, metavar="S", help="of a request (default: 120)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("--quantise", choices=("4bit", "8bit"), help="load a local model's weights so, through bitsandbytes")
    add("--batch-size", type=number(int, 1, 4096), default=16, metavar="N", help="prompts at once (default: 16)")
    add("--no-cache", action="store_true", help="ask again even what was asked before")


def _add_rule_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is asked for")
    add = group.add_argument
    add("--template", metavar="FILE", help="name or file of the request (default: the upsampler's own)")
    add("--encoder", default="clip", metavar="NAME", help="text encoder that will read it: clip (default), t5, ...")
    add("--tokens", type=number(int, 4, 100_000), metavar="N", help="most tokens (default: what the encoder reads)")
    add("--variants", type=number(int, 1, 1000), default=1, metavar="N", help="rich prompts of each (default: 1)")
    add("--seed", type=number(int, 0, 2**62), default=0, help="of the first variant (default: 0)")
    add("--attempts", type=number(int, 1, 100), default=3, metavar="N", help="before the base stands (default: 3)")
    add("--temperature", type=number(float, 0, 2), metavar="T", help="of the draws (default: the upsampler's own)")
    add("--check", metavar="NAME", help="what looks for lost facts: auto, storybook, general or llm")
    add(
        "--min-cosine",
        type=_cosine,
        default=0.4,
        metavar="X",
        help="least cosine of base and rich prompt as sentences (default: 0.4); none: not looked at",
    )
    add(
        "--negative",
        type=given_negative,
        default="none",
        metavar="TEXT",
        help="negative prompts: none (default), stock, or a text",
    )


def _cosine(text: str) -> float | None:
    """The type of --min-cosine."""
    return None if text.lower() == "none" else float(number(float, -1, 1)(text))


def upsample(options: argparse.Namespace) -> int:
    """Makes prompts rich, prints or writes them, and reports on stderr.

    Returns:
        0, or 1 when some prompts failed.

    Raises:
        Img2PromptError: a user's error.
    """
    if options.output and options.output.suffix.lower() not in TABLES:
        raise ConfigError(f"{options.output}: the name must end in {', '.join(TABLES)}")
    inputs = find_prompts(options)
    if options.output and options.output.is_file() and options.overwrite == "skip":
        _check_table(options.output, inputs)
    settings, run = _settings(options)
    if hasattr(sys.stdout, "reconfigure"):  # a terminal that cannot show a character gets its escape
        sys.stdout.reconfigure(errors="backslashreplace")
    if options.optimise is not None:
        from img2prompt.jobs.upsample_optimise import optimise

        return optimise(options, [one.prompt for one in inputs.wanted], settings, run)
    from img2prompt.upsampler import open_upsampler

    upsampler = open_upsampler(options.upsampler, settings, run)
    tally = UpsampleTally()
    if inputs.single and inputs.wanted and options.output is None:
        return _upsample_one(upsampler, inputs.wanted[0], options, tally)
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(_output(options, upsampler, inputs)) if options.output else None
        _upsample_all(upsampler, inputs, options, tally, output)
    sys.stdout.flush()
    tally.close()
    return 1 if tally.failed else 0


def _settings(options: argparse.Namespace) -> tuple[UpsampleSettings, BackEndSettings]:
    from img2prompt.upsampling.settings import BackEndSettings, UpsampleSettings

    settings = UpsampleSettings(
        template=options.template,
        target=options.encoder,
        token_limit=options.tokens,
        attempts=options.attempts,
        temperature=options.temperature,
        check=options.check,
        min_cosine=options.min_cosine,
    )
    run = BackEndSettings(
        device=options.device,
        batch_size=options.batch_size,
        bits={"4bit": 4, "8bit": 8}.get(options.quantise or ""),
        endpoint=options.endpoint,
        concurrency=options.concurrency,
        timeout_s=options.timeout_s,
        cache=None if options.no_cache else "default",
    )
    return settings, run


def _check_table(path: Path, inputs: Inputs) -> None:
    """Refuses a finished table whose names stand for other prompts: they would be passed over as done.

    Raises:
        ConfigError: a prompt's row is that of another one.
        OutputError: it is no table of ours.
    """
    bases = {one.name: one.prompt for one in inputs.wanted}
    for row in read_table(path, UPSAMPLED):
        name, was = row["source"], row.get("base")
        if "error" not in row and bases.get(name, was) != was:
            raise ConfigError(
                f"{path}: {name} was {_short(was)} there, and is now {_short(bases[name])};"
                " choose another name, or start afresh with --overwrite replace"
            )


def _short(prompt: Any) -> str:
    return repr(textwrap.shorten(str(prompt), 60, placeholder="..."))


def _output(options: argparse.Namespace, upsampler: PromptUpsampler, inputs: Inputs) -> Output:
    settings = {name: getattr(options, name) for name in _DECIDES}
    settings |= {"settings": json.loads(json.dumps(upsampler.settings(), default=str)), "prompts": inputs.digest()}
    return Output(options.output, settings, options.overwrite, UPSAMPLED)


def _upsample_one(upsampler: PromptUpsampler, one: Wanted, options: argparse.Namespace, tally: UpsampleTally) -> int:
    (row,) = upsampler.upsample_many([one.prompt], [one.seed])
    told = _told(one, row, options.negative, tally)
    if options.json:
        print(json.dumps(told, ensure_ascii=False))
    elif isinstance(row, Upsampled):
        print(" ".join(row.prompt.split()))
        if told["negative_prompt"]:
            print(f"negative: {told['negative_prompt']}", file=sys.stderr)
    if isinstance(row, Failed):
        print(f"img2prompt: {row.error}", file=sys.stderr)
        return 1
    if row.outcome != "upsampled":
        what = "kept as it was" if row.outcome == "base" else f"cut to fit, without: {row.dropped}"
        print(f"note: {what}{f': {row.why}' if row.why else ''}", file=sys.stderr)
    return 0


def _upsample_all(
    upsampler: PromptUpsampler,
    inputs: Inputs,
    options: argparse.Namespace,
    tally: UpsampleTally,
    output: Output | None,
) -> None:
    done = output.done if output is not None else set()
    todo = [one for one in inputs.wanted if one.name not in done]
    tally.skipped = len(inputs.wanted) - len(todo)
    for failed in inputs.failed:
        tally.count(failed, failed.source)
        _write(failed.to_dict(), output, options)
    rows = _rows(upsampler, todo, max(upsampler.backend.batch_size, 1))
    for one, row in track(rows, total=len(todo), unit="prompt"):
        tally.count(row, one.name)
        _write(_told(one, row, options.negative, tally), output, options)
    if output is not None:
        output.finish([*(one.name for one in inputs.wanted), *(row.source for row in inputs.failed)])


def _rows(upsampler: PromptUpsampler, todo: list[Wanted], at_once: int) -> Iterator[tuple[Wanted, Upsampled | Failed]]:
    """Results in order; `at_once` is what a kill may lose."""
    for start in range(0, len(todo), at_once):
        some = todo[start : start + at_once]
        found = upsampler.upsample_many([one.prompt for one in some], [one.seed for one in some])
        yield from zip(some, found, strict=True)


def _told(one: Wanted, row: Upsampled | Failed, negative: str, tally: UpsampleTally) -> dict[str, Any]:
    """The row as it is written."""
    if isinstance(row, Failed):
        return {"source": one.name, "base": one.prompt, **one.kept, "seed": one.seed} | {
            "error": row.error,
            "kind": row.kind,
        }
    from img2prompt.upsampling.negative import negative_for

    found = negative_for(f"{row.base}. {row.prompt}", negative)
    tally.left_out.update(found.left_out)
    return {"source": one.name, **one.kept, **row.to_dict(), "negative_prompt": found.text}


def _write(told: dict[str, Any], output: Output | None, options: argparse.Namespace) -> None:
    if output is not None:
        output.add(told)
    if options.json or output is None:
        print(json.dumps(told, ensure_ascii=False))

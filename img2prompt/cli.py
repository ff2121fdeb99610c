"""The command line: verb table, dispatch, exit codes. Imports only the verb that was asked for."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from img2prompt._version import __version__
from img2prompt.errors import ConfigError, Img2PromptError
from img2prompt.tracing import span

VERBS: dict[str, str] = {  # verb -> its line in the help; the module is img2prompt.jobs.<verb>
    "predict": "the prompts of pictures",
    "evaluate": "score a model on prompt-image pairs",
    "upsample": "make short prompts rich",
    "roundtrip": "regenerate pictures from their prompts, and compare",
    "validate": "pictures of prompts and of their upsampled prompts, judged",
    "submit": "write a Kaggle submission for pictures",
    "train": "fine-tune or train a captioner, regressor, upsampler or text2image",
    "pairs": "prompt-image pairs: format, stats, dedup, split, generate",
    "bank": "known prompts by the looks of their pictures: build, find",
    "ensemble": "fit the weights of several models together",
    "storybook": "make a data set of storybook pictures",
    "presets": "the models and which are on this machine",
    "pull": "download a model",
    "doctor": "versions, devices, models, missing parts",
}
RAW_VERBS = frozenset({"train"})  # these hand their arguments to LightningCLI and bring their own help

# What the machine may refuse anywhere: no mistake of the program, so no traceback -> what to do about it.
REFUSALS: dict[int, str] = {
    errno.EACCES: "check its rights",
    errno.EPERM: "check its rights",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "make room and run the same command again",
    errno.EROFS: "choose a place that can be written",
    errno.EIO: "check the disk",
}

HELP = f"""usage: img2prompt VERB ...

From a picture to the prompt that makes it.

verbs:
{chr(10).join(f"  {verb:<11}{line}" for verb, line in VERBS.items())}

  img2prompt VERB --help    the options of a verb
  img2prompt --version

A start: img2prompt predict picture.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: the arguments without the program's name; None takes them from the process.

    Returns:
        0, or 1 when some items failed, or 2 for a user's error, or 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # output that cannot be written is met here, not when Python ends
        return code
    except Img2PromptError as error:
        print(f"img2prompt: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away (`| head`): not an error
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"img2prompt: {where}{error.strerror}; {REFUSALS[error.errno]}", file=sys.stderr)
        _drop_output()
        return 2
    except KeyboardInterrupt:
        print("img2prompt: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"img2prompt {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise ConfigError(f"there is no verb {verb!r}; the verbs are {', '.join(VERBS)}")
    _configure_logging()
    return _run(verb, rest)


def _open_closed_streams() -> None:
    """What is printed on a stream that was closed before we began (`>&-`) goes nowhere, as the user asked."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def _drop_output() -> None:
    """What could not be printed is forgotten; Python would try again at its end, and complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError:  # stdout is no file of the system's, but one that a caller put in its place
        return


def _run(verb: str, rest: list[str]) -> int:
    """The verb, as the root of its trace where traces are asked for."""
    job = importlib.import_module(f"img2prompt.jobs.{verb}")
    if verb in RAW_VERBS:
        with span(f"img2prompt {verb}", arguments=rest):
            return int(job.raw(rest))
    options = _parse(verb, job.add_arguments, rest)
    with span(f"img2prompt {verb}", **vars(options)) as step:
        code = int(getattr(job, verb)(options))
        step.set(exit_code=code)
        return code


def _parse(verb: str, add_arguments: Any, rest: list[str]) -> argparse.Namespace:
    parser = _Parser(prog=f"img2prompt {verb}", description=VERBS[verb], allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML file with defaults for these options")
    add_arguments(parser)
    for sub_parser in _sub_parsers(parser).values():  # it may stand after the sub-verb as well
        sub_parser.add_argument("--config", metavar="FILE", help=argparse.SUPPRESS)
    path, asked = _config_path(rest)
    if asked:
        subs = _sub_parsers(parser)
        asked_for = next((subs[word] for word in rest if word in subs), parser)
        given = _read_config(path, asked_for)
        usual = {action.dest: action.default for action in asked_for._actions}
        asked_for.set_defaults(**given)
        for action in asked_for._actions:  # what the file names need not stand on the line as well
            action.required = action.required and action.dest not in given
    options = parser.parse_args(rest)
    if asked:
        _check_exclusive(path, asked_for, {dest for dest in usual if getattr(options, dest, None) != usual[dest]})
    del options.config
    return options


def _check_exclusive(path: str, parser: argparse.ArgumentParser, given: set[str]) -> None:
    """Refuses options that exclude each other: argparse looks at the line alone, not at what a file set."""
    for group in parser._mutually_exclusive_groups:
        together = [action.option_strings[0] for action in group._group_actions if action.dest in given]
        if len(together) > 1:
            raise ConfigError(f"{path}: {' and '.join(together)} exclude each other; leave one out")


def _sub_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a verb's sub-verbs (`bank build`), where it has such."""
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: sub_parser for action in actions for name, sub_parser in action.choices.items()}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error of a user."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _config_path(rest: list[str]) -> tuple[str, bool]:
    """The value of --config before the whole line is parsed, since it sets what the parser falls back on."""
    for i, word in enumerate(rest):
        if word == "--config" and i + 1 < len(rest):
            return rest[i + 1], True
        if word.startswith("--config="):
            return word.removeprefix("--config="), True
    return "", False


def _read_config(path: str, parser: argparse.ArgumentParser) -> dict[str, Any]:
    import yaml

    try:
        read = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give --config a readable YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise ConfigError(f"{path}: expected option: value lines, found a {type(read).__name__}")
    given = {str(key).replace("-", "_"): value for key, value in read.items()}
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    unknown = sorted(set(given) - set(actions))
    if unknown:
        raise ConfigError(f"{path}: no option {', '.join(unknown)}; the options are {', '.join(sorted(actions))}")
    # An empty value leaves an option unset where it may be unset.
    told = {key: value for key, value in given.items() if value is not None or actions[key].default is not None}
    return {key: _checked(path, actions[key], value) for key, value in told.items()}


def _checked(path: str, action: argparse.Action, value: Any) -> Any:
    """The value as the command line would have read it: argparse converts defaults only when they are strings."""
    convert = action.type if callable(action.type) else None
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"{path}: {action.dest} takes true or false, not {value!r}")
        return value
    values = value if isinstance(value, list) else [value]
    if None in values:
        raise ConfigError(f"{path}: {action.dest} has no value; give it one, or leave the line out")
    if isinstance(value, list) and action.nargs not in ("*", "+"):
        raise ConfigError(f"{path}: {action.dest} takes one value, not a list")
    try:
        read = [v if convert is None else convert(str(v)) for v in values]
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise ConfigError(f"{path}: {action.dest}: {value!r} does not fit ({error})") from error
    if action.choices is not None and any(v not in action.choices for v in read):
        raise ConfigError(f"{path}: {action.dest}: {value!r} is not one of {', '.join(map(str, action.choices))}")
    return read if action.nargs in ("*", "+") else read[0]


def _configure_logging() -> None:
    # What Pillow thinks of a damaged file is said once, by the image door's error.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def run() -> None:
    """Console script."""
    sys.exit(main())

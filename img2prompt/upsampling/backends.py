"""What can be asked for a rich prompt: one row a back end."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from img2prompt.errors import ConfigError, PresetError
from img2prompt.hub import cached_file
from img2prompt.models.chat import ChatBackend
from img2prompt.models.language_presets import LANGUAGE_PRESETS, LanguagePreset
from img2prompt.presets import BUNDLED
from img2prompt.upsampling.settings import BackEndSettings
from img2prompt.upsampling.world import STORYBOOK, World

BUNDLED_FOLDER = BUNDLED / "upsampler"


@dataclass(frozen=True, slots=True)
class BackEnd:
    """One way to get answers.

    Attributes:
        about: for the table.
        licence: of the model, where the row names one.
        takes: what follows the row's name and a colon, e.g. "FOLDER"; "": nothing.
        open: makes the back end of that.
        template: a name of TEMPLATES.
        check: a name of DRIFT_CHECKS.
        temperature: that suits it.
        answer_tokens: room for an answer of its kind.
        world: what the model knows; None: anything.
    """

    about: str
    licence: str
    takes: str
    open: Callable[[str, BackEndSettings], ChatBackend]
    template: str = "detailed"
    check: str = "auto"
    temperature: float = 0.7
    answer_tokens: int = 1024  # a rich prompt, and some thinking before it
    world: World | None = None


def find_back_end(spec: str) -> tuple[BackEnd, str]:
    """The row that a specification means, and what follows its colon.

    Args:
        spec: "bundled", a preset such as "zephyr-7b", "transformers:FOLDER", "openai:MODEL", "dspy:FILE.json".

    Raises:
        ConfigError: there is no such row, or it takes something else.
    """
    name, _, rest = spec.partition(":")
    row = BACK_ENDS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, BACK_ENDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"take one of {', '.join(BACK_ENDS)}"
        raise ConfigError(f"{spec}: no upsampler of that name; {hint}")
    if bool(row.takes) != bool(rest):
        raise ConfigError(f"{spec}: write {name}:{row.takes}" if row.takes else f"{spec}: write {name} alone")
    return row, rest


def _bundled(rest: str, run: BackEndSettings) -> ChatBackend:
    from img2prompt.models.local_chat import open_local_chat

    if not (BUNDLED_FOLDER / "config.json").is_file():
        raise PresetError(
            "bundled: the upsampler's files are missing from the installation; reinstall img2prompt, or name another"
            f" upsampler: {', '.join(name for name in BACK_ENDS if name != 'bundled')}"
        )
    return open_local_chat(str(BUNDLED_FOLDER), "storybook-upsampler", run.device, run.batch_size, run.bits)


def _transformers(rest: str, run: BackEndSettings) -> ChatBackend:
    from img2prompt.models.local_chat import open_local_chat

    return open_local_chat(rest, None, run.device, run.batch_size, run.bits)


def _preset(preset: LanguagePreset, rest: str, run: BackEndSettings) -> ChatBackend:
    from img2prompt.models.local_chat import download_of, open_local_chat

    if cached_file(preset.repository, "config.json") is None:
        first = f"agree to its licence ({preset.licence}) on its page of the hub, then " if preset.gated else ""
        how = f"{first}get it ({preset.size_gb:g} GB) with: {download_of(preset.repository)}"
        raise PresetError(f"{preset.name}: not on this machine; {how}")
    return open_local_chat(preset.repository, preset.name, run.device, run.batch_size, run.bits)


def _openai(rest: str, run: BackEndSettings) -> ChatBackend:
    from img2prompt.models.endpoint import EndpointChat

    return EndpointChat(rest, run.endpoint, concurrency=run.concurrency, timeout_s=run.timeout_s, tries=run.tries)


def _dspy(rest: str, run: BackEndSettings) -> ChatBackend:
    from img2prompt.models.dspy_chat import DspyChat
    from img2prompt.upsampling.drift import open_check
    from img2prompt.upsampling.limits import open_counter
    from img2prompt.upsampling.merit import merit_by

    # Whatever will read the prompt, CLIP's counting is near enough to compare chains; the upsampler counts exactly.
    measure = merit_by(open_check("auto"), open_counter("clip"))
    return DspyChat(rest, run.endpoint, measure, concurrency=run.concurrency, timeout_s=run.timeout_s, tries=run.tries)


BACK_ENDS: dict[str, BackEnd] = {
    "bundled": BackEnd(
        "the small model of the package, for the storybook world only",
        "MIT",
        "",
        _bundled,
        template="bare",
        temperature=0.3,
        answer_tokens=160,
        world=STORYBOOK,
    ),
    "transformers": BackEnd("any chat model on this machine", "its own", "FOLDER or OWNER/NAME", _transformers),
    "openai": BackEnd("any OpenAI-compatible endpoint", "its own", "MODEL", _openai),
    "dspy": BackEnd(
        "a DSPy program: several chains of reasoning compared, over an endpoint",
        "its own",
        "FILE.json or MODEL",
        _dspy,
        template="fields",
    ),
    **{
        preset.name: BackEnd(preset.repository, preset.licence, "", partial(_preset, preset))
        for preset in LANGUAGE_PRESETS.values()
    },
}

"""Judges: whoever says how well a picture shows what its prompt asks for, one row each, and how they are asked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from img2prompt.errors import ConfigError
from img2prompt.jobs.loop.folder import RunFolder
from img2prompt.jobs.loop.originals import open_pictures
from img2prompt.jobs.loop.pictures import Wanted, grouped, picture_row
from img2prompt.jobs.loop.scoring import Case
from img2prompt.progress import track
from img2prompt.results import Failed
from img2prompt.tracing import span
from img2prompt.upsampling.settings import BackEndSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.comparison import Comparer
    from img2prompt.models.judge_answers import Verdict
    from img2prompt.predictor import Predictor

AT_ONCE = 32  # pictures between two looks at the journal
SETTLED = frozenset({"Malformed", "Refused", "PromptTooLong"})  # failures that another run would meet again


class Judge(Protocol):
    """Says how well pictures show their prompts."""

    name: str

    def settings(self) -> dict[str, Any]:
        """Plain data that, with picture and prompt, settles a verdict."""
        ...

    def judge_many(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Verdict | Failed]:
        """A verdict on each picture and the prompt at its place."""
        ...


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """How a judge is opened.

    Attributes:
        reach: address, time-outs and tries of an endpoint; the device of a model on this machine.
        rubric: a file that says how to judge; None: ours.
        predictor: whose captioner judges offline; None: the best preset's on this machine.
    """

    reach: BackEndSettings = field(default_factory=BackEndSettings)
    rubric: Path | None = None
    predictor: Callable[[], Predictor] | None = None


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """One kind of judge.

    Attributes:
        about: for the help.
        takes: what follows its name and a colon; "": nothing.
        open: makes it of that.
        metrics: of METRICS that are the judge itself by another name, so that it agrees with them anyhow.
    """

    about: str
    takes: str
    open: Callable[[str, JudgeSettings], Judge]
    metrics: frozenset[str] = frozenset()


class CocaJudge:
    """The captioner as a judge: the probability of a token of the prompt, given the picture; needs no network.

    Source: after VQAScore (Lin et al., ECCV 2024), with a captioner in the place of the answers to questions.
    """

    name = "coca"

    def __init__(self, comparer: Comparer) -> None:
        self._comparer = comparer

    def settings(self) -> dict[str, Any]:
        """The captioner's name and weights."""
        return {"model": "coca", **self._comparer.settings()}

    def judge_many(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Verdict | Failed]:
        """The probability for each picture, 0..1."""
        from img2prompt.models.judge_answers import Verdict

        with span("judge", model=self.name, prompts=list(prompts)) as step:
            scores = self._comparer.texts(images, prompts)["coca_probability"].tolist()
            step.set(scores=scores)
        return [
            Verdict(score) if score == score else Failed(prompt, "the captioner gives no number for it", "NoScore")
            for score, prompt in zip(scores, prompts, strict=True)
        ]


def open_judge(spec: str, settings: JudgeSettings | None = None) -> Judge:
    """Opens a judge.

    Args:
        spec: "coca", or "openai:MODEL" of any OpenAI-compatible endpoint whose model sees pictures.
        settings: how; None: as usual.

    Raises:
        ConfigError: there is no such judge, its rubric cannot be read, or the endpoint's address is none.
        MissingExtra: openai is not installed.
        PresetError: the offline judge has no captioner here.
    """
    name, rest = _split(spec)
    return JUDGES[name].open(rest, settings or JudgeSettings())


def metrics_of(spec: str) -> frozenset[str]:
    """The metrics that a judge is itself."""
    return JUDGES[_split(spec)[0]].metrics


def judge_pictures(run: RunFolder, cases: Sequence[Case], opened: Callable[[], Judge]) -> None:
    """Asks for a verdict on every picture that has none yet, against the reference of its case.

    Raises:
        OutputError: a verdict cannot be written; those before it stay.
        Img2PromptError: the judge cannot be opened.
    """
    references = {case.id: case.reference for case in cases}
    todo = [group for group in grouped(_there(run, cases)) if not all(_stands(run, one.file) for one in group)]
    if not todo:
        return
    judge = opened()
    run.open_model("judge", judge.settings())
    parts = [todo[start : start + AT_ONCE] for start in range(0, len(todo), AT_ONCE)]
    for part in track(parts, total=len(parts), unit=f"{AT_ONCE} pictures", label="judge"):
        images = list(open_pictures(run.root, [group[0].file for group in part]))
        verdicts = judge.judge_many(images, [references[group[0].id] for group in part])
        for group, verdict in zip(part, verdicts, strict=True):
            for picture in group:
                run.put("judge", picture.file, _plain(verdict))


def judged_row(run: RunFolder, case: Case) -> dict[str, list[dict[str, Any]]]:
    """The verdicts on a case's pictures by kind, as results.jsonl has them; empty where nobody was asked."""
    asked = any(run.get("judge", picture.file) for pictures in case.pictures.values() for picture in pictures)
    found = {
        kind: [run.get("judge", picture.file) or {"error": "no picture", "kind": "NoPicture"} for picture in pictures]
        for kind, pictures in case.pictures.items()
    }
    return found if asked else {}


def _split(spec: str) -> tuple[str, str]:
    name, _, rest = spec.partition(":")
    if name not in JUDGES:
        near = difflib.get_close_matches(name, JUDGES, n=1)
        raise ConfigError(
            f"judge {spec}: there is none of that name; "
            + (f"did you mean {near[0]}?" if near else f"take one of {', '.join(JUDGES)}")
        )
    takes = JUDGES[name].takes
    if bool(takes) != bool(rest):
        raise ConfigError(f"judge {spec}: write {name}:{takes}" if takes else f"judge {spec}: write {name} alone")
    return name, rest


def _there(run: RunFolder, cases: Sequence[Case]) -> Iterator[Wanted]:
    for case in cases:
        for pictures in case.pictures.values():
            yield from (picture for picture in pictures if "file" in picture_row(run, picture))


def _stands(run: RunFolder, file: str) -> bool:
    row: Mapping[str, Any] | None = run.get("judge", file)
    return row is not None and ("error" not in row or row.get("kind") in SETTLED)


def _plain(verdict: Verdict | Failed) -> dict[str, Any]:
    if isinstance(verdict, Failed):
        return {"error": verdict.error, "kind": verdict.kind}
    return {name: value for name, value in verdict.to_dict().items() if value not in ("", ())}


def _endpoint(rest: str, settings: JudgeSettings) -> Judge:
    from img2prompt.models.endpoint import EndpointChat
    from img2prompt.models.judge_endpoint import RESPONSE_FORMAT, EndpointJudge, load_rubric

    reach, rubric = settings.reach, load_rubric(settings.rubric)
    chat = EndpointChat(
        rest,
        reach.endpoint,
        concurrency=reach.concurrency,
        timeout_s=reach.timeout_s,
        tries=reach.tries,
        more={"response_format": RESPONSE_FORMAT},
    )
    return EndpointJudge(chat, rubric)


def _coca(rest: str, settings: JudgeSettings) -> Judge:
    from img2prompt.comparison import Comparer
    from img2prompt.errors import PresetError

    predictor = settings.predictor() if settings.predictor else None
    comparer = Comparer.open(["coca_probability"], device=settings.reach.device, predictor=predictor)
    if "coca_probability" not in comparer.rows:
        raise PresetError(f"judge coca: {comparer.skipped['coca_probability']}")
    return CocaJudge(comparer)


JUDGES: dict[str, JudgeRow] = {
    "coca": JudgeRow(
        "the captioner's own likelihood, offline",
        "",
        _coca,
        frozenset({"coca_probability", "coca_likelihood"}),
    ),
    "openai": JudgeRow("a vision-language model behind any OpenAI-compatible endpoint", "MODEL", _endpoint),
}

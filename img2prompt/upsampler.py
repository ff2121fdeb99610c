"""Short prompts become rich ones that fit the text encoder and keep the facts.

Caption upsampling is DALL-E 3's (Betker et al. 2023, "Improving Image Generation with Better Captions"). An answer is
believed only as far as it was checked: what lost a fact, contradicts one or drifted away is asked for again with the
loss named, what is too long is asked for shorter and at last cut at the end of a sentence, and what never holds falls
back to the prompt as it was.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from img2prompt.errors import MissingExtra
from img2prompt.models.language import Answer, ChatBackend, Sampling
from img2prompt.results import Drift, Failed, Upsampled
from img2prompt.tracing import past
from img2prompt.upsampling.answers import read_answer
from img2prompt.upsampling.backends import find_back_end
from img2prompt.upsampling.cache import AnswerCache, open_cache
from img2prompt.upsampling.drift import Check, open_check
from img2prompt.upsampling.limits import TokenCounter, open_counter, trim
from img2prompt.upsampling.settings import BackEndSettings, UpsampleSettings
from img2prompt.upsampling.templates import load_template

if TYPE_CHECKING:
    from img2prompt.models.sentence import SentenceEncoder

__all__ = ["BackEndSettings", "PromptUpsampler", "UpsampleSettings", "open_upsampler"]

_log = logging.getLogger(__name__)

_RULES = 1  # of reading, trimming and judging answers: another number forgets what the cache holds
_BATCHES = 4  # of the back end that are asked between two writes to the cache


@dataclass
class _Task:
    """One prompt on its way."""

    base: str
    seed: int
    trouble: str = ""  # what was wrong with the last answer
    asked_limit: int = 0  # tokens that the next request names
    attempts: int = 0
    done: Upsampled | Failed | None = None
    reserve: Upsampled | None = None  # good, but cut
    seconds: float = 0.0

    def draw_seed(self) -> int:
        """Of this attempt."""
        if self.attempts == 1:
            return self.seed
        return int.from_bytes(hashlib.sha256(f"{self.seed} {self.attempts}".encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What an answer gave, before its facts are looked at."""

    task: _Task
    prompt: str
    tokens: int
    dropped: str
    trouble: str = ""  # its length, where it had to be cut


class PromptUpsampler:
    """Makes rich prompts of short ones; a `results.Upsampler`.

    Args:
        backend: what is asked.
        settings: template, attempts, temperature, ...; its check and target are those of the next two.
        check: base prompts and answers -> what was lost; see `upsampling.drift`.
        counter: of the text encoder that will read the prompts; it holds the limit.
        cache: keeps results for the next time; None: none.
        outside: why a prompt is beyond what the model knows, in one line; None: the model knows them all.

    Raises:
        ConfigError: the template is unusable.
    """

    def __init__(
        self,
        backend: ChatBackend,
        *,
        settings: UpsampleSettings,
        check: Check,
        counter: TokenCounter,
        cache: AnswerCache | None = None,
        outside: Callable[[str], str | None] | None = None,
    ) -> None:
        self.backend, self.counter, self.cache = backend, counter, cache
        self._check, self._outside, self._given = check, outside, settings
        self.template = load_template(settings.template or DEFAULT_TEMPLATE)
        temperature = DEFAULT_TEMPERATURE if settings.temperature is None else settings.temperature
        # An answer that is longer than it may be is still worth reading up to its last whole sentence.
        self._sampling = Sampling(2 * counter.limit + 64, temperature, settings.top_p)

    def settings(self) -> dict[str, Any]:
        """Plain data that, with prompt and seed, settles a result."""
        given = asdict(self._given) | {"template": self.template.label, "temperature": self._sampling.temperature}
        tokens = {"target": self.counter.name, "tokenizer": self.counter.fingerprint, "token_limit": self.counter.limit}
        return {"model": self.backend.name, **self.backend.settings(), **given, **tokens, "rules": _RULES}

    def upsample_many(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Upsampled | Failed]:
        """A rich prompt for each, from its own seed alone.

        What cannot be made rich keeps its base and says why; what got no answer, because an endpoint is down or refuses
        service, is a Failed row, so that another run asks again.
        """
        wanted = list(zip(prompts, seeds, strict=True))
        settled = self.settings()
        unique = list(dict.fromkeys(wanted))
        keys = [{"settings": settled, "prompt": prompt, "seed": seed} for prompt, seed in unique]
        stored = self.cache.get_many(keys) if self.cache else [None] * len(keys)
        found: dict[tuple[str, int], Upsampled | Failed] = {}
        waiting = []
        for one, row in zip(unique, stored, strict=True):
            if row is None:
                waiting.append(one)
            else:
                found[one] = _restored(row)
        step = max(self.backend.batch_size, 1) * _BATCHES
        for start in range(0, len(waiting), step):
            some = waiting[start : start + step]
            made = self._upsample([_Task(prompt, seed) for prompt, seed in some])
            found.update(zip(some, made, strict=True))
            good = [(one, row) for one, row in zip(some, made, strict=True) if isinstance(row, Upsampled)]
            if self.cache and good:
                self.cache.put_many(
                    [{"settings": settled, "prompt": prompt, "seed": seed} for (prompt, seed), _ in good],
                    [row.to_dict() for _, row in good],
                )
        return [found[one] for one in wanted]

    def _upsample(self, tasks: list[_Task]) -> list[Upsampled | Failed]:
        for task in tasks:
            self._begin(task)
        for _ in range(self._given.attempts):
            open_tasks = [task for task in tasks if task.done is None]
            if not open_tasks:
                break
            begun = time.perf_counter()
            self._attempt(open_tasks)
            for task in open_tasks:
                task.seconds += (time.perf_counter() - begun) / len(open_tasks)
        return [self._ended(task) for task in tasks]

    def _begin(self, task: _Task) -> None:
        """Ends at once what need not be asked."""
        if not task.base.strip():
            task.done = Failed(task.base, "an empty prompt", "EmptyPrompt")
            return
        task.asked_limit = self.counter.limit
        why = self._outside(task.base) if self._outside else None
        if self.counter.count(task.base) > self.counter.limit:
            why = f"the prompt alone has {self.counter.count(task.base)} tokens, and {self.counter.limit} are the limit"
        if why:
            task.done = self._base(task, why)

    def _attempt(self, tasks: list[_Task]) -> None:
        """Asks once for every prompt, and judges the answers together."""
        for task in tasks:
            task.attempts += 1
        answers = self.backend.answer_many(
            [self.template.chat(task.base, task.asked_limit, task.trouble) for task in tasks],
            self._sampling,
            [task.draw_seed() for task in tasks],
        )
        found = (self._candidate(task, answer) for task, answer in zip(tasks, answers, strict=True))
        candidates = [candidate for candidate in found if candidate is not None]
        if not candidates:
            return
        drifts = self._check([one.task.base for one in candidates], [one.prompt for one in candidates])
        for candidate, drift in zip(candidates, drifts, strict=True):
            self._judge(candidate, drift)

    def _candidate(self, task: _Task, answer: Answer | Failed) -> _Candidate | None:
        """The prompt in an answer, cut where it is too long; None: there is none."""
        if isinstance(answer, Failed):
            # What the model cannot be asked keeps its base; what got no answer is to be asked another time.
            lasting = answer.kind in _LASTING
            task.done = self._base(task, answer.error) if lasting else Failed(task.base, answer.error, answer.kind)
            return None
        read = read_answer(answer.text, task.base)
        if read.trouble:
            task.trouble = read.trouble
            return None
        tokens = self.counter.count(read.prompt)
        if answer.finished and tokens <= self.counter.limit:
            return _Candidate(task, read.prompt, tokens, "")
        kept, dropped = trim(read.prompt, self.counter.limit, self.counter.count)
        if not answer.finished and not dropped:
            kept, dropped = trim(read.prompt, tokens - 1, self.counter.count)
        task.asked_limit = max(self.counter.limit * self.counter.limit * 9 // (10 * max(tokens, 1)), 16)
        if not kept:
            task.trouble = "it was too long"
            return None
        return _Candidate(task, kept, self.counter.count(kept), dropped, "it was too long")

    def _judge(self, candidate: _Candidate, drift: Drift) -> None:
        """Takes a candidate that kept the facts, or notes what was wrong."""
        task, least = candidate.task, self._given.min_cosine
        if not drift.kept:
            lost = f"it lost: {', '.join(drift.lost)}" if drift.lost else ""
            wrong = f"it says otherwise: {', '.join(drift.contradicted)}" if drift.contradicted else ""
            unseen = f"its facts could not be checked ({drift.unchecked})" if drift.unchecked else ""
            task.trouble = "; ".join(text for text in (candidate.trouble, lost, wrong, unseen) if text)
        elif least is not None and drift.cosine is not None and drift.cosine < least:
            task.trouble = f"it is about something else (cosine {drift.cosine:.2f}, at least {least:.2f} is asked for)"
        else:
            result = self._result(
                task,
                prompt=candidate.prompt,
                outcome="trimmed" if candidate.dropped else "upsampled",
                tokens=candidate.tokens,
                drift=drift,
                dropped=candidate.dropped,
            )
            task.trouble = candidate.trouble
            if candidate.dropped:
                task.reserve = task.reserve or result
            else:
                task.done = result

    def _ended(self, task: _Task) -> Upsampled | Failed:
        """The result; its span has the time that its share of the batches took."""
        if task.reserve and (task.done is None or isinstance(task.done, Failed)):
            result: Upsampled | Failed = replace(task.reserve, attempts=task.attempts, seconds=task.seconds)
        else:
            tries = f"{task.attempts} answer{'s' if task.attempts > 1 else ''}"
            result = task.done or self._base(task, f"none of {tries} would do; the last: {task.trouble}")
        result = replace(result, seconds=round(task.seconds, 4)) if isinstance(result, Upsampled) else result
        with past("upsample", task.seconds, prompt=task.base, seed=task.seed, model=self.backend.name) as step:
            if isinstance(result, Failed):
                step.fail(result.error)
            else:
                cosine = result.drift.cosine if result.drift else None
                step.set(upsampled=result.prompt, outcome=result.outcome, tokens=result.tokens, why=result.why)
                step.set(attempts=result.attempts, cosine=cosine)
        return result

    def _base(self, task: _Task, why: str) -> Upsampled:
        """The base as it is, cut only where it is longer than what the encoder reads."""
        kept, dropped = trim(task.base, self.counter.limit, self.counter.count)
        tokens = self.counter.count(kept)
        return self._result(task, prompt=kept, outcome="base", tokens=tokens, dropped=dropped, why=why)

    def _result(self, task: _Task, **found: Any) -> Upsampled:
        return Upsampled(
            base=task.base,
            token_limit=self.counter.limit,
            model=self.backend.name,
            template=self.template.label,
            seed=task.seed,
            attempts=task.attempts,
            **found,
        )


DEFAULT_TEMPLATE = "detailed"
DEFAULT_TEMPERATURE = 0.7
_LASTING = frozenset({"PromptTooLong", "OutOfMemory", "Refused"})  # kinds of Failed that asking again does not change


def _restored(row: dict[str, Any]) -> Upsampled:
    drift = row.pop("drift")
    if drift is not None:
        drift = Drift(**{**drift, "lost": tuple(drift["lost"]), "contradicted": tuple(drift["contradicted"])})
    return Upsampled(**row, drift=drift)


def open_upsampler(
    spec: str, settings: UpsampleSettings | None = None, run: BackEndSettings | None = None
) -> PromptUpsampler:
    """Opens an upsampler by the name of a row of BACK_ENDS, with the row's own template, check and temperature where
    the settings name none.

    Args:
        spec: "bundled", a preset such as "zephyr-7b", "transformers:FOLDER", "openai:MODEL", "dspy:FILE.json".
        settings: what settles an answer.
        run: how the model is reached and run, and where answers are kept.

    Raises:
        ConfigError: a name is unknown, or a setting is wrong.
        PresetError: a model or a tokenizer is not on this machine.
        ModelError: one is damaged.
        MissingExtra: a library is not installed.
    """
    given, run = settings or UpsampleSettings(), run or BackEndSettings()
    row, rest = find_back_end(spec)
    given = replace(
        given,
        template=given.template or row.template,
        check=given.check or row.check,
        temperature=row.temperature if given.temperature is None else given.temperature,
    )
    counter = open_counter(given.target, given.token_limit)
    load_template(given.template or DEFAULT_TEMPLATE)  # before a model is loaded for nothing
    backend = row.open(rest, run)
    encoder = None if given.min_cosine is None else _sentence_encoder()
    return PromptUpsampler(
        backend,
        settings=given if encoder else replace(given, min_cosine=None),
        check=open_check(given.check or "auto", backend=backend, encoder=encoder),
        counter=counter,
        cache=open_cache(run.cache),
        outside=row.outside,
    )


def _sentence_encoder() -> SentenceEncoder | None:
    """The sentence model; None where it is not on this machine, and the log says so."""
    from img2prompt.models.sentence import SentenceEncoder

    try:
        return SentenceEncoder()
    except MissingExtra as error:
        _log.warning("answers are not compared with their base as sentences: %s", error)
        return None

"""Short prompts become rich ones that fit the text encoder and keep the facts.

Caption upsampling is DALL-E 3's (Betker et al. 2023, "Improving Image Generation with Better Captions"). An answer is
believed only as far as it was checked: what lost a fact, contradicts one or drifted away is asked for again with the
loss named, what is too long is asked for shorter and at last cut at the end of a sentence, and what never holds falls
back to the prompt as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from img2prompt._version import __version__
from img2prompt.errors import MissingExtra
from img2prompt.models.chat import Chat, ChatBackend, Sampling
from img2prompt.results import Drift, Failed, Upsampled
from img2prompt.tracing import past
from img2prompt.upsampling.backends import BackEnd, find_back_end
from img2prompt.upsampling.cache import AnswerCache, open_cache
from img2prompt.upsampling.drift import Check, open_check
from img2prompt.upsampling.limits import TokenCounter, open_counter
from img2prompt.upsampling.settings import BackEndSettings, UpsampleSettings
from img2prompt.upsampling.templates import load_template
from img2prompt.upsampling.trial import UNCHECKED, Trial
from img2prompt.upsampling.world import World

if TYPE_CHECKING:
    from img2prompt.models.sentence import SentenceEncoder

__all__ = ["BackEndSettings", "PromptUpsampler", "UpsampleSettings", "open_upsampler"]

_log = logging.getLogger(__name__)

_BATCHES = 4  # of the back end that are asked between two writes to the cache


class PromptUpsampler:
    """Makes rich prompts of short ones; a `results.Upsampler`.

    Args:
        backend: what is asked.
        settings: template, attempts, temperature, ...; its check and target are those of the next two.
        check: base prompts and answers -> what was lost; see `upsampling.drift`.
        counter: of the text encoder that will read the prompts; it holds the limit.
        cache: keeps results for the next time; None: none.
        world: what the model knows; None: anything.

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
        world: World | None = None,
    ) -> None:
        self.backend, self.counter, self.cache = backend, counter, cache
        self._check, self._world, self._given = check, world, settings
        self.template = load_template(settings.template or DEFAULT_TEMPLATE)
        temperature = DEFAULT_TEMPERATURE if settings.temperature is None else settings.temperature
        self._sampling = Sampling(settings.answer_tokens or DEFAULT_ANSWER_TOKENS, temperature, settings.top_p)

    def settings(self) -> dict[str, Any]:
        """Plain data that, with prompt and seed, settles a result."""
        given = asdict(self._given) | {"template": self.template.label, "temperature": self._sampling.temperature}
        tokens = {"target": self.counter.name, "tokenizer": self.counter.fingerprint, "token_limit": self.counter.limit}
        return {"model": self.backend.name, **self.backend.settings(), **given, **tokens, "img2prompt": __version__}

    def upsample_many(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Upsampled | Failed]:
        """A rich prompt for each, from its own seed alone.

        What cannot be made rich keeps its base and says why; what got no answer, because an endpoint is down or refuses
        service, is a Failed row, so that another run asks again.
        """
        wanted = list(zip(prompts, seeds, strict=True))
        found: dict[tuple[str, int], Upsampled | Failed] = dict(self._stored(list(dict.fromkeys(wanted))))
        waiting = [one for one in dict.fromkeys(wanted) if one not in found]
        step = max(self.backend.batch_size, 1) * _BATCHES
        for start in range(0, len(waiting), step):
            some = waiting[start : start + step]
            made = dict(zip(some, self._upsample(some), strict=True))
            self._store(made)
            found |= made
        return [found[one] for one in wanted]

    def _stored(self, wanted: Sequence[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], Upsampled]]:
        """What the cache holds."""
        if self.cache is None:
            return
        for one, row in zip(wanted, self.cache.get_many(self._keys(wanted)), strict=True):
            if row is not None and (restored := _restored(row)) is not None:
                yield one, restored

    def _store(self, made: Mapping[tuple[str, int], Upsampled | Failed]) -> None:
        """Keeps what another run would find again."""
        if self.cache is not None:
            rows = {
                one: row.to_dict()
                for one, row in made.items()
                if isinstance(row, Upsampled) and UNCHECKED not in (row.why or "")
            }
            self.cache.put_many(self._keys(list(rows)), list(rows.values()))

    def _keys(self, wanted: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        settled = self.settings()
        return [{"settings": settled, "prompt": prompt, "seed": seed} for prompt, seed in wanted]

    def _upsample(self, wanted: Sequence[tuple[str, int]]) -> list[Upsampled | Failed]:
        about = {"model": self.backend.name, "template": self.template.label}
        trials = [Trial(base, seed, self.counter, about) for base, seed in wanted]
        for trial in trials:
            self._begin(trial)
        for _ in range(self._given.attempts):
            waiting = [trial for trial in trials if trial.done is None]
            if not waiting:
                break
            begun = time.perf_counter()
            self._attempt(waiting)
            for trial in waiting:
                trial.seconds += (time.perf_counter() - begun) / len(waiting)
        return [self._ended(trial) for trial in trials]

    def _begin(self, trial: Trial) -> None:
        """Ends at once what need not be asked."""
        if not trial.base.strip():
            trial.done = Failed(trial.base, "an empty prompt", "EmptyPrompt")
        elif self.counter.length(trial.base) > self.counter.limit:
            trial.fall_back(f"the prompt alone is longer than the {self.counter.limit} tokens of the limit")
        elif self._world and (why := self._world.outside(trial.base)):
            trial.fall_back(why)

    def _attempt(self, trials: list[Trial]) -> None:
        """Asks once for every prompt, and judges the answers together."""
        for trial in trials:
            trial.attempts += 1
        sampling = self._sampling
        if trials[0].attempts > 1 and not sampling.temperature:  # the likeliest tokens again would be the same answer
            sampling = replace(sampling, temperature=RETRY_TEMPERATURE)
        answers = self.backend.answer_many(
            [self._chat(trial) for trial in trials], sampling, [trial.draw_seed() for trial in trials]
        )
        found = [(trial, trial.read(answer)) for trial, answer in zip(trials, answers, strict=True)]
        candidates = [(trial, candidate) for trial, candidate in found if candidate is not None]
        drifts = self._check([trial.base for trial, _ in candidates], [one.prompt for _, one in candidates])
        for (trial, candidate), drift in zip(candidates, drifts, strict=True):
            trial.judge(candidate, drift, self._given.min_cosine)

    def _chat(self, trial: Trial) -> Chat:
        prompt = trial.base
        # Said otherwise than what the model learned from, a prompt makes it stammer.
        if self._world and (trial.attempts > 1 or not self._world.usual(prompt)):
            prompt = self._world.restated(prompt, trial.draw_seed())
        return self.template.chat(prompt, trial.asked_limit, trial.trouble)

    def _ended(self, trial: Trial) -> Upsampled | Failed:
        """The result; its span lasts as long as its share of the batches."""
        result = trial.ended()
        with past("upsample", trial.seconds, prompt=trial.base, seed=trial.seed, model=self.backend.name) as step:
            if isinstance(result, Failed):
                step.fail(result.error)
            else:
                cosine = result.drift.cosine if result.drift else None
                step.set(upsampled=result.prompt, outcome=result.outcome, tokens=result.tokens, why=result.why)
                step.set(attempts=result.attempts, template=result.template, cosine=cosine)
        return result


DEFAULT_TEMPLATE = "detailed"
DEFAULT_TEMPERATURE = 0.7
DEFAULT_ANSWER_TOKENS = 1024
RETRY_TEMPERATURE = 0.5  # where the first attempt had none


def _restored(row: Mapping[str, Any]) -> Upsampled | None:
    """A result from its plain data; None where that has another form."""
    try:
        drift = row["drift"]
        if drift is not None:
            drift = Drift(**{**drift, "lost": tuple(drift["lost"]), "contradicted": tuple(drift["contradicted"])})
        return Upsampled(**{**row, "drift": drift})
    except (KeyError, TypeError):
        return None


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
    row, rest = find_back_end(spec)
    return upsampler_of(row, rest, settings or UpsampleSettings(), run or BackEndSettings())


def upsampler_of(row: BackEnd, rest: str, given: UpsampleSettings, run: BackEndSettings) -> PromptUpsampler:
    """An upsampler by a row of BACK_ENDS or one like it, and what follows its name; raises as `open_upsampler` does."""
    given = replace(
        given,
        template=given.template or row.template,
        check=given.check or row.check,
        temperature=row.temperature if given.temperature is None else given.temperature,
        answer_tokens=given.answer_tokens or row.answer_tokens,
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
        world=row.world,
    )


def _sentence_encoder() -> SentenceEncoder | None:
    """The sentence model; None where it is not on this machine, and the log says so."""
    from img2prompt.models.sentence import SentenceEncoder

    try:
        return SentenceEncoder()
    except MissingExtra as error:
        _log.warning("answers are not compared with their base as sentences: %s", error)
        return None

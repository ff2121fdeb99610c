"""Traces: each step as an OpenTelemetry span, when its standard environment variables ask for it, else nothing.

    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318     spans go to any collector that takes OTLP over HTTP
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=...                the same, with the path; also OTEL_EXPORTER_OTLP_HEADERS, ...
    OTEL_TRACES_EXPORTER=console | otlp | none            console: JSON on stderr, since stdout is for results
    OTEL_SDK_DISABLED=true                                off, whatever the others say

Without them nothing of OpenTelemetry is imported. A collector that is down costs spans and one line, never the work.
What a step was given also stands in `input.value`, and what it found in `output.value`, as JSON: OpenInference's names
(https://github.com/Arize-ai/openinference/tree/main/spec), which MLflow and W&B Weave show as inputs and outputs.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
import time
from multiprocessing import util as processes
from typing import Any, Self
from urllib.parse import urlsplit

from img2prompt._version import __version__
from img2prompt.errors import ConfigError, MissingExtra
from img2prompt.extras import need

logger = logging.getLogger(__name__)

KINDS = {"upsample": "LLM", "judge": "EVALUATOR"}  # OpenInference's kinds of steps; the others are CHAIN
EXPORTERS = ("otlp", "console", "none")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TIMEOUTS = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
REASON = re.compile(r"\[Errno -?\d+\] [\w ]+|timed out|code: \d+, reason: [\w ]+")  # the useful part of a complaint
TIMEOUT_S = 5.0  # of one export where the variables name none; theirs is 10 s, long for someone who waits at the end


class Step:
    """A step while it runs. This one records nothing: no traces were asked for."""

    __slots__ = ()

    def set(self, **attributes: object) -> None:
        """Adds what the step found: text, numbers, truth values, sequences of them; None is left out."""

    def fail(self, reason: str) -> None:
        """Marks the step as failed, where the failure is a row of the results and no exception."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Ends the step; an error is recorded and goes on its way."""


_UNTRACED = Step()


def span(name: str, /, **attributes: object) -> Step:
    """A step of the work, as a context manager; steps inside it become its children.

        with span("upsample", prompt=short, seed=3) as step:
            ...
            step.set(tokens=41, score=0.93)

    Args:
        name: of the step: predict, upsample, regenerate, compare, judge, or a verb.
        attributes: what the step is given: text, numbers, truth values, sequences of them; None is left out.

    Raises:
        MissingExtra: traces are asked for and OpenTelemetry is not installed.
        ConfigError: the environment variables ask for what there is not.
    """
    return _Recorded(name, attributes) if exporters() else _UNTRACED


def past(name: str, seconds: float, /, **attributes: object) -> Step:
    """As `span`, for a step that began `seconds` ago, such as one picture's share of a batch.

    Raises:
        MissingExtra, ConfigError: as for `span`.
    """
    return _Recorded(name, attributes, time.time_ns() - int(seconds * 1e9)) if exporters() else _UNTRACED


def exporters() -> tuple[str, ...]:
    """Where the environment variables send spans: any of `EXPORTERS` but "none"; empty: nowhere."""
    given = os.environ.get
    if given("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    named = given("OTEL_TRACES_EXPORTER", "").replace(" ", "").lower()
    if not named:
        return ("otlp",) if any(given(name) for name in ENDPOINTS) else ()
    return tuple(word for word in named.split(",") if word not in ("none", ""))


class _Recorded(Step):
    """A step that becomes a span."""

    __slots__ = ("_fine", "_found", "_span", "_token")

    def __init__(self, name: str, attributes: dict[str, object], begun_ns: int | None = None) -> None:
        self._span = _tracer(os.getpid()).start_span(name, start_time=begun_ns)
        from opentelemetry import context, trace

        self._found, self._fine = dict[str, Any](), True
        self._token = context.attach(trace.set_span_in_context(self._span))
        self._span.set_attribute("openinference.span.kind", KINDS.get(name, "CHAIN"))
        self._write("input.value", _plain(attributes))

    def set(self, **attributes: object) -> None:
        self._found |= (added := _plain(attributes))
        self._span.set_attributes(added)

    def fail(self, reason: str) -> None:
        from opentelemetry.trace import StatusCode

        self._fine = False
        self._span.set_status(StatusCode.ERROR, reason)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        from opentelemetry import context, trace

        context.detach(self._token)
        if error is not None and not isinstance(error, GeneratorExit):  # who reads no further has had enough
            self._span.record_exception(error)
            self.fail(f"{type(error).__name__}: {error}")
        if self._fine:  # MLflow calls a trace without it unfinished
            self._span.set_status(trace.StatusCode.OK)
        self._write("output.value", self._found)
        self._span.end()

    def _write(self, name: str, attributes: dict[str, Any]) -> None:
        if attributes:
            shown = {name: json.dumps(attributes, ensure_ascii=False), name[:-5] + "mime_type": "application/json"}
            self._span.set_attributes(attributes | shown)


def _plain(attributes: dict[str, object]) -> dict[str, Any]:
    """Attributes as OpenTelemetry takes them: numbers of NumPy become Python's, what it does not know becomes text."""
    return {name: _value(value) for name, value in attributes.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, list | tuple | set | frozenset):
        values = [_value(item) for item in value if item is not None]
        kinds = {type(item) for item in values}
        if len(kinds) > 1 or kinds == {list}:  # a sequence is of one type
            return [float(item) for item in values] if kinds <= {int, float} else [str(item) for item in values]
        return values
    if hasattr(value, "tolist"):
        return _value(value.tolist())
    if type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    return str(value).encode("utf-8", "replace").decode()  # a file's name may hold what is no text; one such loses all


@functools.cache
def _tracer(process: int) -> Any:
    """What makes spans in this process; a forked one needs its own, since it must not share its parent's connection."""
    try:
        sdk, trace = need("opentelemetry.sdk.trace", "traces"), need("opentelemetry.trace", "traces")
        provider = trace.get_tracer_provider()
        if isinstance(provider, sdk.TracerProvider):  # the program around us has set one up: spans belong there
            return provider.get_tracer("img2prompt", __version__)
        return _provider(sdk.TracerProvider).get_tracer("img2prompt", __version__)
    except MissingExtra as error:
        raise MissingExtra(f"{error}; or set OTEL_SDK_DISABLED=true to go on without traces") from error


def _provider(make: Any) -> Any:
    resources = need("opentelemetry.sdk.resources", "traces")
    export = need("opentelemetry.sdk.trace.export", "traces")
    ours = resources.Resource({"service.name": "img2prompt", "service.version": __version__})
    named = resources.OTELResourceDetector().detect()  # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count more
    provider = make(resource=resources.Resource.create().merge(ours).merge(named), shutdown_on_exit=False)
    if unknown := [name for name in exporters() if name not in EXPORTERS]:
        raise ConfigError(f"OTEL_TRACES_EXPORTER={','.join(unknown)}: choose from {', '.join(EXPORTERS)}")
    sending = None
    if "console" in exporters():
        provider.add_span_processor(export.SimpleSpanProcessor(export.ConsoleSpanExporter(out=sys.stderr)))
    if "otlp" in exporters():
        sending = _Sending()
        provider.add_span_processor(export.BatchSpanProcessor(sending))
    # atexit does not run in forked workers; this runs in them and in every other process, also after Ctrl-C.
    processes.Finalize(None, _flush, (provider, sending), exitpriority=0)
    return provider


def _flush(provider: Any, sending: _Sending | None) -> None:
    """Sends what waits, as the last thing of the process."""
    if sending is not None:
        sending.leaving = True
    try:
        provider.shutdown()
    except KeyboardInterrupt:
        logger.warning("traces: the last spans were not sent")


class _Sending:
    """The OTLP exporter, which a missing collector makes neither loud nor slow."""

    def __init__(self) -> None:
        protocol = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), "http/protobuf")
        if protocol != "http/protobuf":
            raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: traces are sent as http/protobuf; set that")
        module = need("opentelemetry.exporter.otlp.proto.http.trace_exporter", "traces")
        given = any(os.environ.get(name) for name in TIMEOUTS)
        self._exporter = module.OTLPSpanExporter(timeout=None if given else TIMEOUT_S)
        self._success = need("opentelemetry.sdk.trace.export", "traces").SpanExportResult.SUCCESS
        self.leaving = self._failed = False
        line = _OneLine()
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):  # they would speak at every attempt
            theirs = logging.getLogger(name)
            theirs.propagate = False
            theirs.addHandler(line)

    def export(self, spans: Any) -> Any:
        """Sends spans, unless the process ends and the collector did not answer the last time."""
        if self._failed and self.leaving:
            return None
        result = self._exporter.export(spans)
        self._failed = result != self._success
        return result

    def shutdown(self) -> None:
        """Closes the connection."""
        self._exporter.shutdown()


class _OneLine(logging.Handler):
    """Says once, in one line, that spans are lost and why."""

    said = False

    def emit(self, entry: logging.LogRecord) -> None:
        """The first complaint becomes our warning, the others nothing."""
        if entry.levelno >= logging.WARNING and not self.said:
            self.said = True
            url = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "http://localhost:4318")
            where = urlsplit(url)._replace(query="", fragment="")
            place = where._replace(netloc=where.netloc.rpartition("@")[2]).geturl()  # without a password
            text = " ".join(entry.getMessage().split())
            why = found[0] if (found := REASON.search(text)) else text
            logger.warning("traces do not reach %s, and the work goes on without them (%s)", place, why)

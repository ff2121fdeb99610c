"""Traces: spans as a real OTLP receiver on localhost gets them, and what happens without one."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img2prompt import tracing
from img2prompt.errors import ConfigError

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra traces is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ROOT = Path(__file__).parents[1]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


@dataclass
class Receiver:
    """What a collector got."""

    url: str = ""
    status: int = 200
    answers: bool = True
    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.requests.append({"path": path} | {key.lower(): value for key, value in headers.items()})
        if self.status == 200:
            got = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            for group in got.resource_spans:
                self.resources.append(values(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]


def values(holder: Any) -> dict[str, Any]:
    """The attributes of a span or resource as Python values."""

    def value(of: Any) -> Any:
        kind = of.WhichOneof("value")
        return [value(item) for item in of.array_value.values] if kind == "array_value" else getattr(of, str(kind))

    return {item.key: value(item.value) for item in holder.attributes}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    got = Receiver()
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.take(self.path, dict(self.headers), body)
            if not got.answers:
                stop.wait(30)
            self.send_response(got.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    got.url = f"http://127.0.0.1:{server.server_port}"
    yield got
    stop.set()
    server.shutdown()
    server.server_close()


def child(code: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own, since spans are sent for the last time when a process ends."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=CLEAN | env, capture_output=True, text=True, timeout=240)


STEPS = """
from img2prompt.tracing import past, span
import numpy as np, pathlib
with span("roundtrip", sources=[pathlib.Path("a.png")], seeds=range(2)):
    with span("upsample", prompt="a fox", seed=2**64 - 1, template=None) as step:
        step.set(tokens=np.int64(12), scores=[1, 0.5, None], fits=True, cosine=np.float32(0.5), text="\\udce9")
    with past("predict", 2.0, source="a.png") as step:
        step.fail("NotAnImage: no picture")
    try:
        with span("judge", name="x"):
            raise ValueError("a bad answer")
    except ValueError:
        print("caught")
"""


def test_spans_arrive_nested_with_what_they_were_given_and_found(receiver: Receiver) -> None:
    done = child(
        STEPS,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=7",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_RESOURCE_ATTRIBUTES="team=red",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n", "")
    assert {request["path"] for request in receiver.requests} == {"/v1/traces"}
    assert {request["x-mlflow-experiment-id"] for request in receiver.requests} == {"7"}
    assert receiver.resources[0]["service.name"] == "img2prompt" and receiver.resources[0]["team"] == "red"
    root, step = receiver.named("roundtrip"), values(receiver.named("upsample"))
    assert len(receiver.spans) == 4 and root.parent_span_id == b""
    assert {span.trace_id for span in receiver.spans} == {root.trace_id}
    assert {span.parent_span_id for span in receiver.spans} == {b"", root.span_id}
    assert values(root)["sources"] == ["a.png"]
    assert step["prompt"] == "a fox" and step["seed"] == str(2**64 - 1) and "template" not in step
    assert step["tokens"] == 12 and step["scores"] == [1.0, 0.5] and step["fits"] is True and step["cosine"] == 0.5
    assert step["openinference.span.kind"] == "LLM"
    assert json.loads(step["input.value"]) == {"prompt": "a fox", "seed": str(2**64 - 1)}
    assert json.loads(step["output.value"])["scores"] == [1.0, 0.5]


def test_failures_are_in_the_spans_and_past_steps_have_their_time(receiver: Receiver) -> None:
    child(STEPS, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/take", OTEL_SERVICE_NAME="mine")
    assert receiver.requests[0]["path"] == "/take" and receiver.resources[0]["service.name"] == "mine"
    judged, predicted = receiver.named("judge"), receiver.named("predict")
    assert (judged.status.code, judged.status.message) == (2, "ValueError: a bad answer")
    assert "a bad answer" in values(judged.events[0])["exception.message"]
    assert (predicted.status.code, predicted.status.message) == (2, "NotAnImage: no picture")
    assert predicted.end_time_unix_nano - predicted.start_time_unix_nano == pytest.approx(2e9, rel=0.1)
    assert receiver.named("upsample").status.code == 1


VERB = "import sys\nfrom img2prompt.cli import main\ncode = main(sys.argv[1:])\n"
UNLOADED = "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\nsys.exit(code)"


def test_a_verb_is_the_root_and_pictures_are_steps(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    picture = ROOT / "imgs" / "examples" / "embedded-prompt.png"
    words = ["predict", "--metadata-only", "--json", str(picture), str(tmp_path / "bad.png")]
    done = child(VERB + "sys.exit(code)", *words, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    root = receiver.named("img2prompt predict")
    assert values(root)["exit_code"] == 1 and values(root)["metadata_only"] is True
    good, bad = [span for span in receiver.spans if span.name == "predict"]
    assert {good.parent_span_id, bad.parent_span_id} == {root.span_id}
    assert values(good)["prompt"] == json.loads(done.stdout.splitlines()[0])["prompt"]
    assert values(good)["origin"] == "metadata" and str(picture) in values(good)["source"]
    assert bad.status.code == 2 and good.status.code == 1


def test_every_step_of_a_round_trip_is_there(receiver: Receiver, tmp_path: Path) -> None:
    """Predict, upsample, regenerate, compare and judge, with prompts, parameters, seeds and scores."""
    picture = ROOT / "imgs" / "examples" / "storybook-1.png"
    words = ["roundtrip", str(picture), "--seeds", "1", "--judge", "coca", "--metrics", "colour_distance"]
    done = child(
        VERB + "sys.exit(code)", *words, "--output", str(tmp_path / "run"), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url
    )
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "run" / "results.jsonl").read_text())
    steps = ("predict", "upsample", "regenerate", "compare", "judge")
    by_name = {name: [values(span) for span in receiver.spans if span.name == name] for name in steps}
    assert len({span.trace_id for span in receiver.spans}) == 1 and all(by_name.values())
    assert by_name["predict"][0]["prompt"] == by_name["upsample"][0]["prompt"] == row["prompts"]["predicted"]["text"]
    assert by_name["upsample"][0]["upsampled"] == row["prompts"]["upsampled"]["text"]
    made = [
        (prompt, seed)
        for step in by_name["regenerate"]
        for prompt, seed in zip(step["prompts"], step["seeds"], strict=True)
    ]
    assert (row["prompts"]["upsampled"]["text"], row["pictures"]["upsampled"][0]["seed"]) in made
    assert by_name["regenerate"][0]["model"] == "storybook" and by_name["regenerate"][0]["width_px"] > 0
    scores = [step["colour_distance.upsampled"] for step in by_name["compare"] if "image" in step]
    assert scores == [row["scores"]["upsampled"]["colour_distance"]]
    assert any(0 <= score <= 1 for step in by_name["judge"] for score in step["scores"])


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=["not asked for", "disabled", "none"],
)
def test_off_imports_nothing(env: dict[str, str]) -> None:
    picture = str(ROOT / "imgs" / "examples" / "embedded-prompt.png")
    done = child(VERB + UNLOADED, "predict", "--metadata-only", picture, **env)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_collector_that_is_down_costs_one_line() -> None:
    start = time.perf_counter()
    done = child(STEPS, OTEL_EXPORTER_OTLP_ENDPOINT="http://someone:secret@127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "caught\n", 1)
    # Why it does not: refused, or, where the machine is busy, no time left to try.
    assert "traces do not reach http://127.0.0.1:9, and the work goes on without them" in done.stderr
    assert "secret" not in done.stderr
    assert time.perf_counter() - start < 40


def test_a_collector_that_never_answers_is_left(receiver: Receiver) -> None:
    receiver.answers = False
    start = time.perf_counter()
    many = STEPS + "for number in range(2000):\n    past('predict', 0.0).__exit__(None, None, None)\n"
    done = child(many, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert "timeout" in done.stderr
    assert 1 <= len(receiver.requests) <= 2  # of four batches: the others are not tried at the end
    assert time.perf_counter() - start < 40


def test_a_collector_that_refuses_is_named(receiver: Receiver) -> None:
    receiver.status = 401
    done = child(STEPS, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    assert "code: 401, reason: Unauthorized" in done.stderr


def test_ctrl_c_sends_what_there_is(receiver: Receiver) -> None:
    code = """
import os, signal
from img2prompt.tracing import span
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
with span("roundtrip"):
    with span("predict", source="a.png"):
        pass
    with span("regenerate"):
        os.kill(os.getpid(), signal.SIGINT)
"""
    done = child(code, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    assert "KeyboardInterrupt" in done.stderr
    assert {span.name for span in receiver.spans} == {"roundtrip", "predict", "regenerate"}
    assert receiver.named("predict").status.code == 1
    assert receiver.named("regenerate").status.message == "KeyboardInterrupt: "


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_steps_of_other_processes_arrive(receiver: Receiver, method: str, tmp_path: Path) -> None:
    if method == "fork" and sys.platform == "win32":
        pytest.skip("no fork on Windows")
    script = tmp_path / "work.py"
    script.write_text(f"""
import multiprocessing
from img2prompt.tracing import span

def work(number):
    with span("compare", number=number):
        pass

if __name__ == "__main__":
    with span("roundtrip"):
        with span("predict"):
            pass
        workers = [multiprocessing.get_context({method!r}).Process(target=work, args=(i,)) for i in range(2)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
""")
    env = CLEAN | {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(span.name for span in receiver.spans) == ["compare", "compare", "predict", "roundtrip"]
    compared = [span for span in receiver.spans if span.name == "compare"]
    assert {values(span)["number"] for span in compared} == {0, 1}
    if method == "fork":  # it inherits where it stands
        assert {span.parent_span_id for span in compared} == {receiver.named("roundtrip").span_id}


def test_the_console_is_stderr() -> None:
    done = child(STEPS, OTEL_TRACES_EXPORTER="console")
    assert done.stdout == "caught\n"
    assert '"name": "upsample"' in done.stderr and '"prompt": "a fox"' in done.stderr


def test_missing_parts_and_wrong_settings_are_one_line() -> None:
    without = 'import sys\nsys.modules["opentelemetry.sdk"] = None\n'
    done = child(without + VERB + "sys.exit(code)", "presets", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert "pip install 'img2prompt[traces]'" in done.stderr and "OTEL_SDK_DISABLED=true" in done.stderr
    done = child(VERB + "sys.exit(code)", "presets", OTEL_TRACES_EXPORTER="zipkin")
    assert done.returncode == 2 and "OTEL_TRACES_EXPORTER=zipkin: choose from otlp, console" in done.stderr
    done = child(VERB + "sys.exit(code)", "presets", OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert done.returncode == 2 and "http/protobuf" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_program_that_traces_already_gets_the_steps() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
from img2prompt.tracing import span
with provider.get_tracer("theirs").start_as_current_span("whole"):
    with span("predict"):
        pass
part, whole = kept.get_finished_spans()
print(part.name, part.parent.span_id == whole.context.span_id)
"""
    done = child(code, OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert (done.stdout, done.stderr) == ("predict True\n", "")


single = st.one_of(
    *(st.none(), st.booleans(), st.floats(), st.binary(max_size=4), st.just(Path("a"))),
    *(st.integers(), st.integers(2**63 - 2, 2**64), st.integers(-(2**64), 2 - 2**63)),
    *(st.text(), st.text(st.characters(min_codepoint=0xD7FE, max_codepoint=0xE001))),  # surrogates too
)
anything = single | st.lists(single, max_size=4) | st.lists(st.lists(single, max_size=2), max_size=2)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), anything))
def test_whatever_a_step_is_told_can_be_sent(told: dict[str, Any]) -> None:
    """One attribute that cannot be encoded would lose the whole batch."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    plain = tracing._plain(told)
    assert set(plain) == {name for name, value in told.items() if value is not None}
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    span.set_attributes(plain)
    span.end()
    assert isinstance(span, ReadableSpan)
    sent = ExportTraceServiceRequest.FromString(encode_spans([span]).SerializeToString())
    assert len(sent.resource_spans[0].scope_spans[0].spans[0].attributes) == len(plain)
    json.dumps(plain, ensure_ascii=False).encode()


def test_an_unknown_exporter_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    tracing._tracer.cache_clear()
    with pytest.raises(ConfigError, match="zipkin"):
        tracing.span("predict")

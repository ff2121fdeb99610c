"""Shows traces on a real MLflow server: starts one, runs a verb against it, reads the traces back and prints them.

    python scripts/trace_mlflow.py                                         a round trip of an example picture
    python scripts/trace_mlflow.py --mlflow mlvenv/bin/python              MLflow from an environment of its own
    python scripts/trace_mlflow.py --keep predict imgs/examples/*.png      another verb; the server stays, to look at

Needs the extra `traces` here, and MLflow 3 here or elsewhere: python -m venv mlvenv && mlvenv/bin/pip install mlflow
The server, its database and the verb's results live in a folder that is removed afterwards (`--folder` keeps them).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "imgs" / "examples" / "storybook-1.png"
START_S = 120  # for the server, which imports much
SHOWN_CHARS = 150  # of a span's inputs and outputs
READ = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
traces = mlflow.search_traces(locations=[sys.argv[2]], return_type="list")
print(json.dumps([[{
    "id": span.span_id, "parent": span.parent_id, "name": span.name, "type": span.span_type,
    "inputs": span.inputs, "outputs": span.outputs, "status": span.status.status_code.value,
    "start_ns": span.start_time_ns, "end_ns": span.end_time_ns,
} for span in trace.data.spans] for trace in traces], default=str))
"""


def start_server(python: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """`mlflow server` with a database in `folder`, once it answers.

    Raises:
        SystemExit: it ended, or did not answer in time; its last words are printed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    with log.open("wb") as words:
        server = subprocess.Popen([*command, *stores], stdout=words, stderr=words, cwd=folder, env=untraced())
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return server, url
        except OSError:
            time.sleep(0.3)
    server.terminate()
    sys.exit(f"the MLflow server did not start:\n{log.read_text()[-2000:]}")


def untraced() -> dict[str, str]:
    """The environment without what would trace the server itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


def make_experiment(url: str, name: str) -> str:
    """The id of a new experiment, over MLflow's REST interface."""
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/experiments/create", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)["experiment_id"])


def read_traces(python: str, url: str, experiment: str) -> list[list[dict[str, Any]]]:
    """The traces of the experiment, each a list of spans, through MLflow's Python interface."""
    done = subprocess.run([python, "-c", READ, url, experiment], capture_output=True, text=True, env=untraced())
    if done.returncode:
        sys.exit(f"MLflow could not read the traces:\n{done.stderr[-2000:]}")
    traces: list[list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
    return traces


def show(spans: list[dict[str, Any]], parent: str | None = None, depth: int = 0) -> None:
    """Prints the spans below `parent` as a tree."""
    for span in sorted((s for s in spans if s["parent"] == parent), key=lambda s: s["start_ns"]):
        seconds = (span["end_ns"] - span["start_ns"]) / 1e9
        print(f"{'  ' * depth}{span['name']}  {seconds:.3f} s  {span['type']}  {span['status']}")
        for sign, part in (("<", span["inputs"]), (">", span["outputs"])):
            if part:
                text = json.dumps(part, ensure_ascii=False)
                print(f"{'  ' * depth}  {sign} {text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + ' ...'}")
        show(spans, span["id"], depth + 1)


def main() -> int:
    """Command line; the exit code of the verb, or 1 when no trace arrived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", default=sys.executable, metavar="PYTHON", help="interpreter that has MLflow")
    parser.add_argument("--folder", type=Path, help="keep database and results here")
    parser.add_argument("--keep", action="store_true", help="leave the server running until Ctrl-C")
    parser.add_argument("verb", nargs=argparse.REMAINDER, help="what to run (default: a round trip)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trace-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        verb = options.verb or ["roundtrip", str(EXAMPLE), "--seeds", "2", "--output", str(folder / "roundtrip")]
        server, url = start_server(options.mlflow, folder)
        try:
            experiment = make_experiment(url, f"img2prompt {time.strftime('%Y-%m-%d %H:%M:%S')}")
            asked = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_EXPORTER_OTLP_HEADERS": f"x-mlflow-experiment-id={experiment}",
            }
            print("".join(f"{name}={value}\n" for name, value in asked.items()) + f"img2prompt {' '.join(verb)}\n")
            code = subprocess.run([sys.executable, "-m", "img2prompt", *verb], env=untraced() | asked).returncode
            traces = read_traces(options.mlflow, url, experiment)
            print(f"\nMLflow holds {len(traces)} trace, {sum(map(len, traces))} spans\n")
            for spans in traces:
                show(spans)
            if options.keep:
                print(f"\n{url}/#/experiments/{experiment}/traces   (Ctrl-C ends the server)")
                server.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            server.terminate()
            server.wait(30)
    return code or int(not traces)


if __name__ == "__main__":
    sys.exit(main())

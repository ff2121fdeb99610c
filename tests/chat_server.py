"""Servers of chats on this machine: a real one of transformers, and one that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """`transformers serve` with a model; gives its address."""
    port = free_port()
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(model), "--port", str(port), "--host", "127.0.0.1"]
    with log.open("w") as lines:
        server = subprocess.Popen(
            [*command, "--device", "cpu", "--dtype", "float32"],
            stdout=lines,
            stderr=lines,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}") from None
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(10)


class Reply:
    """What the misbehaving server sends: a status, headers and a body."""

    def __init__(self, status: int, body: str, wait_s: float = 0.0, **headers: str) -> None:
        self.status, self.body, self.wait_s = status, body, wait_s
        self.headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}


def said(text: str | None, reason: str = "stop", **message: Any) -> Reply:
    """A chat completion."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text, **message}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Reply(200, json.dumps(body))


def refused(status: int, message: str, param: str | None = None, **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"message": message, "param": param, "type": "x"}}), **headers)


@contextlib.contextmanager
def misbehaving(
    reply: Callable[[dict[str, Any], int], Reply],
) -> Iterator[tuple[str, list[tuple[float, dict[str, Any]]]]]:
    """A server that answers its n-th request with `reply(request, n)`; gives address and requests with their times."""
    asked: list[tuple[float, dict[str, Any]]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append((time.monotonic(), request))
                sent = reply(request, len(asked) - 1)
            time.sleep(sent.wait_s)
            body = sent.body.encode()
            with contextlib.suppress(OSError):  # who waited too long has gone
                self.send_response(sent.status)
                for name, value in {**sent.headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

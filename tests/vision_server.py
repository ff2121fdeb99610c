"""A server on localhost that speaks the chat API with pictures; each answer is what the test laid ready."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass
class Reply:
    """What one request gets."""

    text: str = ""
    status: int = 200
    kind: str = "application/json"
    body: bytes | None = None  # instead of a chat answer
    refusal: str | None = None
    finish: str = "stop"
    after_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class VisionServer:
    """The server's address, what it was asked, and how it answers: a function of the request and its number."""

    url: str
    answer: Callable[[Request, int], Reply]
    requests: list[Request] = field(default_factory=list)


def verdict(*rows: tuple[str, str], why: str = "", unrequested: tuple[str, ...] = ()) -> str:
    """A well-formed answer."""
    asked = [{"asked": words, "met": met} for words, met in rows]
    return json.dumps({"requirements": asked, "unrequested": list(unrequested), "why": why})


@contextlib.contextmanager
def serving(answer: Callable[[Request, int], Reply]) -> Iterator[VisionServer]:
    """Runs the server while the context lasts."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                server.requests.append(request)
                number = len(server.requests)
            reply = server.answer(request, number)
            time.sleep(reply.after_s)
            message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
            whole = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            body = json.dumps(whole).encode() if reply.body is None else reply.body
            with contextlib.suppress(OSError):  # who waited for the time-out is gone
                self.send_response(reply.status)
                for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = VisionServer(f"http://127.0.0.1:{http.server_address[1]}/v1", answer)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()

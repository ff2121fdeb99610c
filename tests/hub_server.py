"""A small Hugging Face hub on localhost: the listing, HEAD and ranged GET, as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds and does."""

    repository: str
    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)  # other bytes than those that are announced
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection breaks, one a long body
    ranges: list[str] = field(default_factory=list)  # Range headers of the requests
    bodies: int = 0  # GET requests for files
    endpoint: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Runs the hub while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keeps the tests' output clean."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            if path.startswith(f"/api/models/{hub.repository}"):
                self._send(json.dumps(_listing(hub)).encode(), {}, body)
            elif path.startswith(f"/{hub.repository}/resolve/") and body and path.endswith((".bin", ".safetensors")):
                self.send_response(302)  # the real hub hands large files to another server
                self.send_header("Location", f"/elsewhere/{path.rsplit('/', 1)[1]}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif path.startswith((f"/{hub.repository}/resolve/", "/elsewhere/")):
                self._file(path.rsplit("/", 1)[1], body)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _file(self, name: str, body: bool) -> None:
            if name not in hub.files:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            announced = hub.files[name]
            data = hub.served.get(name, announced)
            digest = hashlib.sha256(announced).hexdigest()
            headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(announced))}
            hub.bodies += body
            self._send(data, headers, body)

        def _send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
            start, asked = 0, self.headers.get("Range")
            if asked and body:
                hub.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").split("-")[0])
                headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            self.send_response(206 if start else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if body:
                part = data[start:]
                if hub.cuts and "ETag" in headers and len(part) > 1000:
                    self.wfile.write(part[: hub.cuts.pop(0)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                    return
                self.wfile.write(part)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _listing(hub: Hub) -> dict[str, object]:
    siblings = [
        {
            "rfilename": name,
            "size": len(data),
            "blobId": "0" * 40,
            "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134},
        }
        for name, data in hub.files.items()
    ]
    return {"_id": "1", "id": hub.repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

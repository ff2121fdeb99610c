"""URLs, against a server that misbehaves in every way on purpose."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from img2prompt.errors import FetchError, ImageEmpty, ImageError, ImageTooLarge, NotAnImage
from img2prompt.pairs.images import Limits, open_image, read_bytes


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """One path, one behaviour."""

    sent_bytes = 0
    requests = 0
    authorization: str | None = None

    def log_message(self, *args: object) -> None:
        """Keeps the test output quiet."""

    def _answer(self, body: bytes, kind: str = "image/png", length: int | None = -1) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, target: str, code: int = 302) -> None:
        self.send_response(code)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _endless(self, length: int | None) -> None:
        Handler.sent_bytes = 0
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        for _ in range(1000):
            Handler.sent_bytes += self.wfile.write(b"\0" * 65536)

    def _drip(self, what: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if what == "body" else b"X-Slow: "))
        for _ in range(100):
            self.wfile.write(b"a")
            self.wfile.flush()
            time.sleep(0.1)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        Handler.requests += 1
        Handler.authorization = self.headers.get("Authorization")
        answers: dict[str, Callable[[], object]] = {
            "/good.png": lambda: self._answer(png()),
            "/octets": lambda: self._answer(png(), "application/octet-stream"),
            "/no-length": lambda: self._answer(png(), length=None),
            "/ein%20bild%C3%A4.png": lambda: self._answer(png()),
            "/page": lambda: self._answer(b"<!doctype html><p>no</p>", "text/html; charset=utf-8"),
            "/hidden-page": lambda: self._answer(b"<!doctype html><p>no</p>", "image/png"),
            "/empty": lambda: self._answer(b""),
            "/text": lambda: self._answer(b"words, words", "text/plain"),
            "/short": lambda: self._answer(png()[:30], length=len(png())),
            "/once": lambda: self._redirect("/good.png", 307),
            "/loop": lambda: self._redirect("/loop"),
            "/chain": lambda: self._redirect("/chain?" + self.path.partition("?")[2] + "x"),
            "/to-file": lambda: self._redirect("file:///etc/hostname"),
            "/to-ftp": lambda: self._redirect("ftp://example.org/a.png"),
            "/nowhere": lambda: self.send_error(302),
            "/elsewhere": lambda: self._redirect(f"http://localhost:{self.server.server_port}/good.png"),
            "/big": lambda: self._endless(None),
            "/big-said": lambda: self._endless(65_536_000),
            "/drip-body": lambda: self._drip("body"),
            "/drip-head": lambda: self._drip("head"),
            "/silent": lambda: time.sleep(3),
            "/garbage": lambda: self.wfile.write(b"\0\1\2 not http\r\n\r\n"),
        }
        with contextlib.suppress(ConnectionError):
            answers.get(path, lambda: self.send_error(404))()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def failure(url: str, **limits: float) -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(url, Limits(**limits))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "path", ["/good.png", "/octets", "/no-length", "/once", "/ein bild\u00e4.png", "/good.png#top"]
)
def test_a_picture_arrives(site: str, path: str) -> None:
    assert open_image(site + path).size == (20, 10)
    assert read_bytes(site + path) == png()


def test_what_is_no_picture_says_so(site: str) -> None:
    page = failure(site + "/page")
    assert isinstance(page, FetchError) and "web page (HTML)" in str(page)
    assert isinstance(failure(site + "/hidden-page"), NotAnImage)
    assert isinstance(failure(site + "/text"), NotAnImage)
    assert isinstance(failure(site + "/empty"), ImageEmpty)
    missing = failure(site + "/absent")
    assert isinstance(missing, FetchError) and "404 (Not Found)" in str(missing)
    short = failure(site + "/short")
    assert isinstance(short, FetchError) and "30 of" in str(short)


def test_redirects_end_somewhere(site: str) -> None:
    for path in ("/loop", "/chain"):
        Handler.requests = 0
        error = failure(site + path)
        assert Handler.requests == 6
        assert isinstance(error, FetchError) and "redirects more than 5 times" in str(error)
    for path in ("/to-file", "/to-ftp"):
        error = failure(site + path)
        assert isinstance(error, FetchError) and "only http and https" in str(error)
    assert "HTTP 302" in str(failure(site + "/nowhere"))


@pytest.mark.parametrize("path", ["/big", "/big-said"])
def test_too_many_bytes_are_not_taken(site: str, path: str) -> None:
    error = failure(site + path, max_bytes=200_000)
    assert isinstance(error, ImageTooLarge)
    assert Handler.sent_bytes < 30_000_000  # what fits into the socket's buffers, not the 65 MB on offer


@pytest.mark.parametrize("path", ["/drip-body", "/drip-head", "/silent"])
def test_the_deadline_is_for_everything(site: str, path: str) -> None:
    before = threading.active_count()
    started = time.monotonic()
    error = failure(site + path, timeout_s=0.6)
    assert isinstance(error, FetchError) and "within 0.6 s" in str(error)
    assert time.monotonic() - started < 1.5
    deadline = time.monotonic() + 2
    while any(t.name == "img2prompt-fetch" for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(t.name == "img2prompt-fetch" for t in threading.enumerate()), before  # its socket was closed


@pytest.mark.parametrize(
    "url, says",
    [
        ("file:///etc/hostname", "only http and https"),
        ("ftp://example.org/a.png", "only http and https"),
        ("http://", "names no host"),
        ("http://127.0.0.1:1/a.png", "refuses"),
        ("http://127.0.0.1:port/a.png", "not a usable URL"),
        ("http://[::1/a.png", "not a usable URL"),
        ("http://name.invalid/a.png", "not known"),
        ("http://a\u0000b/", ""),
    ],
)
def test_unusable_addresses(url: str, says: str) -> None:
    error = failure(url, timeout_s=5.0)
    assert isinstance(error, FetchError) and says in str(error)


def test_a_host_that_does_not_speak_http(site: str) -> None:
    assert "does not speak HTTP" in str(failure(site + "/garbage"))
    secure = failure(site.replace("http://", "https://") + "/good.png", timeout_s=5.0)
    assert isinstance(secure, FetchError)


def test_credentials_are_used_and_never_shown(site: str) -> None:
    private = site.replace("http://", "http://me:s%3Ccret@")
    assert open_image(private + "/good.png").size == (20, 10)
    assert Handler.authorization == "Basic " + b64encode(b"me:s<cret").decode()
    open_image(private + "/elsewhere")
    assert Handler.authorization is None  # another host does not get them
    for path in ("/absent?token=hidden", "/page", "/loop"):
        message = str(failure(private + path))
        assert "cret" not in message and "hidden" not in message and "me:" not in message

"""The bytes behind a URL, within a total deadline and a limit of bytes; only http and https."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import threading
from base64 import b64encode
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from img2prompt._version import __version__
from img2prompt.errors import FetchError, ImageTooLarge

_MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SECRET = re.compile(r"(?i)([?&][^=&]*(?:token|key|secret|sig|password|credential|auth)[^=&]*=)[^&]*")


def is_url(source: object) -> bool:
    """Whether the user named a URL, of whatever scheme (a Path never is one)."""
    return isinstance(source, str) and _SCHEME.match(source) is not None


def shown_url(url: str) -> str:
    """The URL without user, password and secret-looking parameters, fit for messages and result files."""
    head, separator, rest = url.partition("://")
    host, slash, tail = re.match(r"([^/?#]*)(/?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    return head + separator + host.rpartition("@")[2] + slash + _SECRET.sub(r"\1***", tail)


def printable(text: str) -> str:
    """`text` with escapes for what would break or colour a line of output, or cannot be encoded."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def fetch(url: str, name: str, max_bytes: int, timeout_s: float) -> bytes:
    """Downloads `url`.

    The work is done on a thread of its own, because look-ups and slow servers cannot be interrupted otherwise; at the
    deadline its socket is closed, so that the thread ends too.

    Args:
        url: http or https; user and password in it are sent as Basic authorization to its host only.
        name: what errors call it (without credentials).
        max_bytes: never more than one byte over it is read.
        timeout_s: for everything: look-up, connection, redirects and body.

    Raises:
        FetchError: scheme, address, connection, TLS, HTTP status, redirects, time-out, HTML, or a short body.
        ImageTooLarge: more than `max_bytes`.
    """
    download = _Download(url, name, max_bytes, timeout_s)
    thread = threading.Thread(target=download.run, name="img2prompt-fetch", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        download.abort()
        raise FetchError(name, f"did not arrive within {timeout_s:g} s; try again or raise timeout_s")
    if download.error is not None:
        raise download.error
    return download.data


class _Download:
    """One download; `run` leaves its outcome in `data` or `error`."""

    def __init__(self, url: str, name: str, max_bytes: int, timeout_s: float) -> None:
        self.data = b""
        self.error: BaseException | None = None
        self._url, self._name, self._max_bytes, self._timeout_s = url, name, max_bytes, timeout_s
        self._sockets: list[socket.socket] = []
        self._aborted = False

    def run(self) -> None:
        try:
            self.data = self._download()
        except BaseException as error:  # handed to the thread that asked for the image
            self.error = error
        finally:
            for sock in self._sockets:
                sock.close()

    def abort(self) -> None:
        self._aborted = True
        for sock in self._sockets:
            _shut(sock)

    def _connect(self, *args: Any, **kwargs: Any) -> socket.socket:
        sock = socket.create_connection(*args, **kwargs)
        self._sockets.append(sock.dup())  # TLS takes the first one over; the second can still end the connection
        if self._aborted:
            _shut(sock)
        return sock

    def _download(self) -> bytes:
        try:
            request = _request(self._url, self._name)
            for _ in range(_MAX_REDIRECTS + 1):
                # Not urllib's redirect handler: it reads the body of a redirect without a limit.
                try:
                    with self._opener().open(request, timeout=self._timeout_s) as response:
                        return self._body(response)
                except HTTPError as error:
                    error.close()
                    request = self._redirected(request, error)
        except (URLError, OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(self._name, _why(error, self._timeout_s)) from error
        raise FetchError(self._name, f"redirects more than {_MAX_REDIRECTS} times; give the final address")

    def _redirected(self, request: Request, error: HTTPError) -> Request:
        target = error.headers.get("Location")
        if error.code not in (301, 302, 303, 307, 308) or not target:
            raise FetchError(self._name, f"the server answered HTTP {error.code}{_phrase(error.code)}") from error
        return _request(urljoin(request.full_url, target), self._name, redirected=True)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise FetchError(self._name, "is a web page (HTML), not an image; give the address of the image itself")
        expected = response.length  # None: the server did not say
        data = bytearray()
        while len(data) <= self._max_bytes and (expected is None or expected <= self._max_bytes):
            part = response.read1(min(_CHUNK_BYTES, self._max_bytes + 1 - len(data)))
            if not part:
                break
            data += part
        if len(data) > self._max_bytes or (expected or 0) > self._max_bytes:
            raise ImageTooLarge(self._name, f"is over the limit of {self._max_bytes:,} bytes; raise max_bytes")
        if expected is not None and len(data) < expected:
            raise FetchError(self._name, f"the connection closed after {len(data):,} of {expected:,} bytes; try again")
        return bytes(data)

    def _opener(self) -> OpenerDirector:
        opener = OpenerDirector()
        watched = (ProxyHandler(), _Http(self._connect), _Https(self._connect))
        for handler in (*watched, HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
            opener.add_handler(handler)
        return opener


class _Http(HTTPHandler):
    """Plain connections whose sockets are known to the download."""

    def __init__(self, connect: Any) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **kwargs: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, **kwargs)
        connection._create_connection = self._connect  # type: ignore[attr-defined]
        return connection


class _Https(HTTPSHandler):
    """TLS connections whose sockets are known to the download."""

    def __init__(self, connect: Any) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **kwargs: Any) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(), **kwargs)
        connection._create_connection = self._connect  # type: ignore[attr-defined]
        return connection


def _request(url: str, name: str, *, redirected: bool = False) -> Request:
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https"):
        where = "redirects to" if redirected else "has"
        raise FetchError(name, f"{where} the scheme {printable(parts.scheme)!r}; only http and https are read")
    user, _, host = parts.netloc.rpartition("@")
    if not host or not parts.hostname:
        raise FetchError(name, "names no host; write http://host/path")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    path, query = (quote(part, safe="%/:=&?~+!$,;'@()*[]|") for part in (parts.path, parts.query))
    request = Request(urlunsplit((parts.scheme, host, path, query, "")))
    request.add_header("User-Agent", f"img2prompt/{__version__}")
    request.add_header("Accept", "image/*,*/*;q=0.5")
    if user:  # unredirected: another host must not see them
        request.add_unredirected_header("Authorization", "Basic " + b64encode(unquote(user).encode()).decode("ascii"))
    return request


def _phrase(code: int) -> str:
    return f" ({HTTPStatus(code).phrase})" if code in HTTPStatus._value2member_map_ else ""


def _why(error: Exception, timeout_s: float) -> str:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return f"did not arrive within {timeout_s:g} s; try again or raise timeout_s"
    if isinstance(cause, socket.gaierror):
        return "its host is not known; check the address and the connection"
    if isinstance(cause, ConnectionRefusedError):
        return "its host refuses the connection; check the address"
    if isinstance(cause, ssl.SSLError):
        return "no secure connection to its host (TLS: " + printable(cause.reason or "failed") + ")"
    if isinstance(cause, http.client.InvalidURL):
        return "is not a usable URL; check the address"
    if isinstance(cause, http.client.HTTPException | ConnectionError):
        return "its host broke off or does not speak HTTP; try again"
    if isinstance(cause, OSError) and cause.errno is not None:
        return f"could not be fetched ({os.strerror(cause.errno)})"
    return "is not a usable URL; check the address"


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # not connected any more: nothing waits on it

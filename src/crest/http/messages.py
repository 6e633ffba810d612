"""What little HTTP there is beside the WebSocket: the request as handlers see it, and responses as bytes.

Owns queries, cookies, response headers and their serialization (RFC 9110, RFC 9112). It knows no socket:
the holder of the connection sends what `serialize` returns and then, for a `FileResponse`, the pieces of its file.
Parsing a request head is `wire.head`'s.
"""

import io
import json
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from crest.exceptions import HandshakeError
from crest.wire.head import RequestHead, path_of, split_target

PIECE: Final = 256 * 1024
"""Bytes of a file that are read, and queued for sending, at once."""

WHITESPACE: Final = " \t"  # OWS, RFC 9110 section 5.6.3

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")  # token, RFC 9110 section 5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*+")  # field-value, section 5.5: no CR, LF, NUL
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})  # what `serialize` decides

_EMPTY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})
"""Status codes of responses that have no content, whatever was given (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)."""


def keeps_alive(head: RequestHead) -> bool:
    """True if the connection may carry another request after this one (RFC 9112 section 9.3).

    Not after a request with a body, which crest does not read. With HTTP/1.0 the client must have asked for it.
    """
    if head.announces_body() or head.lists(b"Connection", b"close"):
        return False
    return head.version == "1.1" or head.lists(b"Connection", b"keep-alive")


class Request:
    """A request, as `conn.request` and the handlers of `@app.get` see it. Everything is parsed when first asked for.

    Args:
        head: The parsed request head.
        client: Address and port of the client, see `WebSocketConnection.remote_address`; None if unknown.
        scheme: "http", or "https" over TLS.
    """

    __slots__ = ("_cookies", "_head", "_query", "client", "scheme")

    def __init__(self, head: RequestHead, client: tuple[str, int] | None, scheme: str = "http") -> None:
        self.client: tuple[str, int] | None = client
        self.scheme: str = scheme
        self._head = head
        self._query: MultiDictProxy[str] | None = None
        self._cookies: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    @property
    def method(self) -> str:
        """The method; case-sensitive."""
        return self._head.method

    @property
    def target(self) -> str:
        """The request target exactly as it was sent."""
        return self._head.target

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The header fields: names in any case, values decoded as Latin-1. `getall` gives repeated ones."""
        return self._head.headers

    @property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8 with errors replaced, without the query; "" if the target has none."""
        return path_of(self._head.target)

    @property
    def raw_path(self) -> str:
        """The path as it was sent, percent-encoded, without the query."""
        return split_target(self._head.target)[0]

    @property
    def query_string(self) -> str:
        """The part behind the "?", as it was sent; "" without one."""
        return split_target(self._head.target)[1]

    @property
    def query(self) -> MultiDictProxy[str]:
        """The query's decoded parameters in their order, blank ones included. `getall` gives repeated ones."""
        if self._query is None:
            pairs = parse_qsl(self.query_string, keep_blank_values=True, errors="replace")
            self._query = MultiDictProxy(MultiDict(pairs))
        return self._query

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name; see `parse_cookies`."""
        if self._cookies is None:
            self._cookies = parse_cookies("; ".join(self._head.headers.getall("Cookie", ())))
        return self._cookies


def parse_cookies(value: str) -> dict[str, str]:
    """Find the cookies in a Cookie header (RFC 6265 section 4.2).

    A part without a name or a "=" is skipped and costs no other cookie. Of several with one name the first counts:
    browsers send the one with the most specific path first (section 5.4). Double quotes around a value are removed.

    Only spaces and tabs are whitespace (section 5.2). Python knows more, and a name behind a no-break space must not
    become one that browsers keep for themselves ("__Host-", RFC 6265bis section 4.1.3).
    """
    cookies: dict[str, str] = {}
    for part in value.split(";"):
        name, equals, content = part.partition("=")
        name, content = name.strip(WHITESPACE), content.strip(WHITESPACE)
        if len(content) >= 2 and content[0] == content[-1] == '"':
            content = content[1:-1]
        if equals and name:
            cookies.setdefault(name, content)
    return cookies


class Response:
    """A response to a plain HTTP request.

    A `str` is sent as UTF-8. Without a content type, a `str` is "text/html; charset=utf-8" and bytes are
    "application/octet-stream".

    Args:
        body: The content.
        status: HTTP status code, 200 to 599.
        headers: Header fields, as a mapping or as (name, value) pairs; pairs may repeat a name (Set-Cookie).
        content_type: The Content-Type header. A text type without a charset gets "; charset=utf-8" if `body` is `str`.

    Raises:
        TypeError: `body` is neither `str` nor bytes-like.
        ValueError: The status is out of range, or a header is malformed, one that crest sets itself (Connection,
            Content-Length, Transfer-Encoding), or a second Content-Type.
    """

    def __init__(
        self,
        body: str | bytes | bytearray | memoryview = b"",
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        content_type: str | None = None,
    ) -> None:
        if not issubclass(type(body), str | bytes | bytearray | memoryview):
            raise TypeError(f"the body of a Response is str or bytes, not {type(body).__name__}")
        if not 200 <= status <= 599:
            raise ValueError(f"the status of a Response is 200 to 599, not {status}")
        fields = CIMultiDict[str]()
        for name, value in headers.items() if isinstance(headers, Mapping) else headers or ():
            fields.add(*_checked_field(name, value))
        if content_type is not None:
            if "Content-Type" in fields:
                raise ValueError("Content-Type is given twice: in headers and as content_type")
            if isinstance(body, str) and content_type.startswith("text/") and "charset=" not in content_type.lower():
                content_type += "; charset=utf-8"
            fields.add(*_checked_field("Content-Type", content_type))
        elif body and "Content-Type" not in fields:
            content_type = "text/html; charset=utf-8" if isinstance(body, str) else "application/octet-stream"
            fields.add("Content-Type", content_type)
        self._status = int(status)
        self._headers = CIMultiDictProxy(fields)
        self._body = str.encode(body) if isinstance(body, str) else bytes(memoryview(body))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._status} {self.size} bytes>"

    @property
    def status(self) -> int:
        """The HTTP status code."""
        return self._status

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """The header fields, read-only: they were checked when they were given."""
        return self._headers

    @property
    def body(self) -> bytes:
        """The content; empty for a `FileResponse`."""
        return self._body

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self._body)


class FileResponse(Response):
    """A response whose content is read from an open file, so that size and content are of one and the same file.

    Its receiver closes it, whether or not anything was read (the response to a HEAD request has no content).

    Args:
        file: The file, unbuffered, positioned where the content begins.
        size: Bytes of it to send.
        path: The name of the file, for errors.
        status: As in `Response`.
        headers: As in `Response`.
        content_type: The Content-Type header, taken as it is.
    """

    def __init__(
        self,
        file: io.RawIOBase,
        size: int,
        path: str,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        super().__init__(b"", status, headers, content_type)
        self.path = path
        self._file = file
        self._size = self._left = size

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self._size

    def read(self, limit: int = PIECE) -> bytes:
        """Read the next piece of content, at most `limit` bytes; b"" once all was read. Blocks: call it in an executor.

        Raises:
            OSError: The file cannot be read, or has become shorter. The response cannot be completed then: its
                Content-Length was sent, so the connection must be cut off.
        """
        if not self._left:
            return b""
        piece = self._file.read(min(limit, self._left))
        if not piece:
            raise OSError(f"{self.path} became {self._left} bytes shorter while it was sent")
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        """Close the file. Closing twice is a no-op."""
        self._file.close()


def to_response(value: object) -> Response:
    """Make a response of what a handler returned: `str` is HTML, bytes-like is binary, `dict` is sent as JSON.

    Raises:
        TypeError: It is something else, or the `dict` holds what JSON cannot.
        ValueError: The `dict` holds NaN, an infinity or itself.
    """
    if isinstance(value, Response):
        return value
    if isinstance(value, str | bytes | bytearray | memoryview):
        return Response(value)
    if isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Response(text, content_type="application/json")
    raise TypeError(f"a handler returns str, bytes, dict or Response, not {type(value).__name__}")


def error_response(error: HandshakeError) -> Response:
    """Make the response to a refused request: the reason, as plain text unless the headers say otherwise."""
    headers = [*error.headers, ("X-Content-Type-Options", "nosniff")]
    if error.status == HTTPStatus.UPGRADE_REQUIRED:
        headers.append(("Upgrade", "websocket"))  # required by RFC 9110 section 15.5.22
    content_type = None if any(name.lower() == "content-type" for name, _ in headers) else "text/plain"
    return Response(f"{error.reason}\n", error.status, headers, content_type)


def serialize(response: Response, *, head_only: bool, keep_alive: bool, version: str = "1.1") -> bytes:
    """Return the bytes of a response; for a `FileResponse` those before the file's.

    Args:
        response: The response.
        head_only: The request was HEAD: the headers speak of the content, which is not sent.
        keep_alive: Another request may follow on the connection; else the response says that it closes.
        version: Of HTTP, the request's: with "1.0", the response must say so if the connection stays open.
    """
    status, headers = response.status, response.headers
    lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "Date" not in headers:
        lines.append(f"Date: {_date(int(time.time()))}")
    options = ["Upgrade"] if "Upgrade" in headers else []  # RFC 9110 section 7.8
    if not keep_alive:
        options.append("close")
    elif version == "1.0":
        options.append("keep-alive")
    if options:
        lines.append(f"Connection: {', '.join(options)}")
    if status == HTTPStatus.RESET_CONTENT:
        lines.append("Content-Length: 0")
    elif status not in _EMPTY:
        lines.append(f"Content-Length: {response.size}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only or status in _EMPTY else head + response.body


def _checked_field(name: str, value: str) -> tuple[str, str]:
    """Check a header field. Returns copies that are no subclass of str, whose methods could raise or change it later.

    Raises:
        TypeError, ValueError: HTTP does not allow it, or crest sets it.
    """
    name, value = str.__str__(name), str.__str__(value)
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"not a header name: {name!r}")
    if name.lower() in _FRAMING:
        raise ValueError(f"crest sets the header {name} itself")
    if _VALUE.fullmatch(value) is None:
        raise ValueError(f"the header {name} has a value that HTTP does not allow: {value!r}")
    return name, value


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""  # the phrase is optional, the space before it is not (RFC 9112 section 4)


@lru_cache(maxsize=1)
def _date(now: int) -> str:
    """Format the Date header of responses that are sent in this second (POSIX time)."""
    return formatdate(now, usegmt=True)

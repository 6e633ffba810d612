"""The opening handshake on the server's side (RFC 6455 section 4.2): request bytes -> RequestHead -> response bytes.

Owns the limits on a request head, every check that the RFC asks of one, and the choice of a subprotocol. It knows no
path, no Origin policy and no handler, and does no I/O: whoever holds the connection feeds bytes and sends the result.

httptools (llhttp, strict) is the judge of the bytes. What it accepts has no bare CR or LF, no obsolete line folding, no
space before a colon and only tokens as names, so the head is then simply the lines between CRLFs.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from multidict import CIMultiDict, CIMultiDictProxy, istr

from crest.exceptions import HandshakeError

HOST: Final = istr("Host")
UPGRADE: Final = istr("Upgrade")
CONNECTION: Final = istr("Connection")
CONTENT_LENGTH: Final = istr("Content-Length")
TRANSFER_ENCODING: Final = istr("Transfer-Encoding")
KEY: Final = istr("Sec-WebSocket-Key")
VERSION: Final = istr("Sec-WebSocket-Version")
PROTOCOL: Final = istr("Sec-WebSocket-Protocol")
EXTENSIONS: Final = istr("Sec-WebSocket-Extensions")

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What the key is hashed with (RFC 6455 section 1.3)."""

WHITESPACE: Final = " \t"
"""OWS of RFC 9110 section 5.6.3."""

TLS_HANDSHAKE: Final = 0x16
"""First byte of a TLS ClientHello (the content type of RFC 8446 section 5.1); no HTTP method starts with it."""

MAX_SHOWN: Final = 60
"""Characters of a peer's value that an error text repeats."""

# Every pattern is linear: repeats are possessive, or end where no other way to match begins.
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")  # RFC 9110 section 5.6.2
_QUOTED_PAIR: Final = re.compile(r"\\(.)")  # RFC 9110 section 5.6.4
_HOST: Final = re.compile(r"[A-Za-z0-9\-._~%!$&'()*+,;=:\[\]]++")  # uri-host [":" port], RFC 9110 section 7.2
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")  # base64 of 16 bytes: the 22nd character carries 2 bits

_RESPONSE_HEAD: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

Extension = tuple[str, list[tuple[str, str | None]]]
"""An extension that a client offers: its name, and its parameters as (name, value)."""


class RequestHead:
    """The request line and the header fields of one request.

    Attributes:
        method: As it was sent: methods are case-sensitive.
        target: The request target, percent-encoded, ASCII.
        version: "1.1" or "1.0".
        headers: Values are decoded as Latin-1, without the whitespace around them.
        raw: Exactly the bytes of the head, with the empty line that ends it.
    """

    __slots__ = ("headers", "method", "raw", "target", "version")

    def __init__(self, method: str, target: str, version: str, headers: CIMultiDictProxy[str], raw: bytes) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        self.raw = raw


class HeadReader:
    """Reads the head of one request from bytes that may be split anywhere.

    What is malformed is refused with the first chunk that shows it. Bytes behind the head are never looked at.

    Args:
        max_size: Bytes that the head may have, its last empty line included.
        max_headers: Header fields that it may have.

    Attributes:
        rest: Once the head is complete, the bytes that came behind it.
    """

    __slots__ = ("_buffer", "_max_headers", "_max_size", "_parser", "_skipped", "rest")

    def __init__(self, max_size: int = 16384, max_headers: int = 100) -> None:
        self.rest = b""
        self._max_size = max_size
        self._max_headers = max_headers
        self._skipped = 0
        self._buffer = bytearray()
        self._parser = HttpRequestParser(None)  # without callbacks it only judges: no Python call for each header

    def feed(self, data: bytes) -> RequestHead | None:
        """Take the next bytes of the connection. Not to be called again once the head is complete.

        Returns:
            The head, or None while more bytes are needed.

        Raises:
            HandshakeError: 400 malformed, 431 too large or too many header fields, 505 not HTTP/1.
        """
        known = len(self._buffer)
        if known:
            self._buffer += data
        elif not data or data[0] <= TLS_HANDSHAKE:
            data = self._skip_empty_lines(data)
            if not data:
                return None
        whole: bytes | bytearray = self._buffer if known else data
        end = whole.find(b"\r\n\r\n", max(known - 3, 0), self._max_size) + 4
        if end >= 4:
            self._judge(data[: end - known])
            self.rest = data[end - known :]
            return _split(bytes(whole[:end]), self._max_headers)
        self._judge(data[: self._max_size - known])
        if len(whole) >= self._max_size:
            raise HandshakeError(431, f"the request head is longer than {self._max_size} bytes")
        if not known:
            self._buffer += data
        return None

    def _skip_empty_lines(self, data: bytes) -> bytes:
        """Without the empty lines that may precede a request line (RFC 9112 section 2.2)."""
        found = data.lstrip(b"\r\n")
        if len(found) != len(data):
            self._skipped += len(data) - len(found)
            if self._skipped > self._max_size:
                raise HandshakeError(431, f"more than {self._max_size} bytes of empty lines before the request line")
        if found and found[0] == TLS_HANDSHAKE:
            raise HandshakeError(400, "this looks like a TLS handshake, but this port speaks plain HTTP, not HTTPS")
        return found

    def _judge(self, chunk: bytes) -> None:
        try:
            self._parser.feed_data(chunk)
        except HttpParserUpgrade:
            pass  # how httptools says that the head is complete and asks for an upgrade
        except HttpParserError as error:
            raise HandshakeError(400, f"malformed HTTP request: {error}") from None


def parse_head(raw: bytes) -> RequestHead:
    """The head again from `RequestHead.raw`: keeping only the bytes takes less memory than keeping the parsed head.

    Raises:
        HandshakeError: `raw` is malformed.
        ValueError: `raw` is not one complete head.
    """
    reader = HeadReader(max_size=len(raw) + 1, max_headers=len(raw))
    head = reader.feed(raw)
    if head is None or reader.rest:
        raise ValueError("not one complete request head")
    return head


def _split(raw: bytes, max_headers: int) -> RequestHead:
    """Take a head apart that the parser accepted."""
    lines = raw.decode("latin-1").split("\r\n")
    start = lines[0]
    if start.endswith(" HTTP/1.1"):
        version = "1.1"
    elif start.endswith(" HTTP/1.0"):
        version = "1.0"
    else:
        raise HandshakeError(505, f"this port speaks HTTP/1.1, not what the request line says: {shown(start)}")
    if len(lines) - 3 > max_headers:
        raise HandshakeError(431, f"the request has {len(lines) - 3} header fields; the limit is {max_headers}")
    method, _, target = start[:-9].partition(" ")
    pairs = [line.split(":", 1) for line in lines[1:-2]]
    fields = [(name, value.strip(WHITESPACE)) for name, value in pairs]
    return RequestHead(method, target.strip(" "), version, CIMultiDictProxy(CIMultiDict(fields)), raw)


def wants_upgrade(head: RequestHead) -> bool:
    """Whether the request asks for the WebSocket protocol (section 4.2.1, item 3)."""
    return _lists(head.headers.getall(UPGRADE, ()), "websocket")


def announces_body(head: RequestHead) -> bool:
    """Whether bytes behind the head belong to the request (RFC 9112 section 6.3)."""
    length = head.headers.get(CONTENT_LENGTH)
    return TRANSFER_ENCODING in head.headers or (length is not None and length.strip("0") != "")


def check_host(head: RequestHead) -> None:
    """Check the Host header as every HTTP/1.1 request must have it (RFC 9112 section 3.2).

    Raises:
        HandshakeError: 400, it is missing, repeated, empty or malformed.
    """
    host = _only(head, HOST)
    if _HOST.fullmatch(host) is None:
        raise HandshakeError(400, f"Host is not a host name with an optional port: {shown(host)}")


def accept(head: RequestHead, subprotocols: Sequence[str] = ()) -> tuple[bytes, str | None]:
    """Check an upgrade request (section 4.2.1) and answer it (section 4.2.2).

    Extensions that are offered must be well-formed; all are declined.

    Args:
        head: The request.
        subprotocols: What the server speaks, most preferred first.

    Returns:
        The response bytes, and the subprotocol: the first of the server's that the client offers, or None.

    Raises:
        HandshakeError: 400 for a bad handshake; 426 if it is none, or asks for another version than 13.
    """
    key = _check_upgrade(head)
    headers = head.headers
    if EXTENSIONS in headers:
        parse_extensions(",".join(headers.getall(EXTENSIONS)))
    accepted = b64encode(sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest())
    subprotocol = None
    if PROTOCOL in headers:
        offered = parse_subprotocols(",".join(headers.getall(PROTOCOL)))
        subprotocol = next((name for name in subprotocols if name in offered), None)
    if subprotocol is None:
        return _RESPONSE_HEAD + accepted + b"\r\n\r\n", None
    chosen = b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode("ascii")
    return _RESPONSE_HEAD + accepted + chosen + b"\r\n\r\n", subprotocol


def _check_upgrade(head: RequestHead) -> str:
    """Check what every opening handshake needs (section 4.2.1); returns its key."""
    if head.method != "GET":
        raise HandshakeError(400, f"the method of an opening handshake is GET, not {shown(head.method)}")
    if head.version != "1.1":
        raise HandshakeError(400, f"an opening handshake takes HTTP/1.1, not HTTP/{head.version}")
    check_host(head)
    headers = head.headers
    if not wants_upgrade(head):
        raise HandshakeError(426, "this is a WebSocket endpoint: the request needs the header 'Upgrade: websocket'")
    if not _lists(headers.getall(CONNECTION, ()), "upgrade"):
        values = ", ".join(headers.getall(CONNECTION, ()))
        raise HandshakeError(400, f"Connection does not contain 'Upgrade': {shown(values)}")
    if announces_body(head):
        raise HandshakeError(400, "an opening handshake has no body, but Content-Length or Transfer-Encoding says so")
    version = _only(head, VERSION)
    if version != "13":  # section 4.2.2, item 4
        text = f"Sec-WebSocket-Version is not 13, the only version spoken here: {shown(version)}"
        raise HandshakeError(426, text, (("Sec-WebSocket-Version", "13"),))
    key = _only(head, KEY)
    if _KEY.fullmatch(key) is None:
        raise HandshakeError(400, f"Sec-WebSocket-Key is not the base64 of 16 bytes: {shown(key)}")
    return key


def parse_subprotocols(value: str) -> list[str]:
    """The names in a Sec-WebSocket-Protocol header, which is 1#token (section 11.3.4), in the client's order.

    Args:
        value: The header's value; of several headers, the values joined with commas.

    Raises:
        HandshakeError: 400, an element is not a token, or there is none.
    """
    stripped = [element.strip(WHITESPACE) for element in value.split(",")]
    names = [name for name in stripped if name]  # a list may have empty elements (RFC 9110 section 5.6.1.2)
    if not names:
        raise HandshakeError(400, f"Sec-WebSocket-Protocol names no subprotocol: {shown(value)}")
    for name in names:
        if not is_token(name):
            raise HandshakeError(400, f"Sec-WebSocket-Protocol has an element that is not a token: {shown(name)}")
    return names


def parse_extensions(value: str) -> list[Extension]:
    """The offers in a Sec-WebSocket-Extensions header, in the client's order (section 9.1).

    Args:
        value: The header's value; of several headers, the values joined with commas.

    Raises:
        HandshakeError: 400, the value does not follow the grammar.
    """
    offers: list[Extension] = []
    # Splitting cannot cut a quoted string apart that is valid here: its content must be a token.
    for element in value.split(","):
        name, *params = element.split(";")
        if params or name.strip(WHITESPACE):  # a list may have empty elements
            offers.append((_extension_token(name), [_parse_param(param) for param in params]))
    if not offers:
        raise HandshakeError(400, f"Sec-WebSocket-Extensions names no extension: {shown(value)}")
    return offers


def _parse_param(text: str) -> tuple[str, str | None]:
    """extension-param = token [ "=" (token / quoted-string) ]"""
    name, equals, argument = text.partition("=")
    if not equals:
        return _extension_token(name), None
    argument = argument.strip(WHITESPACE)
    if len(argument) >= 2 and argument[0] == argument[-1] == '"':
        argument = _QUOTED_PAIR.sub(r"\1", argument[1:-1])
    return _extension_token(name), _extension_token(argument)


def _extension_token(text: str) -> str:
    token = text.strip(WHITESPACE)
    if not is_token(token):
        raise HandshakeError(400, f"Sec-WebSocket-Extensions has {shown(text)} where a token must be")
    return token


def _lists(values: Sequence[str], token: str) -> bool:
    """Whether a list header, given as all its values, has this token in any case."""
    for value in values:
        if value.lower() == token or any(part.strip(WHITESPACE).lower() == token for part in value.split(",")):
            return True
    return False


def _only(head: RequestHead, name: str) -> str:
    """The value of a header that must be there exactly once."""
    values = head.headers.getall(name, ())
    if len(values) != 1:
        raise HandshakeError(400, f"{name} is repeated" if values else f"{name} is missing")
    return values[0]


def shown(value: str) -> str:
    """A peer's value for an error text: quoted, shortened, and with nothing but printable ASCII."""
    return ascii(value) if len(value) <= MAX_SHOWN else ascii(value[:MAX_SHOWN]) + "..."


def is_token(value: str) -> bool:
    """Whether it is a token of RFC 9110 section 5.6.2, as names of subprotocols and extensions are."""
    return _TOKEN.fullmatch(value) is not None

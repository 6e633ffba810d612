"""Upgrade requests, and what a server answers that takes whatever it can."""

from collections.abc import Sequence

import pytest

from crest.exceptions import HandshakeError
from crest.wire.extensions import Agreement, Deflate
from crest.wire.handshake import check
from crest.wire.head import RequestHead, parse_head

PROTOCOL = b"Sec-WebSocket-Protocol: "
EXTENSIONS = b"Sec-WebSocket-Extensions: "
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
)
FIELDS = {
    b"Host": b"a",
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}


def upgrade(*extra: bytes, without: bytes = b"", line: bytes = b"GET /ws HTTP/1.1") -> bytes:
    """An upgrade request that is valid but for one header left out and further ones added."""
    fields = [name + b": " + value for name, value in FIELDS.items() if name != without]
    return b"\r\n".join([line, *fields, *extra, b"", b""])


def request(*extra: bytes, without: bytes = b"") -> RequestHead:
    return parse_head(upgrade(*extra, without=without))


def accept(
    head: RequestHead, subprotocols: Sequence[str] = (), deflate: Deflate | None = None
) -> tuple[bytes, str | None, Agreement | None]:
    """What a server answers that takes whatever it can: response, subprotocol, and what was agreed on."""
    offer = check(head)
    subprotocol = offer.choose(subprotocols)
    response, agreed = offer.accept(subprotocol, deflate=deflate)
    return response, subprotocol, agreed


def refused(head: RequestHead) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        check(head)
    return caught.value

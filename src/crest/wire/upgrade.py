"""The opening handshake on the client's side (RFC 6455 section 4.1): the bytes of the request, and the check of the
response. Sans-I/O.

Owns every check that the RFC asks of a response. response.pyx reads that, extensions.py knows what was offered of
compression. The holder of the connection sends `Upgrade.request`, and has `Upgrade.check` judge what it has read.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final

from crest.exceptions import HandshakeError, UpgradeError, UpgradeRefused
from crest.wire.extensions import Agreement, Deflate, conclude, offer
from crest.wire.fields import Field, extra_fields
from crest.wire.handshake import accept_key, is_host, is_token, parse_extensions
from crest.wire.head import shown
from crest.wire.response import ResponseHead

NONCE_SIZE: Final = 16

SWITCHING_PROTOCOLS: Final = 101

_TARGET: Final = re.compile(r"/[!-\"$-~]*+")  # origin-form of RFC 9112 section 3.2.1: printable ASCII, no fragment


@dataclass(frozen=True, slots=True)
class Opened:
    """What a client and a server have agreed on.

    Attributes:
        subprotocol: The one that is spoken, or None.
        agreed: The `Agreement` on permessage-deflate, or None.
    """

    subprotocol: str | None
    agreed: Agreement | None


class Upgrade:
    """One opening handshake: makes the request, and judges the response to it.

    Args:
        host: The server's name or address, with its port unless that is the scheme's: the Host header.
        target: Path and query, percent-encoded.
        subprotocols: Names to offer, the preferred one first.
        deflate: A `Deflate`, how the client and the server are to compress; None: not at all.
        headers: Further header fields of the request, as pairs of `str` or bytes.
        nonce: 16 bytes from which the key is made, for tests. Else they are chosen at random, as section 4.1 asks.

    Attributes:
        request: The bytes of the request.
        key: The value of its Sec-WebSocket-Key.

    Raises:
        TypeError, ValueError: An argument is of the wrong type, or nothing that a request may have.
    """

    __slots__ = ("_deflate", "_subprotocols", "key", "request")

    def __init__(
        self,
        host: str,
        target: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        deflate: Deflate | None = None,
        headers: Iterable[Field] = (),
        nonce: bytes | None = None,
    ) -> None:
        if not is_host(host):
            raise ValueError(f"not a host name with an optional port: {host!r}")
        if _TARGET.fullmatch(target) is None:
            raise ValueError(f"not a path with an optional query, percent-encoded and without a fragment: {target!r}")
        if nonce is not None and len(nonce) != NONCE_SIZE:
            raise ValueError(f"a nonce has {NONCE_SIZE} bytes, not {len(nonce)}")
        self.key: bytes = b2a_base64(token_bytes(NONCE_SIZE) if nonce is None else nonce, newline=False)
        self._subprotocols = _names(subprotocols)
        self._deflate = deflate
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.key.decode('ascii')}",
            "Sec-WebSocket-Version: 13",
        ]
        if self._subprotocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(self._subprotocols)}")
        if deflate is not None:
            lines.append(f"Sec-WebSocket-Extensions: {offer(deflate)}")
        head = "".join(f"{line}\r\n" for line in lines).encode("ascii")
        self.request: bytes = head + extra_fields(headers) + b"\r\n"

    def check(self, head: ResponseHead, body: bytes = b"") -> Opened:
        """Check the response to the request (section 4.1, behind its second numbered list).

        Args:
            head: Its head.
            body: What was read of its content, if it has any.

        Raises:
            UpgradeRefused: Its status is not 101.
            UpgradeError: It opens no WebSocket for another reason. The connection must be closed.
        """
        if head.status != SWITCHING_PROTOCOLS:
            raise _refusal(head, body)
        if head.version != "1.1":
            raise UpgradeError(f"an opening handshake takes HTTP/1.1, and the server answers in HTTP/{head.version}")
        upgrade = head.joined(b"Upgrade")
        if upgrade is None or upgrade.lower() != "websocket":
            raise UpgradeError(f"the response's Upgrade is not 'websocket': {_told(upgrade)}")
        if not head.lists(b"Connection", b"upgrade"):
            options = _told(head.joined(b"Connection"))
            raise UpgradeError(f"the response's Connection does not contain 'Upgrade': {options}")
        accepted = head.joined(b"Sec-WebSocket-Accept")
        if accepted != accept_key(self.key).decode("ascii"):
            raise UpgradeError(f"Sec-WebSocket-Accept is not the answer to the request's key: {_told(accepted)}")
        return Opened(self._check_subprotocol(head), self._check_extensions(head))

    def _check_subprotocol(self, head: ResponseHead) -> str | None:
        subprotocol = head.joined(b"Sec-WebSocket-Protocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise UpgradeError(f"the server speaks a subprotocol that was not offered: {shown(subprotocol)}")
        return subprotocol

    def _check_extensions(self, head: ResponseHead) -> Agreement | None:
        value = head.joined(b"Sec-WebSocket-Extensions")
        if value is None:
            return None
        try:
            accepted = parse_extensions(value)
        except HandshakeError as error:
            raise UpgradeError(error.reason) from None
        return conclude(accepted, self._deflate, value)


def _names(subprotocols: Sequence[str]) -> tuple[str, ...]:
    """Check what is offered: tokens, each once (section 4.1, item 10)."""
    if isinstance(subprotocols, str):
        raise TypeError(f"subprotocols must be a sequence of names, not the str {subprotocols!r}")
    names = tuple(subprotocols)
    for each in names:
        if not is_token(each):
            raise ValueError(f"not a subprotocol's name (RFC 6455 section 4.1): {each!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"a subprotocol is offered twice: {', '.join(names)}")
    return names


def _refusal(head: ResponseHead, body: bytes) -> UpgradeRefused:
    """Make the exception for a response of another status than 101."""
    headers = tuple(head.headers.items())
    text = f"the server answers {head.status} {shown(head.phrase)[1:-1]}".rstrip() + ", and opens no WebSocket"
    location = head.headers.get("Location")
    if 300 <= head.status < 400 and location is not None:
        text += f"; it redirects to {shown(location)}"
    return UpgradeRefused(head.status, text, headers, body)


def _told(value: str | None) -> str:
    return "it is missing" if value is None else shown(value)

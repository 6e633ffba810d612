"""The opening handshake: what is accepted is an upgrade, its response one head that says what was agreed on.

Whatever crest accepts, `websockets` must accept too, with the same answer; what it refuses may be a matter of taste.

Input: what the rest is: a whole request, or what is put into one that is valid but for that.
"""

import base64
import hashlib
import logging
from typing import Any

from fuzz.inputs import Input
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from crest.exceptions import HandshakeError
from crest.http.messages import error_response, serialize
from crest.wire.extensions import Deflate
from crest.wire.handshake import check as check_request
from crest.wire.head import RequestHead, parse_head

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VALID = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
FORMS = [
    b"%b",
    VALID + b"Sec-WebSocket-Extensions: %b\r\n\r\n",
    VALID + b"Sec-WebSocket-Protocol: %b\r\n\r\n",
    VALID + b"Sec-WebSocket-Extensions: permessage-deflate; %b\r\n\r\n",
    VALID + b"%b\r\n\r\n",
    VALID.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"%b") + b"\r\n",
    VALID.replace(b"Connection: Upgrade", b"Connection: %b") + b"\r\n",
    VALID.replace(b"Upgrade: websocket", b"Upgrade: %b") + b"\r\n",
    VALID.replace(b"Host: test", b"Host: %b") + b"\r\n",
]
SUBPROTOCOLS = ["chat", "superchat"]
DEFLATES = [
    Deflate(),
    None,
    Deflate(server_no_context_takeover=False, client_no_context_takeover=False),
    Deflate(server_max_window_bits=9, client_max_window_bits=9),
]

DEVIATIONS = {
    "subprotocol": "RFC 6455 section 4.2.2, item 4: if the server does not wish to agree to one of the suggested"
    " subprotocols, it MUST NOT send back a |Sec-WebSocket-Protocol| header field in its response",
    "invalid Upgrade header": "RFC 6455 section 4.2.1, item 3: an |Upgrade| header field containing the value"
    ' "websocket", treated as an ASCII case-insensitive value',
    "invalid Connection header": "RFC 6455 section 4.2.1, item 4: a |Connection| header field that includes the token"
    ' "Upgrade", treated as an ASCII case-insensitive value',
}
"""What `websockets` refuses of what crest accepts, by a word of its reason, and the sentence that has it accepted."""

QUIET = logging.getLogger("fuzz.websockets")
QUIET.setLevel(logging.CRITICAL)


def accept_by_websockets(head: RequestHead) -> Any:
    """The response of `websockets`, with the same subprotocols, and compression as it likes it."""
    server = ServerProtocol(
        subprotocols=SUBPROTOCOLS,  # type: ignore[arg-type]
        extensions=[ServerPerMessageDeflateFactory()],
        logger=QUIET,
    )
    request = Request(head.target, Headers(head.headers.items()))
    # It parses each of several headers for itself, and refuses a list without elements that has its elements elsewhere.
    # RFC 6455 section 9.1: "this header field MAY be split or combined across multiple lines".
    if (extensions := head.joined(b"Sec-WebSocket-Extensions")) is not None:
        del request.headers["Sec-WebSocket-Extensions"]
        request.headers["Sec-WebSocket-Extensions"] = extensions
    # It refuses a request with several. So does crest, but not here: which origins may connect is admission's business.
    if "Origin" in request.headers:
        del request.headers["Origin"]
    return server.accept(request)


def check_refusal(error: HandshakeError) -> int:
    """What is sent is one response, whatever a peer has put into it."""
    assert error.status in (400, 426), error
    sent, _, body = serialize(error_response(error), head_only=False, keep_alive=False).partition(b"\r\n\r\n")
    assert sent.startswith(b"HTTP/1.1 %d " % error.status) and b"\r\nConnection: " in sent
    assert error.reason.isascii() and error.reason.isprintable() and body.count(b"\n") == 1
    return error.status


def check_response(head: RequestHead, response: bytes, subprotocol: str | None, extensions: str | None) -> None:
    lines = response.decode("ascii").split("\r\n")
    digest = hashlib.sha1(head.headers["Sec-WebSocket-Key"].encode() + GUID).digest()
    expected = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *([] if extensions is None else [f"Sec-WebSocket-Extensions: {extensions}"]),
        *([] if subprotocol is None else [f"Sec-WebSocket-Protocol: {subprotocol}"]),
        "",
        "",
    ]
    assert lines == expected, lines
    offered = head.joined(b"Sec-WebSocket-Protocol") or ""
    assert subprotocol is None or subprotocol in [each.strip(" \t") for each in offered.split(",")]


def check_agreed(head: RequestHead, agreed: Any, deflate: Deflate) -> None:
    """What was agreed on is what one offer and the server's options allow."""
    offered = head.joined(b"Sec-WebSocket-Extensions") or ""
    assert "permessage-deflate" in offered
    assert 9 <= agreed.server_max_window_bits <= deflate.server_max_window_bits
    assert 8 <= agreed.client_max_window_bits <= deflate.client_max_window_bits
    assert agreed.server_no_context_takeover >= deflate.server_no_context_takeover
    assert agreed.client_no_context_takeover >= deflate.client_no_context_takeover
    # Nothing that was not offered, but for what has clients compress each message for itself.
    surplus = {each.strip().partition("=")[0] for each in agreed.response.split(";")}
    surplus = {name for name in surplus if name not in offered}
    assert surplus <= ({"client_no_context_takeover"} if deflate.client_no_context_takeover else set()), surplus


def check(data: bytes) -> bytes | int | None:
    """The response; or the status of the refusal; None: this is not even a head."""
    given = Input(data)
    form, deflate = given.choose(FORMS), given.choose(DEFLATES)
    try:
        head = parse_head(form % given.rest())
    except (HandshakeError, ValueError):
        return None
    try:
        offer = check_request(head)
    except HandshakeError as error:
        return check_refusal(error)
    subprotocol = offer.choose(SUBPROTOCOLS)
    response, agreed = offer.accept(subprotocol, deflate=deflate)
    check_response(head, response, subprotocol, None if agreed is None else agreed.response)
    if agreed is not None:
        assert deflate is not None
        check_agreed(head, agreed, deflate)
    theirs = accept_by_websockets(head)
    if theirs.status_code == 101:
        assert theirs.headers["Sec-WebSocket-Accept"].encode() in response
    else:
        reason = theirs.body.decode()
        assert any(known in reason for known in DEVIATIONS), f"websockets refuses with {reason!r}: {head.raw!r}"
    return response

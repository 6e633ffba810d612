"""crest.wire.upgrade: the opening handshake of a client (RFC 6455 section 4.1), against literals and two servers."""

import logging
import pickle
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from crest.exceptions import CrestError, UpgradeError, UpgradeRefused
from crest.wire.extensions import Deflate
from crest.wire.handshake import check
from crest.wire.head import parse_head
from crest.wire.response import ResponseReader
from crest.wire.upgrade import Opened, Upgrade

QUIET = logging.getLogger("test.websockets")
QUIET.setLevel(logging.CRITICAL)

NONCE = b"the sample nonce"
REQUEST = (
    b"GET /chat HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)
FIELDS = {
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}
PROTOCOL = b"Sec-WebSocket-Protocol: "
EXTENSIONS = b"Sec-WebSocket-Extensions: "


def ask(**options: Any) -> Upgrade:
    return Upgrade("server.example.com", "/chat", nonce=NONCE, **options)


def response(*extra: bytes, without: bytes = b"", line: bytes = b"HTTP/1.1 101 Switching Protocols") -> bytes:
    """A response that opens but for one header left out and further ones added."""
    fields = [name + b": " + value for name, value in FIELDS.items() if name != without]
    return b"\r\n".join([line, *fields, *extra, b"", b""])


def judge(upgrade: Upgrade, raw: bytes) -> Opened:
    reader = ResponseReader()
    head = reader.feed(raw) or reader.feed_eof()
    return upgrade.check(head, reader.body)


def failed(upgrade: Upgrade, raw: bytes) -> str:
    with pytest.raises(UpgradeError) as caught:
        judge(upgrade, raw)
    assert not isinstance(caught.value, UpgradeRefused)
    assert caught.value.reason.isascii() and caught.value.reason.isprintable()
    return caught.value.reason


# ---- The request -----------------------------------------------------------------------------------------------------


def test_the_example_of_the_rfc() -> None:
    """Section 1.2, and the key of section 1.3."""
    assert NONCE == b"the sample nonce"
    assert ask().request == REQUEST + b"\r\n"
    everything = ask(
        subprotocols=["chat", "superchat"],
        deflate=Deflate(server_no_context_takeover=False, client_no_context_takeover=False),
        headers=[("Origin", "http://example.com"), (b"X-B", b"\xff")],
    )
    assert everything.request == REQUEST + PROTOCOL + b"chat, superchat\r\n" + EXTENSIONS + (
        b"permessage-deflate; client_max_window_bits\r\nOrigin: http://example.com\r\nX-B: \xff\r\n\r\n"
    )


def test_keys_are_random() -> None:
    """16 bytes each, and never the same: section 4.1, item 7."""
    keys = {Upgrade("a").key for _ in range(1000)}
    assert len(keys) == 1000
    assert all(check(parse_head(Upgrade("a").request)).key for _ in range(10))


@pytest.mark.parametrize("host", ["a", "a:80", "127.0.0.1:8000", "[::1]:8000", "xn--bcher-kva.example", "a:65535"])
@pytest.mark.parametrize("target", ["/", "/ws?a=1&b=%20", "/a//b/;c=d,e?f?g/h", "/\"'<>[]{}|\\^`"])
def test_hosts_and_targets(host: str, target: str) -> None:
    head = parse_head(Upgrade(host, target).request)
    assert (head.target, head.headers["Host"]) == (target, host)
    check(head)


@pytest.mark.parametrize("host", ["", " ", "a b", "a/b", "u@a", "a:65536", "\xe9", "a\r\nb: c", "a\n", "?", "\u0130"])
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ValueError, match="not a host name with an optional port"):
        Upgrade(host)


@pytest.mark.parametrize("target", ["", "*", "a", "http://a/", "/a b", "/a#b", "/\xe9", "/a\r\nb: c", "/a\n", "/\x7f"])
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(ValueError, match="not a path with an optional query"):
        Upgrade("a", target)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"subprotocols": "chat"}, TypeError, "must be a sequence of names"),
        ({"subprotocols": [b"chat"]}, TypeError, "str"),
        ({"subprotocols": [""]}, ValueError, "not a subprotocol's name"),
        ({"subprotocols": ["a b"]}, ValueError, "not a subprotocol's name"),
        ({"subprotocols": ["a", "a\r\n"]}, ValueError, "not a subprotocol's name"),
        ({"subprotocols": ["a", "b", "a"]}, ValueError, "offered twice"),
        ({"headers": [("Sec-WebSocket-Key", "a")]}, ValueError, "itself"),
        ({"headers": [("host", "a")]}, ValueError, "itself"),
        ({"headers": [("a", "b\r\nc: d")]}, ValueError, "HTTP does not allow"),
        ({"headers": {"ab": "c"}}, TypeError, "pair"),
        ({"nonce": b"short"}, ValueError, "16 bytes, not 5"),
    ],
)
def test_what_may_not_be_asked(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Upgrade("a", **options)


# ---- The response ----------------------------------------------------------------------------------------------------


def test_a_response_opens() -> None:
    assert judge(ask(), response()) == Opened(None, None)
    assert judge(ask(subprotocols=["a", "b"]), response()) == Opened(None, None)
    assert judge(ask(subprotocols=["a", "b"]), response(PROTOCOL + b"b")) == Opened("b", None)


@pytest.mark.parametrize(
    "extra",
    [
        (b"Upgrade: WebSocket", b"Connection: keep-alive, UPGRADE"),
        (b"upgrade:\twEBSOCKET ", b"connection: keep-alive", b"connection: upgrade"),
    ],
)
def test_case_and_lists(extra: tuple[bytes, ...]) -> None:
    accept = b"sec-websocket-accept:  " + FIELDS[b"Sec-WebSocket-Accept"] + b"\t"
    raw = b"\r\n".join([b"HTTP/1.1 101 ", *extra, accept, b"", b""])
    assert judge(ask(), raw) == Opened(None, None)


ACCEPT = b"Sec-WebSocket-Accept: "
FAILED = {
    "HTTP/1.0": (response(line=b"HTTP/1.0 101 a"), "an opening handshake takes HTTP/1.1"),
    "no Upgrade": (response(without=b"Upgrade"), "Upgrade is not 'websocket': it is missing"),
    "another Upgrade": (response(b"Upgrade: h2c", without=b"Upgrade"), "Upgrade is not 'websocket': 'h2c'"),
    "two Upgrades": (response(b"Upgrade: h2c"), "Upgrade is not 'websocket': 'websocket,h2c'"),
    "no Connection": (response(without=b"Connection"), "Connection does not contain 'Upgrade': it is missing"),
    "another Connection": (response(b"Connection: close", without=b"Connection"), "'close'"),
    "no accept": (response(without=b"Sec-WebSocket-Accept"), "the request's key: it is missing"),
    "two accepts": (response(ACCEPT + FIELDS[b"Sec-WebSocket-Accept"]), "not the answer to the request's key: 's3p"),
    "another accept": (response(ACCEPT + b"a", without=b"Sec-WebSocket-Accept"), "the request's key: 'a'"),
    "the accept in lower case": (
        response(ACCEPT + FIELDS[b"Sec-WebSocket-Accept"].lower(), without=b"Sec-WebSocket-Accept"),
        "the request's key: 's3pplm",
    ),
    "another subprotocol": (response(PROTOCOL + b"c"), "not offered: 'c'"),
    "a subprotocol in another case": (response(PROTOCOL + b"A"), "not offered: 'A'"),
    "two subprotocols": (response(PROTOCOL + b"a", PROTOCOL + b"b"), "not offered: 'a,b'"),
    "an empty subprotocol": (response(PROTOCOL), "not offered: ''"),
    "an extension": (response(EXTENSIONS + b"x-foo"), "an extension that was not offered: 'x-foo'"),
    "a malformed extension": (response(EXTENSIONS + b"a b"), "where a token must be"),
    "no extension": (response(EXTENSIONS), "names no extension"),
    "compression": (response(EXTENSIONS + b"permessage-deflate"), "not offered: 'permessage-deflate'"),
}


@pytest.mark.parametrize(("raw", "words"), FAILED.values(), ids=FAILED)
def test_a_response_that_does_not_open(raw: bytes, words: str) -> None:
    """Section 4.1: in each of these the client MUST fail the connection."""
    assert words in failed(ask(subprotocols=["a", "b"]), raw)


def test_the_answer_to_another_key() -> None:
    assert "the request's key" in failed(Upgrade("a"), response())


def test_error_texts_are_short_and_safe_to_log() -> None:
    for extra in (PROTOCOL, EXTENSIONS, EXTENSIONS + b"permessage-deflate; a="):
        assert len(failed(ask(deflate=Deflate()), response(extra + b"\xff" * 5000))) < 400
    for extra in (EXTENSIONS, EXTENSIONS + b"permessage-deflate; a="):
        assert len(failed(ask(deflate=Deflate()), response(extra + b"x" * 5000))) < 400


def test_a_refusal_says_what_the_server_says() -> None:
    raw = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nX-Why: so\r\nX-Why: \xe9\r\n\r\nagain"
    with pytest.raises(UpgradeRefused) as caught:
        judge(ask(), raw)
    error = caught.value
    assert (error.status, error.body) == (403, b"again")
    assert error.headers == (("Content-Length", "5"), ("X-Why", "so"), ("X-Why", "\xe9"))
    assert str(error) == error.reason == "the server answers 403 Forbidden, and opens no WebSocket"
    assert isinstance(error, UpgradeError) and isinstance(error, CrestError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.reason, again.headers, again.body) == (403, error.reason, error.headers, b"again")
    assert str(pickle.loads(pickle.dumps(UpgradeError("no")))) == "no"


def test_a_redirect_says_where_to() -> None:
    with pytest.raises(UpgradeRefused) as caught:
        judge(ask(), b"HTTP/1.1 307 \r\nLocation: wss://other/\xff\r\nContent-Length: 0\r\n\r\n")
    assert str(caught.value) == ("the server answers 307, and opens no WebSocket; it redirects to 'wss://other/\\xff'")
    assert dict(caught.value.headers)["Location"] == "wss://other/\xff"


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK", b"HTTP/1.1 426 Upgrade Required", b"HTTP/1.0 101 a"])
def test_another_status_never_opens(line: bytes) -> None:
    with pytest.raises(UpgradeError):
        judge(ask(), response(b"Content-Length: 0", line=line))


# ---- Servers ---------------------------------------------------------------------------------------------------------

WANTS: dict[str, Deflate | None] = {
    "nothing": None,
    "defaults": Deflate(),
    "takeover": Deflate(server_no_context_takeover=False, client_no_context_takeover=False),
    "small windows": Deflate(server_max_window_bits=10, client_max_window_bits=9),
    "the server's window": Deflate(server_no_context_takeover=False, server_max_window_bits=12),
}


@pytest.mark.parametrize("mine", WANTS.values(), ids=WANTS)
@pytest.mark.parametrize("theirs", WANTS.values(), ids=WANTS)
def test_a_server_of_crest_and_a_client_agree(mine: Deflate | None, theirs: Deflate | None) -> None:
    upgrade = Upgrade("a", subprotocols=["x", "y"], deflate=mine, headers=[("X", "y")])
    request = check(parse_head(upgrade.request))
    assert (request.key, request.subprotocols) == (upgrade.key, ("x", "y"))
    sent, agreed = request.accept(request.choose(["y"]), [("Set-Cookie", "a=b")], theirs)
    opened = judge(upgrade, sent)
    assert opened.subprotocol == "y"
    assert (agreed is None) is (opened.agreed is None) is (mine is None or theirs is None)
    if agreed is not None and opened.agreed is not None:
        # The client's windows to read with are no smaller than those that the server compresses with.
        assert opened.agreed.server_max_window_bits >= agreed.server_max_window_bits
        assert agreed.server_no_context_takeover or not opened.agreed.server_no_context_takeover
        # And the client's output fits the server's.
        assert opened.agreed.client_max_window_bits <= agreed.client_max_window_bits
        assert opened.agreed.client_no_context_takeover or not agreed.client_no_context_takeover
        assert opened.agreed.response == agreed.response


@pytest.mark.parametrize("mine", WANTS.values(), ids=WANTS)
@pytest.mark.parametrize(
    "theirs",
    [
        None,
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
    ],
)
def test_a_server_of_websockets_and_a_client_agree(mine: Deflate | None, theirs: dict[str, Any] | None) -> None:
    server = ServerProtocol(
        subprotocols=["y"],  # type: ignore[list-item]
        extensions=None if theirs is None else [ServerPerMessageDeflateFactory(**theirs)],
        logger=QUIET,
    )
    upgrade = Upgrade("a", "/ws", subprotocols=["x", "y"], deflate=mine)
    server.receive_data(upgrade.request)
    [request] = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    opened = judge(upgrade, b"".join(server.data_to_send()))
    assert opened.subprotocol == "y"
    assert bool(server.extensions) is (opened.agreed is not None)
    if opened.agreed is not None:
        extension: Any = server.extensions[0]
        assert opened.agreed.server_max_window_bits == extension.local_max_window_bits
        assert opened.agreed.client_max_window_bits <= extension.remote_max_window_bits
        assert opened.agreed.server_no_context_takeover == extension.local_no_context_takeover
        assert opened.agreed.client_no_context_takeover >= extension.remote_no_context_takeover


def test_what_websockets_answers_to_another_request() -> None:
    server = ServerProtocol(logger=QUIET)
    response = server.accept(Request("/", Headers({"Host": "a"})))
    with pytest.raises(UpgradeRefused) as caught:
        judge(ask(), response.serialize())
    assert caught.value.status == 426
    assert b"Failed to open a WebSocket connection" in caught.value.body

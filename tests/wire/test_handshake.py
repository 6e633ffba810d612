"""crest.wire.handshake against byte literals: RFC 6455 section 4.2."""

import pickle
import random
from base64 import b64encode
from hashlib import sha1
from typing import Any

import pytest
from support.client import EXAMPLE
from support.upgrading import ANSWER, EXTENSIONS, FIELDS, PROTOCOL, accept, refused, request, upgrade

from crest.exceptions import CrestError, HandshakeError
from crest.wire.extensions import Deflate
from crest.wire.handshake import (
    check,
    check_host,
    is_token,
    wants_upgrade,
)
from crest.wire.head import HeadReader, RequestHead, parse_head

# --- accepting


def test_the_example_of_the_rfc() -> None:
    assert accept(parse_head(EXAMPLE)) == (ANSWER + b"\r\n", None, None)
    assert accept(parse_head(EXAMPLE), ["chat"]) == (ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n", "chat", None)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"websocket", True),
        (b"WebSocket", True),
        (b"h2c,\twebSocket", True),
        (b", ,websocket,", True),
        (b"websocket/13", False),
        (b"websockets", False),
        (b"web socket", False),
        (b"", False),
        (b"\xff", False),
    ],
)
def test_wants_upgrade(value: bytes, wanted: bool) -> None:
    head = request(b"Upgrade: " + value, without=b"Upgrade")
    assert wants_upgrade(head) is wanted
    if wanted:
        accept(head)
    else:
        assert refused(head).status == 426


def test_wants_upgrade_reads_every_header() -> None:
    assert wants_upgrade(request(b"Upgrade: h2c", b"Upgrade: websocket", without=b"Upgrade"))
    assert not wants_upgrade(request(without=b"Upgrade"))


@pytest.mark.parametrize(
    "extra",
    [
        (b"Connection: keep-alive, Upgrade",),
        (b"Connection: UPGRADE",),
        (b"Connection: keep-alive", b"connection: upgrade"),
        (b"Connection: ,\t,upgrade,",),
    ],
)
def test_connection_is_a_list(extra: tuple[bytes, ...]) -> None:
    accept(request(*extra, without=b"Connection"))


KEY = b"Sec-WebSocket-Key: "
REFUSED = {
    "POST": (upgrade(line=b"POST /ws HTTP/1.1"), 400, "GET, not 'POST'"),
    "HEAD": (upgrade(line=b"HEAD /ws HTTP/1.1"), 400, "GET, not 'HEAD'"),
    "HTTP/1.0": (upgrade(line=b"GET /ws HTTP/1.0"), 400, "HTTP/1.0"),
    "no Host": (upgrade(without=b"Host"), 400, "Host is missing"),
    "two Hosts": (upgrade(b"host: a"), 400, "Host is repeated"),
    "empty Host": (upgrade(b"Host:", without=b"Host"), 400, "Host is not"),
    "Host with a space": (upgrade(b"Host: a b", without=b"Host"), 400, "Host is not"),
    "Host with a path": (upgrade(b"Host: a/b", without=b"Host"), 400, "Host is not"),
    "Host with a port that can not be": (upgrade(b"Host: a:65536", without=b"Host"), 400, "Host is not"),
    "Host with a port of 64 bits and more": (
        upgrade(b"Host: a:18446744073709551696", without=b"Host"),
        400,
        "Host is not",
    ),
    "Host with user": (upgrade(b"Host: u@b", without=b"Host"), 400, "Host is not"),
    "non-ASCII Host": (upgrade(b"Host: \xe9", without=b"Host"), 400, "'\\xe9'"),
    "no Upgrade": (upgrade(without=b"Upgrade"), 426, "Upgrade: websocket"),
    "no Connection": (upgrade(without=b"Connection"), 400, "Connection does not contain 'Upgrade'"),
    "Connection: close": (upgrade(b"Connection: close", without=b"Connection"), 400, "'close'"),
    "Connection: upgraded": (upgrade(b"Connection: upgraded", without=b"Connection"), 400, "'upgraded'"),
    "non-ASCII Connection": (upgrade(b"Connection: \xff", without=b"Connection"), 400, "Connection"),
    "a length": (upgrade(b"Content-Length: 5"), 400, "has no body"),
    "chunks": (upgrade(b"Transfer-Encoding: chunked"), 400, "has no body"),
    "no version": (upgrade(without=b"Sec-WebSocket-Version"), 400, "Sec-WebSocket-Version is missing"),
    "two versions": (upgrade(b"Sec-WebSocket-Version: 13"), 400, "Sec-WebSocket-Version is repeated"),
    "no key": (upgrade(without=b"Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key is missing"),
    "two keys": (upgrade(KEY + FIELDS[b"Sec-WebSocket-Key"]), 400, "Sec-WebSocket-Key is repeated"),
}


@pytest.mark.parametrize(("raw", "status", "text"), REFUSED.values(), ids=REFUSED)
def test_a_bad_handshake_is_refused(raw: bytes, status: int, text: str) -> None:
    error = refused(parse_head(raw))
    assert error.status == status
    assert text in error.reason
    assert error.headers == ()


@pytest.mark.parametrize("version", [b"8", b"7", b"14", b"013", b"13, 8", b"", b"\xff"])
def test_another_version_is_426_and_told_13(version: bytes) -> None:
    error = refused(request(b"Sec-WebSocket-Version: " + version, without=b"Sec-WebSocket-Version"))
    assert (error.status, error.headers) == (426, (("Sec-WebSocket-Version", "13"),))


def test_another_version_is_told_before_its_key_is_judged() -> None:
    raw = request(KEY + b"1", b"Sec-WebSocket-Version: 14", without=b"Sec-WebSocket-Version").raw
    assert refused(parse_head(raw)).status == 426


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"abc",
        b"dGhlIHNhbXBsZSBub25jZQ=",
        b"dGhlIHNhbXBsZSBub25jZQ",
        b"dGhlIHNhbXBsZSBub25jZQ===",
        b"dGhlIHNhbXBsZSBub25jZR==",  # not canonical: the last bits are not zero
        b"dGhlIHNhbXBsZSBub25jZTEy",  # 18 bytes
        b"dGhlIHNhbXBsZSBub25jZTE=",  # 17 bytes
        b"dGhlIHNhbXBsZSBub24=",  # 14 bytes
        b"dGhlIHNhbXBsZSBub25j ZQ==",
        b"dGhlIHNhbXBsZSBub25j-_==",
        b"dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        b"\xe9GhlIHNhbXBsZSBub25jZQ==",
        b"A" * 10_000,
    ],
)
def test_the_key_is_strict(key: bytes) -> None:
    error = refused(request(KEY + key, without=b"Sec-WebSocket-Key"))
    assert error.status == 400
    assert error.reason.startswith("Sec-WebSocket-Key is not the base64 of 16 bytes: '")


@pytest.mark.parametrize("key", [b"AAAAAAAAAAAAAAAAAAAAAA==", b"/////////////////////w==", b"+/+/+/+/+/+/+/+/+/+/+g=="])
def test_every_canonical_key_will_do(key: bytes) -> None:
    accept(request(KEY + key, without=b"Sec-WebSocket-Key"))


def test_any_key_is_answered_with_its_hash() -> None:
    for seed in range(300):
        key = b64encode(random.Random(seed).randbytes(16))
        response, _, _ = accept(request(KEY + key, without=b"Sec-WebSocket-Key"))
        digest = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        assert b"\r\nSec-WebSocket-Accept: " + b64encode(digest) + b"\r\n" in response


@pytest.mark.parametrize(
    "host",
    [b"a:80", b"127.0.0.1:8000", b"[::1]:8000", b"a_b.example", b"xn--bcher-kva.example"]
    + [b"a:65535", b"[::1]:65535", b"a:", b"a:00080", b"65536", b"a65536"],
)
def test_hosts(host: bytes) -> None:
    check_host(request(b"Host: " + host, without=b"Host"))


def test_http_1_0_may_have_no_host() -> None:
    def old(*headers: bytes) -> RequestHead:
        head = HeadReader().feed(b"\r\n".join([b"GET / HTTP/1.0", *headers, b"", b""]))
        assert head is not None
        return head

    check_host(old())
    check_host(old(b"Host: a"))
    for headers, why in (([b"Host: a", b"Host: a"], "Host is repeated"), ([b"Host:"], "Host is not a host name")):
        with pytest.raises(HandshakeError, match=why):
            check_host(old(*headers))


@pytest.mark.parametrize(("value", "announced"), [(b"0", False), (b"00", False), (b"1", True), (b"10", True)])
def test_a_length_of_zero_announces_nothing(value: bytes, announced: bool) -> None:
    head = request(b"Content-Length: " + value)
    assert head.announces_body() is announced
    if not announced:
        accept(head)


def test_error_texts_are_short_and_safe_to_log() -> None:
    reason = refused(request(KEY + b"\xff" * 5000, without=b"Sec-WebSocket-Key")).reason
    assert len(reason) < 400
    assert reason.isascii()
    assert reason.isprintable()


def test_a_handshake_error_is_a_crest_error_and_can_be_pickled() -> None:
    error = HandshakeError(426, "no", (("A", "b"),))
    assert isinstance(error, CrestError)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, HandshakeError)
    assert (again.status, again.reason, again.headers, str(again)) == (426, "no", (("A", "b"),), "no")


def test_is_token() -> None:
    assert all(map(is_token, ("a", "graphql-transport-ws", "v1.0~", "!#$%&'*+-.^_`|~09AZaz")))
    assert not any(map(is_token, ("", " a", "a\n", "a b", "a,b", "a/b", "\xe9", "a\0", '"a"', "(", "{", "a=b")))


# --- what is offered


def test_an_offer_says_what_the_client_offers() -> None:
    offer = check(request(PROTOCOL + b"b, a", EXTENSIONS + b"x-foo; y=1", PROTOCOL + b"c", EXTENSIONS + b"z"))
    assert offer.key == FIELDS[b"Sec-WebSocket-Key"]
    assert offer.subprotocols == ("b", "a", "c")
    assert offer.extensions == (("x-foo", (("y", "1"),)), ("z", ()))
    nothing = check(request())
    assert (nothing.subprotocols, nothing.extensions) == ((), ())


def test_an_offer_can_be_accepted_more_than_once_and_outlives_the_head() -> None:
    offer = check(parse_head(EXAMPLE))
    assert offer.accept() == offer.accept() == (ANSWER + b"\r\n", None)
    assert offer.accept("chat") == (ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n", None)


def test_a_subprotocol_that_is_not_offered_is_refused() -> None:
    for head, name in ((request(), "a"), (request(PROTOCOL + b"a, b"), "A"), (request(PROTOCOL + b"a, b"), "a, b")):
        with pytest.raises(ValueError, match=f"the client does not offer the subprotocol '{name}'"):
            check(head).accept(name)
    with pytest.raises(ValueError, match=r"subprotocol 'a\\r\\n\\xe9'"):
        check(request()).accept("a\r\n\xe9")
    with pytest.raises(TypeError):
        check(request(PROTOCOL + b"a")).accept(b"a")  # type: ignore[arg-type]


def test_headers_of_the_application_come_last() -> None:
    offer = check(request(PROTOCOL + b"a", EXTENSIONS + b"permessage-deflate"))
    response, agreed = offer.accept("a", [("Set-Cookie", "a=1"), (b"x-b", b"\xff")], Deflate())
    assert agreed is not None
    assert response == ANSWER + EXTENSIONS + agreed.response.encode() + b"\r\n" + (
        PROTOCOL + b"a\r\nSet-Cookie: a=1\r\nx-b: \xff\r\n\r\n"
    )
    assert offer.accept(headers=(pair for pair in [("a", "b")]))[0] == ANSWER + b"a: b\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("a b", "c")], ValueError),
        ([("a", "b\r\nc: d")], ValueError),
        ([("Sec-WebSocket-Accept", "a")], ValueError),
        ([("a", "b"), ("upgrade", "h2c")], ValueError),
        ([("a", 1)], TypeError),
        ({"ab": "c"}, TypeError),
    ],
)
def test_headers_that_may_not_be_sent(headers: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check(request()).accept(headers=headers)

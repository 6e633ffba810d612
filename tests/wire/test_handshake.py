"""crest.wire.handshake against byte literals: RFC 6455 section 4.2, RFC 9112 sections 2, 3 and 5."""

import pickle

import pytest

from crest.exceptions import CrestError, HandshakeError
from crest.wire.handshake import (
    HeadReader,
    RequestHead,
    accept,
    announces_body,
    check_host,
    is_token,
    parse_extensions,
    parse_head,
    parse_subprotocols,
    shown,
    wants_upgrade,
)

# The example of RFC 6455 section 1.2, its Origin included.
EXAMPLE = (
    b"GET /chat HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
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


def read(raw: bytes) -> RequestHead:
    head = HeadReader().feed(raw)
    assert head is not None
    return head


def upgrade(*extra: bytes, without: bytes = b"", line: bytes = b"GET /ws HTTP/1.1") -> bytes:
    """An upgrade request that is valid but for one header left out and further ones added."""
    fields = [name + b": " + value for name, value in FIELDS.items() if name != without]
    return b"\r\n".join([line, *fields, *extra, b"", b""])


def request(*extra: bytes, without: bytes = b"") -> RequestHead:
    return read(upgrade(*extra, without=without))


def refused(head: RequestHead) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        accept(head)
    return caught.value


def outcome(chunks: list[bytes], max_size: int = 16384, max_headers: int = 100) -> tuple[object, ...]:
    """What a reader makes of a stream, in a form that can be compared."""
    reader = HeadReader(max_size, max_headers)
    for number, chunk in enumerate(chunks):
        try:
            head = reader.feed(chunk)
        except HandshakeError as error:
            return error.status, error.reason
        if head is not None:
            rest = reader.rest + b"".join(chunks[number + 1 :])
            return head.method, head.target, head.version, list(head.headers.items()), head.raw, rest
    return ("incomplete",)


# --- reading a head


def test_a_head_is_taken_apart() -> None:
    head = read(b"GET /ws?a=1&b=%20 HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Space: \t b c \t\r\nx-empty: 2\r\n\r\n")
    assert (head.method, head.target, head.version) == ("GET", "/ws?a=1&b=%20", "1.1")
    assert list(head.headers.items()) == [("Host", "a"), ("X-Empty", ""), ("X-Space", "b c"), ("x-empty", "2")]
    assert head.headers.getall("X-EMPTY") == ["", "2"]


def test_values_are_latin_1() -> None:
    assert read(b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9 \xff\x80\r\n\r\n").headers["x"] == "caf\xe9 \xff\x80"


def test_only_spaces_and_tabs_are_stripped() -> None:
    assert read(b"GET / HTTP/1.1\r\nX: \xa0\x85 \r\n\r\n").headers["x"] == "\xa0\x85"


def test_a_head_without_headers() -> None:
    assert outcome([b"GET / HTTP/1.1\r\n\r\n"]) == ("GET", "/", "1.1", [], b"GET / HTTP/1.1\r\n\r\n", b"")


def test_raw_is_the_head_and_rest_what_follows() -> None:
    reader = HeadReader()
    head = reader.feed(EXAMPLE + b"\x81\x80\0\0\0\0\r\n\r\n")
    assert head is not None
    assert head.raw == EXAMPLE
    assert reader.rest == b"\x81\x80\0\0\0\0\r\n\r\n"


@pytest.mark.parametrize("tail", [b"", b"\x81\x85abcdefghi", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"])
def test_a_split_anywhere_changes_nothing(tail: bytes) -> None:
    stream = EXAMPLE + tail
    whole = outcome([stream])
    assert whole[0] == "GET"
    assert whole[5] == tail
    for at in range(len(stream) + 1):
        assert outcome([stream[:at], stream[at:]]) == whole, at
    assert outcome([stream[i : i + 1] for i in range(len(stream))]) == whole
    assert outcome([stream[i : i + 7] for i in range(0, len(stream), 7)]) == whole


MALFORMED = {
    "garbage": b"\x00\x01\x02\x03",
    "lower-case method": b"get / HTTP/1.1\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n\r\n",
    "a frame": b"\x81\x85abcdefghi",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after a value": b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n X: a\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "non-ASCII name": b"GET / HTTP/1.1\r\nH\xc3\xb6st: a\r\n\r\n",
    "non-ASCII target": b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\n\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n\r\n",
    "no slash": b"GET ws HTTP/1.1\r\n\r\n",
    "HTTP/3": b"GET / HTTP/3.0\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "length and chunks": b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "length is no number": b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
}


@pytest.mark.parametrize("stream", MALFORMED.values(), ids=MALFORMED)
def test_malformed_is_400_however_it_is_split(stream: bytes) -> None:
    whole = outcome([stream])
    assert whole[0] == 400
    assert str(whole[1]).startswith("malformed HTTP request: ")
    for at in range(len(stream) + 1):
        assert outcome([stream[:at], stream[at:]]) == whole, at
    assert outcome([stream[i : i + 1] for i in range(len(stream))]) == whole


def test_garbage_is_refused_before_the_head_could_be_complete() -> None:
    with pytest.raises(HandshakeError):
        HeadReader().feed(b"\x01")
    reader = HeadReader()
    assert reader.feed(b"GET / HTTP/1.1\r\n") is None
    with pytest.raises(HandshakeError):
        reader.feed(b"@")


@pytest.mark.parametrize("stream", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100])
def test_a_tls_client_hello_is_named(stream: bytes) -> None:
    assert outcome([stream])[0] == 400
    assert "plain HTTP" in str(outcome([stream])[1])
    assert outcome([stream[:1], stream[1:]]) == outcome([stream])


HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 section 3.4


@pytest.mark.parametrize(
    "stream",
    [HTTP2_PREFACE, b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET /\r\n\r\n", b"GET / RTSP/1.0\r\n\r\n"],
)
def test_what_is_not_http_1_is_505(stream: bytes) -> None:
    assert outcome([stream])[0] == 505
    assert outcome([stream[i : i + 1] for i in range(len(stream))]) == outcome([stream])


def test_a_target_that_looks_like_a_version_is_none() -> None:
    assert outcome([b"GET /HTTP/1.1\r\n\r\n"])[0] == 505


def test_spaces_around_the_target_are_not_of_it() -> None:
    assert read(b"GET  /a  HTTP/1.1\r\n\r\n").target == "/a"


def test_empty_lines_before_the_request_line_are_skipped() -> None:
    stream = b"\r\n\r\n" + EXAMPLE
    assert outcome([stream]) == outcome([EXAMPLE])
    for at in range(len(stream)):
        assert outcome([stream[:at], stream[at:]]) == outcome([EXAMPLE])


def test_endless_empty_lines_are_refused() -> None:
    assert outcome([b"\r\n" * 32], max_size=64) == ("incomplete",)
    assert outcome([b"\r\n" * 33], max_size=64)[0] == 431
    assert outcome([b"\r"] * 65, max_size=64) == outcome([b"\r\n" * 33], max_size=64)


def test_the_size_limit_counts_the_last_empty_line() -> None:
    size = len(EXAMPLE)
    for chunks in ([EXAMPLE], [EXAMPLE[i : i + 1] for i in range(size)], [EXAMPLE + b"x" * 100]):
        assert outcome(chunks, max_size=size)[0] == "GET"
        assert outcome(chunks, max_size=size - 1) == (431, f"the request head is longer than {size - 1} bytes")


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_a_long_header_is_431(piece: int) -> None:
    stream = b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"
    chunks = [stream[i : i + piece] for i in range(0, len(stream), piece)]
    assert outcome(chunks) == (431, "the request head is longer than 16384 bytes")


def test_a_long_target_is_431() -> None:
    assert outcome([b"GET /" + b"a" * 100_000])[0] == 431


def test_what_is_behind_the_size_limit_is_not_judged() -> None:
    stream = b"GET / HTTP/1.1\r\nX: " + b"a" * 100 + b"\0"
    assert outcome([stream], max_size=100)[0] == 431
    assert outcome([stream], max_size=200)[0] == 400


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_ten_thousand_headers_are_431(piece: int) -> None:
    stream = b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 10_000 + b"\r\n"
    chunks = [stream[i : i + piece] for i in range(0, len(stream), piece)]
    assert outcome(chunks) == (431, "the request head is longer than 16384 bytes")
    assert outcome(chunks, max_size=1 << 20) == (431, "the request has 10000 header fields; the limit is 100")


def test_the_header_limit_is_exact() -> None:
    stream = b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100 + b"\r\n"
    assert outcome([stream])[0] == "GET"
    assert outcome([stream], max_headers=99)[0] == 431


def test_parse_head_gives_the_same_head_again() -> None:
    head, again = read(EXAMPLE), parse_head(EXAMPLE)
    assert (again.method, again.target, again.version, again.raw) == ("GET", "/chat", "1.1", EXAMPLE)
    assert again.headers == head.headers


def test_parse_head_has_no_limit_of_its_own() -> None:
    assert len(parse_head(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n").headers) == 10_000


@pytest.mark.parametrize("raw", [b"", EXAMPLE[:-1], EXAMPLE + b"x"])
def test_parse_head_takes_exactly_one_head(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not one complete request head"):
        parse_head(raw)


# --- accepting


def test_the_example_of_the_rfc() -> None:
    assert accept(read(EXAMPLE)) == (ANSWER + b"\r\n", None)
    assert accept(read(EXAMPLE), ["chat"]) == (ANSWER + b"Sec-WebSocket-Protocol: chat\r\n\r\n", "chat")


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
    error = refused(read(raw))
    assert error.status == status
    assert text in error.reason
    assert error.headers == ()


@pytest.mark.parametrize("version", [b"8", b"7", b"14", b"013", b"13, 8", b"", b"\xff"])
def test_another_version_is_426_and_told_13(version: bytes) -> None:
    error = refused(request(b"Sec-WebSocket-Version: " + version, without=b"Sec-WebSocket-Version"))
    assert (error.status, error.headers) == (426, (("Sec-WebSocket-Version", "13"),))


def test_another_version_is_told_before_its_key_is_judged() -> None:
    raw = request(KEY + b"1", b"Sec-WebSocket-Version: 14", without=b"Sec-WebSocket-Version").raw
    assert refused(read(raw)).status == 426


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


@pytest.mark.parametrize("host", [b"a:80", b"127.0.0.1:8000", b"[::1]:8000", b"a_b.example", b"xn--bcher-kva.example"])
def test_hosts(host: bytes) -> None:
    check_host(request(b"Host: " + host, without=b"Host"))


@pytest.mark.parametrize(("value", "announced"), [(b"0", False), (b"00", False), (b"1", True), (b"10", True)])
def test_a_length_of_zero_announces_nothing(value: bytes, announced: bool) -> None:
    head = request(b"Content-Length: " + value)
    assert announces_body(head) is announced
    if not announced:
        accept(head)


def test_error_texts_are_short_and_safe_to_log() -> None:
    reason = refused(request(KEY + b"\xff" * 5000, without=b"Sec-WebSocket-Key")).reason
    assert len(reason) < 400
    assert reason.isascii()
    assert reason.isprintable()


def test_shown() -> None:
    assert shown("a\r\n\x1b\xe9") == r"'a\r\n\x1b\xe9'"
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 60) + "..."


def test_a_handshake_error_is_a_crest_error_and_can_be_pickled() -> None:
    error = HandshakeError(426, "no", (("A", "b"),))
    assert isinstance(error, CrestError)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, HandshakeError)
    assert (again.status, again.reason, again.headers, str(again)) == (426, "no", (("A", "b"),), "no")


def test_is_token() -> None:
    assert all(map(is_token, ("a", "graphql-transport-ws", "v1.0~", "!#$%&'*+-.^_`|~09AZaz")))
    assert not any(map(is_token, ("", " a", "a\n", "a b", "a,b", "a/b", "\xe9", "a\0", '"a"', "(", "{", "a=b")))


# --- subprotocols


PROTOCOL = b"Sec-WebSocket-Protocol: "


def test_the_server_prefers() -> None:
    assert accept(request(PROTOCOL + b"a, b,c"), ["c", "b"])[1] == "c"
    assert accept(request(PROTOCOL + b"a", PROTOCOL + b"b"), ("x", "b", "a"))[1] == "b"


def test_none_in_common_opens_without() -> None:
    response, subprotocol = accept(request(PROTOCOL + b"a, b"), ["A", "c"])
    assert subprotocol is None
    assert b"Protocol:" not in response


def test_none_offered_opens_without() -> None:
    assert accept(request(), ["a"]) == (ANSWER + b"\r\n", None)


def test_subprotocol_lists() -> None:
    assert parse_subprotocols("a") == ["a"]
    assert parse_subprotocols(",b\t, , a.1~,") == ["b", "a.1~"]
    assert parse_subprotocols(",".join(["a"] * 10_000)) == ["a"] * 10_000


@pytest.mark.parametrize(
    "value",
    [b"", b",", b" , ,\t", b"a b", b"a;b", b'"a"', b"a/b", b"a, (b)", b"\xff", b"a, caf\xc3\xa9", b"a=b", b"{}"],
)
def test_malformed_subprotocols_are_400(value: bytes) -> None:
    for subprotocols in ([], ["a"]):
        with pytest.raises(HandshakeError) as caught:
            accept(request(PROTOCOL + value), subprotocols)
        assert caught.value.status == 400
        assert caught.value.reason.startswith("Sec-WebSocket-Protocol ")
        assert caught.value.reason.isascii()


@pytest.mark.parametrize(
    "value",
    ["," * 1_000_000, " " * 1_000_000, "a" + " " * 1_000_000 + "b", "a," * 500_000 + "@", "a" * 1_000_000 + "@"],
)
def test_pathological_subprotocols_are_refused_in_linear_time(value: str) -> None:
    with pytest.raises(HandshakeError):
        parse_subprotocols(value)


# --- extensions


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        ("permessage-deflate", [("permessage-deflate", [])]),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate",
            [
                ("permessage-deflate", [("client_max_window_bits", None), ("server_max_window_bits", "10")]),
                ("permessage-deflate", []),
            ],
        ),
        ('a;b="c"', [("a", [("b", "c")])]),
        (r'a; b="\c\1"', [("a", [("b", "c1")])]),
        ("\ta ;\tb = c , ,d,", [("a", [("b", "c")]), ("d", [])]),
        ("foo;a;a=1;a", [("foo", [("a", None), ("a", "1"), ("a", None)])]),
        ("__proto__; constructor", [("__proto__", [("constructor", None)])]),
    ],
)
def test_parse_extensions(value: str, offers: list[object]) -> None:
    assert parse_extensions(value) == offers


@pytest.mark.parametrize(
    "value",
    [
        "", " ", ",", " , ,", "a b", "a;", "a;;b", ";b",
        ";b, a", "a; b=", "a; =c", "a; b=c d", "a; b=c=d", "a=b", 'a; b=""',
        'a; b="c', 'a; b=c"', 'a; b="c d"', 'a; b="c,d"', 'a; b="c;d"', 'a; b="c\\"', 'a; b="c\\,d"', 'a; b="\\""',
        'a; b="', 'a; b="c"d', 'a; "b"', '"a"', "caf\xe9", "a; b=\xff", "a; b\x00", "a\n",
    ],
)  # fmt: skip
def test_malformed_extensions_are_400(value: str) -> None:
    with pytest.raises(HandshakeError, match=r"^Sec-WebSocket-Extensions ") as caught:
        parse_extensions(value)
    assert caught.value.status == 400


EXTENSIONS = b"Sec-WebSocket-Extensions: "


def test_extensions_are_declined() -> None:
    head = request(EXTENSIONS + b"permessage-deflate; client_max_window_bits", EXTENSIONS + b"x-foo")
    assert accept(head) == (ANSWER + b"\r\n", None)


@pytest.mark.parametrize("values", [(b"",), (b"a;",), (b"a", b"b c"), (b"\xff",)])
def test_malformed_extensions_are_refused(values: tuple[bytes, ...]) -> None:
    assert refused(request(*[EXTENSIONS + value for value in values])).status == 400


@pytest.mark.parametrize(
    "value",
    [
        "," * 1_000_000,
        'a;b="' + "\\" * 1_000_001 + '"',
        'a;b="' + "\\a" * 500_000,
        "a;b=" + '"' * 1_000_000,
        "a" + ";b" * 500_000 + "@",
        "a;b" + " " * 1_000_000 + "c",
        "a;b=" + "c" * 1_000_000 + "\xff",
    ],
)
def test_pathological_extensions_are_refused_in_linear_time(value: str) -> None:
    with pytest.raises(HandshakeError):
        parse_extensions(value)

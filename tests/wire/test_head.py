"""crest.wire.head against byte literals: RFC 9112 sections 2 and 5."""

import random
from contextlib import suppress

import pytest
from support.client import EXAMPLE

from crest.exceptions import HandshakeError
from crest.wire.head import HeadReader, RequestHead, parse_head, shown


def read(raw: bytes) -> RequestHead:
    head = HeadReader().feed(raw)
    assert head is not None
    return head


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


# --- Reading


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


@pytest.mark.parametrize("end", [b"/\n", b"/ \n", b"/\n\t", b"\n"])
def test_a_bare_lf_ends_no_request_line(end: bytes) -> None:
    """Or what stands behind it, a header field to others, would be part of the target."""
    stream = b"GET " + end + b"A: b HTTP/1.1\r\nHost: a\r\n\r\n"
    assert outcome([stream])[0] in (400, 505)
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


# --- Fields

UPGRADES = (
    (b"X-Upgrade: websocket\r\nUpgrades: websocket\r\nUpgrad: websocket\r\n", False),
    (
        b"Upgrade: h2c\r\nUPGRADE: a,\tWebSocket ,b\r\n",
        True,
    ),
)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"Origin: http://a\r\n", "http://a"),
        (b"ORIGIN:\thttp://a \r\nX: y\r\n", "http://a"),
        (b"Origin: http://a\r\nX: y\r\norigin: http://b\r\n", "http://a,http://b"),
        (b"Origin:\r\n", ""),
        (b"X-Origin: http://a\r\nOrigi: b\r\n", None),
        (b"", None),
    ],
)
def test_joined(lines: bytes, value: str | None) -> None:
    assert read(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").joined(b"Origin") == value


@pytest.mark.parametrize(("lines", "wanted"), UPGRADES)
def test_lists(lines: bytes, wanted: bool) -> None:
    head = read(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert head.lists(b"upgrade", b"WEBSOCKET") is wanted
    assert head.lists(b"Upgrade", b"websocket") is wanted


@pytest.mark.parametrize(
    ("lines", "announced"),
    [
        (b"", False),
        (b"Content-Length: 0\r\n", False),
        (b"content-length: 000\r\n", False),
        (b"Content-Length: 1\r\n", True),
        (b"Content-Length: 10\r\n", True),
        (b"transfer-encoding: chunked\r\n", True),
        (b"X-Content-Length: 1\r\n", False),
    ],
)
def test_announces_body(lines: bytes, announced: bool) -> None:
    assert read(b"GET / HTTP/1.1\r\n" + lines + b"\r\n").announces_body() is announced


def test_headers_are_made_once_and_read_only() -> None:
    head = read(EXAMPLE)
    assert head.headers is head.headers
    with pytest.raises(AttributeError):
        head.raw = b""  # type: ignore[misc]


def by_hand(raw: bytes) -> tuple[str, str, str, list[tuple[str, str]]]:
    """Method, target, version and fields of a head that is known to be well-formed."""
    line, *fields = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, _, rest = line.partition(" ")
    target, _, version = rest.rpartition(" HTTP/")
    pairs = [field.split(":", 1) for field in fields]
    return method, target.strip(" "), version, [(name, value.strip(" \t")) for name, value in pairs]


def lists_by_hand(fields: list[tuple[str, str]], name: str, token: str) -> bool:
    values = [value for each, value in fields if each.lower() == name.lower()]
    return token.lower() in [element.strip(" \t").lower() for value in values for element in value.split(",")]


@pytest.mark.parametrize("seed", range(10))
def test_random_heads_are_read_as_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    names = [
        b"Upgrade",
        b"UPGRADE",
        b"upgrades",
        b"upgrad",
        b"X-Upgrade",
        b"Connection",
        b"connection",
        b"!",
        b"a-" * 99,
    ]
    values = [
        b"websocket",
        b"WebSocket",
        b"upgrade",
        b"",
        b" ",
        b"\t,",
        b", ",
        b"a:b",
        b"\xe9",
        b"web socket",
        b"x" * 300,
    ]
    for _ in range(200):
        lines = [
            chance.choice(names) + b":" + b"".join(chance.choices(values, k=chance.randint(0, 4)))
            for _ in range(chance.randint(0, 40))
        ]
        raw = b"\r\n".join([b"GET /ws HTTP/1.1", *lines, b"", b""])
        method, target, version, fields = by_hand(raw)
        head = read(raw)
        assert (head.method, head.target, head.version) == (method, target, version)
        assert list(head.headers.items()) == fields
        for name, token in [("Upgrade", "websocket"), ("connection", "Upgrade"), ("X-Upgrade", "a:b")]:
            assert head.lists(name.encode(), token.encode()) is lists_by_hand(fields, name, token)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_accepted_is_read_as_by_hand(seed: int) -> None:
    chance = random.Random(seed)
    accepted = 0
    for _ in range(3000):
        stream = bytearray(EXAMPLE + b"rest")
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(stream))
            stream[at : at + chance.randint(0, 2)] = chance.choice(
                [b"", b" ", b"\t", b":", b",", b"\r\n", b"\xff", b"a"]
            )
        reader = HeadReader()
        try:
            head = reader.feed(bytes(stream))
        except HandshakeError:
            continue
        if head is not None:
            accepted += 1
            assert head.raw + reader.rest == bytes(stream).lstrip(b"\r\n")
            assert head.raw.endswith(b"\r\n\r\n") and head.raw.count(b"\r\n\r\n") == 1
            assert (head.method, head.target, head.version, list(head.headers.items())) == by_hand(head.raw)
    assert accepted > 300


# --- HEAD


def fed(*chunks: bytes) -> HeadReader:
    """A reader that has read these chunks, or refused the last one."""
    reader = HeadReader(max_size=100)
    with suppress(HandshakeError):
        for chunk in chunks:
            reader.feed(chunk)
    return reader


HEADS = [b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD ", b"\r\nHEAD / HTTP/1.1\r\n", b"HEAD / HTTP/2.0\r\n\r\n"] + [
    b"HEAD / HTTP/1.1\r\nmalformed\r\n",
    b"HEAD / HTTP/1.1\r\nX: " + b"y" * 100,
]


@pytest.mark.parametrize("head", HEADS)
def test_a_head_request_is_known_as_soon_as_it_can_be(head: bytes) -> None:
    assert fed(head).is_head
    assert fed(head + b"GET / HTTP/1.1").is_head
    for at in range(1, len(head)):
        assert fed(head[:at], head[at:]).is_head
    assert fed(*(head[at : at + 1] for at in range(len(head)))).is_head


@pytest.mark.parametrize(
    "other",
    [b"", b"\r\n", b"HEAD", b"GET / HTTP/1.1\r\n\r\nHEAD ", b"HEADS /", b"head / HTTP/1.1", b" HEAD /", b"\x16HEAD "],
)
def test_what_is_no_head_request(other: bytes) -> None:
    assert not fed(other).is_head
    assert not fed(*(other[at : at + 1] for at in range(len(other)))).is_head


def test_shown() -> None:
    assert shown("a\r\n\x1b\xe9") == r"'a\r\n\x1b\xe9'"
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 60) + "..."

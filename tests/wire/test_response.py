"""crest.wire.response against byte literals: RFC 9112 sections 4 to 6."""

import random
from contextlib import suppress

import pytest

from crest.exceptions import UpgradeError
from crest.wire.response import ResponseHead, ResponseReader

OPENED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nX-Why: so\r\n\r\nagain"
CHUNKED = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nwhat?"


def outcome(chunks: list[bytes], max_size: int = 16384, max_headers: int = 100, max_body: int = 16384) -> object:
    """What a reader makes of a stream that then ends, in a form that can be compared."""
    reader = ResponseReader(max_size, max_headers, max_body)
    try:
        for number, chunk in enumerate(chunks):
            head = reader.feed(chunk)
            if head is not None:
                behind = reader.rest + b"".join(chunks[number + 1 :]) if head.status == 101 else b""
                return told(head), reader.body, behind
        return told(reader.feed_eof()), reader.body, "to the end"
    except UpgradeError as error:
        return error.reason


def told(head: ResponseHead) -> object:
    return head.version, head.status, head.phrase, list(head.headers.items()), head.raw


def test_a_response_is_taken_apart() -> None:
    reader = ResponseReader()
    head = reader.feed(OPENED + b"\x81\x01a")
    assert head is not None
    assert (head.version, head.status, head.phrase, head.raw) == ("1.1", 101, "Switching Protocols", OPENED)
    assert list(head.headers) == ["Upgrade", "Connection", "Sec-WebSocket-Accept"]
    assert head.joined(b"upgrade") == "websocket"
    assert head.lists(b"Connection", b"upgrade")
    assert (reader.rest, reader.body) == (b"\x81\x01a", b"")


@pytest.mark.parametrize(
    ("stream", "body", "behind"),
    [
        (OPENED, b"", b""),
        (OPENED + b"\x81\x01aHTTP/1.1 200 OK\r\n\r\n", b"", b"\x81\x01aHTTP/1.1 200 OK\r\n\r\n"),
        (REFUSED, b"again", b""),
        (REFUSED + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"again", b""),
        (CHUNKED, b"abcde", b""),
        (UNTIL_THE_END, b"what?", "to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", b""),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", b"", b""),
        (b"HTTP/1.1 426\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx", b"x", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OPENED + b"z", b"", b"z"),
        (b"HTTP/1.1 102 \r\n\r\n" + REFUSED, b"again", b""),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\ncut", b"cut", "to the end"),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzzz\r\n", b"abc", b""),
    ],
)
def test_a_split_anywhere_changes_nothing(stream: bytes, body: bytes, behind: object) -> None:
    whole = outcome([stream])
    assert isinstance(whole, tuple)
    assert whole[1:] == (body, behind)
    for at in range(len(stream) + 1):
        assert outcome([stream[:at], stream[at:]]) == whole, at
    assert outcome([stream[i : i + 1] for i in range(len(stream))]) == whole
    assert outcome([stream[i : i + 7] for i in range(0, len(stream), 7)]) == whole


def test_only_as_much_content_is_kept_as_may_be() -> None:
    for stream in (REFUSED, CHUNKED, UNTIL_THE_END):
        for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
            found = outcome(chunks, max_body=3)
            assert isinstance(found, tuple)
            assert len(found[1]) == 3
    assert outcome([REFUSED], max_body=0)[1] == b""  # type: ignore[index]


MALFORMED = {
    "garbage": b"\x00\x01\x02\x03",
    "a frame": b"\x81\x05hello",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 101 Switching Protocols\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 101 Switching Protocols\r\n\r\n",
    "no status": b"HTTP/1.1 Switching Protocols\r\n\r\n",
    "a short status": b"HTTP/1.1 10 Switching\r\n\r\n",
    "a long status": b"HTTP/1.1 1010 Switching\r\n\r\n",
    "status 0": b"HTTP/1.1 001 Switching\r\n\r\n",
    "a space in a name": b"HTTP/1.1 101 a\r\nUp grade: websocket\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 101 a\r\nUpgrade : websocket\r\n\r\n",
    "folding": b"HTTP/1.1 101 a\r\nUpgrade: web\r\n socket\r\n\r\n",
    "a bare LF": b"HTTP/1.1 101 a\r\nUpgrade: websocket\nConnection: Upgrade\r\n\r\n",
    "a bare LF behind the status": b"HTTP/1.1 101 a\nUpgrade: websocket\r\n\r\n",
    "a bare CR": b"HTTP/1.1 101 a\r\nUpgrade: web\rsocket\r\n\r\n",
    "NUL": b"HTTP/1.1 101 a\r\nUpgrade: web\0socket\r\n\r\n",
    "NUL in the phrase": b"HTTP/1.1 101 a\0b\r\nUpgrade: websocket\r\n\r\n",
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused(raw: bytes) -> None:
    for chunks in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        reason = outcome(chunks)
        assert isinstance(reason, str), reason
        assert reason.isascii() and reason.isprintable()
        assert reason.startswith(("what the server answers is no HTTP response", "the server does not answer in HTTP"))


def test_a_server_that_says_nothing() -> None:
    assert outcome([]) == "the server has ended the connection without a response"
    assert outcome([b"HTTP/1.1 1"]) == "the server has ended the connection within its response"
    assert outcome([b"HTTP/1.1 100 Continue\r\n\r\n"]) == "the server has ended the connection without a response"


def test_the_size_of_a_head_is_limited() -> None:
    assert isinstance(outcome([OPENED], max_size=len(OPENED)), tuple)
    for chunks in ([OPENED], [OPENED[i : i + 1] for i in range(len(OPENED))], [OPENED[:-1], OPENED[-1:]]):
        assert outcome(chunks, max_size=len(OPENED) - 1) == "the head of the response is too long"
    endless = b"HTTP/1.1 200 OK\r\nX: "
    assert outcome([endless, *[b"x" * 1000] * 100]) == "the head of the response is too long"


def test_interim_responses_count_too() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    assert outcome([interim * 2000]) == "the head of the response is too long"
    size = len(interim) + len(OPENED)
    assert outcome([interim + OPENED], max_size=size - 1) == "the head of the response is too long"
    assert isinstance(outcome([interim + OPENED], max_size=size), tuple)


def test_the_number_of_headers_is_limited() -> None:
    raw = b"HTTP/1.1 101 a\r\n" + b"X: y\r\n" * 5 + b"\r\n"
    assert isinstance(outcome([raw], max_headers=5), tuple)
    assert outcome([raw], max_headers=4) == "the response has 5 header fields; the limit is 4"


def test_content_that_is_over_its_limit_is_not_kept_by_a_long_chunk() -> None:
    reader = ResponseReader(max_body=10)
    assert reader.feed(b"HTTP/1.1 500 a\r\nContent-Length: 1000000\r\n\r\n") is None
    assert reader.feed(b"x" * 1_000_000) is not None
    assert reader.body == b"x" * 10


def test_whatever_comes_the_split_does_not_show() -> None:
    streams = [OPENED + b"rest", REFUSED, CHUNKED, UNTIL_THE_END, *MALFORMED.values()]
    for seed in range(2000):
        chance = random.Random(seed)
        stream = bytearray(chance.choice(streams))
        for _ in range(chance.randrange(4)):
            with suppress(ValueError):
                stream[chance.randrange(len(stream))] = chance.choice(b"\r\n\0 :;a1\xff")
        ends = sorted(chance.randrange(len(stream) + 1) for _ in range(chance.randrange(5)))
        cut = [bytes(stream[i:j]) for i, j in zip([0, *ends], [*ends, len(stream)], strict=True)]
        whole, found = outcome([bytes(stream)]), outcome(cut)
        if isinstance(whole, str) or isinstance(found, str):
            assert isinstance(whole, str) and isinstance(found, str), (whole, found, cut)
        else:
            assert whole == found, cut

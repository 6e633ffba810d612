"""crest.io.life.protocol: clients that send more than their rate, and those that only seem to. What counts how much is
wire/test_meter.py's."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.client import BINARY, CONTINUATION, PONG, TEXT, close_frame, frame
from support.link import Link, Scene, closed_with, ping, scene, text

from crest.wire.meter import Rates

MESSAGES = "over max_message_rate: 10 messages a second, 3 at once"
BYTES = "over max_byte_rate: 1000000 bytes a second, 2000000 at once"


@pytest.fixture
def limited(direct: bool) -> Iterator[Scene]:
    """A server that takes 10 messages a second, and 3 at once."""
    with scene(direct=direct, ping_interval=20, ping_timeout=10, rates=Rates((10, 3), None)) as made:
        made.hub.on_message = lambda conn, message: made.events.append(("message", conn.link, message))
        yield made


def assert_refused(stage: Scene, link: Link, count: int, error: str) -> None:
    """So many messages were delivered, and then the connection failed."""
    *messages, told, closed = stage.seen(link)
    assert messages == [("message", "x")] * count
    assert told[0] == "error" and told[1].partition(": ")[2] == error and told[1].exception is None
    assert closed == ("close", 1008, told[1])
    assert closed_with(link) == 1008


def test_a_burst_in_one_read_is_delivered_as_far_as_it_may_come(limited: Scene) -> None:
    link, other = limited.link(), limited.link()
    link.receive(text("x") * 100)
    assert_refused(limited, link, 3, MESSAGES)
    other.receive(text("x") * 3)
    assert limited.seen(other) == [("message", "x")] * 3
    assert other.connection.is_open()


def test_a_burst_in_many_reads(limited: Scene) -> None:
    link = limited.link()
    for byte in text("x") * 4:
        link.receive(bytes([byte]))
    assert_refused(limited, link, 3, MESSAGES)


def test_a_burst_behind_the_handshake(limited: Scene) -> None:
    link = limited.link(rest=text("x") * 2)
    link.receive(text("x"))
    assert link.connection.is_open()
    assert_refused(limited, limited.link(rest=text("x") * 9), 3, MESSAGES)


def test_who_keeps_to_the_rate_may_go_on(limited: Scene) -> None:
    link = limited.link()
    for _ in range(50):
        link.receive(text("x"))
        limited.loop.clock += 0.1
    assert limited.seen(link) == [("message", "x")] * 50
    link.receive(text("x") * 5)
    assert_refused(limited, link, 50 + 3, MESSAGES)


@pytest.mark.parametrize(
    "flood", [ping(b""), frame(PONG, b"a"), frame(TEXT, b"a"), frame(CONTINUATION, b"", fin=False)]
)
def test_floods(limited: Scene, flood: bytes) -> None:
    link = limited.link()
    limited.hub.on_message = None
    link.receive(frame(TEXT, b"", fin=False) if flood[0] == CONTINUATION else b"")
    link.receive(flood * 1000)
    assert_refused(limited, link, 0, MESSAGES)


def test_answers_to_pings_of_the_server_are_free(limited: Scene) -> None:
    link = limited.link()
    for _ in range(20):
        link.connection.ping()
        limited.end_turn()
        link.read_all()
        (asked,) = link.frames()
        link.receive(frame(PONG, asked.payload))
    link.receive(text("x") * 3)
    assert link.connection.is_open()
    link.receive(frame(PONG, asked.payload))  # once more
    assert_refused(limited, link, 3, MESSAGES)


def test_who_has_sent_everything_may_still_close(limited: Scene) -> None:
    link = limited.link()
    link.receive(text("x") * 3 + close_frame(4000, "bye"))
    assert limited.seen(link) == [("message", "x")] * 3 + [("close", 4000, "bye")]


def test_bytes_count_while_a_large_message_is_received_where_it_belongs(direct: bool) -> None:
    with scene(direct=direct, rates=Rates(None, (1e6, 2e6))) as stage:
        stage.hub.on_binary = lambda conn, data: stage.events.append(("message", conn.link, data[:1].decode()))
        link = stage.link()
        message = frame(BINARY, b"x" * 3_000_000)
        for at in range(0, len(message), 100_000):
            stage.loop.clock += 0.05
            link.receive(message[at : at + 100_000])
        assert stage.seen(link) == [("message", "x")]
        link.receive(message)
        assert_refused(stage, link, 1, BYTES)


def test_what_waited_because_an_async_handler_was_slow_is_no_flood(direct: bool) -> None:
    """The client keeps to its rate, but is not read for long; what the kernel has kept comes at once."""
    with scene(direct=direct, rates=Rates((10, 3), None), max_queue=1) as stage:
        handled: list[Any] = []
        waiting: list[asyncio.Future[None]] = []

        async def slow(conn: Any, message: str) -> None:
            if not handled:
                waiting.append(stage.loop.create_future())
                handled.append(message)
                await waiting[0]
            else:
                handled.append(message)

        stage.hub.on_message = slow
        link = stage.link()
        link.receive(text("x") * 3)
        stage.end_turn()
        assert not link.transport.reading
        stage.loop.clock += 5
        waiting[0].set_result(None)
        stage.end_turn(4)
        assert link.transport.reading
        for _ in range(50):
            link.receive(text("x"))
            stage.end_turn(4)
        assert len(handled) == 53
        link.receive(text("x") * 4)
        stage.end_turn(9)
        assert [event[:2] for event in stage.seen(link)][1:] == [("close", 1008)]


def test_no_limit_is_no_meter(direct: bool) -> None:
    with scene(direct=direct) as stage:
        link = stage.link()
        assert stage.hub.rates is None
        link.receive(ping(b"") * 10_000)
        assert link.connection.is_open()

"""crest.io.life.pace: clients over their rate that are to wait for it, or whose messages are dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import BINARY, CONTINUATION, PONG, TEXT, close_frame, frame
from support.link import Link, Scene, closed_with, ping, scene, text

from crest.wire.meter import Rates


@pytest.fixture
def waiting(direct: bool) -> Iterator[Scene]:
    """A server that reads 10 messages a second, and 3 at once."""
    with limited(direct, "wait") as made:
        yield made


@pytest.fixture
def dropping(direct: bool) -> Iterator[Scene]:
    """A server that takes 10 messages a second, and 3 at once, and drops more."""
    with limited(direct, "drop") as made:
        yield made


@contextmanager
def limited(direct: bool, on_rate: str, **limits: Any) -> Iterator[Scene]:
    """A scene whose handlers record the messages."""
    limits.setdefault("rates", Rates((10, 3), None, False, on_rate))
    with scene(direct=direct, **limits) as stage:
        stage.hub.on_message = lambda conn, message: stage.events.append(("message", conn.link, message))
        stage.hub.on_binary = lambda conn, data: stage.events.append(("binary", conn.link, len(data)))
        yield stage


def flood(count: int) -> bytes:
    return b"".join(text(str(number)) for number in range(count))


def messages(stage: Scene, link: Link) -> list[str]:
    return [event[1] for event in stage.seen(link) if event[0] == "message"]


def pass_time(stage: Scene, seconds: float, *links: Link) -> None:
    """In steps of a tenth, each of which the loop's timers and calls follow, and what the links' kernels have."""
    for _ in range(round(seconds * 10)):
        stage.loop.advance(0.1)
        stage.end_turn(3)
        for link in links:
            link.receive(b"")


# ---- wait ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_over_the_rate_is_handled_when_that_allows_it(waiting: Scene, size: int) -> None:
    link, other = waiting.link(), waiting.link()
    stream = flood(40)
    for at in range(0, len(stream), size):
        link.receive(stream[at : at + size])
    assert messages(waiting, link) == ["0", "1", "2"]
    assert not link.transport.reading
    other.receive(text("a"))
    assert messages(waiting, other) == ["a"]
    got = 3
    for tenth in range(1, 50):
        pass_time(waiting, 0.1, link)
        now = len(messages(waiting, link))
        assert got <= now <= 3 + tenth
        got = now
    assert messages(waiting, link) == [str(number) for number in range(40)]
    assert link.transport.reading and link.connection.is_open() and link.connection.discarded == 0


def test_over_any_time_no_more_than_the_rate_and_not_much_less(waiting: Scene) -> None:
    link = waiting.link()
    link.receive(flood(1000))
    pass_time(waiting, 20)
    assert 3 + 200 - 3 <= len(messages(waiting, link)) <= 3 + 200


def test_bytes_of_a_long_message(direct: bool) -> None:
    """It is read where it belongs, and waited for, but not for a message's token."""
    with limited(direct, "wait", rates=Rates((0.001, 1), (1e6, 1e6), False, "wait")) as stage:
        link = stage.link()
        message = frame(BINARY, b"x" * 1_000_000)
        for at in range(0, len(message), 100_000):
            link.receive(message[at : at + 100_000])
        pass_time(stage, 1, link)
        assert stage.seen(link) == [("binary", 1_000_000)]


def test_a_close_frame_has_its_turn(waiting: Scene) -> None:
    link = waiting.link()
    link.receive(flood(5) + close_frame(4000, "bye"))
    assert [event[0] for event in waiting.seen(link)] == ["message"] * 3
    pass_time(waiting, 1)
    assert waiting.seen(link)[-2:] == [("message", "4"), ("close", 4000, "bye")]


@pytest.mark.parametrize("how", ["lost", "eof", "closed", "stopped"])
def test_an_end_waits_for_nothing(waiting: Scene, how: str) -> None:
    """What is over the rate is dropped then, and what is behind it read: the peer's close frame."""
    link = waiting.link()
    link.receive(flood(50) + (b"" if how == "eof" else close_frame(4000, "bye")))
    assert len(messages(waiting, link)) == 3
    if how == "lost":
        link.transport.end()
    elif how == "eof":
        link.protocol.eof_received()
    elif how == "closed":
        link.connection.close(1000)
    else:
        link.protocol.stop(1001, "")
    waiting.end_turn(4)
    assert messages(waiting, link) == ["0", "1", "2"]
    assert waiting.seen(link)[-1] == (("close", 1006, "") if how == "eof" else ("close", 4000, "bye"))
    if how != "closed":  # then nobody wants them
        assert link.connection.discarded == 47


def test_the_heartbeat_rests(direct: bool) -> None:
    """A client that is not read can not be heard: it is neither asked, nor idle, nor dead."""
    rates = Rates((0.01, 1), None, False, "wait")
    with limited(direct, "wait", rates=rates, ping_interval=2, ping_timeout=2, idle_timeout=9) as stage:
        link = stage.link()
        link.receive(flood(3))
        pass_time(stage, 95)
        assert link.connection.is_open() and link.frames() == []
        pass_time(stage, 10)
        assert messages(stage, link) == ["0", "1"]
        pass_time(stage, 101)
        assert messages(stage, link) == ["0", "1", "2"]


def test_behind_the_wait_the_heartbeat_goes_on(direct: bool) -> None:
    with limited(direct, "wait", ping_interval=5, ping_timeout=5) as stage:
        link = stage.link()
        link.receive(flood(4))
        pass_time(stage, 1)
        assert len(messages(stage, link)) == 4 and link.transport.reading
        pass_time(stage, 6)
        link.read_all()
        assert len(link.frames()) == 1  # a ping
        pass_time(stage, 6)
        assert closed_with(link) == 1011


def test_a_handler_that_is_slow_and_a_rate(direct: bool) -> None:
    """Either keeps the client from being read; neither forgets the other."""
    with limited(direct, "wait", max_queue=1) as stage:
        gates: list[Any] = []

        async def slow(conn: Any, message: str) -> None:
            stage.events.append(("message", conn.link, message))
            gates.append(stage.loop.create_future())
            await gates[-1]

        stage.hub.on_message = slow
        link = stage.link()
        link.receive(flood(6))
        stage.end_turn(4)
        pass_time(stage, 5)
        assert messages(stage, link) == ["0"] and not link.transport.reading
        for _ in range(6):
            gates[-1].set_result(None)
            stage.end_turn(6)
            pass_time(stage, 1)
        assert messages(stage, link) == [str(number) for number in range(6)]


# ---- drop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_is_over_the_rate_is_dropped_and_counted(dropping: Scene, size: int) -> None:
    link = dropping.link()
    stream = flood(100)
    for at in range(0, len(stream), size):
        link.receive(stream[at : at + size])
    assert messages(dropping, link) == ["0", "1", "2"]
    assert link.connection.discarded == 97 and link.connection.dropped == 0
    assert link.connection.is_open() and link.transport.reading
    dropping.loop.clock += 0.1
    link.receive(text("a") + text("b"))
    assert messages(dropping, link)[3:] == ["a"]
    assert link.connection.discarded == 98
    link.receive(close_frame(1000))
    assert dropping.seen(link)[-1] == ("close", 1000, "")
    link.transport.end()
    dropping.end_turn(3)
    assert link.connection.discarded == 98  # for whoever asks later


def test_a_message_in_fragments_is_dropped_whole_and_pings_within_are_answered(dropping: Scene) -> None:
    link = dropping.link()
    link.receive(flood(3))
    link.receive(frame(TEXT, "a", fin=False) + ping(b"1"))
    link.receive(frame(CONTINUATION, "b", fin=False) + ping(b"2"))
    dropping.loop.clock += 10  # the rest would be within the rate
    link.receive(frame(CONTINUATION, "c") + text("next"))
    dropping.end_turn()
    link.read_all()
    assert [each.payload for each in link.frames()] == [b"1", b"2"]
    assert messages(dropping, link)[3:] == ["next"]
    assert link.connection.discarded == 1


@pytest.mark.parametrize("control", [ping(b""), frame(PONG, b"")])
def test_control_frames_alone_are_a_flood(dropping: Scene, control: bytes) -> None:
    """They can not be dropped. What messages have used up is no reason to fail for them, but they have a limit too."""
    link = dropping.link()
    link.receive(flood(10))
    link.receive(control * 3)
    assert link.connection.is_open()
    link.receive(control)
    assert closed_with(link) == 1008


def test_bytes_over_the_rate_take_no_memory(direct: bool) -> None:
    with limited(direct, "drop", rates=Rates(None, (1, 1000), False, "drop")) as stage:
        link = stage.link()
        message = frame(BINARY, b"x" * 900_000)
        for at in range(0, len(message), 100_000):
            link.receive(message[at : at + 100_000])
        assert (link.connection.discarded, stage.turn.budget.used) == (1, 0)
        stage.loop.clock += 1000
        link.receive(frame(BINARY, b"x" * 100))
        assert stage.seen(link) == [("binary", 100)]

"""crest.io.life.heartbeat: who is asked for a sign of life, when, and who has failed to give one."""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import CLOSE, PING, PONG, Frame, close_frame, frame
from support.link import SMALL_KERNEL, Link, Scene, closed_with, ping, scene, text
from support.vanishing import come_back, vanish

INTERVAL, TIMEOUT = 20, 10
LATE = 0.06
"""Seconds: a tick of the clock, and its rounding."""


@pytest.fixture
def beating(direct: bool) -> Iterator[Scene]:
    """A server that pings."""
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT) as made:
        yield made


def pass_time(stage: Scene, seconds: float) -> None:
    """Let time pass, timers firing in time."""
    end = stage.loop.clock + seconds
    while stage.loop.clock < end:
        stage.loop.advance(min(0.05, end - stage.loop.clock))


def pings(link: Link) -> list[bytes]:
    """Payloads of the pings that the peer got since; it got nothing else."""
    link.read_all()
    frames = link.frames()
    assert all(each.opcode == PING for each in frames), frames
    return [each.payload for each in frames]


def ping_timed_out(stage: Scene, link: Link) -> bool:
    text = f"ping timeout: nothing came for {TIMEOUT} s"
    seen = stage.seen(link)
    assert seen in ([], [("error", text), ("close", 1011, text)])
    return bool(seen)


def test_a_silent_peer_is_pinged_and_an_answer_is_enough(beating: Scene) -> None:
    link = beating.link()
    for _ in range(4):
        pass_time(beating, INTERVAL - LATE)
        assert pings(link) == []
        pass_time(beating, 2 * LATE)
        (payload,) = pings(link)
        link.receive(frame(PONG, payload))
    assert link.connection.is_open()


def test_latency_is_kept_up_to_date(beating: Scene) -> None:
    link = beating.link()
    for delay in (1, 3):
        pass_time(beating, INTERVAL + LATE)
        (payload,) = pings(link)
        begun = beating.loop.clock
        pass_time(beating, delay)
        link.receive(frame(PONG, payload))
        assert beating.loop.clock - begun <= link.connection.latency <= beating.loop.clock - begun + 2 * LATE


def test_a_peer_that_vanishes_is_found_in_time(beating: Scene) -> None:
    link = beating.link()
    link.receive(text("the last"))
    pass_time(beating, INTERVAL + TIMEOUT - 2 * LATE)
    assert not ping_timed_out(beating, link)
    pass_time(beating, 4 * LATE)
    assert ping_timed_out(beating, link)
    link.read_all()
    assert closed_with(link) == 1011
    assert not link.connection.is_open()
    pass_time(beating, 10 + LATE)
    assert beating.site.gone == [link.protocol], "close_timeout is over"


@pytest.mark.parametrize("heard_after", [0.1, 1, 7, 13, 19.9])
def test_it_is_found_in_time_whenever_it_was_heard_last(beating: Scene, heard_after: float) -> None:
    link = beating.link()
    pass_time(beating, heard_after)
    link.receive(text("the last"))
    pass_time(beating, INTERVAL * 15 / 16 + TIMEOUT - 2 * LATE)
    assert not ping_timed_out(beating, link)
    pass_time(beating, INTERVAL / 16 + 4 * LATE)
    assert ping_timed_out(beating, link)


@pytest.mark.parametrize("life", [text("x"), ping(b""), frame(PONG, b"unasked"), text("x" * 99)[:50]])
def test_whatever_comes_is_a_sign_of_life(beating: Scene, life: bytes) -> None:
    """A busy peer is never pinged."""
    link = beating.link()
    for byte_or_frame in [bytes([byte]) for byte in life] if len(life) == 50 else [life] * 20:
        pass_time(beating, INTERVAL / 2)
        link.receive(byte_or_frame)
    link.read_all()
    assert link.connection.is_open()
    assert PING not in [each.opcode for each in link.frames()]


def test_another_frame_than_the_pong_is_an_answer_too(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    assert len(pings(link)) == 1
    pass_time(beating, TIMEOUT - 1)
    link.receive(text("here I am"))
    pass_time(beating, TIMEOUT)
    assert link.connection.is_open()
    assert pings(link) == []
    pass_time(beating, INTERVAL - TIMEOUT + LATE)
    assert len(pings(link)) == 1


def test_pings_of_the_application_go_beside(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    (first,) = pings(link)
    assert link.connection.ping()
    pass_time(beating, 1)
    (second,) = pings(link)
    link.receive(frame(PONG, first))
    assert link.connection.latency is None, "it answers an older one, and yet is a sign of life"
    link.receive(frame(PONG, second))
    assert link.connection.latency == pytest.approx(1, abs=LATE)
    pass_time(beating, TIMEOUT + LATE)
    assert link.connection.is_open()


def test_the_application_s_pings_do_not_keep_a_vanished_peer(beating: Scene) -> None:
    link = beating.link()
    for _ in range(INTERVAL + TIMEOUT + 1):
        pass_time(beating, 1)
        link.connection.ping()
    assert ping_timed_out(beating, link)


def test_an_answer_comes_while_the_loop_is_busy(beating: Scene) -> None:
    """The timer fires before the loop has read what is there."""
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    (payload,) = pings(link)
    if not beating.direct:
        pytest.skip("its transport has no socket that could be asked")
    link.peer.send(frame(PONG, payload))
    beating.loop.advance(100)
    assert not ping_timed_out(beating, link)
    link.receive(frame(PONG, payload))
    pass_time(beating, TIMEOUT)
    assert link.connection.is_open()


@contextmanager
def not_read(direct: bool, **options: Any) -> Iterator[tuple[Scene, Link, asyncio.Event]]:
    """A server of which one link is not read, until the event is set that its handler waits for."""
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT, max_queue=1) as stage:
        release = asyncio.Event()

        async def received(conn: Any, message: str) -> None:
            await release.wait()

        stage.hub.on_message = received
        link = stage.link(**options)
        link.receive(text("a") + text("b") + text("c"))
        assert not link.transport.reading
        yield stage, link, release
        release.set()
        stage.end_turn(5)


def test_nobody_is_asked_while_its_answer_would_not_be_read(direct: bool) -> None:
    """A pong wants no answer; so none is awaited when reading goes on, either."""
    with not_read(direct) as (stage, link, release):
        for _ in range(3):
            pass_time(stage, INTERVAL + 2 * LATE)
            link.read_all()
            assert link.frames() == [Frame(PONG, b"")]
            pass_time(stage, TIMEOUT)
        assert link.connection.is_open()
        pass_time(stage, INTERVAL + 2 * LATE)
        release.set()
        stage.end_turn(5)
        assert link.transport.reading
        link.read_all()
        link.frames()
        pass_time(stage, INTERVAL - 1)
        assert link.connection.is_open() and pings(link) == []
        pass_time(stage, TIMEOUT + 1 + 2 * LATE)
        assert ping_timed_out(stage, link), "now it is"


def unacknowledged(sock: socket.socket) -> int:
    """Segments that the kernel has sent and that the peer's has not acknowledged: tcpi_unacked."""
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0])


def readable(sock: socket.socket | None) -> int:
    """Bytes that the kernel has for this end."""
    assert sock is not None
    try:
        return len(sock.recv(1 << 16, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs TCP_INFO, and a socket filter")
def test_tcp_says_whether_a_peer_is_there_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of it are unread all the time, and prove nothing."""
    monkeypatch.setattr(socket, "socketpair", tcp_pair)
    with not_read(True) as (stage, link, _):
        sock = link.transport.sock
        assert sock is not None
        link.peer.send(text("d"))
        for _ in range(3):
            pass_time(stage, INTERVAL + 2 * LATE)
            while unacknowledged(sock):  # a kernel may take its time
                time.sleep(0.001)
            pass_time(stage, TIMEOUT)
            assert link.connection.is_open()
        vanish(link.peer)
        pass_time(stage, INTERVAL + TIMEOUT + 4 * LATE)
        assert not link.connection.is_open()
        assert sock.recv(100, socket.MSG_PEEK)
        come_back(link.peer)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs TCP_INFO, and a socket filter")
def test_what_comes_is_a_sign_of_life_though_it_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing is acknowledged."""
    monkeypatch.setattr(socket, "socketpair", tcp_pair)
    with not_read(True) as (stage, link, _):
        for _ in range(3):
            vanish(link.peer)
            pass_time(stage, INTERVAL + 2 * LATE)
            come_back(link.peer)
            before = readable(link.transport.sock)
            link.peer.send(text("d"))
            while readable(link.transport.sock) == before:
                time.sleep(0.001)
            pass_time(stage, TIMEOUT)
            assert link.connection.is_open()


def test_reading_pauses_while_an_answer_is_awaited(direct: bool) -> None:
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT, max_queue=1) as stage:
        release = asyncio.Event()

        async def received(conn: Any, message: str) -> None:
            await release.wait()

        stage.hub.on_message = received
        link = stage.link()
        link.receive(text("a"))
        pass_time(stage, INTERVAL + LATE)
        assert len(pings(link)) == 1
        link.receive(text("b") + text("c"))
        assert not link.transport.reading
        pass_time(stage, 5 * TIMEOUT)
        assert not ping_timed_out(stage, link)
        release.set()


# --- Slow consumers


def backlogged(stage: Scene) -> Link:
    """A peer that does not read, and for which something waits."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=1000)
    link.fill()
    for _ in range(20):
        link.connection.send("x" * 10_000)
    stage.end_turn()
    assert link.connection.buffered
    return link


def test_a_peer_that_takes_nothing_is_not_alive(beating: Scene) -> None:
    link = backlogged(beating)
    before = link.connection.buffered
    pass_time(beating, INTERVAL + LATE)
    assert link.connection.buffered <= before, "no ping joins what waits"
    pass_time(beating, TIMEOUT + LATE)
    assert ping_timed_out(beating, link)


def test_a_slow_peer_that_takes_what_waits_is_alive(beating: Scene) -> None:
    link = backlogged(beating)
    filled = 0
    for _ in range(8):
        pass_time(beating, TIMEOUT)
        filled += sum(map(len, link.read(5000)))
        link.transport.writable(5000)
        if not link.transport.buffer and not link.connection.buffered:
            break
    assert not ping_timed_out(beating, link)
    link.read_all()
    assert beating.turn.budget.used == 0, "it has been told, too"


def tcp_pair(*_: int) -> tuple[socket.socket, socket.socket]:
    """As socket.socketpair, of TCP; the second has a small receive buffer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        second = socket.socket()
        second.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        second.connect(server.getsockname())
        return server.accept()[0], second


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs TCP_INFO")
def test_tcp_says_whether_a_slow_peer_takes_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ping stands behind a backlog that is all in the kernel: its acknowledgements are signs of life."""
    monkeypatch.setattr(socket, "socketpair", tcp_pair)
    with scene(direct=True, ping_interval=INTERVAL, ping_timeout=TIMEOUT) as stage:
        link = stage.link(send_buffer=1 << 20)
        link.connection.send("x" * 400_000)
        stage.end_turn()
        assert link.connection.buffered == 0
        pass_time(stage, INTERVAL + LATE)
        for _ in range(3):
            link.peer.setblocking(True)
            link.peer.recv(50_000, socket.MSG_WAITALL)
            pass_time(stage, TIMEOUT + LATE)
            assert not ping_timed_out(stage, link)
        for _ in range(4):
            pass_time(stage, TIMEOUT + LATE)
        assert ping_timed_out(stage, link)


# --- Off, or only in part


def test_no_heartbeat_by_default(stage: Scene) -> None:
    link = stage.link()
    assert stage.pending() == []
    pass_time(stage, 100)
    assert pings(link) == []


def test_pings_without_a_timeout(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5) as stage:
        link = stage.link()
        pass_time(stage, 100)
        assert 18 <= len(pings(link)) <= 21
        assert link.connection.is_open()


def test_a_timeout_without_pings_is_none(direct: bool) -> None:
    with scene(direct=direct, ping_timeout=5) as stage:
        link = stage.link()
        pass_time(stage, 100)
        assert pings(link) == [] and link.connection.is_open()


def test_a_timeout_longer_than_the_interval(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5, ping_timeout=60) as stage:
        link = stage.link()
        for _ in range(6):
            pass_time(stage, 5 + LATE)
            (payload,) = pings(link)
            link.receive(frame(PONG, payload))
        pass_time(stage, 64)
        assert link.connection.is_open()
        assert len(pings(link)) == 1
        pass_time(stage, 1 + 2 * LATE)
        assert stage.seen(link)[-1][:2] == ("close", 1011)


# --- Idle


def test_a_peer_that_only_answers_pings_is_idle(direct: bool) -> None:
    with scene(direct=direct, ping_interval=5, ping_timeout=5, idle_timeout=60) as stage:
        link = stage.link()
        link.receive(text("x"))
        passed = 0.0
        reason = "idle: no message came for 60 s"
        while link.connection.is_open() and passed < 100:
            pass_time(stage, 1)
            passed += 1
            link.read_all()
            for each in link.frames():
                if each.opcode == PING:
                    link.receive(frame(PONG, each.payload))
                else:
                    assert (each.opcode, each.code, each.reason) == (CLOSE, 1001, reason)
        assert 60 <= passed <= 61 + LATE
        link.receive(close_frame(1001, reason))
        assert stage.seen(link) == [("close", 1001, reason)], "it is no error"


@pytest.mark.parametrize("message", [text("x"), frame(0x2, b"x")])
def test_messages_keep_a_connection_from_being_idle(direct: bool, message: bytes) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        link = stage.link()
        for _ in range(10):
            pass_time(stage, 9)
            link.receive(message)
        assert link.connection.is_open()
        pass_time(stage, 10 - LATE)
        assert link.connection.is_open()
        pass_time(stage, 3 * LATE)
        assert not link.connection.is_open()


def test_a_message_on_its_way_is_not_idle(direct: bool) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        link = stage.link()
        message = text("a long message")
        link.receive(message[:7])
        for byte in message[7:]:
            pass_time(stage, 9)
            link.receive(bytes([byte]))
        assert link.connection.is_open()


def test_who_waits_for_an_answer_is_not_idle(direct: bool) -> None:
    with scene(direct=direct, idle_timeout=10) as stage:
        release = asyncio.Event()

        async def received(conn: Any, message: str) -> None:
            await release.wait()

        stage.hub.on_message = received
        link = stage.link()
        link.receive(text("a question"))
        pass_time(stage, 100)
        assert link.connection.is_open()
        release.set()
        stage.end_turn(3)
        pass_time(stage, 20 + LATE)
        assert not link.connection.is_open()


# --- The end


def test_close_waits_for_close_timeout_instead(beating: Scene) -> None:
    link = beating.link()
    pass_time(beating, INTERVAL + LATE)
    assert len(pings(link)) == 1
    link.connection.close(1000)
    assert [round(left) for left in beating.pending()] == [10]
    pass_time(beating, 10 + LATE)
    assert beating.seen(link) == [("close", 1006, "")]


def test_nothing_is_left_of_a_connection_that_is_gone(beating: Scene) -> None:
    link = beating.link()
    link.transport.end()
    beating.end_turn(2)
    assert beating.pending() == []
    pass_time(beating, 100)
    assert beating.seen(link) == [("close", 1006, "")]


def test_a_connection_that_is_closed_in_on_connect_has_no_heartbeat(direct: bool) -> None:
    with scene(direct=direct, ping_interval=INTERVAL, ping_timeout=TIMEOUT) as stage:
        stage.hub.on_connect = lambda conn: conn.close(4000)
        stage.link()
        assert [round(left) for left in stage.pending()] == [10]

"""crest.io.life.signs: what the kernel and the transport say of a peer that sends nothing."""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.beating import INTERVAL, LATE, TIMEOUT, pass_time, ping_timed_out, pings
from support.client import PONG, Frame, frame
from support.link import SMALL_KERNEL, Link, Scene, scene, text
from support.vanishing import come_back, vanish


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

"""crest.io.net.acceptor: connections as they come in, all at once, half gone, or too many for the process."""

import asyncio
import errno
import gc
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import GUARD
from support.door import Door, Visitor, door, door_of
from support.ends import settled
from support.events import on_each_loop, until
from support.link import Loop

from crest.io.life.protocol import Protocol
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.acceptor import Acceptor

resource = pytest.importorskip("resource", reason="no limits on descriptors here")
pytestmark = pytest.mark.skipif(not Poller.exists, reason="sockets are served by the loop's transports here")

AT_ONCE = 64
"""Connections that are accepted before others have their turn."""


async def reading(peer: socket.socket, size: int) -> bytes:
    async with asyncio.timeout(GUARD):
        return await asyncio.get_running_loop().sock_recv(peer, size)


# ---- Who comes in ----------------------------------------------------------------------------------------------------

FAMILIES = [
    socket.AF_INET,
    pytest.param(socket.AF_INET6, marks=pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")),
]


@pytest.mark.parametrize("family", FAMILIES)
@on_each_loop
async def test_a_connection_is_served_and_known_by_its_address(family: int) -> None:
    async with door(family) as made:
        peer = made.knock()
        await made.came.reach(1)
        (visitor,) = made.visitors
        assert visitor.peername == peer.getsockname()[:2]
        peer.send(b"hello")
        assert await reading(peer, 10) == b"hello"
        peer.close()
        await until(visitor.lost)
        assert visitor.transport.fd == -1


@pytest.mark.skipif(sys.platform != "linux", reason="its addresses are Linux's")
@on_each_loop
async def test_a_unix_socket_has_no_address() -> None:
    async with door(socket.AF_UNIX) as made:
        peer = made.knock()
        await made.came.reach(1)
        assert made.visitors[0].peername is None
        peer.send(b"hello")
        assert await reading(peer, 10) == b"hello"


@on_each_loop
async def test_accepted_sockets_do_not_block_and_are_closed_on_exec() -> None:
    async with door() as made:
        made.knock()
        await made.came.reach(1)
        fd = made.visitors[0].fd
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        assert not os.get_inheritable(made.loop.fd), "nor does a child get the poller"


@on_each_loop
async def test_a_process_that_is_started_meanwhile_keeps_no_connection() -> None:
    """The peer sees the end of the connection though the child lives."""
    async with door() as made:
        peer = made.knock()
        await made.came.reach(1)
        command = [sys.executable, "-c", "print(flush=True); input()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
            assert child.stdout is not None
            child.stdout.readline()
            made.visitors[0].transport.close()
            assert await reading(peer, 1) == b""
            child.communicate(b"\n")


@on_each_loop
async def test_many_come_at_once_and_everyone_is_let_in() -> None:
    async with door() as made:
        count = 3 * AT_ONCE + 1
        for i in range(count):
            made.knock().send(b"%d" % i)
        await made.came.reach(count)
        for i, peer in enumerate(made.peers):
            assert await reading(peer, 10) == b"%d" % i
        assert len({visitor.peername for visitor in made.visitors}) == count


@on_each_loop
async def test_those_that_are_in_have_their_turn_between_those_that_come() -> None:
    async with door() as made:
        first = made.knock()
        await made.came.reach(1)
        in_when_served: list[int] = []
        made.visitors[0].data_received = (  # type: ignore[method-assign]
            lambda data: in_when_served.append(len(made.visitors))
        )
        for _ in range(5 * AT_ONCE):
            made.knock()
        first.send(b"x")
        await made.came.reach(1 + 5 * AT_ONCE)
        await settled()
        assert in_when_served[0] <= 1 + 2 * AT_ONCE


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel may not let it in at all")
@on_each_loop
async def test_a_client_that_has_gone_again_is_let_in_and_lost() -> None:
    """By a reset, even: its address is what the kernel said when it came."""
    async with door() as made:
        peer, other = made.knock(), made.knock()
        address = peer.getsockname()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await made.came.reach(2)
        gone, here = made.visitors
        assert gone.peername == address
        await until(gone.lost)
        other.send(b"x")
        assert await reading(other, 1) == b"x"
        assert not here.lost.is_set()


@on_each_loop
async def test_ten_thousand_come_and_go_and_leave_nothing() -> None:
    async def come_and_go(made: Door) -> None:
        for i in range(50):
            peer = made.knock()
            if i % 2:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if i % 3:
                peer.send(b"x")
            peer.close()
        await made.came.reach(50)
        for visitor in made.visitors:
            await until(visitor.lost)
        await settled()
        made.visitors.clear()
        made.peers.clear()
        made.came.seen.clear()

    async with door() as made:
        for _ in range(4):
            await come_and_go(made)
        gc.collect()
        blocks, descriptors = sys.getallocatedblocks(), open_descriptors()
        for _ in range(200):
            await come_and_go(made)
        gc.collect()  # the doubles refer to each other
        assert sys.getallocatedblocks() - blocks < 1000
        assert open_descriptors() <= descriptors


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


# ---- No room ---------------------------------------------------------------------------------------------------------


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """The process may open so many more."""
    free = [os.dup(0) for _ in range(count + 1)]
    for fd in free:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_without_a_descriptor_left_it_pauses_and_goes_on(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt is one line in the log; between them nobody is woken, and who is in already is served."""
    with door_of(loop) as made:
        first = made.knock()
        loop.turn(2)
        for _ in range(3):
            made.knock()
        with descriptors_left(0):
            loop.turn(2)
            text = f"Connections cannot be accepted: {os.strerror(errno.EMFILE)}. The next attempt is in 1 s."
            assert refusals(caplog) == [text]
            assert caplog.records[-1].levelno == logging.ERROR
            assert loop.pending() == [1]
            first.send(b"x")
            loop.turn(2)
            assert made.loop.is_quiet()
            assert made.visitors[0].data == b"x"
            loop.advance(1)
            loop.turn(2)
            assert refusals(caplog) == [text] * 2
            assert loop.pending() == [1] and made.loop.is_quiet()
        assert len(made.visitors) == 1
        loop.advance(1)
        loop.turn(2)
        assert len(made.visitors) == 4
        assert loop.pending() == []
        assert len(refusals(caplog)) == 2


def test_some_are_let_in_before_no_descriptor_is_left(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    with door_of(loop) as made:
        addresses = [made.knock().getsockname() for _ in range(5)]
        with descriptors_left(2):
            loop.turn(2)
        assert len(made.visitors) == 2 and len(refusals(caplog)) == 1
        loop.advance(1)
        loop.turn(2)
        assert [visitor.peername for visitor in made.visitors] == addresses


def test_closing_while_it_pauses(loop: Loop) -> None:
    with door_of(loop) as made:
        made.knock()
        with descriptors_left(0):
            loop.turn(2)
            assert loop.pending() == [1]
            made.acceptor.close()
        assert loop.pending() == []
        loop.advance(10)
        assert made.visitors == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a listening socket can not be shut down")
def test_a_socket_that_does_not_listen_is_tried_once_a_second(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with it, nothing runs hot, and it is in the log."""
    with door_of(loop) as made:
        made.socket.shutdown(socket.SHUT_RDWR)
        loop.turn(2)
        assert len(refusals(caplog)) == 1 and os.strerror(errno.EINVAL) in refusals(caplog)[0]
        assert loop.pending() == [1] and made.loop.is_quiet()


# ---- The end ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_after_closing_nobody_is_let_in() -> None:
    async with door() as made:
        peer = made.knock()
        await made.came.reach(1)
        made.knock()
        made.acceptor.close()
        made.acceptor.close()
        made.knock()
        await settled()
        assert len(made.visitors) == 1 and made.loop.is_quiet()
        peer.send(b"x")
        assert await reading(peer, 1) == b"x", "who is in stays"


@on_each_loop
async def test_who_comes_in_closes_the_door(caplog: pytest.LogCaptureFixture) -> None:
    """The socket may be closed then, and its descriptor another's: it is not touched again."""
    async with door() as made:
        opened = made.opened

        def close_behind(protocol: Protocol) -> Visitor:
            made.acceptor.close()
            made.socket.close()
            return opened(protocol)

        made.opened = close_behind  # type: ignore[method-assign]
        for _ in range(5):
            made.knock()
        await made.came.reach(1)
        await settled()
        assert len(made.visitors) == 1 and refusals(caplog) == []


@on_each_loop
async def test_who_comes_in_closes_the_poller(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever knocked at another door in the same moment is not let in any more, and that is no failure."""
    async with door() as one, door() as two:
        two.acceptor.close()
        two.acceptor = Acceptor(one.poller, two.socket.fileno(), Turn(one.loop), two)

        def closing(opened: Any) -> Any:
            def close_poller(protocol: Protocol) -> Visitor:
                one.poller.close()
                return opened(protocol)

            return close_poller

        for each in (one, two):
            each.opened = closing(each.opened)  # type: ignore[method-assign]
            each.knock()
        await settled()
        (visitor,) = one.visitors + two.visitors
        assert visitor.lost.is_set() and refusals(caplog) == []


@on_each_loop
async def test_who_comes_in_closes_another_door_that_was_knocked_at_in_the_same_moment() -> None:
    """It may be gone for good then: the poller must not look at it again."""
    async with door() as one, door() as two:
        two.acceptor.close()
        both = [one.acceptor, Acceptor(one.poller, two.socket.fileno(), Turn(one.loop), two)]

        def closing(opened: Any) -> Any:
            def close_all(protocol: Protocol) -> Visitor:
                while both:
                    both.pop().close()
                return opened(protocol)

            return close_all

        one.opened = closing(one.opened)  # type: ignore[method-assign]
        two.opened = closing(two.opened)  # type: ignore[method-assign]
        one.knock()
        two.knock()
        await settled()
        assert len(one.visitors) + len(two.visitors) == 1


@on_each_loop
async def test_a_site_that_raises_loses_that_connection_only() -> None:
    async with door() as made:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        opened = made.opened

        def fail(protocol: Protocol) -> Visitor:
            made.opened = opened  # type: ignore[method-assign]
            raise ValueError("no")

        made.opened = fail  # type: ignore[method-assign]
        first, second = made.knock(), made.knock()
        await made.came.reach(1)
        assert [type(context["exception"]) for context in errors] == [ValueError]
        assert await reading(first, 1) == b""
        second.send(b"x")
        assert await reading(second, 1) == b"x"


@on_each_loop
async def test_a_poller_that_is_closed_lets_nobody_in() -> None:
    async with door() as made:
        made.knock()
        made.poller.close()
        await settled()
        assert made.visitors == []
        made.acceptor.close()


def test_a_pause_ends_with_the_poller(loop: Loop) -> None:
    with door_of(loop) as made:
        made.knock()
        with descriptors_left(0):
            loop.turn(2)
        made.poller.close()
        assert loop.pending() == []


def test_what_it_is_made_of(loop: Loop) -> None:
    with door_of(loop) as made:
        turn = Turn(loop)
        for arguments in [(None, 0, turn, made), (made.poller, None, turn, made), (made.poller, 0, None, made), ()]:
            with pytest.raises(TypeError):
                Acceptor(*arguments)  # type: ignore[arg-type]
        os.fstat(0)

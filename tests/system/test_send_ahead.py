"""`send_ahead`: how much of what is stale a client gets first that has not read for a while, over real sockets.

A stall is driven by counts: so many messages are broadcast, a turn of the loop for each, and the client reads nothing.
Then it reads up to a message that is sent when all before it is gone. It is a plain blocking socket, as asyncio's own
transports with TLS go on receiving for a while when they are told to pause.
"""

from __future__ import annotations

import array
import asyncio
import socket
import sys
from typing import Literal

import pytest
from support.certificates import Pair
from support.client import GUARD, handshake
from support.events import on_each_loop, turns
from support.link import parse

from crest import App, WebSocketConnection, WebSocketServer
from crest.listening.listener import Listener

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such bound, or another one")

KIB = 1 << 10
BOUND = 16 * KIB
SMALL = 2 * KIB
"""SO_RCVBUF of a client; Linux makes 4 KiB of it."""

SEGMENT = 64 * KIB
"""The most that Linux puts into one segment of TCP, and that a segment that waits may grow to."""

BENEATH = 64 * KIB
"""Bytes that the event loop's TLS keeps below the transport that crest knows."""

FEW, MANY = 600, 6_000
"""Messages that a client misses. Without a bound Linux takes all of the many."""

END = "the end"

Policy = Literal["drop-newest", "drop-oldest", "latest"]


class Client:
    """A client that has shaken hands, and reads when told."""

    def __init__(self, server: Listener, receive_buffer: int | None, pair: Pair | None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(GUARD)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect((server.host, server.port))
        if pair is not None:
            self.sock = pair.client().wrap_socket(self.sock, server_hostname=server.host)
        self.sock.sendall(handshake())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.sock.recv(1)

    def in_the_kernel(self) -> int:
        """How many bytes wait in this end's kernel."""
        import fcntl
        import termios

        size = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.FIONREAD, size)
        return size[0]

    def read_to_the_end(self) -> list[str]:
        stream = b""
        while not stream.endswith(END.encode()):
            got = self.sock.recv(1 << 16)
            assert got, "the connection has ended"
            stream += got
        found, size = parse(stream)
        assert size == len(stream)
        return [each.payload.decode() for each in found]


def update(number: int) -> str:
    return f"{number} ".ljust(1000, ".")


async def stale(
    policy: Policy,
    count: int,
    direct: bool,
    pair: Pair | None,
    *,
    receive_buffer: int | None = SMALL,
    send_ahead: int | None = None,
) -> int:
    """Bytes that a client gets before the newest of so many messages that it has missed, or, if that was dropped,
    before the first that was not; without those that its own kernel had by then."""
    ws = WebSocketServer(on_backlog=policy, send_ahead=send_ahead, max_backlog=4 * KIB, ping_interval=None)
    missed = False

    @ws.on_drain
    def drained(conn: WebSocketConnection) -> None:
        nonlocal missed
        if missed:
            missed = False
            conn.send(END)

    tls = {} if pair is None else {"certfile": pair.certfile, "keyfile": pair.keyfile}
    async with App().listening(direct=direct, **tls) as server:  # type: ignore[arg-type]
        client = await asyncio.to_thread(Client, server, receive_buffer, pair)
        with client.sock:
            (conn,) = ws.get_connections()
            for number in range(count):
                ws.broadcast(update(number), key="k")
                await turns()
            assert conn.buffered, "the client is behind"
            known, missed = client.in_the_kernel(), True
            got = await asyncio.to_thread(client.read_to_the_end)
    assert got.pop() == END
    assert len(set(got)) == len(got)
    if policy != "drop-newest":
        assert got.pop() == update(count - 1)
    assert conn.dropped == count - len(got) - (policy != "drop-newest")
    size = sum(map(len, got)) + 4 * len(got)
    return size if receive_buffer == SMALL else size - known


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "latest"])
@on_each_loop
async def test_what_is_stale_does_not_grow_with_the_stall(policy: Policy, direct: bool) -> None:
    for count in (FEW, MANY):
        assert await stale(policy, count, direct, None) <= BOUND


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "latest"])
@on_each_loop
async def test_nor_over_tls(policy: Policy, direct: bool, pair: Pair) -> None:
    for count in (FEW, MANY):
        assert await stale(policy, count, direct, pair) <= (BOUND if direct else BOUND + BENEATH)


@pytest.mark.parametrize("tls", [False, True])
@on_each_loop
async def test_nor_with_the_window_that_clients_have(direct: bool, tls: bool, pair: Pair) -> None:
    """A segment that waits grows with each send as far as half of the client's window, unless it is ended."""
    bound = BOUND if direct else BOUND + SEGMENT + (BENEATH if tls else 0)
    assert await stale("latest", MANY, direct, pair if tls else None, receive_buffer=None) <= bound


@on_each_loop
async def test_the_option_is_for_any_policy(direct: bool) -> None:
    assert await stale("latest", MANY, direct, None, send_ahead=1 << 30) > 1000 * KIB
    for send_ahead in (None, 4 * KIB):
        ws = WebSocketServer(send_ahead=send_ahead)
        async with App().listening(direct=direct) as server:
            client = await asyncio.to_thread(Client, server, SMALL, None)
            with client.sock:
                for number in range(100):
                    ws.broadcast(update(number))
                    await turns()
                (conn,) = ws.get_connections()
                assert (conn.buffered == 0) == (send_ahead is None)

"""A listening socket, the acceptor at it, and peers that come in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from crest.io.life.protocol import Protocol
from crest.io.life.roster import Roster
from crest.io.loop.census import Census
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.acceptor import Acceptor
from support.client import GUARD
from support.ends import WatchedLoop, settled
from support.events import Events
from support.link import Loop


class Visitor:
    """A connection that was accepted: its opening, and what that saw."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.transport = protocol.transport
        self.peername = self.transport.get_extra_info("peername")
        self.fd = self.transport.fd
        self.data = b""
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.transport.write(data)

    def overhead(self, size: int) -> None:
        pass

    def eof_received(self) -> bool:
        return False

    def connection_lost(self) -> None:
        self.lost.set()


class Door:
    """A listening socket, its acceptor, and who came in.

    Args:
        reception, census: See `Acceptor`.
        sock: In place of one of its own.
    """

    def __init__(
        self,
        loop: Any,
        family: int = socket.AF_INET,
        reception: Any = None,
        census: Census | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.loop = WatchedLoop(loop)
        self.poller = Poller(self.loop)
        self.roster = Roster()
        self.roster.census = census
        self.socket = sock or socket.socket(family)
        if sock is None:
            host = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}.get(family)
            self.socket.bind((host, 0) if host else "")
            self.socket.listen(1000)
            self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.visitors: list[Visitor] = []
        self.came = Events()
        self.peers: list[socket.socket] = []
        self.acceptor = Acceptor(self.poller, self.socket.fileno(), Turn(self.loop), self, reception, None, census)

    def opened(self, protocol: Protocol) -> Visitor:
        self.visitors.append(Visitor(protocol))
        self.roster.add(protocol)
        self.came.add(protocol)
        return self.visitors[-1]

    def left(self, protocol: Protocol) -> None:
        pass

    def ended(self, protocol: Protocol) -> None:
        self.roster.remove(protocol)

    def knock(self) -> socket.socket:
        """A client that the kernel has connected, whoever accepts it."""
        peer = socket.socket(self.socket.family)
        peer.settimeout(GUARD)
        peer.connect(self.address)
        peer.setblocking(False)
        self.peers.append(peer)
        return peer

    def abort(self) -> None:
        self.acceptor.close()
        self.socket.close()
        for visitor in self.visitors:
            visitor.transport.abort()
        for peer in self.peers:
            peer.close()


@asynccontextmanager
async def door(
    family: int = socket.AF_INET,
    reception: Any = None,
    census: Census | None = None,
    sock: socket.socket | None = None,
) -> AsyncIterator[Door]:
    made = Door(asyncio.get_running_loop(), family, reception, census, sock)
    try:
        yield made
    finally:
        made.abort()
        await settled()
        made.poller.close()


@contextmanager
def door_of(loop: Loop) -> Iterator[Door]:
    """On a loop that turns when it is told."""
    made = Door(loop)
    try:
        yield made
    finally:
        made.abort()
        loop.turn(3)
        made.poller.close()

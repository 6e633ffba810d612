"""Transports of the event loop's, for connections that crest has accepted.

The loop makes them in a coroutine, so each connection has a task until its transport is made. What reception.py decides
has been decided by then.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from crest.io.life.protocol import ServerProtocol
from crest.io.loop.turn import Turn
from crest.io.net.secure import Handshake

if TYPE_CHECKING:
    from crest.io.life.protocol import AnySite


LATER = 1.0
"""Seconds by which the loop's time-out for a TLS handshake is behind the preface's, which says why it ends a
connection."""


class Lent:
    """One connection whose transport is being made.

    Attributes:
        sock: Its socket; does not block.
        handshake: Is told of the end.
        taken: True once the loop has the socket, and will close it.
    """

    __slots__ = ("handshake", "sock", "taken")

    def __init__(self, sock: socket.socket, handshake: Handshake) -> None:
        self.sock = sock
        self.handshake = handshake
        self.taken = False


class Connector:
    """Has the event loop make the transports for the connections of one listening socket.

    Args:
        sock: The listening socket.
        seconds: For TLS's handshake, and for its end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, sock: socket.socket, seconds: float) -> None:
        self._loop = loop
        self._turn = turn
        self._seconds = seconds
        self._kind = sock.family, sock.type, sock.proto
        self._lent: dict[asyncio.Task[None], Lent] = {}

    def connect(
        self, fd: int, site: AnySite, handshake: Handshake, context: ssl.SSLContext | None
    ) -> asyncio.Task[None]:
        """Have a transport made. Whatever this raises, the descriptor is still the caller's.

        Args:
            site: Of the protocol.
            handshake: Is told of the end, with an exception if there will be no transport.
            context: For TLS; None: the connection is plain. A plain one must not be cancelled: once the protocol is
                connected, uvloop would not tell it that the connection is lost.
        """
        protocol = ServerProtocol(self._turn, site)
        lent = Lent(socket.socket(*self._kind, fileno=fd), handshake)
        making, task = None, None
        try:
            lent.sock.setblocking(False)
            making = self._make(lent, protocol, context)
            task = self._loop.create_task(making)
            self._lent[task] = lent
            task.add_done_callback(self._made)
        except BaseException:
            lent.sock.detach()
            if task is not None:
                self._lent.pop(task, None)
            elif making is not None:
                making.close()
            raise
        return task

    async def _make(self, lent: Lent, protocol: ServerProtocol, context: ssl.SSLContext | None) -> None:
        if lent.sock.fileno() < 0:
            return  # the task was made, and there was no memory to keep it
        options: dict[str, Any] = {}
        if context is not None:
            options = {
                "ssl": context,
                "ssl_handshake_timeout": self._seconds + LATER,
                "ssl_shutdown_timeout": self._seconds,
            }
        connecting = self._loop.connect_accepted_socket(lambda: protocol, lent.sock, **options)
        lent.taken = True
        try:
            await connecting
        except MemoryError:
            # An unfinished transport would keep the socket open until the garbage collector finds it.
            with suppress(OSError):
                lent.sock.shutdown(socket.SHUT_RDWR)  # and no more: the loop may know its descriptor
            raise
        except OSError:
            if context is None:
                lent.sock.close()
            raise

    def _made(self, task: asyncio.Task[None]) -> None:
        # Not at the end of the coroutine: cancelled before its first step, it has none.
        lent = self._lent[task]
        if not lent.taken:
            lent.sock.close()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        try:
            lent.handshake.over(error)
        finally:
            del self._lent[task]

    async def settled(self) -> None:
        """Wait until no transport is being made any more."""
        while self._lent:
            await asyncio.wait(self._lent)
            await asyncio.sleep(0)  # for their callbacks
            for task in [task for task in self._lent if task.done()]:
                self._made(task)  # there was no memory for its callback

"""Connections that were accepted, on their way to a transport that takes more than a moment to make.

The event loop's transports are made by a coroutine, and TLS (tls.py) begins with a handshake. So each connection has a
task until a transport has it. Accepting is io/net/acceptor.pyx's business, for these connections and all others.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable
from contextlib import suppress

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seat
from crest.io.life.protocol import ServerProtocol
from crest.io.loop.turn import Turn
from crest.log import logger
from crest.opening.seated import SeatedSite
from crest.opening.site import Opens, Site


class Arrival:
    """One connection that was accepted.

    Attributes:
        sock: Its socket; does not block.
        client: Address and port of the peer, or what a proxy has named in its place; None: there is no address.
        seat: The seat by which it is counted; None: it is not.
        opens: Makes the opening, in place of what the site decides.
        taken: True once a transport has the socket, and will close it.
    """

    __slots__ = ("_seated", "client", "opens", "seat", "sock", "taken")

    def __init__(self, sock: socket.socket, client: Client | None, seat: Seat | None) -> None:
        self.sock = sock
        self.client = client
        self.seat = seat
        self.opens: Opens | None = None
        self.taken = False
        self._seated: SeatedSite | None = None

    def protocol(self, site: Site, turn: Turn) -> ServerProtocol:
        """Make the protocol. It reports to the site itself, unless the connection has a seat or its own opening."""
        if self.seat is None and self.opens is None:
            return ServerProtocol(turn, site)
        self._seated = SeatedSite(site, self.seat, self.opens)
        return ServerProtocol(turn, self._seated)

    async def connected(self, connecting: Awaitable[object]) -> None:
        """Wait for the loop to make its transport. If the loop has no memory for all of it, end the connection: an
        unfinished transport would keep the socket open until the garbage collector finds it."""
        try:
            await connecting
        except MemoryError:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)  # and no more: the loop may know its descriptor
            raise

    def end(self) -> None:
        """Let go of the socket unless a transport has taken it, and of the seat if the connection never opened."""
        if not self.taken:
            self.sock.close()
        if self.seat is not None and (self._seated is None or not self._seated.is_open):
            self.seat.leave()


class Reception:
    """Gives the connections of one socket to transports of the event loop.

    Args:
        sock: The listening socket.
    """

    def __init__(self, site: Site, turn: Turn, sock: socket.socket) -> None:
        self._site = site
        self._turn = turn
        self._loop = site.loop
        self._kind = sock.family, sock.type, sock.proto
        self._arrivals: dict[asyncio.Task[None], Arrival] = {}
        self._connecting: set[asyncio.Task[object]] = set()

    def receive(self, fd: int, client: Client | None) -> None:
        """Take over a connection that was accepted, or close it if its address has too many.

        Whatever this raises, the descriptor is still the caller's.
        """
        try:
            seat = self._site.seat_for(client)
        except Full:
            os.close(fd)
            return
        arrival = Arrival(socket.socket(*self._kind, fileno=fd), client, seat)
        arrival.sock.setblocking(False)
        serving, task = self._serve_if_open(arrival), None
        try:
            task = self._loop.create_task(serving)
            self._arrivals[task] = arrival
            task.add_done_callback(self._served)
        except BaseException:
            if task is None:
                serving.close()
            else:
                self._arrivals.pop(task, None)
            arrival.sock.detach()
            arrival.end()
            raise

    async def _serve_if_open(self, arrival: Arrival) -> None:
        if arrival.sock.fileno() >= 0:  # else its task was made, and there was no memory to keep it
            await self._serve(arrival)

    def _served(self, task: asyncio.Task[None]) -> None:
        # Not at the end of the coroutine: cancelled before its first step, it has none.
        arrival = self._arrivals[task]
        error = None if task.cancelled() else task.exception()
        try:
            if error is not None:
                fields = {"client": arrival.client}
                logger.error("A connection of %s can not be served", arrival.client, exc_info=error, extra=fields)
        finally:
            arrival.end()
            del self._arrivals[task]

    def close(self) -> None:
        """Do nothing: connections on their way get their transport, which takes a few turns of the loop."""

    async def settled(self) -> None:
        """Wait until no connection is on its way any more; after `close`."""
        while on_their_way := {*self._arrivals, *self._connecting}:
            await asyncio.wait(on_their_way)
            await asyncio.sleep(0)  # for their callbacks
            for task in [task for task in self._arrivals if task.done()]:
                self._served(task)  # there was no memory for its callback

    async def _serve(self, arrival: Arrival) -> None:
        """Find a transport for a connection."""
        try:
            await self._connect(arrival)
        except OSError as error:  # it has ended already
            reason = error.strerror or str(error)
            self._site.refusals.add_connection("transport", arrival.client, f"it can not be served: {reason}")
            arrival.sock.close()

    async def _connect(self, arrival: Arrival) -> None:
        """Give it a transport of the event loop, without TLS."""
        protocol = arrival.protocol(self._site, self._turn)
        connecting = None
        try:
            connecting = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, arrival.sock))
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)
            # Cancelled when the protocol is connected already, uvloop would not tell it that the connection is lost.
            connected = asyncio.shield(connecting)
        except BaseException:
            if connecting is None:  # asyncio may have begun it all the same, and not kept it
                arrival.sock.close()
            else:
                connecting.cancel()
                self._connecting.discard(connecting)
            raise
        arrival.taken = True
        await arrival.connected(connected)

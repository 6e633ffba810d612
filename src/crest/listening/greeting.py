"""Connections that the event loop has accepted, on systems without a poller: what comes before their protocol.

The same is decided about them as about others (reception.py), but they have a transport already. So a header of the
PROXY protocol is read from the bytes that the transport gives.
"""

from __future__ import annotations

import asyncio
from typing import Any

from crest.io.life.protocol import ServerProtocol
from crest.io.loop.clock import Deadline
from crest.io.loop.turn import Turn
from crest.io.net.peer import client_address
from crest.listening.reception import Arrival, Reception
from crest.wire.proxy import MalformedHeader, ProxyHeader


class Greeting(Deadline, asyncio.Protocol):
    """Reads the header that one connection must begin with, if any, and then gives it its protocol.

    Args:
        waiting: Those of the same listening socket that have no protocol yet.
    """

    def __init__(self, reception: Reception, turn: Turn, waiting: set[Greeting]) -> None:
        self._reception = reception
        self._turn = turn
        self._waiting = waiting
        self._header = ProxyHeader()
        self._arrival: Arrival | None = None

    def connection_made(self, transport: Any) -> None:
        """Count the connection, or close it if there are too many."""
        self._transport = transport
        arrival = self._arrival = self._reception.receive(client_address(transport))
        if arrival is None:
            transport.abort()
        elif arrival.expects_header:
            self._waiting.add(self)
            self._turn.clock.start(self, self._reception.open_timeout)
        else:
            self._serve(arrival, b"")

    def data_received(self, data: bytes) -> None:
        """Read the header, and serve what comes behind it."""
        arrival = self._arrival
        if arrival is None:
            return
        try:
            size = self._header.feed(data)
        except MalformedHeader as error:
            arrival.refuse_header(str(error))
            self.cut()
            return
        if self._header.complete:
            if arrival.named(self._header):
                self._serve(arrival, data[size:])
            else:
                self.cut()

    def eof_received(self) -> bool:
        """Learn that the peer has closed its half. If it sent nothing, it only looked whether a server listens."""
        if self._arrival is not None and self._header.begun:
            self._arrival.refuse_header("it is not complete")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Count the connection no longer."""
        self._leave()

    def expired(self) -> None:
        """End a connection whose header has not come in time."""
        if self._arrival is not None:
            self._arrival.refuse_header(f"none within {self._reception.open_timeout:g} s")
        self.cut()

    def cut(self) -> None:
        """End the connection."""
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        arrival, self._arrival = self._arrival, None
        self._turn.clock.cancel(self)
        self._waiting.discard(self)
        if arrival is not None:
            arrival.end()

    def _serve(self, arrival: Arrival, data: bytes) -> None:
        protocol = ServerProtocol(self._turn, arrival.site())
        self._arrival = None
        self._leave()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        at = 0
        while at < len(data):
            room = protocol.get_buffer(-1)
            size = min(len(room), len(data) - at)
            room[:size] = data[at : at + size]
            protocol.buffer_updated(size)
            at += size

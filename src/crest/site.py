"""What one connection reports to, where that is more than the listener."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from crest.connection import client_address
from crest.io.protocol import Protocol
from crest.opening import Opening
from crest.proxied import HeaderOpening
from crest.proxies import Client
from crest.seats import Full, Seat

if TYPE_CHECKING:
    from crest.listener import Listener


class Site:
    """Counts a connection by its address until it is gone, or gives it an opening of its own.

    Args:
        listener: The connection is one of its.
        seat: Of a connection that was counted when it was accepted; None: it is counted when it is opened, if at all.
        opening: None: as the listener decides.

    Attributes:
        is_open: True once the connection has been opened, so that `ended` will be called.
    """

    __slots__ = ("_listener", "_opening", "_seat", "is_open")

    def __init__(
        self,
        listener: Listener,
        seat: Seat | None = None,
        opening: Callable[[Listener, Protocol], Opening] | None = None,
    ) -> None:
        self._listener = listener
        self._seat = seat
        self._opening = opening
        self.is_open = False

    def opened(self, protocol: Protocol) -> Opening:
        """Make the opening of the connection, which a transport has begun to serve."""
        self.is_open = True
        client = client_address(protocol.transport)
        make = self._opening
        if make is None and self._listener.expects_header(client):
            make = partial(HeaderOpening, named=self.count)
        opening = self._listener.opened(protocol, make)
        if self._seat is None and not self.count(client):
            protocol.transport.abort()
        return opening

    def count(self, client: Client | None) -> bool:
        """Count the connection by this address from now on. False: there are too many of it already."""
        if self._seat is not None:
            self._seat.leave()
        try:
            self._seat = self._listener.seat_for(client)
        except Full:
            return False
        return True

    def drop(self) -> None:
        """Count a connection no longer that was accepted, and never opened."""
        if self._seat is not None and not self.is_open:
            self._seat.leave()

    def farewell(self) -> tuple[int, str] | None:
        """As `Listener.farewell`."""
        return self._listener.farewell()

    def ended(self, protocol: Protocol) -> None:
        """Count the connection no longer: it is gone, and so are its handlers."""
        if self._seat is not None:
            self._seat.leave()
        self._listener.ended(protocol)

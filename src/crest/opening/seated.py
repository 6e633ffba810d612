"""A site for one connection, which is counted by its address or has an opening of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seat
from crest.io.life.protocol import Protocol
from crest.io.net.peer import client_address
from crest.opening.proxied import HeaderOpening
from crest.opening.site import Opens, Site

if TYPE_CHECKING:
    from crest.opening.site import StoppingOpening


class SeatedSite:
    """Counts a connection by its address until it is gone, or gives it an opening of its own.

    Args:
        site: The site that has the connection.
        seat: Of a connection that was counted when it was accepted; None: it is counted when it is opened, if at all.
        opens: Makes the opening; None: as the site decides.

    Attributes:
        is_open: True once the connection has been opened, so that `ended` will be called.
    """

    __slots__ = ("_opens", "_seat", "_site", "is_open")

    def __init__(
        self,
        site: Site,
        seat: Seat | None = None,
        opens: Opens | None = None,
    ) -> None:
        self._site = site
        self._seat = seat
        self._opens = opens
        self.is_open = False

    def opened(self, protocol: Protocol) -> StoppingOpening:
        """Make the opening of the connection, which a transport has begun to serve."""
        self.is_open = True
        client = client_address(protocol.transport)
        opens = self._opens
        if opens is None and self._site.expects_header(client):
            opens = partial(HeaderOpening, named=self.count)
        opening = self._site.opened(protocol, opens)
        if self._seat is None and not self.count(client):
            protocol.transport.abort()
        return opening

    def count(self, client: Client | None) -> bool:
        """Count the connection by this address from now on. False: there are too many of it already."""
        if self._seat is not None:
            self._seat.leave()
        try:
            self._seat = self._site.seat_for(client)
        except Full:
            return False
        return True

    def drop(self) -> None:
        """Count a connection no longer that was accepted, and never opened."""
        if self._seat is not None and not self.is_open:
            self._seat.leave()

    def farewell(self) -> tuple[int, str] | None:
        """Return what `Site.farewell` does."""
        return self._site.farewell()

    def left(self, protocol: Protocol) -> None:
        """Count the connection as one that is gone, and whose handlers run on."""
        if self._seat is not None:
            self._seat.stand()
        self._site.left(protocol)

    def ended(self, protocol: Protocol) -> None:
        """Count the connection no longer: it is gone, and so are its handlers."""
        if self._seat is not None:
            self._seat.leave()
        self._site.ended(protocol)

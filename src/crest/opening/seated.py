"""A site for one connection, which is counted by its address or has an opening of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crest.admission.seats import Seat
from crest.io.life.protocol import Protocol
from crest.opening.site import Opens, Site

if TYPE_CHECKING:
    from crest.opening.site import StoppingOpening


class SeatedSite:
    """Counts a connection by its address until it is gone, or gives it an opening of its own.

    Args:
        site: The site that has the connection.
        seat: Of a connection that is counted.
        opens: Makes the opening; None: as the site decides.

    Attributes:
        is_open: True once the connection has been opened, so that `ended` will be called.
    """

    __slots__ = ("_opens", "_seat", "_site", "is_open")

    def __init__(self, site: Site, seat: Seat | None, opens: Opens | None) -> None:
        self._site = site
        self._seat = seat
        self._opens = opens
        self.is_open = False

    def opened(self, protocol: Protocol) -> StoppingOpening:
        """Make the opening of the connection, which a transport has begun to serve."""
        self.is_open = True
        opens, self._opens = self._opens, None
        return self._site.opened(protocol, opens)

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

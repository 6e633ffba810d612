"""What is decided about connections that were accepted, and have no protocol yet.

io/net/preface.pyx reads what comes first on a connection, and tells its `Arrival` what that was. tls.py adds what
sockets with TLS have to decide.
"""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seat
from crest.log import logger
from crest.opening.proxied import ProxiedOpening
from crest.opening.seated import SeatedSite
from crest.opening.site import Opens, Site
from crest.wire.proxy import ProxyHeader


class Arrival:
    """One connection until it has a protocol.

    Args:
        site: What serves it.
        client: Address and port of the peer; None: there is no address.
        seat: The seat by which it is counted; None: it is not.

    Attributes:
        client: The same, or what a proxy has named in its place.
        expects_header: True if a header of the PROXY protocol must come first.
    """

    __slots__ = ("_opens", "_seat", "_seated", "_site", "client")

    def __init__(self, site: Site, client: Client | None, seat: Seat | None) -> None:
        self._site = site
        self.client = client
        self._seat = seat
        self._opens: Opens | None = None
        self._seated: SeatedSite | None = None

    @property
    def expects_header(self) -> bool:
        return self._site.expects_header(self.client)

    def named(self, header: ProxyHeader) -> bool:
        """Count the connection by the client that its proxy has named, and no longer by the proxy. False if that client
        has too many."""
        self._opens = partial(ProxiedOpening, source=header.source, tls_ended=header.tls)
        self.client = header.source or self.client
        if self._seat is not None:
            self._seat.leave()
            try:
                self._seat = self._site.seat_for(header.source)
            except Full:
                return False
        return True

    def refuse_header(self, reason: str) -> None:
        """Log that the connection of a proxy does not begin with a header, as it should."""
        self._site.refuse_header(self.client, reason)

    def site(self) -> Site | SeatedSite:
        """Return what the protocol reports to: the site itself, unless the connection has a seat or its own opening."""
        if self._seat is None and self._opens is None:
            return self._site
        self._seated = SeatedSite(self._site, self._seat, self._opens)
        return self._seated

    def shaken(self) -> None:
        """Learn that a transport has the connection."""

    def failed(self, error: BaseException) -> None:
        """Log why no transport serves the connection. Most often it has ended already."""
        if isinstance(error, OSError):
            reason = f"it can not be served: {error.strerror or error}"
            self._site.refusals.add_connection("transport", self.client, reason)
        elif not isinstance(error, CancelledError):
            fields = {"client": self.client}
            logger.error("A connection of %s can not be served", self.client, exc_info=error, extra=fields)

    def end(self) -> None:
        """Count the connection no longer, unless it was opened. May be called again."""
        if self._seat is not None and (self._seated is None or not self._seated.is_open):
            self._seat.leave()


class Reception:
    """Decides about the connections of one listening socket.

    Attributes:
        tls: True if the socket speaks TLS.
        open_timeout: Seconds in which the header, and TLS's handshake, must have come.
    """

    tls = False

    def __init__(self, site: Site) -> None:
        self._site = site
        self.open_timeout = site.open_timeout

    def receive(self, client: Client | None) -> Arrival | None:
        """Count a connection that was accepted. None: its address has too many, and it must be closed."""
        try:
            seat = self._site.seat_for(client)
        except Full:
            return None
        try:
            return self._arrival(client, seat)
        except BaseException:
            if seat is not None:
                seat.leave()
            raise

    def _arrival(self, client: Client | None, seat: Seat | None) -> Arrival:
        return Arrival(self._site, client, seat)

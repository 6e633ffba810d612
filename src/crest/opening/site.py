"""The object that the connections of one running app share: they report to it, and ask it for what they need."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Protocol as Interface

from crest.admission.decision import Admission, Refusal
from crest.admission.proxies import Client
from crest.admission.refusals import RefusalLog
from crest.admission.seats import Full, Seat, Seats
from crest.http.pages import Pages
from crest.io.life.protocol import Protocol
from crest.io.life.roster import Roster
from crest.io.loop.census import Census
from crest.io.loop.forks import end_child
from crest.io.loop.ledger import Ledger
from crest.opening.parting import Parting
from crest.server import WebSocketServer
from crest.serving import Serving
from crest.wire.codes import CloseCode
from crest.wire.head import RequestHead

if TYPE_CHECKING:
    from crest.io.life.protocol import AnyOpening

    class StoppingOpening(AnyOpening, Interface):
        """A connection that is no WebSocket yet."""

        def stop(self) -> None:
            """Answer no further request."""

        def stop_deciding(self) -> None:
            """Let no client in any more."""


Opens = Callable[["Site", Protocol], "StoppingOpening"]
"""Makes the opening of a connection."""


class Site:
    """Serves the connections of one app, wherever they come in. Made within its event loop.

    Args:
        serving: The app's options.
        servers: The WebSocketServer of each path; more may be added.
        pages: The pages that answer other requests.
        refused: Counts refusals that no server counts, by kind.
        open_timeout: In place of that of the options.
        opens: Makes the opening of a connection.

    Attributes:
        loop: The event loop.
        servers, pages, refused, open_timeout: As above.
        proxies, hosts, page_timeout, keep_alive_timeout, max_header_size, max_headers: Of the options.
        refusals: The log of refused requests.
        protocols: The protocols of all connections, WebSockets or not, that are there or have handlers that run.
        seats: The seats of the connections of servers that count them.
        counts_sockets: True if each connection has a seat from when it is accepted.
        proxy_protocol: True if trusted proxies send a header of the PROXY protocol.
        accepting: False once its listening sockets are closed.
        stopping: True once shutdown has begun; `parting` knows the words.
        emptied: Is called when, during shutdown, the last connection has gone.
    """

    def __init__(
        self,
        serving: Serving,
        servers: dict[str, WebSocketServer],
        pages: Pages,
        refused: Counter[str],
        open_timeout: float,
        opens: Opens,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.servers = servers
        self.pages = pages
        self.open_timeout = open_timeout
        self.keep_alive_timeout = serving.keep_alive_timeout
        self.page_timeout = serving.page_timeout
        self.max_header_size = serving.max_header_size
        self.max_headers = serving.max_headers
        self.proxies = serving.proxies
        self.hosts = serving.served_hosts
        self.refused = refused
        self.refusals = RefusalLog(self.loop, refused)
        self.counts_sockets = serving.max_sockets_per_ip is not None
        self.proxy_protocol = serving.proxy_protocol
        self.seats: dict[Protocol, Seat] = {}
        self.accepting = True
        self.stopping = False
        registered = serving.close_codes == "registered"
        restart_code = CloseCode.SERVICE_RESTART if registered else CloseCode.GOING_AWAY
        self.parting = Parting(self.loop, serving.retry_after, restart_code)
        self.emptied: Callable[[], None] | None = None
        self._opens = opens
        self._sockets = Seats(None, serving.max_sockets_per_ip)
        self._handshakes = Seats(serving.max_tls_handshakes, serving.max_tls_handshakes_per_ip)
        self._roster = Roster()
        self.protocols = self._roster.protocols
        self._server = asyncio.current_task()  # the task that stops it
        self._process = os.getpid()

    @property
    def census(self) -> Census | None:
        """The connections of all processes that serve this app; None: this is the only one. It is set before any
        connection is there."""
        return self._roster.census

    @census.setter
    def census(self, census: Census) -> None:
        self._roster.census = census

    def share(self, ledger: Ledger) -> None:
        """Count sockets and TLS handshakes together with the other processes that serve this app."""
        self._sockets.share(ledger, "sockets")
        self._handshakes.share(ledger, "TLS handshakes")

    # ---- What protocols tell it ----------------------------------------------------------------------------------

    def opened(self, protocol: Protocol, opens: Opens | None = None) -> StoppingOpening:
        """Make the opening of a TCP connection that was accepted, by `opens` if that is given."""
        self._roster.add(protocol)
        if not self.accepting:  # the loop's own servers had taken it already
            self.loop.call_soon(self.stop_openings)
        return (opens or self._opens)(self, protocol)

    def left(self, protocol: Protocol) -> None:
        """Count a TCP connection as one that is gone, and whose handlers run on."""
        if (seat := self.seats.get(protocol)) is not None:
            seat.stand()

    def ended(self, protocol: Protocol) -> None:
        """Forget a TCP connection that is gone, with its handlers. May be called again, if it raised MemoryError."""
        self._roster.remove(protocol)
        if self.seats:
            self.leave_seat(protocol)
        if self.emptied is not None and not self.protocols:
            self.emptied()

    def farewell(self) -> tuple[int, str] | None:
        """Return the code and reason with which to part from a client, if the site is about to end; else None."""
        ends = self.stopping or (self._server is not None and self._server.cancelling())
        return self.parting.farewell() if ends else None

    # ---- Seats ---------------------------------------------------------------------------------------------------

    def seat_for(self, client: Client | None) -> Seat | None:
        """Count a connection by its address: a trusted proxy, and a peer without an address, by none.

        Returns:
            None: Connections are not counted.

        Raises:
            Full: There are too many of this address, which the log says.
        """
        if not self.counts_sockets:
            return None
        try:
            return self._sockets.take(self._counted(client))
        except Full as full:
            self.refusals.add_connection("max_sockets_per_ip", client, f"{full.key} has too many (max_sockets_per_ip)")
            raise

    def handshake_seat_for(self, client: Client | None) -> Seat:
        """Count a TLS handshake by its address: that of a trusted proxy, and of a peer without an address, by none.

        Raises:
            Full: There are too many, which the log says.
        """
        try:
            return self._handshakes.take(self._counted(client))
        except Full as full:
            kind = "max_tls_handshakes" if full.key is None else "max_tls_handshakes_per_ip"
            self.refusals.add_connection(kind, client, f"too many TLS handshakes are in progress ({kind})")
            raise

    def _counted(self, client: Client | None) -> Client | None:
        """Find the client whose address counts; None for a trusted proxy, whose address stands for many clients."""
        return None if self.proxies is not None and self.proxies.trusts(client) else client

    def take_seat(self, protocol: Protocol, admission: Admission, client: Client | None) -> None:
        """Count a TCP connection as one that may become a WebSocket.

        Raises:
            Refusal: There are too many.
        """
        seat = admission.take_seat(client)
        try:
            self.seats[protocol] = seat
        except MemoryError:
            seat.leave()
            raise

    def leave_seat(self, protocol: Protocol) -> None:
        """Count a TCP connection no longer: it is gone, or will be no WebSocket."""
        if (seat := self.seats.get(protocol)) is not None:
            seat.leave()
            del self.seats[protocol]

    # ---- Requests ------------------------------------------------------------------------------------------------

    def expects_header(self, peer: Client | None) -> bool:
        """True if this peer is a proxy that speaks the PROXY protocol."""
        return self.proxy_protocol and self.proxies is not None and self.proxies.trusts(peer)

    def refuse_header(self, peer: Client | None, reason: str) -> None:
        """Log that the connection of a proxy does not begin with a header of the PROXY protocol, as it should."""
        self.refusals.add_connection("proxy_protocol", peer, f"its PROXY protocol header: {reason}")

    def check(self, head: RequestHead, scheme: str) -> None:
        """Refuse a request while everything ends, or if it is for a host that is not served.

        Raises:
            HandshakeError: 503 or 421; 400 if Host is missing or malformed.
        """
        if self.stopping:
            raise self.refusal()
        if self.hosts is not None:
            self.hosts.check(head, scheme)

    def refusal(self) -> Refusal:
        """Return the refusal that a request gets while everything ends."""
        return self.parting.refusal()

    def end_child(self, error: BaseException | None) -> None:
        """End this process if a handler has forked it and then raised this: the connections are the parent's."""
        if error is not None and os.getpid() != self._process:
            end_child(error)

    # ---- Openings ------------------------------------------------------------------------------------------------

    def openings(self) -> list[StoppingOpening]:
        """List the connections that are not WebSockets."""
        return [each.opening for each in self.protocols if each.opening is not None]

    def stop_openings(self) -> None:
        """Answer no further request."""
        for opening in self.openings():
            opening.stop()

"""What is decided about connections at a socket that speaks TLS.

The first byte that a client sends says whether it speaks TLS as well (io/net/preface.pyx looks at it). Until it has
come, a connection costs no TLS state; past the limits on handshakes it never does. Anything but TLS, a browser that was
sent to `http:` above all, is told its mistake.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial

from crest.admission.proxies import Client
from crest.admission.seats import Full, Seat
from crest.exceptions import HandshakeError
from crest.listening.certificate import Certificate
from crest.listening.reception import Arrival, Reception
from crest.opening.opening import Opening
from crest.opening.site import Site


class TlsArrival(Arrival):
    """One connection until it has shaken hands.

    Args:
        certificate: See `TlsReception`.
    """

    __slots__ = ("_certificate", "_shaking")

    def __init__(self, site: Site, client: Client | None, seat: Seat | None, certificate: Certificate) -> None:
        super().__init__(site, client, seat)
        self._certificate = certificate
        self._shaking: Seat | None = None  # among the handshakes

    def context(self) -> ssl.SSLContext | None:
        """Count a handshake that begins, and return what it begins with. None: there are too many."""
        try:
            self._shaking = self._site.handshake_seat_for(self.client)
        except Full:
            return None
        return self._certificate.context

    def speaks_plainly(self) -> None:
        """Learn that the client does not speak TLS."""
        self._opens = partial(PlainOpening, source=self.client)

    def late(self) -> None:
        """Log that the handshake has not ended in time."""
        self._refuse(f"no TLS handshake within {self._site.open_timeout:g} s")

    def shaken(self) -> None:
        """Learn that the handshake has ended well."""
        if self._shaking is not None:
            self._shaking.leave()

    def failed(self, error: BaseException) -> None:
        """Log why the handshake has failed, or what else has."""
        if self._shaking is not None and isinstance(error, OSError):
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            self._refuse(f"the TLS handshake failed: {reason or str(error) or 'the client has gone'}")
        else:
            super().failed(error)

    def end(self) -> None:
        """Count neither the handshake nor the connection any longer."""
        if self._shaking is not None:
            self._shaking.leave()
        Arrival.end(self)  # super() would need memory

    def _refuse(self, reason: str) -> None:
        self._site.refusals.add_connection("tls", self.client, reason)


class TlsReception(Reception):
    """Decides about the connections of one socket with TLS.

    Args:
        certificate: Shown to the clients; each handshake takes the context that it has at that time.
    """

    tls = True

    def __init__(self, site: Site, certificate: Certificate) -> None:
        super().__init__(site)
        self._certificate = certificate

    def _arrival(self, client: Client | None, seat: Seat | None) -> Arrival:
        return TlsArrival(self._site, client, seat, self._certificate)


class PlainOpening(Opening):
    """Refuses whatever comes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Refuse a connection whose first bytes are not TLS."""
        with suppress(HandshakeError):
            self._reader.feed(data)  # which finds out whether it is a HEAD request, and has nothing else to say here
        self._refuse(HandshakeError(400, "this port speaks HTTPS: the address begins with https:// or wss://"))

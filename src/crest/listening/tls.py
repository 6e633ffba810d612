"""Connections as they come in at a listening socket that speaks TLS.

The first byte that a client sends says whether it speaks TLS as well; it is looked at without being taken. TLS goes to
a `SecureTransport`, or to the event loop's. Anything else, a browser that was sent to `http:` above all, is told its
mistake.

Until that byte has come a connection costs no TLS state; past the limits on handshakes it never does. A header of the
PROXY protocol comes before it, not encrypted.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from functools import partial

from crest.admission.proxies import Client
from crest.admission.seats import Full
from crest.exceptions import HandshakeError
from crest.io.life.protocol import Protocol
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.secure import SecureTransport
from crest.listening.certificate import Certificate
from crest.listening.reception import Arrival, Reception
from crest.opening.opening import Opening
from crest.opening.proxied import ProxiedOpening
from crest.opening.site import Site
from crest.wire.proxy import LONGEST, MalformedHeader, ProxyHeader

HANDSHAKE = b"\x16"
"""The content type of the record that a TLS client begins with (RFC 8446 section 5.1)."""

ROOM = 1 << 16
"""Bytes of the buffer that all connections receive into."""


class TlsReception(Reception):
    """Shakes hands with the connections of one socket.

    Args:
        certificate: Shown to the clients; each handshake takes the context that it has at that time.
        poller: Of crest's own transports; None: connections get the loop's.
    """

    def __init__(
        self, site: Site, turn: Turn, sock: socket.socket, certificate: Certificate, poller: Poller | None
    ) -> None:
        super().__init__(site, turn, sock)
        self._poller = poller
        self._room = bytearray(ROOM)
        self._certificate = certificate

    def close(self) -> None:
        """Cut off those that have not finished their TLS handshake."""
        for task in self._arrivals:
            task.cancel()

    async def _serve(self, arrival: Arrival) -> None:
        """Serve a connection over TLS. If the client does something wrong, or not in time, log that and end it."""
        seconds = self._site.open_timeout
        try:
            async with asyncio.timeout(seconds):
                if self._site.expects_header(arrival.client):
                    source = await self._read_header(arrival.sock)
                    arrival.opens = partial(ProxiedOpening, source=source)
                    arrival.client = source or arrival.client
                    self._count(arrival, source)
                if await self._peek(arrival.sock, 1) == HANDSHAKE:
                    seat = self._site.handshake_seat_for(arrival.client)
                    try:
                        await self._shake_hands(arrival, seconds)
                    finally:
                        seat.leave()
                    return
            arrival.opens = partial(PlainOpening, source=arrival.client)
            await self._connect(arrival)
        except TimeoutError:
            self._refuse(arrival, f"no TLS handshake within {seconds:g} s")
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            self._refuse(arrival, f"the TLS handshake failed: {reason or str(error) or 'the client has gone'}")
        except MalformedHeader as error:
            self._site.refuse_header(arrival.client, str(error))
        except (EOFError, Full):  # the latter is in the log already
            pass

    def _count(self, arrival: Arrival, source: Client | None) -> None:
        """Count a connection by the client that its proxy has named, and no longer by the proxy.

        Raises:
            Full: That client has too many.
        """
        if arrival.seat is not None:
            arrival.seat.leave()
            arrival.seat = self._site.seat_for(source)

    async def _shake_hands(self, arrival: Arrival, seconds: float) -> None:
        protocol = arrival.protocol(self._site, self._turn)
        if self._poller is not None:
            await self._secure(self._poller, protocol, arrival)
            return
        arrival.taken = True
        await arrival.connected(
            self._loop.connect_accepted_socket(
                lambda: protocol,
                arrival.sock,
                ssl=self._certificate.context,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=seconds,
            )
        )

    async def _secure(self, poller: Poller, protocol: Protocol, arrival: Arrival) -> None:
        transport = SecureTransport(poller, protocol, arrival.sock.fileno())
        arrival.taken = True
        try:
            arrival.sock.detach()
            await transport.shake_hands(self._certificate.context, self._room)
        except BaseException:
            transport.abort()
            raise

    def _refuse(self, arrival: Arrival, reason: str) -> None:
        self._site.refusals.add_connection("tls", arrival.client, reason)

    async def _read_header(self, sock: socket.socket) -> Client | None:
        """Read the source from a PROXY protocol header. All that comes behind it is left where it is.

        Raises:
            MalformedHeader: There is none.
            EOFError: Nothing has come. The peer was only looking whether a server listens.
        """
        header = ProxyHeader()
        while not header.complete:
            data = await self._peek(sock, LONGEST)
            if not data and not header.begun:
                raise EOFError
            if not data:
                raise MalformedHeader("it is not complete")
            sock.recv(header.feed(data))
        return header.source

    async def _peek(self, sock: socket.socket, size: int) -> bytes:
        """Return the bytes that come first, and leave them where they are; none at the end of the stream. A reset is an
        end, too: health checks leave so."""
        fd = sock.fileno()  # not every loop watches socket objects
        while True:
            try:
                return sock.recv(size, socket.MSG_PEEK)
            except ConnectionError:
                return b""
            except (BlockingIOError, InterruptedError):
                readable = self._loop.create_future()
            self._loop.add_reader(fd, _set, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(fd)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class PlainOpening(Opening):
    """Refuses whatever comes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Refuse a connection whose first bytes are not TLS."""
        with suppress(HandshakeError):
            self._reader.feed(data)  # which finds out whether it is a HEAD request, and has nothing else to say here
        self._refuse(HandshakeError(400, "this port speaks HTTPS: the address begins with https:// or wss://"))

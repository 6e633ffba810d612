"""Connections as they come in at a listening socket that speaks TLS.

The first byte that a client sends says whether it speaks TLS as well; it is looked at without being taken. TLS goes to
a `SecureTransport`, or to the event loop's. Anything else, a browser that was sent to `http:` above all, is told its
mistake.
Until that byte has come a connection costs no TLS state. A header of the PROXY protocol comes before it, not encrypted.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from crest.certificate import Certificate
from crest.exceptions import HandshakeError
from crest.io.poller import Poller
from crest.io.protocol import Protocol, ServerProtocol
from crest.io.secure import SecureTransport
from crest.io.turn import Turn
from crest.log import logger
from crest.opening import Opening
from crest.proxied import ProxiedOpening
from crest.proxies import Client
from crest.wire.proxy import LONGEST, MalformedHeader, ProxyHeader

if TYPE_CHECKING:
    from crest.listener import Listener

HANDSHAKE = b"\x16"
"""The content type of the record that a TLS client begins with (RFC 8446 section 5.1)."""

ACCEPTED_AT_ONCE = 64
ROOM = 1 << 16
"""Bytes of the buffer that all connections receive into."""

PAUSE = 1.0
"""Seconds without accepting, when the process or the system is at a limit."""


class TlsAcceptor:
    """Accepts the connections of one socket, until it is closed.

    Args:
        sock: Listens and does not block; whoever made it closes it, after `close`.
        certificate: Shown to the clients; each handshake takes the context that it has at that time.
        poller: Of crest's own transports; None: connections get the loop's.
    """

    def __init__(
        self, listener: Listener, turn: Turn, sock: socket.socket, certificate: Certificate, poller: Poller | None
    ) -> None:
        self._listener = listener
        self._poller = poller
        self._room = bytearray(ROOM)
        self._turn = turn
        self._sock = sock
        self._certificate = certificate
        self._loop = listener.loop
        self._timer: asyncio.TimerHandle | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._resume()

    def _resume(self) -> None:
        self._timer = None
        self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more, and cut off those that have not finished their TLS handshake."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        for handshake in self._handshakes:
            handshake.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            handshake = self._loop.create_task(self._shake_hands(sock, address))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    def _pause(self, error: OSError) -> None:
        logger.error("Connections cannot be accepted: %s. The next attempt is in %g s.", error.strerror, PAUSE)
        self._loop.remove_reader(self._sock)
        self._timer = self._loop.call_later(PAUSE, self._resume)

    async def _shake_hands(self, sock: socket.socket, address: Any) -> None:
        """What a client does wrong, or not in time, is a line in the log and the end of its connection."""
        seconds, client = self._listener.open_timeout, address[:2]
        site: Listener | Site = self._listener
        taken = False  # by a transport, which closes it, whatever becomes of the handshake
        sock.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                if self._listener.expects_header(client):
                    source = await self._read_header(sock)
                    site = Site(self._listener, partial(ProxiedOpening, source=source))
                    client = source or client
                if await self._peek(sock, 1) == HANDSHAKE:
                    taken = True
                    if self._poller is None:
                        await self._loop.connect_accepted_socket(
                            lambda: ServerProtocol(self._turn, site),
                            sock,
                            ssl=self._certificate.context,
                            ssl_handshake_timeout=seconds,
                            ssl_shutdown_timeout=seconds,
                        )
                    else:
                        await self._secure(self._poller, ServerProtocol(self._turn, site), sock)
                    return
            taken = True
            site = Site(self._listener, partial(PlainOpening, source=client))
            # Cancelled when the protocol is connected already, uvloop would not tell it that the connection is lost.
            connecting = self._loop.connect_accepted_socket(lambda: ServerProtocol(self._turn, site), sock)
            await asyncio.shield(connecting)
        except TimeoutError:
            self._refuse(client, f"no TLS handshake within {seconds:g} s")
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            self._refuse(client, f"the TLS handshake failed: {reason or str(error) or 'the client has gone'}")
        except MalformedHeader as error:
            self._listener.refuse_header(client, str(error))
        except EOFError:
            pass
        finally:
            if not taken:
                sock.close()

    async def _secure(self, poller: Poller, protocol: Protocol, sock: socket.socket) -> None:
        transport = SecureTransport(poller, protocol, sock.detach())
        try:
            await transport.shake_hands(self._certificate.context, self._room)
        except BaseException:
            transport.abort()
            raise

    def _refuse(self, client: Any, reason: str) -> None:
        self._listener.refusals.add_connection("TLS", client, reason)

    async def _read_header(self, sock: socket.socket) -> Client | None:
        """The source that a PROXY protocol header has; all that comes behind it is left where it is.

        Raises:
            MalformedHeader: There is none.
            EOFError: Nothing has come. Whoever that was, it was only looking whether somebody listens.
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
        """What comes first, left where it is; nothing at the end of the stream. A reset is an end, too: health checks
        leave so."""
        while True:
            try:
                return sock.recv(size, socket.MSG_PEEK)
            except ConnectionError:
                return b""
            except (BlockingIOError, InterruptedError):
                readable = self._loop.create_future()
            self._loop.add_reader(sock, _set, readable)
            try:
                await readable
            finally:
                self._loop.remove_reader(sock)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Site:
    """Whom a connection reports to that was looked into before: the listener, but with an opening of its own."""

    def __init__(self, listener: Listener, opening: Callable[[Listener, Protocol], Opening]) -> None:
        self._listener = listener
        self._opening = opening
        self.ended = listener.ended

    def opened(self, protocol: Protocol) -> Opening:
        """A TCP connection was accepted."""
        return self._listener.opened(protocol, self._opening)


class PlainOpening(Opening):
    """Refuses whatever comes."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Bytes have come that are not TLS."""
        self._refuse(HandshakeError(400, "this port speaks HTTPS: the address begins with https:// or wss://"))

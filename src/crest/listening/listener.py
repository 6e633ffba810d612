"""The listener of one app: its sockets, the acceptors of their connections, and the end of both."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence

from crest.exceptions import ConfigurationError, ListenError
from crest.io.life.protocol import Protocol, ServerProtocol
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.acceptor import Acceptor
from crest.listening.certificate import Certificate
from crest.listening.connector import Connector
from crest.listening.endpoint import AnyAddress, Endpoint
from crest.listening.greeting import Greeting
from crest.listening.reception import Reception
from crest.listening.shutdown import Shutdown
from crest.listening.sockets import BACKLOG
from crest.listening.tls import TlsReception
from crest.log import logger
from crest.opening.site import Site
from crest.server import WebSocketServer
from crest.serving import Serving
from crest.wire.codes import CloseCode

_Acceptor = Acceptor | asyncio.Server


def announce(endpoint: Endpoint, paths: Iterable[str]) -> None:
    """Log where clients may connect, unless the log has it already."""
    if not endpoint.announced:
        urls = ", ".join(endpoint.websocket(path) for path in paths)
        logger.info("Listening on %s (WebSocket: %s)", endpoint.url, urls or "none")
        endpoint.announced = True


class Listener:
    """Lets the connections of one app in, on the running event loop; made by `App.listening`.

    Args:
        serving: The app: its options, and its name in errors.
        site: What serves the connections.
        shutdown_timeout: In place of that of the options.
        direct: True: crest's own transports are used, on systems that have them.

    Attributes:
        host, port: The bound address; of the first socket, if the host name has several addresses. "" and 0 if it
            listens on Unix sockets only.
        address: The same as a tuple.
        urls: Everything that it listens on: `http://127.0.0.1:8000`, `https://[::1]:8443`, `unix:/run/app.sock`.
        sockets: The listening sockets.
        servers: The WebSocketServer of each path.
        stopping: True once shutdown has begun.
        protocols: The protocols of all connections, WebSockets or not, that are there or have handlers that run.
        site: What serves the connections.
        loop: The event loop.
        turn: What its connections share.
        mounted: Is called with each server that is mounted while this listens; None: nothing is.
        parting: Is awaited before this lets go of the servers; None: nothing is.
    """

    def __init__(self, serving: Serving, site: Site, shutdown_timeout: float, *, direct: bool) -> None:
        self.site = site
        self.loop = site.loop
        self._app = serving
        self._endpoints: list[Endpoint] = []
        self._certificate: Certificate | None = None
        self.mounted: Callable[[str, WebSocketServer], None] | None = None
        self.parting: Callable[[], Awaitable[None]] | None = None
        self.turn = Turn(
            self.loop,
            max_backlog_total=serving.max_backlog_total,
            busy_code=CloseCode.TRY_AGAIN_LATER if serving.close_codes == "registered" else CloseCode.GOING_AWAY,
        )
        self._direct = direct and Poller.exists
        self._thread = threading.get_ident()
        self._poller: Poller | None = None
        self._acceptors: list[tuple[Endpoint, _Acceptor]] = []
        self._connectors: list[Connector] = []
        self._greetings: set[Greeting] = set()
        self._shutdown = Shutdown(site, self, shutdown_timeout, serving.close_rate, serving.keep_listening)
        self._stopped: asyncio.Task[None] | None = None

    @property
    def servers(self) -> dict[str, WebSocketServer]:
        return self.site.servers

    @property
    def protocols(self) -> list[Protocol]:
        return self.site.protocols

    @property
    def stopping(self) -> bool:
        return self.site.stopping

    @property
    def address(self) -> tuple[str, int]:
        """The bound host and port."""
        return self.host, self.port

    @property
    def host(self) -> str:
        return next((each.host for each in self._endpoints if each.host), "")

    @property
    def port(self) -> int:
        return next((each.port for each in self._endpoints if each.host), 0)

    @property
    def sockets(self) -> list[socket.socket]:
        return [each for endpoint in self._endpoints for each in endpoint.sockets]

    @property
    def urls(self) -> list[str]:
        return [each.url for each in self._endpoints]

    # ---- Start ---------------------------------------------------------------------------------------------------

    async def bind(self, addresses: Sequence[AnyAddress], certificate: Certificate | None) -> None:
        """Open the listening sockets. Clients that connect wait until `start`.

        Raises:
            ListenError: An address can not be bound.
        """
        self._certificate = certificate
        for server in self.site.servers.values():
            server._hub.open(self.turn)
        for address in addresses:
            self._endpoints += await address.open(certificate is not None)
        if certificate is not None and not any(each.tls for each in self._endpoints):
            raise ConfigurationError("there is a certificate, but no address that speaks TLS")
        if certificate is not None and self._app.proxy_protocol and not Poller.exists:
            raise ConfigurationError("on this system proxy_protocol and TLS exclude each other: end TLS at the proxy")
        if Poller.exists:
            try:
                self._poller = self.turn.poller = Poller(self.loop)
            except OSError as error:
                raise ListenError(f"cannot listen on {self._endpoints[0].url}: {error.strerror}") from error

    async def start(self) -> None:
        """Let clients in."""
        for endpoint in self._endpoints:
            for each in endpoint.sockets:
                acceptor = await self._accept(each, self._certificate if endpoint.tls else None)
                self._acceptors.append((endpoint, acceptor))
            announce(endpoint, self.site.servers)

    def mount(self, path: str, server: WebSocketServer) -> None:
        """Serve one more WebSocketServer, or one at one more path.

        Raises:
            ConfigurationError: This is another thread, or the end has begun.
        """
        if threading.get_ident() != self._thread:
            raise ConfigurationError(f"{self._app!r} runs in another thread: mount {server!r} there")
        if self.site.stopping:
            raise ConfigurationError(f"{self._app!r} is shutting down: {server!r} comes too late")
        if not any(each is server for each in self.site.servers.values()):
            server._hub.open(self.turn)
        self.site.servers[path] = server
        if self.mounted is not None:
            self.mounted(path, server)

    async def _accept(self, sock: socket.socket, certificate: Certificate | None) -> _Acceptor:
        """Begin to accept connections at a socket. Returns what must be closed for that to end."""
        site, turn = self.site, self.turn
        asks_first = site.counts_sockets or site.proxy_protocol
        if self._poller is None:  # the loop accepts
            plain, greetings = Reception(site), self._greetings
            return await self.loop.create_server(
                lambda: Greeting(plain, turn, greetings) if asks_first else ServerProtocol(turn, site),
                sock=sock,
                backlog=BACKLOG,
                ssl=None if certificate is None else certificate.context,
            )
        reception: Reception | None = None
        connector: Connector | None = None
        if certificate is not None:
            reception = TlsReception(site, certificate)
        elif asks_first or not self._direct:
            reception = Reception(site)
        if not self._direct:
            connector = Connector(self.loop, turn, sock, site.open_timeout)
            self._connectors.append(connector)
        return Acceptor(self._poller, sock.fileno(), turn, site, reception, connector, site.census)

    def reload(self) -> None:
        """Read the certificate's files again, for connections to come. If they can not be used the old one remains,
        and the log says why."""
        if self._certificate is not None and self._certificate.reloadable:
            try:
                self._certificate.reload()
            except ListenError as error:
                logger.error("The certificate remains as it was: %s", error)
            else:
                logger.info("The certificate was read again")

    # ---- Stop ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Shut down, see shutdown.py. A second call waits for the same end. Cancelling a call, however often, hurries
        the end."""
        if self._stopped is None:
            self.site.stopping, self.site.emptied = True, self._shutdown.all_ended
            self._stopped = self.loop.create_task(self._stop())
        cancelled: asyncio.CancelledError | None = None
        while not self._stopped.done():
            try:
                await asyncio.shield(self._stopped)
            except asyncio.CancelledError as error:
                self.hurry()
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def _stop(self) -> None:
        if self._acceptors:
            await self._shutdown.run()
        else:
            self.stop_accepting()  # it has never begun

    async def close(self) -> None:
        """Let go of the servers, after `stop`. Until then the app may broadcast to clients elsewhere."""
        try:
            if self.parting is not None:
                await self.parting()
        finally:
            self._close()

    def _close(self) -> None:
        for server in self.site.servers.values():
            server._hub.close()
        self.site.refusals.close()
        for protocol in list(self.site.seats):  # whose handlers ignore their cancellation
            self.site.leave_seat(protocol)
        self.turn.clock.stop()
        if self._poller is not None:
            self._poller.close()

    def abandon(self) -> None:
        """Let go of everything that a loop has left behind that was closed before the end."""
        for server in self.site.servers.values():
            server._hub.close()
        for endpoint in self._endpoints:
            endpoint.close()

    def stop_accepting(self, *, passed_only: bool = False) -> None:
        """Close the listening sockets, or only those that were passed to this process: others may listen at them."""
        self.site.accepting = passed_only
        for endpoint, acceptor in self._acceptors:
            if endpoint.passed or not passed_only:
                acceptor.close()
        for endpoint in self._endpoints:
            if endpoint.passed or not passed_only:
                endpoint.close()
        for greeting in [] if passed_only else list(self._greetings):
            greeting.cut()

    async def settled(self) -> None:
        """Wait until all connections that were accepted have been opened, or closed; after `stop_accepting`."""
        for connector in self._connectors:
            await connector.settled()

    def hurry(self) -> None:
        """Wait no longer for the peers."""
        self._shutdown.hurry()

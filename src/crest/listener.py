"""One app being served by one event loop: its sockets, its routes, its connections."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING

from crest.admission import Admission, Refusal
from crest.certificate import Certificate
from crest.connection import client_address
from crest.endpoint import AnyAddress, Endpoint
from crest.exceptions import ConfigurationError, ListenError
from crest.http import Request, Response, to_response
from crest.io.acceptor import Acceptor
from crest.io.forks import end_child
from crest.io.poller import Poller
from crest.io.protocol import Protocol, ServerProtocol
from crest.io.roster import Roster
from crest.io.turn import Turn
from crest.log import logger
from crest.opening import Opening
from crest.proxied import HeaderOpening
from crest.proxies import Client
from crest.reception import Reception
from crest.refusals import RefusalLog
from crest.seats import Full, Seat, Seats
from crest.shutdown import Shutdown
from crest.site import Site
from crest.sockets import BACKLOG
from crest.tls import TlsReception
from crest.wire.codes import CloseCode
from crest.wire.head import RequestHead

if TYPE_CHECKING:
    from crest.app import App
    from crest.server import WebSocketServer

_Acceptor = Acceptor | Reception | asyncio.Server
OpeningFactory = Callable[["Listener", Protocol], Opening]


class Listener:
    """Serves one app on the running event loop; made by `App.listening`.

    Attributes:
        host, port: The bound address; of the first socket, if the host name has several addresses. "" and 0 if it
            listens on Unix sockets only.
        address: The same as a tuple.
        urls: Everything that it listens on: `http://127.0.0.1:8000`, `https://[::1]:8443`, `unix:/run/app.sock`.
        sockets: The listening sockets.
        servers: The WebSocketServer of each path.
        stopping: Whether shutdown has begun.
        protocols: Of all connections, WebSockets or not, that are there or have handlers that run.
        proxies: Whose word on the clients' addresses is taken; None if nobody's.
        refusals: The log of refused requests.
        refused: How many connections, and requests that no server counts, were refused, by kind.
        hosts: Which hosts are served; None: any.
        page_timeout: Seconds that an async page may take; None: any number.
        keep_alive_timeout: Seconds between a response and the next request of its connection.
        seats: Of the connections of servers that count them.
    """

    def __init__(
        self,
        app: App,
        servers: dict[str, WebSocketServer],
        *,
        open_timeout: float,
        shutdown_timeout: float,
        max_header_size: int,
        max_headers: int,
        direct: bool,
    ) -> None:
        self.app = app
        self.servers = servers
        self.open_timeout = open_timeout
        self.max_header_size = max_header_size
        self.max_headers = max_headers
        self.stopping = False
        self.loop = asyncio.get_running_loop()
        self.proxies = app.trusted_proxies or None
        self._proxy_protocol = app.proxy_protocol
        self.refused = app._refusal_counts
        self.refusals = RefusalLog(self.loop, self.refused)
        self._seats = None if app.max_sockets_per_ip is None else Seats(None, app.max_sockets_per_ip)
        self._handshakes = Seats(app.max_tls_handshakes, app.max_tls_handshakes_per_ip)
        self.hosts = app.hosts
        self.page_timeout = app.page_timeout
        self.keep_alive_timeout = app.keep_alive_timeout
        self.seats: dict[Protocol, Seat] = {}
        self._endpoints: list[Endpoint] = []
        self._certificate: Certificate | None = None
        plain = app.close_codes == "rfc6455"
        self._turn = Turn(
            self.loop,
            max_backlog_total=app.max_backlog_total,
            busy_code=CloseCode.GOING_AWAY if plain else CloseCode.TRY_AGAIN_LATER,
        )
        self._direct = direct and Poller.exists
        self._roster = Roster()
        self.protocols = self._roster.protocols
        self._server = asyncio.current_task()  # who stops it
        self._process = os.getpid()
        self._thread = threading.get_ident()
        self._poller: Poller | None = None
        self._acceptors: list[tuple[Endpoint, _Acceptor]] = []
        self._accepting = True
        self._shutdown = Shutdown(
            self,
            shutdown_timeout,
            app.close_rate,
            app.retry_after,
            app.keep_listening,
            CloseCode.GOING_AWAY if plain else CloseCode.SERVICE_RESTART,
        )
        self._stopped: asyncio.Task[None] | None = None

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

    async def start(self, addresses: Sequence[AnyAddress], certificate: Certificate | None) -> None:
        """Bind and listen.

        Raises:
            ListenError: An address can not be bound.
        """
        self._certificate = certificate
        for server in self.servers.values():
            server._hub.open(self._turn)
        for address in addresses:
            self._endpoints += await address.open(certificate is not None)
        if certificate is not None and not any(each.tls for each in self._endpoints):
            raise ConfigurationError("there is a certificate, but no address that speaks TLS")
        if certificate is not None and self._proxy_protocol and not Poller.exists:
            raise ConfigurationError("on this system proxy_protocol and TLS exclude each other: end TLS at the proxy")
        if Poller.exists:
            try:
                self._poller = self._turn.poller = Poller(self.loop)
            except OSError as error:
                raise ListenError(f"cannot listen on {self._endpoints[0].url}: {error.strerror}") from error
        for endpoint in self._endpoints:
            for each in endpoint.sockets:
                for acceptor in await self._accept(each, certificate if endpoint.tls else None):
                    self._acceptors.append((endpoint, acceptor))
            paths = ", ".join(endpoint.websocket(path) for path in self.servers)
            logger.info("Listening on %s (WebSocket: %s)", endpoint.url, paths or "none")

    def mount(self, path: str, server: WebSocketServer) -> None:
        """Serve one more WebSocketServer, or one at one more path.

        Raises:
            ConfigurationError: This is another thread, or the end has begun.
        """
        if threading.get_ident() != self._thread:
            raise ConfigurationError(f"{self.app!r} runs in another thread: mount {server!r} there")
        if self.stopping:
            raise ConfigurationError(f"{self.app!r} is shutting down: {server!r} comes too late")
        if not any(each is server for each in self.servers.values()):
            server._hub.open(self._turn)
        self.servers[path] = server

    async def _accept(self, sock: socket.socket, certificate: Certificate | None) -> list[_Acceptor]:
        """Begin to accept connections at a socket; return what is to be closed for that to end."""
        if self._poller is None:  # the loop accepts, and connections are counted when they are opened
            server = await self.loop.create_server(
                lambda: ServerProtocol(self._turn, self if self._seats is None else Site(self)),
                sock=sock,
                backlog=BACKLOG,
                ssl=None if certificate is None else certificate.context,
            )
            return [server]
        reception: Reception | None = None
        receive = None if self._seats is None else self._receive
        if certificate is not None:
            poller = self._poller if self._direct else None
            reception = TlsReception(self, self._turn, sock, certificate, poller)
        elif not self._direct:
            reception = Reception(self, self._turn, sock)
        if reception is None:
            return [Acceptor(self._poller, sock.fileno(), self._turn, self, receive)]
        return [Acceptor(self._poller, sock.fileno(), self._turn, self, reception.receive), reception]

    def _receive(self, fd: int, client: Client | None) -> Site | None:
        """Count a connection that a transport of crest's own is to serve, or close it if there are too many."""
        try:
            seat = self.seat_for(client)
        except Full:
            os.close(fd)
            return None
        try:
            return Site(self, seat)
        except MemoryError:
            if seat is not None:
                seat.leave()
            raise

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

    # ---- What protocols and openings ask -------------------------------------------------------------------------

    def expects_header(self, peer: Client | None) -> bool:
        """Whether this is a proxy that speaks the PROXY protocol."""
        return self._proxy_protocol and self.proxies is not None and self.proxies.trusts(peer)

    def refuse_header(self, peer: Client | None, reason: str) -> None:
        """The connection of such a proxy does not begin as it should."""
        self.refusals.add_connection("proxy_protocol", peer, f"its PROXY protocol header: {reason}")

    def seat_for(self, client: Client | None) -> Seat | None:
        """Count a connection by its address: a trusted proxy, and a peer without an address, by none.

        Returns:
            None: Connections are not counted.

        Raises:
            Full: There are too many of this address, which the log says.
        """
        if self._seats is None:
            return None
        try:
            return self._seats.take(self._counted(client))
        except Full as full:
            self.refusals.add_connection("max_sockets_per_ip", client, f"{full.key} has too many (max_sockets_per_ip)")
            raise

    def handshake_seat_for(self, client: Client | None) -> Seat:
        """Count a TLS handshake, in the same way.

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
        """Find the client whose address counts; None: a proxy's is that of many clients."""
        return None if self.proxies is not None and self.proxies.trusts(client) else client

    def opened(self, protocol: Protocol, opening: OpeningFactory | None = None) -> Opening:
        """A TCP connection was accepted."""
        if opening is None:
            opening = Opening
            if self._proxy_protocol and self.expects_header(client_address(protocol.transport)):
                opening = HeaderOpening
        self._roster.add(protocol)
        if not self._accepting:  # the loop's own servers had taken it already
            self.loop.call_soon(self.stop_openings)
        return opening(self, protocol)

    def ended(self, protocol: Protocol) -> None:
        """A TCP connection is gone, and so are its handlers. May be called again, if it raised MemoryError."""
        self._roster.remove(protocol)
        if self.seats:
            self.leave_seat(protocol)
        if self.stopping and not self.protocols:
            self._shutdown.all_ended()

    def take_seat(self, protocol: Protocol, admission: Admission, client: Client | None) -> None:
        """A TCP connection may become a WebSocket: it counts as one.

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
        """A TCP connection is gone, or will be no WebSocket: it counts no longer."""
        seat = self.seats.get(protocol)
        if seat is not None:
            seat.leave()
            del self.seats[protocol]

    def farewell(self) -> tuple[int, str] | None:
        """Code and reason to part with from a client, if this is about to end; else None."""
        ends = self.stopping or (self._server is not None and self._server.cancelling())
        return self._shutdown.farewell() if ends else None

    def end_child(self, error: BaseException | None) -> None:
        """End this process if a handler, which has raised this, has forked it: what is served is the other's."""
        if error is not None and os.getpid() != self._process:
            end_child(error)

    def refusal(self) -> Refusal:
        """What a request gets while everything ends."""
        return self._shutdown.refusal()

    def check(self, head: RequestHead, scheme: str) -> None:
        """Refuse a request while everything ends, or if it is for a host that is not served.

        Raises:
            HandshakeError: 503 or 421; 400 if Host is none.
        """
        if self.stopping:
            raise self.refusal()
        if self.hosts is not None:
            self.hosts.check(head, scheme)

    def has_page(self, path: str) -> bool:
        """Whether plain requests for this path have a handler."""
        return path in self.app._routes

    def respond(self, request: Request, path: str) -> Response | Awaitable[Response]:
        """The response to a plain HTTP request."""
        handler = self.app._routes.get(path)
        if handler is not None:
            if request.method not in ("GET", "HEAD"):
                return Response("only GET and HEAD are possible here\n", 405, {"Allow": "GET, HEAD"}, "text/plain")
            try:
                result = handler(request)
                if isawaitable(result):
                    return self._await_response(request, result)
                return to_response(result)
            except BaseException as error:  # SystemExit, too: no page stops the server
                self.end_child(error)
                return self._handler_failed(request, error)
        for prefix, files in self.app._static_files:
            if path.startswith(prefix):
                return self._await_response(request, files.respond(request, path.removeprefix(prefix)))
            if path == prefix[:-1]:
                query = "?" + request.query_string if request.query_string else ""
                return Response("", 308, {"Location": request.raw_path + "/" + query})
        return Response("not found\n", 404, content_type="text/plain")

    async def _await_response(self, request: Request, result: Awaitable[object]) -> Response:
        try:
            return to_response(await result)
        except BaseException as error:
            self.end_child(error)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the client has gone, or the loop
            return self._handler_failed(request, error)

    def _handler_failed(self, request: Request, error: BaseException) -> Response:
        fields = {"client": request.client, "path": request.path}
        logger.error("%s %s: the handler raised", request.method, request.target, exc_info=error, extra=fields)
        return Response("internal server error\n", 500, content_type="text/plain")

    # ---- Stop ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Shut down, see shutdown.py. Whoever calls it again waits for the same end; to be cancelled, however often,
        hurries it."""
        if self._stopped is None:
            self.stopping = True
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
        for server in self.servers.values():
            server._hub.close()
        self.refusals.close()
        for protocol in list(self.seats):  # whose handlers ignore their cancellation
            self.leave_seat(protocol)
        self._turn.clock.stop()
        if self._poller is not None:
            self._poller.close()

    def abandon(self) -> None:
        """Let go of what a loop has left behind that was closed before the end."""
        for server in self.servers.values():
            server._hub.close()
        for endpoint in self._endpoints:
            endpoint.close()

    def stop_accepting(self, *, passed_only: bool = False) -> None:
        """Close the listening sockets, or only those that were passed to this process: others may listen at them."""
        self._accepting = passed_only
        for endpoint, acceptor in self._acceptors:
            if endpoint.passed or not passed_only:
                acceptor.close()
        for endpoint in self._endpoints:
            if endpoint.passed or not passed_only:
                endpoint.close()

    async def settled(self) -> None:
        """Wait until all connections that were accepted have been opened, or closed; after `stop_accepting`."""
        for _, acceptor in self._acceptors:
            if isinstance(acceptor, Reception):
                await acceptor.settled()

    def openings(self) -> list[Opening]:
        """Connections that are not WebSockets."""
        return [each.opening for each in self.protocols if each.opening is not None]

    def stop_openings(self) -> None:
        """Answer no further request."""
        for opening in self.openings():
            opening.stop()

    def hurry(self) -> None:
        """Wait no longer for the peers."""
        self._shutdown.hurry()

"""One connection before it is a WebSocket: request heads in, responses out, until a request upgrades it.

`Opening` is what a `Protocol` gives its bytes to at first. It finds out who answers a request (a WebSocketServer, a GET
route, static files) by asking its `Listener`, and keeps the deadline for the request. The rules of the opening
handshake are wire/handshake.pyx's, what HTTP responses look like is http.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from crest.connection import WebSocketConnection, client_address
from crest.exceptions import HandshakeError
from crest.http import FileResponse, Request, Response, error_response, keeps_alive, serialize
from crest.io.protocol import Protocol
from crest.wire.handshake import accept, check_host, wants_upgrade
from crest.wire.head import HeadReader, RequestHead, path_of

if TYPE_CHECKING:
    from crest.listener import Listener
    from crest.server import WebSocketServer

logger = logging.getLogger("crest")


class Opening:
    """Reads the requests of one connection and answers them, one after the other.

    Args:
        listener: Whose connection it is.
        protocol: The connection's protocol, already connected.
    """

    __slots__ = (
        "_answering",
        "_at_end",
        "_blocked",
        "_listener",
        "_pending",
        "_protocol",
        "_reader",
    )

    def __init__(self, listener: Listener, protocol: Protocol) -> None:
        self._listener = listener
        self._protocol = protocol
        self._pending = b""  # came before the response to an earlier request had gone out
        self._at_end = False
        self._answering: asyncio.Task[None] | None = None
        self._blocked: asyncio.Future[None] | None = None  # done when the client has read what waited for it
        self._await_request()

    def _await_request(self) -> None:
        self._reader = HeadReader(self._listener.max_header_size, self._listener.max_headers)
        self._protocol.set_deadline(self._listener.open_timeout)

    # ---- What the protocol calls ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._pending += data
        while self._pending and self._answering is None:
            data, self._pending = self._pending, b""
            try:
                head = self._reader.feed(data)
                if head is None:
                    return
                self._pending = self._reader.rest
                if self._route(head):
                    return
            except HandshakeError as error:
                self._refuse(error)
                return

    def eof_received(self) -> bool:
        """The client has closed its half. Whether it may still get a response: not to a request that is incomplete."""
        self._at_end = True
        return self._answering is not None

    def resume_writing(self) -> None:
        """The transport has nothing queued any more, or little."""
        if self._blocked is not None and not self._blocked.done():
            self._blocked.set_result(None)

    def connection_lost(self) -> None:
        """The connection is gone."""
        if self._answering is not None:
            # Not before its first step: the response that it was to await would never have been awaited.
            self._listener.loop.call_soon(self._answering.cancel)

    def stop(self) -> None:
        """The server shuts down: no further request is answered."""
        if self._answering is None:
            self._close()

    # ---- Requests ------------------------------------------------------------------------------------------------

    def _route(self, head: RequestHead) -> bool:
        """Answer a request, or begin to. True when this connection's opening is over."""
        listener = self._listener
        if listener.stopping:
            raise HandshakeError(503, "the server is shutting down")
        path = path_of(head.target)
        if not path:
            raise HandshakeError(400, "the request target has no path")
        server = listener.servers.get(path)
        if server is not None:
            if wants_upgrade(head):
                self._upgrade(server, head)
                return True
            if not listener.has_page(path):
                raise HandshakeError(426, "this is a WebSocket: the request must upgrade to it")
        return self._respond(head, path)

    def _upgrade(self, server: WebSocketServer, head: RequestHead) -> None:
        response, subprotocol = accept(head, server.subprotocols)
        connection = WebSocketConnection(head.raw, self._protocol.transport, self._listener.scheme, subprotocol)
        self._protocol.upgrade(connection, server.hub, response, self._pending)

    # ---- Responses -----------------------------------------------------------------------------------------------

    def _respond(self, head: RequestHead, path: str) -> bool:
        """Answer a plain request, or begin to. True when no other may follow."""
        self._protocol.clear_deadline()
        check_host(head)
        listener, transport = self._listener, self._protocol.transport
        result: Response | Awaitable[Response] | None
        result = listener.respond(Request(head, client_address(transport), listener.scheme), path)
        if isinstance(result, Response):
            self._send(head, result)
            if not keeps_alive(head):
                self._close()
                return True
            if not self._is_blocked():
                self._await_request()
                return False
            result = None
        transport.pause_reading()
        self._answering = listener.loop.create_task(self._respond_later(head, result))
        return False

    def _send(self, head: RequestHead, response: Response) -> None:
        data = serialize(response, head_only=head.method == "HEAD", keep_alive=keeps_alive(head))
        self._protocol.transport.write(data)

    async def _respond_later(self, head: RequestHead, result: Awaitable[Response] | None) -> None:
        """Send a response that is not there yet, a file piece by piece, and go on when the client has read it."""
        transport = self._protocol.transport
        if result is not None:
            response = await result
            try:
                self._send(head, response)
                if isinstance(response, FileResponse) and head.method != "HEAD":
                    while piece := await self._listener.loop.run_in_executor(None, response.read):
                        transport.write(piece)
                        await self._read_by_client()
            except OSError as error:
                logger.error("%s %s: %s", head.method, head.target, error)
                transport.abort()
                return
            finally:
                if isinstance(response, FileResponse):
                    response.close()
        await self._read_by_client()
        self._answering = None
        if transport.is_closing():
            return
        transport.resume_reading()
        if not keeps_alive(head) or self._listener.stopping or self._at_end:
            self._close()
        else:
            self._await_request()
            self.data_received(b"")

    def _is_blocked(self) -> bool:
        transport = self._protocol.transport
        return bool(transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1])

    async def _read_by_client(self) -> None:
        if self._is_blocked():
            self._blocked = self._listener.loop.create_future()
            await self._blocked

    def _refuse(self, error: HandshakeError) -> None:
        transport = self._protocol.transport
        logger.info("Refused a request of %s: %d, %s", client_address(transport), error.status, error.reason)
        transport.write(serialize(error_response(error), head_only=False, keep_alive=False))
        self._close()

    def timed_out(self) -> None:
        """No request has come in time."""
        self._refuse(HandshakeError(408, f"no request within {self._listener.open_timeout:g} s"))

    def _close(self) -> None:
        self._protocol.close_opening()

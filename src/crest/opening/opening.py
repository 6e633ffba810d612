"""One connection before it is a WebSocket: request heads in, responses out, until a request upgrades it.

A `Protocol` gives its bytes to an `Opening` at first. It finds out from its `Site` what answers a request (a
WebSocketServer, a GET route, static files), and keeps the deadline for the request. The rules of the opening handshake
are wire/handshake.pyx's, which clients may open one is admission/'s, what HTTP responses look like is
http/messages.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from crest.admission.decision import RETRY_AFTER, Refusal, kind_of
from crest.admission.proxies import Client, TrustedProxies
from crest.connection import WebSocketConnection
from crest.exceptions import HandshakeError
from crest.http.errand import in_thread
from crest.http.messages import FileResponse, Request, Response, error_response, keeps_alive, serialize
from crest.io.life.protocol import Protocol
from crest.io.net.peer import client_address, scheme_of
from crest.log import logger
from crest.opening.answer import Answer
from crest.opening.site import Site
from crest.server import WebSocketServer
from crest.wire.extensions import Agreement
from crest.wire.handshake import check, check_host, wants_upgrade
from crest.wire.head import HeadReader, RequestHead, route_of, shown

Welcome = tuple[WebSocketConnection, bytes, Agreement | None]
"""What a client gets if it may come in: the connection, the response, and what was agreed on compression."""

MOST_OVERHEAD = 1 << 16
"""Bytes of TLS records that have nothing of a request in them, before the request: ten times what any client sends."""

AT_ONCE = 32
"""Requests of one connection that are answered until the loop has a turn for others: less than a millisecond of it."""


class Opening:
    """Reads the requests of one connection and answers them, one after the other.

    Args:
        site: The site that has the connection.
        protocol: The connection's protocol, already connected.
        source: The client, if a proxy has said so by the PROXY protocol.
    """

    __slots__ = (
        "_answering",
        "_at_end",
        "_blocked",
        "_client",
        "_deciding",
        "_idle",
        "_overhead",
        "_page",
        "_path",
        "_pending",
        "_protocol",
        "_reader",
        "_site",
        "_source",
        "_tls_ended",
    )

    def __init__(self, site: Site, protocol: Protocol, source: Client | None = None) -> None:
        self._site = site
        self._protocol = protocol
        self._source = source
        self._tls_ended = False  # by a proxy, which has said so
        self._pending = b""  # came before the response to an earlier request had gone out
        self._at_end = False
        self._answering: Answer | None = None
        self._deciding: WebSocketServer | None = None  # the server whose async on_upgrade decides
        self._page: RequestHead | None = None  # the request whose async handler answers
        self._blocked: asyncio.Future[None] | None = None  # done when the client has read what waited for it
        self._await_request(site.open_timeout)
        self._idle = False  # True after a response, until something of the next request has come

    def _await_request(self, seconds: float) -> None:
        self._reader = HeadReader(self._site.max_header_size, self._site.max_headers)
        self._client = self._source  # of this request, if that is not the peer
        self._path: str | None = None
        self._overhead = 0
        self._idle = True
        self._protocol.set_deadline(seconds)

    def _begin_request(self) -> None:
        """Give a further request the time that the first one has had."""
        if self._idle:
            self._idle = False
            self._protocol.set_deadline(self._site.open_timeout)

    # ---- What the protocol calls ---------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer the requests in bytes that have come."""
        head: RequestHead | None = None
        answered = 0
        self._pending += data
        while self._pending and self._answering is None:
            if head is not None and answered == AT_ONCE:
                self._protocol.clear_deadline()
                self._answer_later(head, None)
                self._count()
                return
            data, self._pending = self._pending, b""
            try:
                head = self._reader.feed(data)
                if head is None:
                    if self._reader.held:
                        self._begin_request()
                    self._count()
                    return
                self._pending = self._reader.rest
                if self._route(head):
                    return
            except HandshakeError as error:
                self._refuse(error)
                return
            answered += 1
        if self._deciding is not None and self._has_much_pending():
            self._protocol.pause_reading()
        self._count()

    def overhead(self, size: int) -> None:
        """Count bytes of TLS records that had nothing of a request, and cut off a client that sends too many."""
        self._overhead += size
        if self._overhead > MOST_OVERHEAD:
            self._cut("TLS", f"it sent {self._overhead} bytes of TLS records without a request")

    def shed(self, reason: str) -> None:
        """Give up the kept bytes, as others need the memory: refuse the request, or cut off a client that is behind."""
        refusal = Refusal("memory", 503, reason, (RETRY_AFTER,))
        if self._deciding is not None:
            self._give_up(self._deciding, refusal)
        elif self._answering is not None or self._is_blocked():
            self._cut("memory", reason)
        else:
            self._refuse(refusal)
        self._pending = b""

    def _cut(self, kind: str, reason: str) -> None:
        transport = self._protocol.transport
        self._site.refusals.add_connection(kind, self._client or client_address(transport), reason)
        transport.abort()

    def _log_fields(self) -> dict[str, object]:
        transport = self._protocol.transport
        client = self._client or (None if transport is None else client_address(transport))
        return {"client": client, "path": self._path}

    def _count(self) -> None:
        """Count the requests that are kept, and the responses that wait, in the budget."""
        if self._protocol.opening is self:
            self._protocol.holds(len(self._pending) + self._reader.held)

    def eof_received(self) -> bool:
        """Learn that the client has closed its half. Returns True if it may still get a response: not to a request that
        is incomplete, nor to an opening handshake, as a WebSocket can not be half open."""
        self._at_end = True
        if self._deciding is not None:
            self._forget()
            return False
        return self._answering is not None

    def left_by_client(self) -> bool:
        """True if the unread bytes, behind which the client has closed its half, are to be read now."""
        return self._deciding is not None

    def resume_writing(self) -> None:
        """Go on: the transport has nothing queued any more, or little."""
        if self._blocked is not None and not self._blocked.done():
            self._blocked.set_result(None)
        self._count()

    def connection_lost(self) -> None:
        """Give up the answer: the connection is gone."""
        self._forget()

    def stop(self) -> None:
        """Answer no further request: the server ends."""
        self.stop_deciding()
        if self._answering is None:
            self._close()

    def stop_deciding(self) -> None:
        """Let no client in any more: the server has begun to shut down."""
        if self._deciding is not None:
            self._give_up(self._deciding, self._site.refusal())

    # ---- Requests ------------------------------------------------------------------------------------------------

    def _route(self, head: RequestHead) -> bool:
        """Answer a request, or begin to. True when this connection's opening is over."""
        site = self._site
        if site.proxies is not None:
            self._client = self._client_of(site.proxies, head)
        self._path = path = route_of(head.target)
        server, scheme = site.servers.get(path), scheme_of(self._protocol.transport, self._tls_ended)
        try:
            if site.stopping or site.hosts is not None:
                site.check(head, scheme)
        except HandshakeError as error:
            if server is not None and wants_upgrade(head):
                server._admission.refused[kind_of(error)] += 1
            elif isinstance(error, Refusal):
                site.refused[error.kind] += 1
            raise
        if server is not None:
            if wants_upgrade(head):
                return self._upgrade(server, head, scheme)
            if not site.pages.has(path):
                raise HandshakeError(426, "this is a WebSocket: the request must upgrade to it")
        return self._respond(head, path, scheme)

    def _client_of(self, proxies: TrustedProxies, head: RequestHead) -> Client | None:
        """Find the client that a request comes from."""
        return proxies.client(client_address(self._protocol.transport), head)

    # ---- Upgrades ------------------------------------------------------------------------------------------------

    def _upgrade(self, server: WebSocketServer, head: RequestHead, scheme: str) -> bool:
        """Decide about an upgrade request, or begin to. True when this connection's opening is over."""
        site, admission, transport = self._site, server._admission, self._protocol.transport
        user: Any = None
        later = False
        try:
            offer = check(head)
            origin = head.joined(b"Origin")  # several make a text that is no origin
            if origin is not None:
                admission.check_origin(origin, head, scheme)
            if admission.asks:
                client = self._client or client_address(transport)
                if admission.arrivals is not None:
                    admission.check_pace(admission.arrivals, client)
                if admission.is_limited:
                    site.take_seat(self._protocol, admission, client)
                user, later = admission.ask(Request(head, client, scheme))
        except HandshakeError as error:
            site.end_child(error.__cause__)
            admission.refused[kind_of(error)] += 1
            raise
        subprotocol = offer.choose(server.subprotocols)
        response, agreed = offer.accept(subprotocol, (), server._deflate)
        connection = WebSocketConnection(head.raw, self._client or transport, scheme, subprotocol)
        if later:
            self._begin_request()
            self._deciding = server
            self._begin(self._upgrade_later(server, (connection, response, agreed), user), user)
            return self._protocol.opening is None
        self._let_in(server, (connection, response, agreed), user)
        return True

    async def _upgrade_later(self, server: WebSocketServer, welcome: Welcome, answer: Awaitable[Any]) -> None:
        """Go on when an async on_upgrade has decided, unless the opening no longer waits for it."""
        refusal = None
        try:
            user = await server._admission.answer(answer)
        except HandshakeError as error:
            self._site.end_child(error.__cause__)
            refusal = error
        if self._deciding is None:
            return
        self._answering = None
        if refusal is not None:
            self._give_up(server, refusal)
            return
        self._go_on_reading()
        self._let_in(server, welcome, user)

    def _let_in(self, server: WebSocketServer, welcome: Welcome, answer: Any) -> None:
        connection, response, agreed = welcome
        self._protocol.upgrade(connection, server._accepted(connection, answer), response, self._pending, agreed)

    def _give_up(self, server: WebSocketServer, error: HandshakeError) -> None:
        """Refuse the request that is being decided about."""
        server._admission.refused[kind_of(error)] += 1
        self._forget()
        self._go_on_reading()
        self._refuse(error)

    def _go_on_reading(self) -> None:
        if self._has_much_pending():
            self._protocol.resume_reading()

    def _has_much_pending(self) -> bool:
        """True if a client has sent so much behind its request that no more is read until that has its answer."""
        return len(self._pending) > self._site.max_header_size

    # ---- Answers that take time -------------------------------------------------------------------------------------

    def _begin(self, answer: Coroutine[Any, Any, None], awaited: Awaitable[Any] | None) -> None:
        """Answer in a task, and nothing else meanwhile. If there can be no task, `awaited` is never awaited."""
        self._answering = Answer(self._site.loop)
        self._answering.begin(self._guard(answer), answer, awaited)

    async def _guard(self, answer: Coroutine[Any, Any, None]) -> None:
        """Cut the connection if its answer fails: nothing else would ever be answered."""
        try:
            await answer
        except Exception as error:
            fields = self._log_fields()
            if self._is_connected():
                self._protocol.transport.abort()
            logger.error("A request could not be answered, and its connection is cut off", exc_info=error, extra=fields)

    def _forget(self) -> None:
        """Cancel the pending answer, if any."""
        self._deciding = None
        if self._answering is not None:
            self._answering.cancel()

    # ---- Responses -----------------------------------------------------------------------------------------------

    def _respond(self, head: RequestHead, path: str, scheme: str) -> bool:
        """Answer a plain request, or begin to. True when no other may follow."""
        self._protocol.clear_deadline()
        check_host(head)
        site = self._site
        result: Response | Awaitable[Response] | None
        client = self._client or client_address(self._protocol.transport)
        result = site.pages.respond(Request(head, client, scheme), path, site.end_child)
        if isinstance(result, Response):
            self._send(head, result)
            if not self._keeps_alive(head):
                self._close()
                return True
            if not self._is_blocked():
                self._await_request(site.keep_alive_timeout)
                return False
            result = None
        elif site.page_timeout is not None and site.pages.has(path):
            self._page = head
            self._protocol.set_deadline(site.page_timeout)
        self._answer_later(head, result)
        return False

    def _answer_later(self, head: RequestHead, result: Awaitable[Response] | None) -> None:
        """Read no further request until the response to this one is there, and the client has read it."""
        self._protocol.pause_reading()
        self._begin(self._respond_later(head, result), result)

    def _send(self, head: RequestHead, response: Response) -> None:
        keep_alive, head_only = self._keeps_alive(head), self._reader.is_head
        self._write(serialize(response, head_only=head_only, keep_alive=keep_alive, version=head.version))

    def _keeps_alive(self, head: RequestHead) -> bool:
        """True if another request may follow this one's response."""
        return keeps_alive(head) and not self._site.stopping

    async def _respond_later(self, head: RequestHead, result: Awaitable[Response] | None) -> None:
        """Send a response that is not there yet, a file piece by piece, and go on when the client has read it."""
        if result is not None:
            response = await result
            try:
                if self._protocol.opening is not self:
                    return  # the client has its answer already, or has gone
                if self._page is not None:
                    self._protocol.clear_deadline()
                    self._page = None
                self._send(head, response)
                if isinstance(response, FileResponse) and not self._reader.is_head:
                    while piece := await in_thread(response.read):
                        self._write(piece)
                        await self._read_by_client()
            except OSError as error:
                logger.error("%s %s: %s", head.method, head.target, error, extra=self._log_fields())
                if self._is_connected():
                    self._protocol.transport.abort()
                return
            finally:
                if isinstance(response, FileResponse):
                    response.close()
        await self._read_by_client()
        if self._answering is not None and self._answering.is_eager():  # other connections have their turn all the same
            await asyncio.sleep(0)
        self._answering = None
        if not self._is_connected():
            return
        self._protocol.resume_reading()
        if self._at_end or not self._keeps_alive(head):
            self._close()
        else:
            self._await_request(self._site.keep_alive_timeout)
            self.data_received(b"")

    def _write(self, data: bytes) -> None:
        """Send bytes if the connection is not lost: asyncio's transports would log a warning for each write."""
        if self._is_connected():
            self._protocol.transport.write(data)
            self._count()

    def _is_connected(self) -> bool:
        transport = self._protocol.transport
        return transport is not None and not transport.is_closing()

    def _is_blocked(self) -> bool:
        transport = self._protocol.transport
        return self._is_connected() and bool(transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1])

    async def _read_by_client(self) -> None:
        """Wait for the client to take all that the transport has, but for a little."""
        if self._is_blocked():
            self._protocol.is_taking()
            self._protocol.set_deadline(self._site.open_timeout)
            self._blocked = self._site.loop.create_future()
            await self._blocked
            self._protocol.clear_deadline()
            self._blocked = None

    def _give_up_page(self, head: RequestHead, seconds: float) -> None:
        """Answer in place of a handler that takes too long. It is cancelled, and may still ignore that."""
        self._page = None
        self._site.refused["page_timeout"] += 1
        self._forget()
        self._protocol.resume_reading()
        text = f"{shown(head.target)} has had no response within {seconds:g} s"
        self._refuse(Refusal("page_timeout", 503, text, (RETRY_AFTER,)))

    def _refuse(self, error: HandshakeError) -> None:
        transport, site = self._protocol.transport, self._site
        kind = error.kind if isinstance(error, Refusal) else str(error.status)
        site.refusals.add(kind, self._client or client_address(transport), error, self._path)
        site.leave_seat(self._protocol)
        self._write(serialize(error_response(error), head_only=self._reader.is_head, keep_alive=False))
        self._close()

    def timed_out(self) -> None:
        """End what has lasted too long: a request, a decision, a page, or a client that takes nothing of a response."""
        site, seconds = self._site, self._site.open_timeout
        if self._page is not None and site.page_timeout is not None:
            self._give_up_page(self._page, site.page_timeout)
            return
        if self._deciding is not None:
            self._give_up(self._deciding, Refusal("timeout", 503, f"no decision within {seconds:g} s", (RETRY_AFTER,)))
        elif self._protocol.is_taking():
            self._protocol.set_deadline(seconds)
            self._count()
        elif self._blocked is not None:
            self._cut("response", f"it took nothing of a response for {seconds:g} s")
        elif self._reader.held:
            self._refuse(HandshakeError(408, f"no complete request within {seconds:g} s"))
        else:  # in silence: a client would take any answer for that to a request on its way
            self._close()

    def _close(self) -> None:
        self._protocol.close_opening()

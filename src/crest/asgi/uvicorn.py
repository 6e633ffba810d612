"""The class that uvicorn takes for its WebSocket connections: `uvicorn --ws crest.asgi:WebSocketProtocol`.

uvicorn's HTTP protocol makes one for a request that asks for an upgrade. It gives that the transport, the head of the
request once more, and then the connection. This tells uvicorn of the connection and of the application's task, as its
own classes do: its shutdown knows of both. Everything else is the `Session`'s. Nothing here imports uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from string import punctuation
from typing import Any, Final
from urllib.parse import quote

from crest.asgi.engine import engine_of
from crest.asgi.mounted import MountedOpening, run_beside
from crest.asgi.scope import Scope, peer_name, scope_of
from crest.asgi.session import ClientDisconnected, Session, Stage
from crest.exceptions import HandshakeError
from crest.http.messages import error_response, serialize
from crest.io.life.protocol import Protocol
from crest.server import WebSocketServer
from crest.wire.codes import CloseCode
from crest.wire.extensions import Deflate
from crest.wire.handshake import check
from crest.wire.head import HeadReader, RequestHead

logger = logging.getLogger("uvicorn.error")  # where the lines of uvicorn's own classes are

QUERY: Final = punctuation
"""Characters of a query that the log shows as they are, besides letters and digits."""


class Closed(asyncio.Transport):
    """A transport that is closed: stands for one that is not kept."""

    def is_closing(self) -> bool:
        """True: it is closed."""
        return True

    def close(self) -> None:
        """Do nothing: it is closed."""


CLOSED: Final = Closed()


class WebSocketProtocol(asyncio.Protocol):
    """One WebSocket connection under uvicorn.

    Args:
        config: uvicorn's `Config`, already loaded.
        server_state: Its `ServerState`: connections, tasks and default headers.
        app_state: What the application's lifespan has kept.

    Attributes:
        transport: Of the connection; crest's own once that has taken it over.
    """

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._reader: HeadReader | None = HeadReader(config.h11_max_incomplete_event_size or 1 << 16, 1000)
        self._session: Session | None = None
        self._protocol: Protocol | None = None  # once the connection was taken over
        self.transport: Any = None

    # ---- What uvicorn's HTTP protocol and its transport call -------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Count the connection."""
        self.transport = transport
        self._state.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Read the request, and answer it unless it is in order."""
        if self._reader is None:
            if self._session is not None:  # the transport had that underway
                self._session.data_received(data)
            return
        try:
            head = self._reader.feed(data)
            if head is not None:
                early, self._reader = self._reader.rest, None
                self._begin(head, early)
        except HandshakeError as error:
            self.transport.write(serialize(error_response(error), head_only=False, keep_alive=False))
            self.transport.close()

    def eof_received(self) -> None:
        """Have the transport close: a WebSocket can not be half open."""

    def connection_lost(self, error: Exception | None) -> None:
        """Learn that the transport has gone: the connection with it, unless crest's has it."""
        if self._protocol is None:
            self._state.connections.discard(self)

    def shutdown(self) -> None:
        """End the connection: uvicorn does."""
        protocol = self._protocol
        if protocol is None:
            self.transport.close()
        elif self._session is not None:
            self._session.shutdown()
        elif protocol.opening is not None:
            protocol.opening.stop()
        else:
            protocol.stop(CloseCode.SERVICE_RESTART, "")

    # ---- The connection is taken over ------------------------------------------------------------------------------

    def _begin(self, head: RequestHead, early: bytes) -> None:
        config = self._config
        offer = check(head)
        engine = engine_of(self._loop)
        deflate = Deflate() if config.ws_per_message_deflate else None
        scope = scope_of(
            head,
            offer.subprotocols,
            self.transport,
            root_path=config.root_path,
            asgi_version=config.asgi_version,
            state=self._app_state,
        )
        session = self._session = Session(
            head,
            offer,
            engine.hub(config.ws_max_size, config.ws_ping_interval or None, config.ws_ping_timeout, deflate),
            deflate,
            config.ws_max_queue,
            self._state.default_headers,
            early,
            partial(_tell, scope),
        )
        scope["extensions"]["crest"] = {"take_over": self._mount}
        self.transport.pause_reading()
        self._loop.call_soon(self._take_over, session, scope)  # uvicorn has yet to give this the transport

    def _take_over(self, session: Session, scope: Scope) -> None:
        if self.transport.is_closing():
            return
        transport = self.transport
        try:
            self._protocol = session.protocol = engine_of(self._loop).serve(transport, self)
        except BaseException:
            self._state.connections.discard(self)
            transport.abort()
            raise
        self.transport = self._protocol.transport
        task = self._loop.create_task(self._run(session, scope))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    async def _run(self, session: Session, scope: Scope) -> None:
        try:
            await self._call(session, scope)
            await session.finish()
        except asyncio.CancelledError:
            session.cut()
            raise

    async def _call(self, session: Session, scope: Scope) -> None:
        try:
            result = await self._config.loaded_app(scope, session.receive, session.send)
            if session.stage is Stage.CONNECTING:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        except ClientDisconnected:
            pass
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            logger.exception("Exception in ASGI application\n")

    def _mount(self, server: WebSocketServer, scope: Scope) -> None:
        """Have a server take the connection over, to which the application has routed it."""
        engine, session, protocol = engine_of(self._loop), self._session, self._protocol
        if protocol is None:
            raise ClientDisconnected("the client has gone")
        if session is None:
            raise RuntimeError("a WebSocketServer has the connection already")
        engine.mount(server)
        head, early = session.give()
        opening = MountedOpening(engine.site, protocol, scope, partial(_tell, scope))
        protocol.reopen(opening)
        self._session = None
        run_beside(self.transport, opening.begin, server, head, early)

    # ---- What the connection's protocol tells its site -----------------------------------------------------------

    def opened(self, protocol: Protocol) -> Session:
        """Return what reads the connection until it is accepted."""
        assert self._session is not None
        return self._session

    def left(self, protocol: Protocol) -> None:
        """Learn that the connection is lost, and that handlers run on, or messages wait."""
        engine_of(self._loop).site.left(protocol)
        if self._session is not None:
            self._session.left()

    def ended(self, protocol: Protocol) -> None:
        """Count the connection no longer."""
        self._state.connections.discard(self)
        engine_of(self._loop).site.leave_seat(protocol)
        self._protocol, self.transport = None, CLOSED  # a transport of the loop's refers to this
        if self._session is not None:
            self._session.protocol = None  # which refers to this, and is not seen by the garbage collector
            self._session = None

    def farewell(self) -> tuple[int, str] | None:
        """Tell nothing: uvicorn's shutdown is heard of by `shutdown`."""
        return None


def _tell(scope: Scope, what: str) -> None:
    """Log what has become of a request, as uvicorn does."""
    query = quote(scope["query_string"], safe=QUERY)
    path = quote(scope["path"]) + (f"?{query}" if query else "")
    logger.info('%s - "WebSocket %s" %s', peer_name(scope), path, what)

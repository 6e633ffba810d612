"""crest's engine on one event loop, for connections that another server has accepted.

Applications get them as ASGI events (session.py), or a `WebSocketServer` that a framework routes to (mounted.py).

Plain connections change to crest's own transport: the descriptor is duplicated, and the loop's transport let go of.
With TLS the loop's transport stays, and gets another protocol.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from typing import Any, Final
from weakref import ref

from crest.asgi.session import hub_of
from crest.attachment import mounted
from crest.http.pages import Pages
from crest.io.life.protocol import Protocol, ServerProtocol
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.stream import StreamTransport
from crest.io.out.hub import Hub
from crest.limits import Limits
from crest.opening.opening import Opening
from crest.opening.site import Site
from crest.server import WebSocketServer
from crest.serving import Serving
from crest.wire.extensions import Deflate

ANY_NUMBER: Final = 1 << 62

STREAMS: Final = frozenset({socket.AF_INET, socket.AF_INET6, getattr(socket, "AF_UNIX", socket.AF_INET)})


class Engine:
    """Serves the connections of one event loop. There is one for each loop: see `engine_of`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        serving = Serving()
        self.site = Site(serving, {}, Pages(), Counter(), serving.open_timeout, Opening)
        self.turn = Turn(loop, max_backlog_total=serving.max_backlog_total)
        self._poller: Poller | None = None
        self._hubs: dict[tuple[object, ...], Hub] = {}

    def _is_running(self) -> bool:
        return not self.turn.loop.is_closed()

    def mount(self, server: WebSocketServer) -> None:
        """Serve a server on this loop, if nothing else does.

        Raises:
            RuntimeError: An app serves it, or another loop.
        """
        serves = None if server._served_by is None else server._served_by()
        if serves is self:
            return
        if serves is not None and serves._is_running():
            raise RuntimeError(f"{server!r} is served already: by {serves!r}")
        server._hub.close()  # if the loop that served it was closed
        server._hub.open(self.turn)
        server._served_by = ref(self)
        mounted(server)

    def hub(
        self, max_size: int, ping_interval: float | None, ping_timeout: float | None, deflate: Deflate | None
    ) -> Hub:
        """Return the hub of all connections with these limits: bytes of a message, seconds."""
        limits = max_size, ping_interval, ping_timeout, deflate
        found = self._hubs.get(limits)
        if found is None:
            usual = Limits()
            found = self._hubs[limits] = hub_of(
                max_message_size=max_size,
                max_fragments=usual.max_fragments,
                max_backlog=ANY_NUMBER,  # `Session.send` waits
                on_backlog="close",
                max_queue=1,
                close_timeout=usual.close_timeout,
                fanout_slice=usual.fanout_slice,
                ping_interval=ping_interval,
                ping_timeout=ping_timeout,
                deflate=deflate,
            )
            found.open(self.turn)
        return found

    def serve(self, transport: Any, site: Any) -> Protocol:
        """Take over a connection from its transport, and return its protocol. Nothing of the connection may have been
        read that `site` does not know."""
        protocol = ServerProtocol(self.turn, site)
        if not self._take(transport, protocol):
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            transport.pause_reading()  # uvloop looks only here at what kind of protocol it has
            transport.resume_reading()
        return protocol

    async def adopt(self, sock: socket.socket, site: Any) -> Protocol:
        """Serve a connected socket, which this takes, and return its protocol."""
        protocol = ServerProtocol(self.turn, site)
        if Poller.exists:
            poller = self._polling()
            StreamTransport(poller, protocol, sock.detach()).start()
        else:
            await self.turn.loop.connect_accepted_socket(lambda: protocol, sock)
        return protocol

    def _take(self, transport: Any, protocol: ServerProtocol) -> bool:
        """Have a transport of crest's own serve a plain connection. False: that is not possible."""
        sock = transport.get_extra_info("socket")
        if not Poller.exists or sock is None or transport.get_extra_info("sslcontext") is not None:
            return False
        if sock.type != socket.SOCK_STREAM or sock.family not in STREAMS or transport.get_write_buffer_size():
            return False
        try:
            poller = self._polling()
            fd = os.dup(sock.fileno())
        except OSError:  # there are no descriptors left
            return False
        StreamTransport(poller, protocol, fd).start()
        transport.abort()
        return True

    def _polling(self) -> Poller:
        if self._poller is None:
            self._poller = self.turn.poller = Poller(self.turn.loop)
        return self._poller


_engines: dict[asyncio.AbstractEventLoop, Engine] = {}


def engine_of(loop: asyncio.AbstractEventLoop) -> Engine:
    """Return the engine of a loop that runs, the same each time. Those of loops that were closed are let go of."""
    engine = _engines.get(loop)
    if engine is None:
        for each in [each for each in list(_engines) if each.is_closed()]:
            _engines.pop(each, None)
        engine = _engines[loop] = Engine(loop)
    return engine

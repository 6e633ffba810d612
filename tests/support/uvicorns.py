"""uvicorn with crest's class for WebSockets, in the test's own process and on its own loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from crest.asgi import WebSocketProtocol
from support.certificates import Pair
from support.client import GUARD

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


class Served:
    """A server that runs.

    Attributes:
        host, port: Where it listens, on `sockets`.
        state: uvicorn's: connections and tasks.
        server: uvicorn's.
    """

    def __init__(self, server: uvicorn.Server, sock: socket.socket) -> None:
        self.server = server
        self.state = server.server_state
        self.sockets = [sock]
        self.host, self.port = sock.getsockname()[:2] if sock.family == socket.AF_INET else ("", 0)


def certified(pair: Pair) -> dict[str, str]:
    """The options with which uvicorn speaks TLS."""
    return {"ssl_certfile": str(pair.certfile), "ssl_keyfile": str(pair.keyfile)}


@asynccontextmanager
async def under_uvicorn(app: Any, path: str | None = None, **options: Any) -> AsyncIterator[Served]:
    """Serve an ASGI application on loopback, or on a Unix socket at a path; the options are uvicorn's."""
    config = uvicorn.Config(app, **{"ws": WebSocketProtocol, "lifespan": "off", "log_config": None, **options})
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as sock:
        sock.bind(("127.0.0.1", 0) if path is None else path)
        await server.startup(sockets=[sock])
        await server.on_tick(0)  # makes the default headers
        try:
            yield Served(server, sock)
        finally:
            server.should_exit = True
            await server.shutdown(sockets=[sock])


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Sends back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def spin(condition: Callable[[], object]) -> None:
    """Let the loop turn until something has come about."""
    async with asyncio.timeout(GUARD):
        while not condition():
            await asyncio.sleep(0)

"""Apps whose WebSocketServers are mounted in an ASGI application under uvicorn, in place of their own listening.

With CREST_TESTS_MOUNTED=1 tests that serve an app by `App.listening` do so (`make mounted`): the same tests say that
everything holds there. What belongs to the app itself is not there: its pages, its options, and how it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from crest import App
from crest.asgi.engine import engine_of
from crest.io.loop.turn import Turn
from crest.opening.site import Site
from support.uvicorns import Receive, Send, Served, under_uvicorn

MODULES: Final = (
    *(f"top/test_server_{each}.py" for each in ("broadcast", "compression", "errors", "exceptions", "handlers")),
    *(f"top/test_server_{each}.py" for each in ("heartbeat", "rates", "rooms")),
    *(f"top/test_connection{each}.py" for each in ("", "_close", "_context", "_order", "_sending", "_threads")),
    *(f"system/test_{each}.py" for each in ("backpressure", "bad_frames", "broken_connections", "lone_sends")),
    *(f"system/test_{each}.py" for each in ("send_ahead", "slow_consumers")),
)
"""The modules whose tests hold for mounted servers, too."""

EXCEPTIONS: Final = {
    "test_a_browser": "its page is the app's",
    "test_over_a_unix_socket": "it is the app that listens there",
    "test_one_that_waits_is_told_to_go_at_shutdown": "it is the app that says when to come back",
    "test_a_server_that_is_served_again_has_no_rooms": "the same loop goes on to serve it",
    "test_a_peer_that_does_not_end_its_side_of_tcp_is_cut_off": "it is the app that ends",
    "test_nor_over_tls": "uvicorn's TLS is the loop's, which holds more",
    "test_nor_with_the_window_that_clients_have": "with TLS, as above",
}
"""Tests among them that do not, and why."""


class Mounted(Served):
    """Stands in for a listener."""

    def __init__(self, served: Served, servers: dict[str, Any]) -> None:
        vars(self).update(vars(served))
        self.servers = servers

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def protocols(self) -> list[Any]:
        found = [getattr(each, "_protocol", None) for each in self.state.connections]
        return [each for each in found if each is not None]

    @property
    def site(self) -> Site:
        return engine_of(asyncio.get_running_loop()).site

    @property
    def turn(self) -> Turn:
        return engine_of(asyncio.get_running_loop()).turn


@asynccontextmanager
async def listening(app: App, host: str = "127.0.0.1", port: int = 0, **options: Any) -> AsyncIterator[Mounted]:
    """Serve the app's servers under uvicorn: `App.listening`, but for its options."""
    servers = app._servers()
    tls = {}
    if options.get("certfile"):
        tls = {"ssl_certfile": str(options["certfile"]), "ssl_keyfile": str(options["keyfile"])}

    async def route(scope: Any, receive: Receive, send: Send) -> None:
        found = servers.get(scope["path"])
        if found is not None:
            await found(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 404})
            await send({"type": "http.response.body", "body": b""})

    async with under_uvicorn(route, **tls) as served:
        yield Mounted(served, servers)


def mount_every_app() -> None:
    """Have all tests of this run do so."""
    App.listening = listening  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    print(*(f"tests/{each}" for each in MODULES))

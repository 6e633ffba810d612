"""A WebSocketServer in Starlette, with its authentication and its TestClient, and under hypercorn."""

import asyncio
import socket
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")
pytest.importorskip("starlette", reason="needs the group `asgi`")
pytest.importorskip("httpx2", reason="needs the group `asgi`")
pytest.importorskip("hypercorn", reason="needs the group `asgi`")

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from support.client import TEXT, Frame, frame, upgraded
from support.events import on_each_loop
from support.uvicorns import under_uvicorn

from crest import Reject, WebSocketServer


class Backend(AuthenticationBackend):
    """Takes each client's word for what it is called."""

    async def authenticate(self, conn: Any) -> Any:
        name = conn.query_params.get("name")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None


def program(ws: WebSocketServer) -> Starlette:
    """A program with one route, behind a middleware."""
    routes = [WebSocketRoute("/ws/{room}", ws)]
    return Starlette(routes=routes, middleware=[Middleware(AuthenticationMiddleware, backend=Backend())])


def chat() -> WebSocketServer:
    """Users in rooms."""
    ws = WebSocketServer(user_key="username", origins="*")

    @ws.on_upgrade
    def decide(request: Any) -> None:
        if "token" in request.query:
            raise Reject(401, "no tokens")

    @ws.on_connect
    def connected(conn: Any) -> None:
        conn.join(conn.state.path_params["room"])
        name = "nobody" if conn.user is None else conn.user.username
        ws.broadcast(f"{name} has come", to=conn.rooms)

    @ws.on_message
    def received(conn: Any, text: str) -> None:
        if text == "bye":
            conn.close(3001, "you said so")
        else:
            ws.broadcast(text, to=ws.user(text))

    return ws


def test_starlettes_test_client() -> None:
    ws = chat()
    with TestClient(program(ws)) as client:
        with client.websocket_connect("/ws/a?name=ann") as ann, client.websocket_connect("/ws/a") as other:
            assert [ann.receive_text(), ann.receive_text()] == ["ann has come", "nobody has come"]
            assert other.receive_text() == "nobody has come"
            other.send_text("ann")
            assert ann.receive_text() == "ann"
            assert ws.connection_count() == 2
            other.send_text("bye")
            with pytest.raises(WebSocketDisconnect) as closed:
                other.receive_text()
            assert (closed.value.code, closed.value.reason) == (3001, "you said so")
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws/a?token=x"):
            pass
        assert (refused.value.status_code, refused.value.text) == (401, "no tokens\n")


def test_each_session_of_the_test_client_has_a_loop() -> None:
    client = TestClient(program(chat()))
    for _ in range(2):
        with client.websocket_connect("/ws/a") as session:
            assert session.receive_text() == "nobody has come"


@on_each_loop
async def test_under_uvicorn_with_crests_class() -> None:
    async with under_uvicorn(program(chat())) as server:
        async with upgraded(server, "/ws/a?name=ann") as ann, upgraded(server, "/ws/b") as other:
            assert await ann.frame() == Frame(TEXT, b"ann has come")
            assert await other.frame() == Frame(TEXT, b"nobody has come")
            await other.send(frame(TEXT, "ann"))
            assert await ann.frame() == Frame(TEXT, b"ann")


def test_under_hypercorn() -> None:
    class Server:
        host = "127.0.0.1"
        port = 0

    async def main() -> None:
        config, ended = Config(), asyncio.Event()
        config.graceful_timeout = 0.1
        sock = socket.create_server(("127.0.0.1", 0))
        Server.port = sock.getsockname()[1]
        config.bind = [f"fd://{sock.detach()}"]
        serving = asyncio.create_task(serve(program(chat()), config, shutdown_trigger=ended.wait))  # type: ignore[arg-type]
        async with upgraded(Server, "/ws/a?name=ann") as ann, upgraded(Server, "/ws/b") as other:  # type: ignore[arg-type]
            assert await ann.frame() == Frame(TEXT, b"ann has come")
            assert await other.frame() == Frame(TEXT, b"nobody has come")
            await other.send(frame(TEXT, "ann"))
            assert await ann.frame() == Frame(TEXT, b"ann")
            await other.send(frame(TEXT, "bye"))
            assert (await other.frame()).code == 3001
        ended.set()
        await serving

    asyncio.run(main())

"""A WebSocketServer that an ASGI framework routes to: it takes the connection over, and all is as with an app."""

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT, Frame, close_frame, connect, frame, handshake, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop, turns, until
from support.uvicorns import Receive, Send, certified, under_uvicorn

from crest import Accept, App, Reject, WebSocketServer
from crest.asgi.engine import engine_of
from crest.io.net.stream import StreamTransport


def routed(server: WebSocketServer, **scope: Any) -> Any:
    """A framework in small: a middleware that says more of the scope, and a route."""

    async def app(asgi: dict[str, Any], receive: Receive, send: Send) -> None:
        await server({**asgi, **scope}, receive, send)

    return app


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_handlers_rooms_and_broadcasts(secure: bool, pair: Pair) -> None:
    ws, events = WebSocketServer(), Events()

    @ws.on_connect
    def connected(conn: Any) -> None:
        conn.join("room")
        conn.send("welcome")
        events.add(conn.request.path, conn.request.query["q"], conn.remote_address[0])

    @ws.on_message
    def message(conn: Any, text: str) -> None:
        ws.broadcast(text, to="room", exclude=conn)

    @ws.on_close
    def closed(conn: Any, code: int, reason: str) -> None:
        events.add(code, reason)

    options = certified(pair) if secure else {}
    tls = pair.client() if secure else None
    async with under_uvicorn(ws, **options) as server:
        async with upgraded(server, "/any?q=1", tls=tls) as one, upgraded(server, "/any?q=2", tls=tls) as two:
            assert await one.frame() == await two.frame() == Frame(TEXT, b"welcome")
            await one.send(frame(TEXT, "to the other"))
            assert await two.frame() == Frame(TEXT, b"to the other")
            assert ws.connection_count() == ws.room_size("room") == 2
            assert all(isinstance(each.transport, StreamTransport) != secure for each in server.state.connections)
            assert not server.state.tasks, "the application's call has returned"
            await one.send(close_frame(3000, "bye"))
            assert (await one.frame()).code == 3000
        assert await events.reach(4) == [
            ("/any", "1", "127.0.0.1"),
            ("/any", "2", "127.0.0.1"),
            (3000, "bye"),
            (1006, ""),
        ]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_upgrade_decides(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    ws, users = WebSocketServer(subprotocols=["b"]), Events()

    def decide(request: Any) -> str:
        if "name" not in request.query:
            raise Reject(401, "who is it?")
        return request.query["name"]

    ws.on_upgrade(of_kind(kind, decide))
    ws.on_connect(lambda conn: users.add(conn.user, conn.subprotocol))
    caplog.set_level(logging.INFO, "uvicorn.error")
    async with under_uvicorn(ws) as server:
        async with connect(server, "/?name=ann", subprotocols=["a", "b"]):
            assert await users.reach(1) == [("ann", "b")]
        async with tcp(server) as client:
            await client.send(handshake("/no"))
            status, _, body = await client.answer()
            assert (status, body) == (401, b"who is it?\n")
            assert await client.eof() == b""
    assert ws.refused == {"on_upgrade": 1}
    told = [line.partition('"')[2] for line in caplog.messages if '"WebSocket' in line]
    assert told == ['WebSocket /?name=ann" [accepted]', 'WebSocket /no" 401']


@on_each_loop
async def test_limits_hold() -> None:
    ws = WebSocketServer(max_connections=1, origins="same")
    async with under_uvicorn(ws) as server:
        async with tcp(server) as client:
            await client.send(handshake("/", {"Origin": "https://elsewhere.example"}))
            assert (await client.answer()).status == 403
        async with upgraded(server), tcp(server) as client:
            await client.send(handshake("/"))
            assert (await client.answer()).status == 503
        while server.state.connections:
            await asyncio.sleep(0)
        async with upgraded(server):
            pass
    assert ws.refused == {"origin": 1, "max_connections": 1}


class User:
    """As Starlette's authentication gives one."""

    def __init__(self, username: str, is_authenticated: bool = True) -> None:
        self.username = username
        self.is_authenticated = is_authenticated


@pytest.mark.parametrize("named", [True, False], ids=["by-on_upgrade", "by-the-framework"])
@on_each_loop
async def test_what_the_framework_knows(named: bool) -> None:
    ws, known = WebSocketServer(user_key="username"), Events()
    if named:
        ws.on_upgrade(lambda request: "ann")
    user = User("bob")
    ws.on_connect(lambda conn: known.add(conn.user, conn.remote_address, conn.state.key, conn.state.path_params))
    app = routed(ws, user=user, client=("203.0.113.7", 0), state={"key": 1}, path_params={"room": "a"})
    async with under_uvicorn(app) as server, upgraded(server):
        expected = ("ann" if named else user, ("203.0.113.7", 0), 1, {"room": "a"})
        assert await known.reach(1) == [expected]
        assert ws.room_size(ws.user("ann" if named else "bob")) == 1


@on_each_loop
async def test_a_user_that_is_not_authenticated_is_none() -> None:
    ws, known = WebSocketServer(), Events()
    ws.on_connect(lambda conn: known.add(conn.user))
    app = routed(ws, user=User("", is_authenticated=False))
    async with under_uvicorn(app) as server, upgraded(server):
        assert await known.reach(1) == [None]


@on_each_loop
async def test_limits_of_one_connection_and_the_user_of_the_framework() -> None:
    ws, known = WebSocketServer(), Events()
    ws.on_upgrade(lambda request: Accept(max_message_size=10))
    ws.on_connect(lambda conn: known.add(conn.user))
    async with under_uvicorn(routed(ws, user="ann")) as server, upgraded(server) as client:
        assert await known.reach(1) == ["ann"]
        await client.send(frame(TEXT, "x" * 11))
        assert (await client.frame()).code == 1009


@on_each_loop
async def test_frames_that_come_while_a_middleware_waits() -> None:
    ws, asked, go = WebSocketServer(), asyncio.Event(), asyncio.Event()
    ws.on_binary(lambda conn, data: conn.send(str(len(data))))

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        await ws(scope, receive, send)

    async with under_uvicorn(app) as server, tcp(server) as client:
        await client.send(handshake())
        await until(asked)
        client.writer.write(frame(BINARY, bytes(1 << 20)))
        (served,) = server.state.connections
        while len(served._session._early) <= 1 << 16:
            await asyncio.sleep(0)
        go.set()
        assert (await client.answer()).status == 101
        assert await client.frame() == Frame(TEXT, str(1 << 20).encode())


@on_each_loop
async def test_the_client_leaves_while_a_middleware_waits() -> None:
    ws, asked, go, raised = WebSocketServer(), asyncio.Event(), asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        try:
            await ws(scope, receive, send)
        except OSError as error:
            raised.add(str(error))

    async with under_uvicorn(app) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            await until(asked)
        while server.state.connections:
            await asyncio.sleep(0)
        go.set()
        assert await raised.reach(1) == ["the client has gone"]
        assert not ws.get_connections()


@pytest.mark.parametrize("deciding", [False, True], ids=["open", "deciding"])
@on_each_loop
async def test_shutdown(deciding: bool) -> None:
    ws, asked, closed = WebSocketServer(), asyncio.Event(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    if deciding:

        @ws.on_upgrade
        async def decide(request: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

    async with under_uvicorn(ws) as server, tcp(server) as client:
        await client.send(handshake())
        if deciding:
            await until(asked)
        else:
            await client.answer()
        ending = asyncio.create_task(server.server.shutdown())
        if deciding:
            assert (await client.answer()).status == 503
        else:
            assert (await client.frame())[0] == CLOSE
            await client.send(close_frame(1012))
            assert await closed.reach(1) == [1012]
        await ending
        assert not server.state.connections


@on_each_loop
async def test_a_client_leaves_while_its_handler_runs() -> None:
    ws, begun, go, closed = WebSocketServer(max_connections=1), asyncio.Event(), asyncio.Event(), Events()

    @ws.on_message
    async def message(conn: Any, text: str) -> None:
        begun.set()
        await go.wait()

    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with under_uvicorn(ws) as server:
        async with upgraded(server) as client:
            (served,) = server.state.connections
            with pytest.raises(RuntimeError, match="the opening of this connection is over"):
                served._protocol.reopen(served)
            await client.send(frame(TEXT, "x"))
            await until(begun)
            client.reset()
        async with upgraded(server):
            assert not closed.seen, "its handler runs, and leaves room for others"
            go.set()
            assert (await closed.reach(1))[0] == 1006
    assert not engine_of(asyncio.get_running_loop()).site.seats


@on_each_loop
async def test_two_can_not_serve_it() -> None:
    ws, raised = WebSocketServer(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        try:
            await ws(scope, receive, send)
        except RuntimeError as error:
            raised.add(str(error))

    mine = App()
    mine.mount("/ws", ws)
    async with mine.listening(), under_uvicorn(app) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            assert (await client.answer()).status == 500
    assert "is served already" in (await raised.reach(1))[0]


@on_each_loop
async def test_it_comes_too_late() -> None:
    ws, raised = WebSocketServer(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            await ws(scope, receive, send)
        except RuntimeError as error:
            raised.add(str(error))

    async with under_uvicorn(app) as server, upgraded(server) as client:
        assert await client.eof() == b""
        assert "answered already" in (await raised.reach(1))[0]


@on_each_loop
async def test_an_application_has_no_events_of_it() -> None:
    ws, raised = WebSocketServer(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await ws(scope, receive, send)
        for again in (lambda: send({"type": "websocket.send", "text": "x"}), lambda: ws(scope, receive, send)):
            with pytest.raises(RuntimeError, match="a WebSocketServer has the connection"):
                await again()
        await receive()
        raised.add(await receive())

    async with under_uvicorn(app) as server, upgraded(server):
        assert await raised.reach(1) == [{"type": "websocket.disconnect", "code": 1006}]


def test_other_requests_and_servers(run: Any) -> None:
    ws = WebSocketServer()
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is awaited")

    async def send(event: Any) -> None:
        sent.append(event)

    run(ws({"type": "http"}, receive, send))
    assert sent[0]["status"] == 426
    with pytest.raises(RuntimeError, match="no lifespan"):
        run(ws({"type": "lifespan"}, receive, send))


def test_one_loop_after_the_other(run: Any) -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, text: conn.send(text))

    async def main() -> None:
        async with under_uvicorn(ws) as server, upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
            assert await client.frame() == Frame(TEXT, b"x")

    run(main())
    run(main())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_nothing_is_left_over(secure: bool, pair: Pair) -> None:
    ws, gone = WebSocketServer(), []
    options = certified(pair) if secure else {}
    tls = pair.client() if secure else None
    ws.on_connect(lambda conn: gone.append(weakref.ref(conn)))
    async with under_uvicorn(ws, **options) as server:
        for _ in range(3):
            async with upgraded(server, tls=tls):
                pass
        while server.state.connections or server.state.tasks:
            await asyncio.sleep(0)
        await turns(3)
        gc.collect()
        assert [each() for each in gone] == [None] * 3
        assert not engine_of(asyncio.get_running_loop()).site.seats

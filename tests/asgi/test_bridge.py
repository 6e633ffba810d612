"""A WebSocketServer under ASGI servers that have no descriptors to give: it gets events, and all is as elsewhere."""

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.client import BINARY, TEXT, Frame, close_frame, connect, frame, handshake, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop, until
from support.uvicorns import under_uvicorn

from crest import Reject, WebSocketServer
from crest.asgi import engine
from crest.asgi.bridge import Bridge, Site
from crest.asgi.engine import Engine


def with_its_own_class(app: Any) -> Any:
    """uvicorn, with its own class for WebSockets."""
    return under_uvicorn(app, ws="websockets-sansio")


@on_each_loop
async def test_messages_and_the_client_that_closes() -> None:
    ws, events = WebSocketServer(max_message_size=1 << 24), Events()
    ws.on_connect(lambda conn: events.add(conn.request.path, conn.request.query["q"], conn.remote_address[0]))
    ws.on_message(lambda conn, text: conn.send(text))
    ws.on_binary(lambda conn, data: conn.send_binary(data))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with with_its_own_class(ws) as server, upgraded(server, "/some/way?q=1") as client:
        await client.send(frame(TEXT, "Grüße"), frame(BINARY, bytes(1 << 20)))
        assert await client.frame() == Frame(TEXT, "Grüße".encode())
        assert await client.frame() == Frame(BINARY, bytes(1 << 20))
        await client.send(close_frame(3001, "bye"))
        assert (await client.frame()).code == 3001
        assert await events.reach(2) == [("/some/way", "1", "127.0.0.1"), (3001, "bye")]


@pytest.mark.parametrize("code", [1000, 3002])
@on_each_loop
async def test_the_server_closes(code: int) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, text: conn.close(code, "because") or conn.send("never"))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with with_its_own_class(ws) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        close = await client.frame()
        assert (close.code, close.reason) == (code, "because")
        await client.send(close_frame(code))
        assert await client.eof() == b""
        assert [each[0] for each in await events.reach(1)] == [code]


@on_each_loop
async def test_the_client_vanishes() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with with_its_own_class(ws) as server, upgraded(server) as client:
        client.reset()
        assert (await events.reach(1))[0] in (1005, 1006)  # uvicorn tells of both as 1005
    assert not ws.get_connections()


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_upgrade_decides(kind: str) -> None:
    ws, users = WebSocketServer(subprotocols=["b"]), Events()

    def decide(request: Any) -> str:
        if "name" not in request.query:
            raise Reject(401, "what is the name?")
        return request.query["name"]

    ws.on_upgrade(of_kind(kind, decide))
    ws.on_connect(lambda conn: users.add(conn.user, conn.subprotocol, conn.request.headers["x-one"]))
    async with with_its_own_class(ws) as server:
        options = {"subprotocols": ["a", "b"], "additional_headers": {"X-One": "1"}}
        async with connect(server, "/?name=ann", **options) as client:
            assert await users.reach(1) == [("ann", "b", "1")]
            assert client.subprotocol == "b"
        async with tcp(server) as client:
            await client.send(handshake("/"))
            status, _, body = await client.answer()
            assert (status, body) == (401, b"what is the name?\n")
    assert ws.refused == {"on_upgrade": 1}


@on_each_loop
async def test_the_client_leaves_while_it_is_decided() -> None:
    ws, asked, events = WebSocketServer(), asyncio.Event(), Events()

    @ws.on_upgrade
    async def decide(request: Any) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.add("cancelled")

    async with with_its_own_class(ws) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            await until(asked)
        assert await events.reach(1) == ["cancelled"]


@on_each_loop
async def test_broadcasts_reach_both_kinds() -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.join("room"))
    ws.on_message(lambda conn, text: ws.broadcast(text, to="room"))
    async with with_its_own_class(ws) as slow, under_uvicorn(ws) as fast:
        async with upgraded(slow) as one, upgraded(fast) as two:
            await one.send(frame(TEXT, "x"))
            assert await one.frame() == await two.frame() == Frame(TEXT, b"x")


@on_each_loop
async def test_pings_are_the_applications_own() -> None:
    """Whether the client is there is found out by the ASGI server: its send may take any time."""
    ws, heard = WebSocketServer(ping_interval=0.001, ping_timeout=20), Events()
    ws.on_message(lambda conn, text: heard.add(conn.latency is not None or conn.ping()))
    async with with_its_own_class(ws) as server, upgraded(server) as client:
        (conn,) = ws.get_connections()
        await asyncio.sleep(0.01)
        assert conn.latency is None
        await client.send(frame(TEXT, "x"))
        while conn.latency is None:
            await asyncio.sleep(0)
        assert await heard.reach(1) == [True]


@on_each_loop
async def test_the_client_leaves_while_the_engine_reads_nothing() -> None:
    """Its handler is busy, and much waits for it."""
    ws, begun, closed = WebSocketServer(max_queue=1, close_timeout=0.05), asyncio.Event(), Events()

    @ws.on_binary
    async def message(conn: Any, data: bytes) -> None:
        begun.set()
        await asyncio.Event().wait()

    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with with_its_own_class(ws) as server:
        async with upgraded(server) as client:
            await client.send(*[frame(BINARY, bytes(100_000))] * 8)
            await until(begun)
            await client.send(close_frame(3001))
            assert (await client.frame()).code == 3001
        assert await closed.reach(1) == [1006], "the close frame is behind what was not read in time"


def play(ws: WebSocketServer, script: list[dict[str, Any]], **scope: Any) -> Callable[[], Any]:
    """Let a server have these events; returns what it sends."""

    async def main() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        left = iter([{"type": "websocket.connect"}, *script])
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            event = next(left, None)
            if event is None:
                await asyncio.Event().wait()
            elif event["type"] != "websocket.connect":
                await answered.wait()
            return event  # type: ignore[return-value]

        async def send(event: dict[str, Any]) -> None:
            sent.append(event)
            answered.set()

        asgi = {"type": "websocket", "path": "/ws", "headers": [], **scope}
        await ws(asgi, receive, send)
        return sent

    return lambda: main()


@on_each_loop
async def test_a_server_without_denial_responses() -> None:
    ws = WebSocketServer()

    @ws.on_upgrade
    def decide(request: Any) -> None:
        raise Reject(401)

    assert await play(ws, [])() == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    "path",
    ["/a b", "/\u00e9", "/x HTTP/1.1\r\nCookie: a=1\r\nX: y"],
    ids=["space", "letter", "lines"],
)
@on_each_loop
async def test_a_path_that_is_decoded_stays_a_path(path: str) -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.send(f"{conn.request.path} {conn.request.cookies}"))
    sent = await play(ws, [{"type": "websocket.disconnect", "code": 1000}], path=path)()
    assert sent[1]["text"] == f"{path} {{}}"


@on_each_loop
async def test_headers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="a value that HTTP does not allow"):
        await play(WebSocketServer(), [], headers=[(b"x", b"1\r\ny: 2")])()


@on_each_loop
async def test_the_client_has_left_before_anything() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(event: Any) -> None:
        raise AssertionError("there is no client")

    await WebSocketServer()({"type": "websocket", "path": "/", "headers": []}, receive, send)


@on_each_loop
async def test_a_scope_with_little_in_it() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, text: conn.close(3000, conn.request.headers["Host"]))
    sent = await play(ws, [{"type": "websocket.receive", "text": "x"}])()
    assert sent == [
        {"type": "websocket.accept", "subprotocol": None, "headers": []},
        {"type": "websocket.close", "code": 3000, "reason": "localhost"},
    ]


@on_each_loop
async def test_sending_fails() -> None:
    """The client has gone, and the next event says so."""
    ws, closed, failed = WebSocketServer(), Events(), asyncio.Event()
    ws.on_connect(lambda conn: [conn.send("1"), conn.send("2")])
    ws.on_close(lambda conn, code, reason: closed.add(code))
    events = iter(["websocket.connect", "websocket.disconnect"])

    async def receive() -> dict[str, Any]:
        event = next(events)
        if event == "websocket.disconnect":
            await until(failed)
        return {"type": event, "code": 1006}

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "websocket.send":
            assert not failed.is_set(), "once is enough"
            failed.set()
            raise OSError("the client has gone")

    await ws({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert await closed.reach(1) == [1006]


@on_each_loop
async def test_there_is_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []

    def pair() -> tuple[socket.socket, socket.socket]:
        pairs.extend(socketpair())
        return pairs[0], pairs[1]

    async def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    socketpair = socket.socketpair
    monkeypatch.setattr(socket, "socketpair", pair)
    monkeypatch.setattr(Engine, "adopt", fail)
    with pytest.raises(OSError, match="too many open files"):
        await play(WebSocketServer(), [])()
    assert [each.fileno() for each in pairs] == [-1, -1]


@on_each_loop
async def test_where_there_are_no_pollers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        exists = False

    monkeypatch.setattr(engine, "Poller", Missing)
    ws = WebSocketServer()
    ws.on_message(lambda conn, text: conn.close(3000, text))
    sent = await play(ws, [{"type": "websocket.receive", "text": "x"}])()
    assert sent[-1] == {"type": "websocket.close", "code": 3000, "reason": "x"}


@on_each_loop
async def test_the_engine_resets_its_end() -> None:
    """It has ended, as far as anything can be read."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    reader.set_exception(ConnectionResetError())
    assert await Bridge(reader, writer, None, None, 1.0)._read() == b""  # type: ignore[arg-type]
    assert Site(engine.engine_of(asyncio.get_running_loop()), {}).farewell() is None
    writer.close()
    ours.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@on_each_loop
async def test_a_close_without_a_code() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    await play(ws, [{"type": "websocket.disconnect"}])()
    assert await closed.reach(1) == [1005]

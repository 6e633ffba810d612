"""Events of ASGI applications: messages, both ends, and backpressure both ways."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT, Frame, close_frame, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop, turns, until
from support.uvicorns import Receive, Send, certified, echo, spin, under_uvicorn

from crest.io.net.stream import StreamTransport

# ---- Messages and the end --------------------------------------------------------------------------------------------


@on_each_loop
async def test_messages(pair: Pair) -> None:
    for tls in (None, pair):
        options = {} if tls is None else certified(pair)
        context = None if tls is None else tls.client()
        async with under_uvicorn(echo, **options) as server, upgraded(server, tls=context) as client:
            await client.send(frame(TEXT, "Grüße"), frame(BINARY, bytes(100_000)), frame(TEXT, ""))
            assert [await client.frame() for _ in range(3)] == [
                Frame(TEXT, "Grüße".encode()),
                Frame(BINARY, bytes(100_000)),
                Frame(TEXT, b""),
            ]
            (served,) = server.state.connections
            assert isinstance(served.transport, StreamTransport) == (tls is None)
            await client.send(close_frame(1001))
            assert (await client.frame()).code == 1001


@on_each_loop
async def test_a_peer_in_the_file_system(tmp_path: Path) -> None:
    path, clients = str(tmp_path / "socket"), []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        clients.append((scope["client"], scope["server"]))
        await echo(scope, receive, send)

    async with under_uvicorn(app, path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(handshake())
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(frame(TEXT, "x"))
        assert await reader.readexactly(3) == b"\x81\x01x"
        writer.close()
        await writer.wait_closed()
    assert clients == [(None, (path, None))]


@on_each_loop
async def test_frames_that_come_before_the_answer() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        await echo(scope, receive, send)

    async with under_uvicorn(app) as server, tcp(server) as client:
        await client.send(handshake("/"))
        await until(asked)
        message = "x" * 100_000
        await client.send(*[frame(TEXT, message)] * 5)
        await turns(20)
        go.set()
        assert (await client.answer()).status == 101
        assert [await client.frame() for _ in range(5)] == [Frame(TEXT, message.encode())] * 5


@on_each_loop
async def test_the_application_closes() -> None:
    ends: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "last"})
        await send({"type": "websocket.close", "code": 3001, "reason": "because"})
        await receive()
        ends.append(await receive())
        with pytest.raises(RuntimeError, match=r"Unexpected ASGI message 'websocket\.send'"):
            await send({"type": "websocket.send", "text": "later"})

    async with under_uvicorn(app) as server, upgraded(server) as client:
        assert await client.frame() == Frame(TEXT, b"last")
        close = await client.frame()
        assert (close.opcode, close.code, close.reason) == (CLOSE, 3001, "because")
        await client.send(close_frame(3001))
        assert await client.eof() == b""
        assert ends == [{"type": "websocket.disconnect", "code": 3001, "reason": "because"}]


@pytest.mark.parametrize("way", ["close", "close-empty", "reset", "eof"])
@on_each_loop
async def test_the_client_leaves(way: str) -> None:
    events, left = Events(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        events.add(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "x"})
        await send({"type": "websocket.close"})
        left.set()

    async with under_uvicorn(app) as server, upgraded(server) as client:
        if way == "close":
            await client.send(close_frame(3002, "bye"))
        elif way == "close-empty":
            await client.send(close_frame())
        elif way == "reset":
            client.reset()
        else:
            client.writer.write_eof()
        await until(left)
        expected = {"close": {"code": 3002, "reason": "bye"}, "close-empty": {"code": 1005, "reason": ""}}
        assert events.seen == [{"type": "websocket.disconnect", **expected.get(way, {"code": 1006})}]


@on_each_loop
async def test_the_client_leaves_before_it_is_accepted() -> None:
    events, asked = Events(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        events.add(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})
        events.add("over")

    async with under_uvicorn(app) as server:
        async with tcp(server) as client:
            await client.send(handshake("/"))
            await until(asked)
        assert await events.reach(2) == [{"type": "websocket.disconnect", "code": 1006}, "over"]


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
@on_each_loop
async def test_the_application_leaves_it_open(raises: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What it has sent arrives; then the connection ends without a close frame, as with uvicorn's own classes."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
        if raises:
            raise ValueError("mine")

    async with under_uvicorn(app) as server, upgraded(server) as client:
        assert await client.frame() == Frame(BINARY, bytes(1 << 20))
        assert await client.eof() == b""
    assert ("Exception in ASGI application\n" in caplog.messages) == raises


@pytest.mark.parametrize(
    "event, error",
    [
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "text": b"bytes"}, TypeError),
        ({"type": "websocket.close", "code": 1005}, ValueError),
        ({"type": "websocket.close", "reason": "x" * 200}, ValueError),
    ],
    ids=["accept", "nothing", "text", "code", "reason"],
)
@on_each_loop
async def test_events_that_are_wrong(event: Any, error: type[Exception]) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        with pytest.raises(error):
            await send(event)
        await send({"type": "websocket.send", "text": "open still"})
        await receive()
        await receive()

    async with under_uvicorn(app) as server, upgraded(server) as client:
        assert await client.frame() == Frame(TEXT, b"open still")


@on_each_loop
async def test_an_application_that_does_not_look_whether_its_client_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """It is not told of as an error of its own, as under uvicorn's classes."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        await send({"type": "websocket.send", "text": "x"})
        raise AssertionError("there is no client")

    async with under_uvicorn(app) as server:
        async with upgraded(server):
            pass
        await spin(lambda: not server.state.connections)
        go.set()
        await spin(lambda: not server.state.tasks)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@on_each_loop
async def test_sending_finds_that_the_client_has_gone() -> None:
    go, sent = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        while len(sent.seen) < 10:
            sent.add(None)
            await send({"type": "websocket.send", "bytes": bytes(1 << 16)})

    async with under_uvicorn(app) as server, upgraded(server) as client:
        client.reset()
        go.set()  # the application runs before the connection is read
        await spin(lambda: not server.state.tasks)
        assert len(sent.seen) < 10


@on_each_loop
async def test_sending_while_the_connection_fails() -> None:
    """Its close frame is on its way, and the client has not answered."""
    go, raised = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await go.wait()
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            raised.add(str(error))

    async with under_uvicorn(app, ws_max_size=100) as server, upgraded(server) as client:
        await client.send(frame(BINARY, bytes(101)))
        assert (await client.frame()).code == 1009
        go.set()
        assert await raised.reach(1) == ["the client has gone"]


@on_each_loop
async def test_a_message_that_is_too_large() -> None:
    events = Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        events.add(await receive())

    async with under_uvicorn(app, ws_max_size=100) as server, upgraded(server) as client:
        await client.send(frame(BINARY, bytes(101)))
        assert (await client.frame()).code == 1009
        assert [event["code"] for event in await events.reach(1)] == [1009]

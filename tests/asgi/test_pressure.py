"""ASGI applications and clients that do not keep up with each other: all waits are bounded, and come to an end."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.certificates import Pair
from support.client import BINARY, CLOSE, TEXT, Frame, close_frame, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop, turns, until
from support.uvicorns import Receive, Send, certified, echo, spin, under_uvicorn

from crest.asgi import uvicorn


@pytest.mark.parametrize("leaves", [False, True], ids=["reads", "leaves"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_send_waits_for_the_client(leaves: bool, secure: bool, pair: Pair) -> None:
    sent, count, over = Events(), 1000, asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            for _ in range(count):
                sent.add(None)
                await send({"type": "websocket.send", "bytes": bytes(1 << 16)})
            await send({"type": "websocket.close"})
        except OSError:
            sent.add("left")
        over.set()

    options = certified(pair) if secure else {}
    tls = pair.client() if secure else None
    async with under_uvicorn(app, **options) as server, tcp(server, receive_buffer=2048, tls=tls) as client:
        client.stop_reading()
        await client.send(handshake())
        await spin(lambda: any(map(is_behind, server.state.connections)))
        (served,) = server.state.connections
        assert served._session._connection.buffered < 1 << 18
        waiting = len(sent.seen)
        await turns(20)
        assert len(sent.seen) == waiting < count
        if leaves:
            client.reset()
            await until(over)
            assert sent.seen[-1] == "left"
        else:
            client.read_on()
            await client.answer()
            assert len(await client.until_close()) == count + 1
            await until(over)


def is_behind(served: object) -> bool:
    """True while an application waits for its client."""
    if not isinstance(served, uvicorn.WebSocketProtocol) or served._session is None:
        return False
    drained = served._session._drained
    return drained is not None and not drained.is_set()


@on_each_loop
async def test_a_client_waits_for_the_application() -> None:
    """With more messages than `ws_max_queue` no more is read."""
    go, got = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (event := await receive())["type"] == "websocket.receive":
            got.add(int(event["text"]))
        got.add(event["code"])

    async with under_uvicorn(app, ws_max_queue=5) as server, upgraded(server) as client:
        await client.send(*[frame(TEXT, str(i)) for i in range(1000)])
        (served,) = server.state.connections
        await spin(lambda: served._session._room is not None)
        assert served._session._queue.qsize() == 6, "those that may wait, and one more"
        await client.send(close_frame(1000))
        await turns(20)
        assert served._session._queue.qsize() == 6
        go.set()
        assert await got.reach(1001) == [*range(1000), 1000]


@on_each_loop
async def test_a_client_waits_that_sends_before_it_is_accepted() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        await echo(scope, receive, send)

    async with under_uvicorn(app) as server, tcp(server) as client:
        await client.send(handshake())
        await until(asked)
        (served,) = server.state.connections
        client.writer.write(frame(BINARY, bytes(1 << 24)))
        await spin(lambda: len(served._session._early) > 1 << 16)
        await turns(20)
        assert len(served._session._early) < 1 << 20
        go.set()
        assert (await client.answer()).status == 101
        assert await client.frame() == Frame(BINARY, bytes(1 << 24))


@on_each_loop
async def test_both_are_behind_and_go_on() -> None:
    """The application waits for its client, and more messages wait than may; then the client reads."""
    count = 300

    async with under_uvicorn(echo, ws_max_queue=5) as server, tcp(server, receive_buffer=2048) as client:
        await client.send(handshake())
        await client.answer()
        client.stop_reading()
        client.writer.write(frame(BINARY, bytes(1 << 16)) * count)
        await spin(lambda: any(map(is_behind, server.state.connections)))
        (served,) = server.state.connections
        await spin(lambda: served._session._room is not None)
        client.read_on()
        for _ in range(count):
            assert await client.frame() == Frame(BINARY, bytes(1 << 16))


@pytest.mark.parametrize("way", ["returns", "closes", "is shut down"])
@on_each_loop
async def test_messages_that_are_not_received_hold_nothing_up(way: str, caplog: pytest.LogCaptureFixture) -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        if way == "closes":
            await send({"type": "websocket.close"})
        elif way != "returns":
            while True:
                await send({"type": "websocket.send", "text": "x"})
                await asyncio.sleep(0)

    async with under_uvicorn(app, ws_max_queue=5) as server:
        async with upgraded(server) as client:
            await client.send(*[frame(TEXT, "x")] * 60)
            (served,) = server.state.connections
            await spin(lambda: served._session._room is not None)
            go.set()
            if way == "is shut down":
                served.shutdown()
            if way != "returns":
                assert (await client.until_close())[-1].opcode == CLOSE
                await client.send(close_frame(1000))
            assert await client.eof() == b""
        async with asyncio.timeout(5):
            await spin(lambda: not server.state.connections)
    assert not [each for each in caplog.messages if "cancelled" in each]


@pytest.mark.parametrize("way", ["eof", "reset", "close"])
@on_each_loop
async def test_what_came_before_the_client_left_is_received(way: str) -> None:
    """However slow the application is: the connection is gone long before it has received all."""
    go, got = asyncio.Event(), Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (event := await receive())["type"] == "websocket.receive":
            got.add(int(event["text"]))
        got.add("end")

    async with under_uvicorn(app, ws_max_queue=5) as server:
        async with upgraded(server) as client:
            await client.send(*[frame(TEXT, str(i)) for i in range(60)])
            (served,) = server.state.connections
            await spin(lambda: served._session._room is not None)
            if way == "close":
                await client.send(close_frame(3000))
            elif way == "reset":
                client.reset()
            else:
                client.writer.write_eof()
        await spin(lambda: not server.state.connections)
        go.set()
        assert await got.reach(61) == [*range(60), "end"]


@on_each_loop
async def test_few_messages_that_are_large_wait_as_many_do() -> None:
    go = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(event["text"]))})

    async with under_uvicorn(app) as server, upgraded(server) as client:
        client.writer.write(frame(TEXT, "\U0001f600" * 200_000) * 20)
        (served,) = server.state.connections
        await spin(lambda: served._session._room is not None)
        await turns(20)
        assert served._session._queue.qsize() == 2, "each takes 800,000 bytes of memory"
        go.set()
        for _ in range(20):
            assert await client.frame() == Frame(TEXT, b"200000")


@on_each_loop
async def test_a_client_that_does_not_answer_does_not_hold_up_a_shutdown() -> None:
    async with under_uvicorn(echo) as server, upgraded(server) as client:
        async with asyncio.timeout(5):
            await server.server.shutdown()
        assert (await client.frame()).code == 1012


@pytest.mark.parametrize("closes", [False, True], ids=["returns", "closes"])
@on_each_loop
async def test_a_client_leaves_that_was_behind_at_the_end(closes: bool) -> None:
    """Nothing waits for it any more."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        sending = asyncio.create_task(send({"type": "websocket.send", "bytes": bytes(1 << 24)}))
        await asyncio.sleep(0)
        if closes:
            await send({"type": "websocket.close"})
            await sending

    async with under_uvicorn(app) as server, tcp(server, receive_buffer=2048) as client:
        client.stop_reading()
        await client.send(handshake())
        await spin(lambda: any(map(is_behind, server.state.connections)))
        await turns(20)
        assert server.state.tasks
        client.reset()
        await spin(lambda: not server.state.connections and not server.state.tasks)


@on_each_loop
async def test_the_last_wait_is_cancelled() -> None:
    """A client takes nothing of what the application has sent, and uvicorn has waited long enough."""
    over = asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(100):
            over.set()
            await send({"type": "websocket.send", "bytes": bytes(1 << 16)})

    async with under_uvicorn(app) as server, tcp(server, receive_buffer=2048) as client:
        client.stop_reading()
        await client.send(handshake())
        await until(over)
        await spin(lambda: any(map(is_behind, server.state.connections)))
        for task in list(server.state.tasks):
            task.cancel()
        await spin(lambda: not server.state.connections and not server.state.tasks)

"""ASGI applications under uvicorn with crest's class: requests, messages, both ends, and what uvicorn is told."""

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.certificates import Pair
from support.client import BINARY, CLOSE, GUARD, TEXT, Frame, close_frame, connect, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop, turns, until
from support.uvicorns import Receive, Send, under_uvicorn

from crest.asgi import protocol
from crest.io.net.stream import StreamTransport


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Sends back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


# ---- Requests ----------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_scope() -> None:
    scopes = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept"})

    async with under_uvicorn(app, root_path="/root") as server, tcp(server) as client:
        changed = {"X-Name": "Grüße", "Sec-WebSocket-Protocol": "chat, superchat"}
        await client.upgrade("/a%2Fb%C3%BC?q=1&r=%20", changed)
        (scope,) = scopes
        assert scope["type"] == "websocket"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
        assert (scope["http_version"], scope["scheme"]) == ("1.1", "ws")
        assert scope["server"] == (server.host, server.port)
        assert scope["client"] == client.address
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/root", "/root/a/bü", b"/root/a%2Fb%C3%BC")
        assert scope["query_string"] == b"q=1&r=%20"
        assert (b"x-name", "Grüße".encode()) in scope["headers"]
        assert scope["subprotocols"] == ["chat", "superchat"]
        assert scope["state"] == {}
        assert set(scope["extensions"]) == {"websocket.http.response", "crest"}


@on_each_loop
async def test_it_is_accepted_with_headers_and_a_subprotocol() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"x-one", b"1"), (b"x-one", b"2")]
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": headers})
        await receive()
        await receive()

    async with under_uvicorn(app) as server, connect(server, subprotocols=["a", "b"]) as client:
        headers = client.response.headers
        assert client.subprotocol == "b"
        assert headers.get_all("x-one") == ["1", "2"]
        assert headers.get_all("server") == ["uvicorn"]
        assert len(headers.get_all("date")) == 1


@on_each_loop
async def test_a_subprotocol_may_be_named_by_a_header() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Protocol", b"b")]})
        await receive()

    async with under_uvicorn(app) as server, connect(server, subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"


@on_each_loop
async def test_a_request_that_is_no_handshake_is_refused() -> None:
    async with under_uvicorn(echo) as server, tcp(server) as client:
        await client.send(handshake("/", {"Sec-WebSocket-Key": "no key"}))
        assert (await client.answer()).status == 400
        assert await client.eof() == b""


# ---- Refusals ----------------------------------------------------------------------------------------------------------


async def answer_to(app: Any, caplog: pytest.LogCaptureFixture) -> tuple[int, dict[str, str], bytes, list[str]]:
    """Status, headers and content of what a client gets, and the log."""
    caplog.set_level(logging.INFO, "uvicorn.error")
    async with under_uvicorn(app) as server, tcp(server) as client:
        await client.send(handshake("/some/way?q=1"))
        status, headers, body = await client.answer()
        assert await client.eof() == b""
    return status, headers, body, [record.getMessage() for record in caplog.records]


@on_each_loop
async def test_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    ends = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})
        ends.extend([await receive(), await receive()])
        with pytest.raises(RuntimeError, match="after sending 'websocket.close'"):
            await send({"type": "websocket.accept"})

    status, headers, body, log = await answer_to(app, caplog)
    assert (status, headers["connection"], body) == (403, "close", b"")
    assert ends == [{"type": "websocket.disconnect", "code": 1006}] * 2
    assert any(line.endswith('"WebSocket /some/way?q=1" 403') for line in log)


@on_each_loop
async def test_a_denial_response(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"7"), (b"content-type", b"application/json"), (b"x-one", b"1")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"[1", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b", 2]\xff"})

    status, headers, body, log = await answer_to(app, caplog)
    assert (status, body) == (401, b"[1, 2]\xff")
    assert (headers["content-type"], headers["x-one"]) == ("application/json", "1")
    assert headers["content-length"] == "7"
    assert any(line.endswith("401") for line in log)


@on_each_loop
async def test_a_denial_response_that_is_not_complete(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 404})
        await send({"type": "websocket.http.response.body", "body": b"some", "more_body": True})
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket.http.response.body'"):
            await send({"type": "websocket.accept"})

    status, _, body, _ = await answer_to(app, caplog)
    assert (status, body) == (404, b"some")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.http.response.start", "status": 700},
        {"type": "websocket.http.response.start", "status": 101},
        {"type": "websocket.send", "text": "too early"},
        {"type": "websocket.accept", "subprotocol": "not offered"},
        {"type": "websocket.accept", "headers": [(b"upgrade", b"mine")]},
        None,
    ],
    ids=["status-700", "status-101", "send", "subprotocol", "header", "none"],
)
@on_each_loop
async def test_what_an_application_may_not_answer(event: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if event is not None:
            await send(event)

    status, _, body, log = await answer_to(app, caplog)
    assert (status, body) == (500, b"Internal Server Error")
    expected = "Exception in ASGI" if event else "ASGI callable returned without completing handshake."
    assert any(line.startswith(expected) for line in log)


# ---- Messages and the end ------------------------------------------------------------------------------------------------


@on_each_loop
async def test_messages(pair: Pair) -> None:
    for tls in (None, pair):
        options = {} if tls is None else {"ssl_certfile": str(pair.certfile), "ssl_keyfile": str(pair.keyfile)}
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
        with pytest.raises(RuntimeError, match="Unexpected ASGI message 'websocket.send'"):
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


# ---- Backpressure ------------------------------------------------------------------------------------------------------


async def spin(condition: Callable[[], object]) -> None:
    """Let the loop turn until something has come about."""
    async with asyncio.timeout(GUARD):
        while not condition():
            await asyncio.sleep(0)


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

    options = {"ssl_certfile": str(pair.certfile), "ssl_keyfile": str(pair.keyfile)} if secure else {}
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
    if not isinstance(served, protocol.WebSocketProtocol) or served._session is None:
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


# ---- What uvicorn knows ------------------------------------------------------------------------------------------------


@on_each_loop
async def test_nothing_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Any] = []

    class Session(protocol.Session):
        __slots__ = ("__weakref__",)

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            sessions.append(weakref.ref(self))

    monkeypatch.setattr(protocol, "Session", Session)
    async with under_uvicorn(echo) as server:
        for _ in range(3):
            async with upgraded(server) as client:
                await client.send(frame(TEXT, "x"))
                await client.frame()
        while server.state.connections or server.state.tasks:
            await asyncio.sleep(0)
        await turns(3)
        gc.collect()
        assert [each() for each in sessions] == [None] * 3


@on_each_loop
async def test_shutdown() -> None:
    events, asked = Events(), asyncio.Event()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["path"] == "/waits":
            asked.set()
            await receive()
        else:
            await send({"type": "websocket.accept"})
        await receive()
        events.add(await receive())

    async with under_uvicorn(app) as server, tcp(server) as waiting, upgraded(server) as client:
        await waiting.send(handshake("/waits"))
        await until(asked)
        ending = asyncio.create_task(server.server.shutdown())
        assert (await client.frame()).code == 1012
        await client.send(close_frame(1012))
        assert (await waiting.answer()).status == 500
        async with asyncio.timeout(GUARD):
            await ending
        assert {event["code"] for event in await events.reach(2)} == {1012, 1006}
        assert not server.state.tasks


@on_each_loop
async def test_a_hurried_shutdown() -> None:
    """uvicorn cancels what still runs after `timeout_graceful_shutdown`."""
    events = Events()

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        finally:
            events.add("cancelled")

    async with under_uvicorn(app, timeout_graceful_shutdown=0) as server, upgraded(server) as client:
        async with asyncio.timeout(GUARD):
            await server.server.shutdown()
        assert (await client.frame()).code == 1012
        assert await events.reach(1) == ["cancelled"]


def test_crest_does_without_uvicorn() -> None:
    source = "import sys, crest, crest.asgi; sys.exit('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0

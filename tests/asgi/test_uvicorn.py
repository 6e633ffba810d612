"""crest's class under uvicorn: requests, what they are answered, and what uvicorn is told."""

import asyncio
import gc
import logging
import subprocess
import sys
import weakref
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the group `asgi`")

from support.certificates import Pair
from support.client import GUARD, TEXT, close_frame, connect, frame, handshake, tcp, upgraded
from support.events import Events, on_each_loop, turns, until
from support.uvicorns import Receive, Send, certified, echo, under_uvicorn

from crest.asgi import uvicorn

# ---- Requests --------------------------------------------------------------------------------------------------------


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


@on_each_loop
async def test_the_log_has_no_foreign_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    async with under_uvicorn(echo) as server, upgraded(server, "/%0A%1B[31m?q=%0A&r=[1]"):
        pass
    (line,) = [each for each in caplog.messages if "WebSocket" in each]
    assert line.endswith('"WebSocket /%0A%1B%5B31m?q=%0A&r=[1]" [accepted]')


# ---- Refusals --------------------------------------------------------------------------------------------------------


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
        with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
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


@pytest.mark.parametrize(("content", "expected"), [(b"", (404, b"")), (b"some", (500, b"Internal Server Error"))])
@on_each_loop
async def test_a_denial_response_that_is_not_complete(
    content: bytes, expected: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A part of the content is not sent as if it were all."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 404})
        await send({"type": "websocket.http.response.body", "body": content, "more_body": True})
        with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket\.http\.response\.body'"):
            await send({"type": "websocket.accept"})

    status, _, body, _ = await answer_to(app, caplog)
    assert (status, body) == expected


@pytest.mark.parametrize(
    "event",
    [
        {"type": "websocket.http.response.start", "status": 700},
        {"type": "websocket.http.response.start", "status": 101},
        {"type": "websocket.http.response.start", "status": 401, "headers": [(b"x y", b"1")]},
        {"type": "websocket.send", "text": "too early"},
        {"type": "websocket.accept", "subprotocol": "not offered"},
        {"type": "websocket.accept", "headers": [(b"upgrade", b"mine")]},
        None,
    ],
    ids=["status-700", "status-101", "denial", "send", "subprotocol", "header", "none"],
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


@on_each_loop
async def test_an_application_that_lets_a_cancellation_out(caplog: pytest.LogCaptureFixture) -> None:
    """Of something that it has awaited: nothing has cancelled the application."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        waited = asyncio.get_running_loop().create_future()
        waited.cancel()
        await waited

    status, _, _, log = await answer_to(app, caplog)
    assert status == 500 and any(line.startswith("Exception in ASGI") for line in log)


@on_each_loop
async def test_an_application_that_returns_something(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> int:
        await send({"type": "websocket.accept"})
        return 123

    async with under_uvicorn(app) as server, upgraded(server) as client:
        assert await client.eof() == b""
    assert "ASGI callable should return None, but returned '123'." in caplog.messages


# ---- What uvicorn knows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@on_each_loop
async def test_nothing_is_left_over(secure: bool, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Any] = []
    options = certified(pair) if secure else {}
    tls = pair.client() if secure else None

    class Session(uvicorn.Session):
        __slots__ = ("__weakref__",)

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            sessions.append(weakref.ref(self))

    monkeypatch.setattr(uvicorn, "Session", Session)
    async with under_uvicorn(echo, **options) as server:
        for _ in range(3):
            async with upgraded(server, tls=tls) as client:
                await client.send(frame(TEXT, "x"))
                await client.frame()
                (served,) = [each for each in server.state.connections if each.transport is not uvicorn.CLOSED]
            while server.state.connections or server.state.tasks:
                await asyncio.sleep(0)
            assert served.transport.is_closing()
            served.shutdown()
        del served
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

"""crest.admission.decision: who may open a WebSocket, and in which order that is decided."""

import asyncio
import logging
import re
from typing import Any

import pytest
from support.client import TEXT, Client, Frame, Server, frame, handshake, tcp, upgraded
from support.decision import Decision, all_gone, answer_to
from support.events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, HandshakeError, Reject, Request, Response, WebSocketServer

# ---- on_upgrade ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("user", ["Alice", {"name": "Alice"}, 0, "", None, False], ids=repr)
@on_each_loop
async def test_what_on_upgrade_returns_is_the_user(kind: str, user: Any, direct: bool) -> None:
    ws, asked, opened = WebSocketServer(), Events(), Events()

    def upgrade(request: Request) -> Any:
        asked.add(request)
        return user

    ws.on_upgrade(of_kind(kind, upgrade))
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server, upgraded(server, "/ws?x=1") as client:
        await client.round_trip()
        (seen,) = asked.seen
        (conn,) = opened.seen
        assert conn.user is user
        assert isinstance(seen, Request)
        assert (seen.path, seen.query["x"], seen.client) == ("/ws", "1", client.address)
        assert seen.client == conn.remote_address == conn.request.client
        assert seen.headers == conn.request.headers
    assert ws.refused == {}


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_reject_is_the_response(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)

    def upgrade(request: Request) -> None:
        raise Reject(401, "Sign in first \u2026", headers={"WWW-Authenticate": "Bearer", "X-Why": "so"})

    ws.on_upgrade(of_kind(kind, upgrade))
    async with App().listening() as server, tcp(server) as client:
        with caplog.at_level(logging.INFO, "crest"):
            await client.send(handshake(), frame(TEXT, "too early"))
            answer = await client.answer()
            assert await client.eof() == b""
    assert (answer.status, answer.body.decode()) == (401, "Sign in first \u2026\n")
    assert (answer.headers["www-authenticate"], answer.headers["x-why"]) == ("Bearer", "so")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["connection"] == "close"
    assert opened.seen == []
    assert ws.refused == {"on_upgrade": 1}
    assert [record.levelname for record in caplog.records if "Refused" in record.getMessage()] == ["INFO"]


@on_each_loop
async def test_a_reject_may_have_a_content_type() -> None:
    ws = WebSocketServer()

    @ws.on_upgrade
    def upgrade(request: Request) -> None:
        raise Reject(403, '{"why":"so"}', {"content-type": "application/json"})

    async with App().listening() as server:
        answer = await answer_to(server)
    assert (answer.status, answer.headers["content-type"]) == (403, "application/json")
    assert answer.body == b'{"why":"so"}\n'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [ValueError("secret"), HandshakeError(400, "secret"), SystemExit(1)], ids=repr)
@on_each_loop
async def test_any_other_exception_is_500_and_tells_nothing(
    kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)

    def upgrade(request: Request) -> None:
        if "bad" in request.query:
            raise error

    ws.on_upgrade(of_kind(kind, upgrade))
    async with App().listening() as server:
        answer = await answer_to(server, path="/ws?bad=1")
        async with upgraded(server) as client:  # it goes on
            await client.round_trip()
    assert (answer.status, answer.body) == (500, b"internal server error\n")
    assert ws.refused == {"error": 1}
    assert len(opened.seen) == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[1] is error
    caplog.clear()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("returned", [Reject(401), Reject, HandshakeError(400, "no"), Response("no", 403)], ids=repr)
@on_each_loop
async def test_a_refusal_that_is_returned_lets_no_client_in(
    kind: str, returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    ws.on_upgrade(of_kind(kind, lambda request: returned))
    async with App().listening() as server:
        assert (await answer_to(server)).status == 500
    assert ws.refused == {"error": 1} and opened.seen == []
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None and "to refuse a client, raise Reject" in str(record.exc_info[1])
    caplog.clear()


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nSet-Cookie: a=b"}, {"a b": "c"}, {"Content-Length": "7"}, {"X": None}, [("X", "\u2026")]]
)
@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_headers_that_http_does_not_allow_are_an_error_of_the_server(
    kind: str, headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ws = WebSocketServer()

    def upgrade(request: Request) -> None:
        raise Reject(403, "no", headers)

    ws.on_upgrade(of_kind(kind, upgrade))
    async with App().listening() as server:
        assert (await answer_to(server)).status == 500
    assert ws.refused == {"error": 1}
    caplog.clear()


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_came_behind_the_request_is_read_when_it_is_accepted(kind: str, direct: bool) -> None:
    ws = WebSocketServer()
    ws.on_upgrade(of_kind(kind, lambda request: None))
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening(direct=direct) as server, tcp(server) as client:
        await client.send(handshake(), frame(TEXT, "early"))
        assert (await client.answer()).status == 101
        assert await client.frame() == Frame(TEXT, b"early")


@on_each_loop
async def test_a_client_that_sends_much_before_the_answer_is_not_read(direct: bool) -> None:
    size = 1 << 24  # more than the kernel would keep for both of them
    ws, opened = WebSocketServer(max_message_size=size), Events()
    decision = Decision(ws)
    ws.on_message(lambda conn, message: opened.add(len(message)))
    async with App().listening(direct=direct) as server, tcp(server) as client:
        await client.send(handshake())
        await decision.begun.reach(1)
        sending = asyncio.create_task(client.send(frame(TEXT, b"x" * size)))
        async with upgraded_elsewhere(server, decision):
            assert not sending.done()
            assert len(server.protocols) == 2
            decision.decide.set()
            await sending
            assert await opened.reach(1) == [size]


class upgraded_elsewhere:
    """Another client has begun, so the server has read what was there before."""

    def __init__(self, server: Server, decision: Decision) -> None:
        self._client = tcp(server)
        self._decision = decision

    async def __aenter__(self) -> Client:
        client = await self._client.__aenter__()
        await client.send(handshake())
        await self._decision.begun.reach(2)
        return client

    async def __aexit__(self, *error: object) -> None:
        await self._client.__aexit__(None, None, None)


@pytest.mark.parametrize("how", ["end", "half", "reset"])
@on_each_loop
async def test_a_client_that_leaves_cancels_the_decision(how: str, direct: bool) -> None:
    ws = WebSocketServer(max_connections=1)
    decision, opened = Decision(ws), Events()
    ws.on_connect(opened.add)
    async with App().listening(direct=direct) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            await decision.begun.reach(1)
            if how == "reset":
                client.reset()
            elif how == "half":
                client.writer.write_eof()
                assert await client.eof() == b""
        assert await decision.ended.reach(1) == ["cancelled"]
        await all_gone(ws, server)
        decision.decide.set()
        async with upgraded(server):  # the seat is free
            pass
    assert len(opened.seen) == 1
    assert ws.refused == {}


@on_each_loop
async def test_a_decision_takes_no_longer_than_a_request_may(direct: bool) -> None:
    ws = WebSocketServer()
    decision = Decision(ws)
    async with App(open_timeout=0.05).listening(direct=direct) as server, tcp(server) as client:
        await client.send(handshake())
        answer = await client.answer()
        assert answer.status == 503
        assert answer.body == b"no decision within 0.05 s\n"
        assert "retry-after" in answer.headers
        assert await decision.ended.reach(1) == ["cancelled"]
        assert await client.eof() == b""
    assert ws.refused == {"timeout": 1}


@on_each_loop
async def test_shutdown_ends_a_decision(direct: bool) -> None:
    ws = WebSocketServer(max_connections=5)
    decision = Decision(ws)
    async with App().listening(direct=direct) as server:
        async with tcp(server) as client:
            await client.send(handshake())
            await decision.begun.reach(1)
            stopping = asyncio.create_task(server.stop())
            assert (await client.answer()).status == 503
            assert await client.eof() == b""
        await stopping
        assert await decision.ended.reach(1) == ["cancelled"]
    assert ws.refused == {"shutdown": 1}
    assert len(ws._admission._seats) == 0


@on_each_loop
async def test_a_decision_that_ignores_its_cancellation_comes_too_late(direct: bool) -> None:
    ws, opened, begun, late = WebSocketServer(), Events(), Events(), Events()
    ws.on_connect(opened.add)

    @ws.on_upgrade
    async def upgrade(request: Request) -> str:
        begun.add(request)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        late.add("late")
        if "reject" in request.query:
            raise Reject
        return "Alice"

    async with App().listening(direct=direct) as server:
        for count, path in enumerate(("/ws", "/ws?reject=1"), start=1):
            async with tcp(server) as client:
                await client.send(handshake(path))
                await begun.reach(count)
            await late.reach(count)
        await all_gone(ws, server)
    assert opened.seen == []
    assert ws.refused == {}


@on_each_loop
async def test_an_on_upgrade_that_cancels_itself_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    ws = WebSocketServer()

    @ws.on_upgrade
    async def upgrade(request: Request) -> None:
        raise asyncio.CancelledError

    async with App().listening() as server:
        assert (await answer_to(server)).status == 500
    caplog.clear()


@on_each_loop
async def test_a_decision_that_is_cancelled_from_outside_is_none() -> None:
    """When a loop ends, say."""
    begun = asyncio.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    answering = asyncio.create_task(WebSocketServer()._admission.answer(forever()))
    await until(begun)
    answering.cancel()
    await asyncio.wait([answering])
    assert answering.cancelled()


# ---- The order -------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_bad_handshake_a_wrong_origin_and_the_limits_come_first() -> None:
    ws, asked = WebSocketServer(max_connections=1), Events()
    ws.on_upgrade(lambda request: asked.add(request))
    wrong: dict[str, str | None] = {"Origin": "http://evil.example"}
    async with App().listening() as server:
        assert (await answer_to(server, {**wrong, "Sec-WebSocket-Key": None})).status == 400
        assert (await answer_to(server, {**wrong, "Sec-WebSocket-Version": "8"})).status == 426
        async with upgraded(server):
            assert (await answer_to(server, wrong)).status == 403
            assert (await answer_to(server)).status == 503
    assert len(asked.seen) == 1
    assert ws.refused == {"handshake": 2, "origin": 1, "max_connections": 1}


# ---- Origins ---------------------------------------------------------------------------------------------------------

ORIGINS: dict[str, tuple[Any, str, int]] = {
    "the server's own": ("same", "http://test", 101),
    "another": ("same", "http://evil.example", 403),
    "of a file": ("same", "null", 403),
    "two": ("same", "http://test\r\nOrigin: http://test", 403),
    "empty": ("same", "", 403),
    "any": ("*", "null", 101),
    "listed": (["https://a.example"], "https://a.example", 101),
    "not listed": (["https://a.example"], "http://test", 403),
    "of an ESP32": ("same", "file://", 403),
    "of an ESP32, listed": (["same", "file://"], "file://", 101),
    "of Starscream": ("same", "ws://test", 101),
    "of Starscream, another": ("same", "ws://evil.example", 403),
    "a pattern's that is no origin": (re.compile("my app"), "my app", 101),
    "a pattern's": (re.compile(r"https://\w\.example"), "https://a.example", 101),
}


@pytest.mark.parametrize("case", ORIGINS)
@on_each_loop
async def test_pages_of_other_origins_are_refused(case: str) -> None:
    origins, origin, status = ORIGINS[case]
    ws = WebSocketServer(origins=origins)
    async with App().listening() as server:
        answer = await answer_to(server, {"Origin": origin})
        assert answer.status == status
        assert (await answer_to(server)).status == 101  # no browser
    assert ws.refused == ({} if status == 101 else {"origin": 1})


@on_each_loop
async def test_a_refusal_says_what_was_compared() -> None:
    ws = WebSocketServer()
    async with App().listening() as server:
        answer = await answer_to(server, {"Origin": "http://<b>.example", "Host": "chat.example:8000"}, ws.path)
    assert answer.body == (
        b"the origin 'http://<b>.example' is not allowed to connect to 'chat.example:8000': "
        b"it is not among origins= of the WebSocketServer\n"
    )

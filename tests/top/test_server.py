"""crest.server: each row of the interface's table, with plain and with async handlers."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.client import BINARY, CONTINUATION, TEXT, connect, frame, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, WebSocketConnection, WebSocketServer

HANDLERS = ["on_connect", "on_message", "on_binary", "on_close", "on_error"]


# ---- Registration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HANDLERS)
def test_registering_returns_the_handler(name: str) -> None:
    def handler(*args: Any) -> None: ...

    assert getattr(WebSocketServer(), name)(handler) is handler


def test_a_server_with_a_type_of_users_is_one() -> None:
    class Game(WebSocketServer[str]):
        """A subclass of it is one, too."""

    line = sys._getframe().f_lineno
    for server, made_in_line in (WebSocketServer[str](), line + 1), (Game(), line + 1), (WebSocketServer(), line + 1):
        assert isinstance(server, WebSocketServer)
        assert repr(server).endswith(f"made at {__file__}:{made_in_line}>")


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_handlers_registered_by_decorator_and_by_call_are_the_same(kind: str) -> None:
    ws, events = WebSocketServer(), Events()

    @ws.on_connect
    def connected(conn: WebSocketConnection) -> Any:
        return of_kind(kind, lambda: events.add("connect"))()

    ws.on_message(of_kind(kind, lambda conn, message: events.add(message)))
    async with App().listening() as server, connect(server) as client:
        await client.send("hello")
        assert await events.reach(2) == ["connect", "hello"]


@pytest.mark.parametrize("name", HANDLERS)
@on_each_loop
async def test_registering_again_replaces_the_handler(name: str) -> None:
    ws, events = WebSocketServer(), Events()

    def fails(*args: Any) -> None:
        raise ValueError

    if name == "on_error":
        ws.on_message(fails)
    ws.on_error(lambda *args: events.add("on_error"))  # the call below replaces this one, or another's
    for which in ("first", "second"):
        getattr(ws, name)(lambda *args, which=which: events.add(which))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.send(b"bytes" if name == "on_binary" else "text")
            await events.reach(0 if name == "on_close" else 1)
        assert await events.reach(1) == ["second"]


@on_each_loop
async def test_a_handler_can_be_replaced_while_the_server_runs() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, message: events.add("first", message))
    async with App().listening() as server, connect(server) as client:
        await client.send("a")
        await events.reach(1)
        ws.on_message(lambda conn, message: events.add("second", message))
        await client.send("b")
        assert await events.reach(2) == [("first", "a"), ("second", "b")]


@on_each_loop
async def test_any_callable_can_be_a_handler() -> None:
    class Echo:
        async def __call__(self, conn: WebSocketConnection, message: str) -> None:
            conn.send(message)

        def method(self, conn: WebSocketConnection) -> None:
            conn.send("welcome")

    ws = WebSocketServer()
    ws.on_message(Echo())
    ws.on_connect(Echo().method)
    async with App().listening() as server, connect(server) as client:
        await client.send("echo")
        assert [await client.recv(), await client.recv()] == ["welcome", "echo"]


# ---- on_connect ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_connect_comes_before_anything_else_of_its_connection(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(of_kind(kind, lambda conn: events.add("connect", conn)))
    ws.on_message(lambda conn, message: events.add("message", conn))
    ws.on_close(lambda conn, code, reason: events.add("close", conn))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
        seen = await events.reach(3)
    assert [name for name, _ in seen] == ["connect", "message", "close"]
    assert len({conn for _, conn in seen}) == 1


@on_each_loop
async def test_on_connect_gets_a_connection_that_is_open() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(type(conn), conn.is_open()))
    async with App().listening() as server, connect(server):
        assert await events.reach(1) == [(WebSocketConnection, True)]


@on_each_loop
async def test_on_connect_is_not_called_for_a_request_that_is_refused() -> None:
    ws, events = WebSocketServer(), Events()
    for name in HANDLERS:
        getattr(ws, name)(lambda *args: events.add(args))
    async with App().listening() as server, tcp(server) as client:
        await client.send(b"GET /ws HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await client.answer()).status == 426
        await client.eof()
    assert events.seen == []


# ---- on_message, on_binary -------------------------------------------------------------------------------------------

TEXTS = ["", "a", "naïve", "日本語", "🦀", "a\x00b", "x" * 125, "x" * 126, "ÿ" * 70_000]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_message_gets_each_text_message_as_str(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(of_kind(kind, lambda conn, message: events.add(message)))
    async with App().listening() as server, connect(server) as client:
        for text in TEXTS:
            await client.send(text)
        assert await events.reach(len(TEXTS)) == TEXTS
        assert {type(message) for message in events.seen} == {str}


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_binary_gets_each_binary_message_as_bytes(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_binary(of_kind(kind, lambda conn, data: events.add(data)))
    messages = [text.encode() for text in TEXTS] + [b"\xff\xfe", bytes(range(256))]
    async with App().listening() as server, connect(server) as client:
        for message in messages:
            await client.send(message)
        assert await events.reach(len(messages)) == messages
        assert {type(message) for message in events.seen} == {bytes}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("opcode", "whole"), [(TEXT, "grüße"), (BINARY, b"gr\xc3\xbc\xc3\x9fe")])
@on_each_loop
async def test_a_message_is_one_call_however_it_was_fragmented(kind: str, opcode: int, whole: str | bytes) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(of_kind(kind, lambda conn, message: events.add(message)))
    ws.on_binary(of_kind(kind, lambda conn, data: events.add(data)))
    payload = whole.encode() if isinstance(whole, str) else whole
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(opcode, payload[:1], fin=False))
        for i in range(1, len(payload)):
            await client.send(frame(CONTINUATION, payload[i : i + 1], fin=False))
        await client.send(frame(CONTINUATION), frame(opcode, payload))
        assert await events.reach(2) == [whole, whole]


@pytest.mark.parametrize("message", ["text", b"binary"])
@on_each_loop
async def test_messages_without_any_handler_are_ignored(message: str | bytes) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.send(message)
            await client.close(1000)
        assert await events.reach(1) == [1000]


# ---- on_close --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_close_gets_code_and_reason(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(of_kind(kind, lambda conn, code, reason: events.add(code, reason)))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.close(4321, "späti")
        assert await events.reach(1) == [(4321, "späti")]


async def leave_by_close_frame(server: Any) -> None:
    async with connect(server) as client:
        await client.close()


async def leave_by_end_of_stream(server: Any) -> None:
    async with upgraded(server):
        pass


async def leave_by_reset(server: Any) -> None:
    async with upgraded(server) as client:
        client.reset()


async def leave_by_protocol_error(server: Any) -> None:
    async with upgraded(server) as client:
        await client.send(frame(0x3))
        await client.eof()


async def leave_when_asked(server: Any) -> None:
    async with connect(server) as client:
        await client.send("close")
        await client.wait_closed()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "leave",
    [leave_by_close_frame, leave_by_end_of_stream, leave_by_reset, leave_by_protocol_error, leave_when_asked],
)
@on_each_loop
async def test_on_close_is_called_once_whatever_ended_the_connection(kind: str, leave: Callable[..., Any]) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(of_kind(kind, opened.add))
    ws.on_message(of_kind(kind, lambda conn, message: conn.close()))
    ws.on_close(of_kind(kind, lambda conn, code, reason: closed.add(conn)))
    async with App().listening() as server:
        await leave(server)
        await closed.reach(1)
    assert closed.seen == opened.seen


# ---- on_error --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_error_gets_the_connection_and_a_text(kind: str) -> None:
    ws, events = WebSocketServer(), Events()

    def fails(conn: WebSocketConnection, message: str) -> None:
        raise ValueError("no good")

    ws.on_message(of_kind(kind, fails))
    ws.on_connect(events.add)
    ws.on_error(of_kind(kind, events.add))
    async with App().listening() as server, connect(server) as client:
        await client.send("x")
        conn, (same, error) = await events.reach(2)
        assert same is conn
        assert isinstance(error, str)
        assert "no good" in error


# ---- connection_count, get_connections -------------------------------------------------------------------------------


@on_each_loop
async def test_connection_count_and_get_connections_say_who_is_open() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(conn))
    assert (ws.connection_count(), ws.get_connections()) == (0, [])
    async with App().listening() as server:
        assert (ws.connection_count(), ws.get_connections()) == (0, [])
        async with connect(server):
            async with connect(server):
                await opened.reach(2)
                assert ws.connection_count() == 2
                assert set(ws.get_connections()) == set(opened.seen)
            await closed.reach(1)
            assert ws.get_connections() == [opened.seen[0]]
            assert ws.connection_count() == 1
    assert (ws.connection_count(), ws.get_connections()) == (0, [])


@on_each_loop
async def test_get_connections_gives_a_new_list() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server):
        await opened.reach(1)
        ws.get_connections().clear()
        assert ws.connection_count() == 1
        assert ws.get_connections() is not ws.get_connections()


@on_each_loop
async def test_a_closing_connection_is_not_counted() -> None:
    ws, counts = WebSocketServer(), Events()

    def connected(conn: WebSocketConnection) -> None:
        counts.add(ws.connection_count())
        conn.close()
        counts.add(ws.connection_count())

    ws.on_connect(connected)
    async with App().listening() as server, connect(server):
        assert await counts.reach(2) == [1, 0]


@on_each_loop
async def test_connections_can_be_closed_while_they_are_listed() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await opened.reach(2)
        for conn in ws.get_connections():
            conn.close(4000)
        await asyncio.gather(one.wait_closed(), two.wait_closed())
        assert (one.close_code, two.close_code) == (4000, 4000)


# ---- The document's program ------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_documents_program() -> None:
    app = App()
    ws = WebSocketServer()
    gone = asyncio.Event()

    @ws.on_connect
    def connected(conn: WebSocketConnection) -> None:
        conn.send('{"type":"welcome","message":"Connected!"}')

    @ws.on_message
    def received(conn: WebSocketConnection, message: str) -> None:
        ws.broadcast(message)

    @ws.on_close
    def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
        gone.set()

    async with app.listening() as server, connect(server) as one:
        async with connect(server) as two:
            for client in (one, two):
                assert await client.recv() == '{"type":"welcome","message":"Connected!"}'
            await one.send("hello")
            assert [await one.recv(), await two.recv()] == ["hello", "hello"]
        await until(gone)

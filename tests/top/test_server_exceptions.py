"""crest.server: what handlers raise. It goes to on_error or to the log, and never stops the server."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.client import CLOSE, TEXT, Client, Server, close_frame, connect, frame, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, ErrorText, WebSocketConnection, WebSocketServer

HANDLERS = ["on_connect", "on_message", "on_binary", "on_close"]
EXCEPTIONS = [
    ValueError,
    SystemExit,
    KeyboardInterrupt,
    asyncio.CancelledError,
    BaseException,
    TimeoutError,
    StopIteration,
]


class Rogue(BaseException):
    """Nothing that anybody expects."""


def raises(kind: str, exception: BaseException | type[BaseException]) -> Callable[..., Any]:
    def broken(*args: Any) -> None:
        raise exception

    return of_kind(kind, broken)


async def provoke(client: Client, handler: str) -> None:
    """Do what calls this handler."""
    if handler == "on_message":
        await client.send(frame(TEXT, "x"))
    elif handler == "on_binary":
        await client.send(frame(0x2, b"x"))
    elif handler == "on_close":
        await client.send(close_frame(1000))


async def works(server: Server) -> None:
    """Other connections are served as if nothing had happened."""
    async with upgraded(server, "/other") as client:
        await client.round_trip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", HANDLERS)
@on_each_loop
async def test_what_a_handler_raises_goes_to_on_error(kind: str, handler: str) -> None:
    ws, events, exception = WebSocketServer(), Events(), ValueError("no good")
    getattr(ws, handler)(raises(kind, exception))
    ws.on_error(of_kind(kind, lambda conn, error: events.add(error)))
    async with App().listening() as server, upgraded(server) as client:
        await provoke(client, handler)
        (error,) = await events.reach(1)
    assert type(error) is ErrorText
    assert error.exception is exception
    assert error.endswith("broken raised ValueError: no good")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_binary"])
@on_each_loop
async def test_with_on_error_the_connection_stays_open(kind: str, handler: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(of_kind(kind, lambda conn, message: conn.send(message)))
    getattr(ws, handler)(raises(kind, ValueError))
    ws.on_error(of_kind(kind, lambda conn, error: events.add(conn.is_open(), conn.send("sorry"))))
    async with App().listening() as server, upgraded(server) as client:
        await provoke(client, handler)
        assert (await client.frame()).payload == b"sorry"
        assert events.seen == [(True, True)]
        await client.round_trip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_binary"])
@on_each_loop
async def test_without_on_error_it_is_logged_with_its_traceback_and_closed_with_1011(
    kind: str, handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events, exception = WebSocketServer(), Events(), ValueError("no good")
    getattr(ws, handler)(raises(kind, exception))
    ws.on_close(lambda conn, code, reason: events.add(code, conn.get_id()))
    async with App().listening() as server, upgraded(server) as client:
        await provoke(client, handler)
        close = (await client.until_close())[-1]
        assert close.code == 1011
        assert "no good" not in close.reason  # the peer need not know
        await client.send(close_frame(1011))
        ((code, name),) = await events.reach(1)
    assert code == 1011
    (record,) = [record for record in caplog.records if record.name == "crest" and record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is exception
    assert record.exc_info[2] is not None
    assert name in record.getMessage()
    assert "in broken" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_without_on_error_an_exception_in_on_close_is_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    ws, exception = WebSocketServer(), ValueError("no good")
    ws.on_close(raises(kind, exception))
    async with App().listening() as server, connect(server):
        pass
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is exception


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error_kind", KINDS)
@on_each_loop
async def test_what_on_error_itself_raises_is_logged_and_closes_with_1011(
    kind: str, error_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events, exception = WebSocketServer(), Events(), RuntimeError("worse")
    first = ValueError("bad")
    ws.on_message(raises(kind, first))
    ws.on_error(raises(error_kind, exception))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, connect(server) as client:
        await client.send("x")
        await client.wait_closed()
        assert client.close_code == 1011
        assert await events.reach(1) == [1011]
    raised = [each.exc_info[1] for each in caplog.records if each.levelno == logging.ERROR and each.exc_info]
    assert raised == [first, exception]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_error_that_raises_for_the_peers_mistake_still_lets_on_close_run(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(raises(kind, RuntimeError))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(0x3))
        assert [each.code for each in await client.until_close()] == [1002]
        assert await events.reach(1) == [1002]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", [*HANDLERS, "on_error"])
@pytest.mark.parametrize("exception", [*EXCEPTIONS, Rogue])
@on_each_loop
async def test_nothing_that_a_handler_raises_stops_the_server(
    kind: str, handler: str, exception: type[BaseException]
) -> None:
    app, ws, events = App(), WebSocketServer(), Events()
    app.mount("/other", WebSocketServer())
    ws.on_close(lambda conn, code, reason: events.add("close"))
    if handler == "on_error":
        ws.on_message(raises(kind, ValueError))
        ws.on_error(raises(kind, exception))
    else:
        ws.on_error(lambda conn, error: events.add("error"))
        getattr(ws, handler)(raises(kind, exception))
    async with app.listening() as server, upgraded(server) as client:
        await provoke(client, "on_message" if handler == "on_error" else handler)
        if handler == "on_error":
            assert (await client.frame()).code == 1011
        elif handler != "on_close":
            await client.round_trip()
            assert await events.reach(1) == ["error"]
        await works(server)
        await client.send(close_frame(1000))
        await client.eof()
        await works(server)
        assert await events.reach(1 if handler in ("on_close", "on_error") else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exception", EXCEPTIONS)
@on_each_loop
async def test_without_on_error_nothing_stops_the_server_either(kind: str, exception: type[BaseException]) -> None:
    app, ws, events = App(), WebSocketServer(), Events()
    app.mount("/other", WebSocketServer())
    ws.on_message(raises(kind, exception))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with app.listening() as server, connect(server) as client:
        await client.send("x")
        await client.wait_closed()
        assert client.close_code == 1011
        assert await events.reach(1) == [1011]
        await works(server)


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_an_exception_never_reaches_another_connection(kind: str) -> None:
    ws = WebSocketServer()

    def received(conn: WebSocketConnection, message: str) -> None:
        if message == "raise":
            raise ValueError
        conn.send(message)

    ws.on_message(of_kind(kind, received))
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await one.send("raise")
        await one.wait_closed()
        await two.send("still here")
        assert await two.recv() == "still here"


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_messages_behind_one_whose_handler_raised_are_handled(kind: str) -> None:
    ws, events = WebSocketServer(), Events()

    def received(conn: WebSocketConnection, message: str) -> None:
        if message == "raise":
            raise ValueError
        events.add(message)

    ws.on_message(of_kind(kind, received))
    ws.on_error(of_kind(kind, lambda conn, error: events.add("error")))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "raise"), frame(TEXT, "next"))
        assert await events.reach(2) == ["error", "next"]


@on_each_loop
async def test_an_async_handler_that_cancels_its_own_task_harms_nobody() -> None:
    ws, events = WebSocketServer(), Events()

    async def received(conn: WebSocketConnection, message: str) -> None:
        if message == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        events.add(message)

    ws.on_message(received)
    ws.on_error(lambda conn, error: events.add(type(error.exception)))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "cancel"), frame(TEXT, "next"))
        assert await events.reach(2) == [asyncio.CancelledError, "next"]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_an_exception_that_has_no_text_goes_to_on_error_too(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(raises(kind, Unprintable()))
    ws.on_error(lambda conn, error: events.add(type(error.exception)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.send("x")
            await client.close(4000)
        assert await events.reach(2) == [Unprintable, 4000]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_generator_exit_does_not_keep_on_close_from_running(kind: str) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_message(raises(kind, GeneratorExit))
    ws.on_error(lambda conn, error: events.add("error"))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App(shutdown_timeout=0.1).listening() as server:
        async with connect(server) as client:
            await client.send("x")
            await client.close(4000)
        assert await events.reach(2) == ["error", 4000]


@on_each_loop
async def test_an_error_text_is_a_str_with_an_exception() -> None:
    exception = ValueError()
    assert ErrorText("text") == "text"
    assert ErrorText("text").exception is None
    assert ErrorText("text", exception).exception is exception


@on_each_loop
async def test_a_close_that_begins_in_on_error_is_the_handlers_own() -> None:
    ws, closed = WebSocketServer(), asyncio.Event()
    ws.on_message(raises("plain", ValueError))
    ws.on_error(lambda conn, error: conn.close(4003, error))
    ws.on_close(lambda conn, code, reason: closed.set())
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        close = await client.frame()
        assert (close.opcode, close.code) == (CLOSE, 4003)
        assert "ValueError" in close.reason
        await client.send(close_frame(4003))
        await until(closed)

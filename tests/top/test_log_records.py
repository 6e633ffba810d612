"""What the log has of connections: a line for each, every exception of a handler, and whom a record is about."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import TEXT, close_frame, frame, handshake, request, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, Reject, WebSocketServer
from crest.log import FIELDS, logger


@contextmanager
def log_at(level: int) -> Iterator[list[logging.LogRecord]]:
    """The records of crest's logger from this level on."""
    found: list[logging.LogRecord] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler, before = Collecting(), logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def fields(record: logging.LogRecord) -> tuple[Any, ...]:
    assert set(FIELDS) == {"connection", "client", "path", "worker"}
    return tuple(getattr(record, name) for name in ("connection", "client", "path"))


def served(ws: WebSocketServer, path: str = "/ws") -> Any:
    app = App()
    app.mount(path, ws)
    return app.listening()


# ---- Exceptions of handlers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["on_error", "no on_error"])
@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_a_handler_raises_is_logged_with_its_traceback(kind: str, told: bool) -> None:
    ws, events = WebSocketServer(), Events()

    def fails(conn: Any, message: str) -> None:
        raise KeyError(message)

    ws.on_message(of_kind(kind, fails))
    ws.on_connect(lambda conn: events.add(conn))
    if told:
        ws.on_error(lambda conn, error: events.add(str(error)))
    with log_at(logging.ERROR) as records:
        async with served(ws) as server, upgraded(server) as client:
            (conn,) = await events.reach(1)
            await client.send(frame(TEXT, "absent"))
            if told:
                await events.reach(2)
                await client.round_trip()
                assert conn.is_open()
            else:
                assert (await client.frame()).code == 1011
            (record,) = records
            assert fields(record) == (conn.get_id(), client.address, "/ws")
    assert record.exc_info is not None and isinstance(record.exc_info[1], KeyError)
    assert "raised KeyError: 'absent'" in record.getMessage()
    assert "in fails" in logging.Formatter().formatException(record.exc_info)


@on_each_loop
async def test_what_on_error_raises_is_logged_behind_what_it_was_told() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: 1 / 0)
    ws.on_error(lambda conn, error: [][0])
    with log_at(logging.ERROR) as records:
        async with served(ws) as server, upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
            assert (await client.frame()).code == 1011
    assert [type(each.exc_info[1]) for each in records if each.exc_info] == [ZeroDivisionError, IndexError]


# ---- A line for each connection --------------------------------------------------------------------------------------


@on_each_loop
async def test_debug_has_a_line_when_a_websocket_opens_and_one_when_it_closes() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.get_id()))
    ws.on_close(lambda conn, code, reason: events.add(code))
    with log_at(logging.DEBUG) as records:
        async with served(ws, "/café") as server:
            async with upgraded(server, "/caf%C3%A9") as client:
                (name,) = await events.reach(1)
                address = client.address
                await client.send(close_frame(4001, "bye\x1b"))
                await events.reach(2)
    opened, closed = [each for each in records if each.levelno == logging.DEBUG]
    assert opened.getMessage() == f"{name}: connected, {address} at /café"
    assert closed.getMessage() == f"{name}: closed with 4001 bye\\x1b"
    assert fields(opened) == fields(closed) == (name, address, "/café")


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_so_has_one_that_on_upgrade_lets_in(kind: str) -> None:
    ws = WebSocketServer()
    ws.on_upgrade(of_kind(kind, lambda request: "Ada"))
    with log_at(logging.DEBUG) as records:
        async with served(ws) as server, upgraded(server) as client:
            await client.round_trip()
            assert [each.getMessage().partition(": ")[2] for each in records if each.levelno == logging.DEBUG] == [
                f"connected, {client.address} at /ws"
            ]


@on_each_loop
async def test_above_debug_there_are_none() -> None:
    ws = WebSocketServer()
    with log_at(logging.INFO) as records:
        async with served(ws) as server, upgraded(server):
            pass
    assert not [each for each in records if "connected" in each.getMessage() or "closed" in each.getMessage()]


# ---- Whom a record is about ------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_mistake_of_a_client_says_whose() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn))
    with log_at(logging.INFO) as records:
        async with served(ws) as server, upgraded(server) as client:
            await client.send(frame(TEXT, b"\xff"))
            await client.until_close()
            (conn,) = events.seen
            assert (conn.get_id(), client.address, "/ws") in map(fields, records)


@on_each_loop
async def test_a_refused_request_says_whose_and_for_what() -> None:
    ws = WebSocketServer()

    @ws.on_upgrade
    def refuse(request: Any) -> None:
        raise Reject(403)

    with log_at(logging.INFO) as records:
        async with served(ws, "/a b\x1b") as server, tcp(server) as client:
            await client.send(handshake("/a%20b%1b"))
            assert (await client.answer()).status == 403
            assert (None, client.address, "/a b\\x1b") in map(fields, records)


@on_each_loop
async def test_a_page_that_raises_says_for_whom() -> None:
    app = App()
    app.get("/page")(lambda request: 1 / 0)
    with log_at(logging.ERROR) as records:
        async with app.listening() as server, tcp(server) as client:
            await client.send(request("/page"))
            assert (await client.answer()).status == 500
            assert [fields(each) for each in records] == [(None, client.address, "/page")]


@on_each_loop
async def test_a_request_is_not_kept_for_the_log() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(type(conn._request)))
    with log_at(logging.DEBUG):
        async with served(ws) as server, upgraded(server):
            assert await events.reach(1) == [bytes]


def test_a_format_with_the_fields_fits_every_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(connection)s %(client)s %(path)s %(message)s"))
    logger.addHandler(handler)
    try:
        logger.error("about nobody")
        logger.error("about somebody", extra={"client": ("::1", 8000)})
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue() == "None None None about nobody\nNone ('::1', 8000) None about somebody\n"

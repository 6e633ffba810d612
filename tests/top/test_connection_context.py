"""crest.connection: what handlers of one connection set in contextvars, they find; others do not."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from support.client import TEXT, close_frame, frame, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, WebSocketServer
from crest.io.loop.poller import Poller

current: ContextVar[str] = ContextVar("current", default="nobody's")


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_what_on_connect_sets_later_handlers_find(kind: str, direct: bool) -> None:
    if not direct and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip("the connections of a server of uvloop's own share one context")
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: current.set(conn.get_id()))
    ws.on_message(of_kind(kind, lambda conn, message: events.add(conn.get_id(), message, current.get())))
    ws.on_error(of_kind(kind, lambda conn, error: events.add(conn.get_id(), "error", current.get())))
    ws.on_close(of_kind(kind, lambda conn, code, reason: events.add(conn.get_id(), "close", current.get())))
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as one, upgraded(server) as two:
            for client in (one, two, one):
                await client.send(frame(TEXT, "message"))
                await client.round_trip()
            await one.send(close_frame(1000))
            await two.send(frame(0x3, "no such opcode"))
            seen = await events.reach(6)
        ids = {conn for conn, _, _ in seen}
        assert len(ids) == 2
        assert [found for _, _, found in seen] == [conn for conn, _, _ in seen]
        assert sorted(what for _, what, _ in seen) == ["close"] * 2 + ["error"] + ["message"] * 3
        assert current.get() == "nobody's"


@on_each_loop
async def test_what_an_async_handler_sets_is_its_own(direct: bool) -> None:
    """It is a task, and a task has a copy of the context, as everywhere in asyncio."""
    ws, events = WebSocketServer(), Events()

    @ws.on_message
    async def received(conn: Any, message: str) -> None:
        events.add(current.get())
        current.set(message)
        await asyncio.sleep(0)
        events.add(current.get())

    async with App().listening(direct=direct) as server, upgraded(server) as client:
        for message in ("one", "two"):
            await client.send(frame(TEXT, message))
            await events.reach(2 if message == "one" else 4)
            await client.round_trip()
    assert events.seen == ["nobody's", "one", "nobody's", "two"]


@on_each_loop
async def test_a_timer_that_a_handler_sets_has_its_context(direct: bool) -> None:
    ws, events = WebSocketServer(), Events()

    @ws.on_connect
    def connected(conn: Any) -> None:
        current.set(conn.get_id())
        asyncio.get_running_loop().call_later(0, lambda: events.add(conn.get_id(), current.get()))

    async with App().listening(direct=direct) as server, upgraded(server), upgraded(server):
        one, two = await events.reach(2)
    assert one[0] == one[1] != two[0] == two[1]


@pytest.mark.skipif(not Poller.exists, reason="the loop's own transports do not tell their context")
@on_each_loop
async def test_a_connection_that_another_overwhelms_ends_in_its_own_context() -> None:
    """One sends to all; the other does not read, goes over its backlog, and has its own on_error and on_close."""
    ws, events, connected = WebSocketServer(max_backlog=1 << 20), Events(), Events()
    ws.on_connect(lambda conn: (current.set(conn.get_id()), connected.add(conn.get_id())))
    ws.on_message(lambda conn, message: [ws.broadcast("x" * (1 << 16)) for _ in range(200)])
    ws.on_error(lambda conn, error: events.add("error", conn.get_id(), current.get()))
    ws.on_close(lambda conn, code, reason: events.add("close", conn.get_id(), current.get(), code))
    async with App(shutdown_timeout=0.1).listening() as server, tcp(server, receive_buffer=2048) as slow:
        await slow.upgrade()
        slow.stop_reading()
        (number,) = await connected.reach(1)
        async with upgraded(server) as loud:
            await loud.send(frame(TEXT, "all"))
            await events.reach(2)
            mine = [event for event in events.seen if event[1] == number]
            assert mine == [("error", number, number), ("close", number, number, 1013)]

"""crest.server: the heartbeat over real sockets, and its options."""

import math
from typing import Any

import pytest
from support.client import CLOSE, PING, PONG, TEXT, connect, frame, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketServer

OPTIONS = ["ping_interval", "ping_timeout", "idle_timeout", "slow_handler"]


@on_each_loop
async def test_a_client_that_does_not_answer_is_found(direct: bool) -> None:
    app, ws, events = App(), WebSocketServer(ping_interval=0.1, ping_timeout=0.1), Events()
    app.mount("/ws", ws)
    ws.on_error(lambda conn, error: events.add("error", error))
    ws.on_close(lambda conn, code, reason: events.add("close", code, reason))
    async with app.listening("127.0.0.1", 0, direct=direct) as server, upgraded(server) as client:
        assert (await client.frame()).opcode == PING
        closing = (await client.until_close())[-1]
        reason = "ping timeout: nothing came for 0.1 s"
        assert (closing.opcode, closing.code, closing.reason) == (CLOSE, 1011, reason)
        assert await events.reach(2) == [("error", reason), ("close", 1011, reason)]


@on_each_loop
async def test_a_client_that_answers_stays_and_has_a_latency(direct: bool) -> None:
    app, ws, events = App(), WebSocketServer(ping_interval=0.05), Events()
    app.mount("/ws", ws)
    ws.on_message(lambda conn, message: events.add(conn.latency))
    async with app.listening("127.0.0.1", 0, direct=direct) as server, upgraded(server) as client:
        for _ in range(3):
            ping = await client.frame()
            assert ping.opcode == PING
            await client.send(frame(PONG, ping.payload))
        await client.send(frame(TEXT, "how long?"))
        (latency,) = await events.reach(1)
        assert latency >= 0
        assert ws.connection_count() == 1


@on_each_loop
async def test_an_idle_client_is_told_to_go(direct: bool) -> None:
    app, ws, events = App(), WebSocketServer(ping_interval=None, idle_timeout=0.1), Events()
    app.mount("/ws", ws)
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    async with app.listening("127.0.0.1", 0, direct=direct) as server, connect(server) as client:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, "idle: no message came for 0.1 s")
        assert await events.reach(1) == [(1001, "idle: no message came for 0.1 s")]


@pytest.mark.parametrize("name", OPTIONS)
def test_none_switches_it_off(name: str) -> None:
    WebSocketServer(**{name: None})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_span_is_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        WebSocketServer(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("value", "error"), [(1e7, ValueError), ("20", TypeError)])
def test_a_span_that_can_not_be_kept_is_refused_by_name(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name):
        WebSocketServer(**{name: value})

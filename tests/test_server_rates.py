"""crest.server: how much clients may send, over real sockets."""

import pytest
from client import CLOSE, TEXT, connect, frame, upgraded
from events import Events, on_each_loop

from crest import App, WebSocketServer


@on_each_loop
async def test_past_max_message_rate_there_is_1008(direct: bool) -> None:
    ws, events = WebSocketServer(max_message_rate=(0.001, 5)), Events()
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_error(lambda conn, error: events.add("error", error))
    ws.on_close(lambda conn, code, reason: events.add(code, reason))
    text = "frame 6: over max_message_rate: 0.001 messages a second, 5 at once"
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x") * 5 + frame(TEXT, "y") * 1000)
        (close,) = await client.until_close()
        assert (close.opcode, close.code, close.reason) == (CLOSE, 1008, text)
        assert await events.reach(7) == ["x"] * 5 + [("error", text), (1008, text)]


@on_each_loop
async def test_past_max_byte_rate_there_is_1008(direct: bool) -> None:
    ws, events = WebSocketServer(max_byte_rate=(1, 100_000)), Events()
    ws.on_message(lambda conn, message: events.add(len(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x" * 90_000))
        assert await events.reach(1) == [90_000]
        await client.send(frame(TEXT, "x" * 90_000))
        (close,) = await client.until_close()
        assert close.code == 1008
        assert close.reason.endswith("over max_byte_rate: 1 bytes a second, 100000 at once")
        assert await events.reach(2) == [90_000, 1008]


@on_each_loop
async def test_a_second_worth_may_come_at_once() -> None:
    ws, events = WebSocketServer(max_message_rate=1000, max_byte_rate=1e6), Events()
    ws.on_message(lambda conn, message: events.add(message))
    assert ws.hub.rates is not None
    assert (ws.hub.rates.max_message_rate, ws.hub.rates.max_byte_rate) == ((1000, 1000), (1e6, 1e6))
    async with App().listening() as server, connect(server) as client:
        for _ in range(1000):
            await client.send("x")
        assert len(await events.reach(1000)) == 1000
        assert ws.connection_count() == 1


@pytest.mark.parametrize("name", ["max_message_rate", "max_byte_rate"])
def test_either_may_be_left_out(name: str) -> None:
    assert WebSocketServer(**{name: None}).hub.rates is None
    rates = WebSocketServer(**{name: (7, 9)}).hub.rates
    assert rates is not None
    assert {rates.max_message_rate, rates.max_byte_rate} == {(7, 9), None}

"""crest.server: how much clients may send, over real sockets."""

import asyncio
import zlib
from typing import Any

import pytest
from support.client import CLOSE, TEXT, close_frame, connect, frame, tcp, upgraded
from support.events import Events, on_each_loop

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


@pytest.mark.parametrize("inflated", [True, False])
@on_each_loop
async def test_what_messages_inflate_to_may_count(inflated: bool, direct: bool) -> None:
    ws = WebSocketServer(max_byte_rate=(1, 100_000), count_inflated=inflated, compression="deflate")
    ws.on_message(lambda conn, message: conn.send(f"{len(message)}"))
    stream = zlib.compressobj(wbits=-15)
    payload = stream.compress(b"x" * 90_000) + stream.flush(zlib.Z_SYNC_FLUSH)
    message = frame(TEXT, payload.removesuffix(b"\0\0\xff\xff"), rsv=4)
    async with App().listening(direct=direct) as server, tcp(server) as client:
        await client.upgrade(changed={"Sec-WebSocket-Extensions": "permessage-deflate"})
        for left in (True, not inflated):
            await client.send(message)
            if left:
                assert (await client.frame()).payload == b"90000"
            else:
                assert (await client.until_close())[-1].code == 1008
        client.reset()


def test_inflated_bytes_count_against_something() -> None:
    with pytest.raises(ValueError, match="count_inflated counts against max_byte_rate, and there is none"):
        WebSocketServer(max_message_rate=5, count_inflated=True)
    with pytest.raises(TypeError, match="count_inflated must be bool, not int"):
        WebSocketServer(max_byte_rate=5, count_inflated=1)  # type: ignore[arg-type]


@on_each_loop
async def test_a_second_worth_may_come_at_once() -> None:
    ws, events = WebSocketServer(max_message_rate=1000, max_byte_rate=1e6), Events()
    ws.on_message(lambda conn, message: events.add(message))
    assert ws._hub.rates is not None
    assert (ws._hub.rates.max_message_rate, ws._hub.rates.max_byte_rate) == ((1000, 1000), (1e6, 1e6))
    async with App().listening() as server, connect(server) as client:
        for _ in range(1000):
            await client.send("x")
        assert len(await events.reach(1000)) == 1000
        assert ws.connection_count() == 1


@pytest.mark.parametrize("name", ["max_message_rate", "max_byte_rate"])
def test_either_may_be_left_out(name: str) -> None:
    assert WebSocketServer(**{name: None})._hub.rates is None
    rates = WebSocketServer(**{name: (7, 9)})._hub.rates
    assert rates is not None
    assert {rates.max_message_rate, rates.max_byte_rate} == {(7, 9), None}


# ---- on_rate ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_messages_over_the_rate_are_dropped(direct: bool) -> None:
    ws, events = WebSocketServer(max_message_rate=(0.001, 5), on_rate="drop"), Events()
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_close(lambda conn, code, reason: events.add("close", code, conn.discarded))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(b"".join(frame(TEXT, f"{number}") for number in range(1000)))
        await client.round_trip()
        (conn,) = ws.get_connections()
        assert (conn.is_open(), conn.discarded, events.seen) == (True, 995, ["0", "1", "2", "3", "4"])
        client.reset()
        assert (await events.reach(6))[5] == ("close", 1006, 995)


@on_each_loop
async def test_messages_over_the_rate_wait(direct: bool) -> None:
    ws, events = WebSocketServer(max_message_rate=(200, 5), on_rate="wait"), Events()
    ws.on_message(lambda conn, message: events.add(message))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(b"".join(frame(TEXT, f"{number}") for number in range(40)))
        assert await events.reach(40) == [f"{number}" for number in range(40)]
        await client.close()


@on_each_loop
async def test_bytes_over_the_rate_wait_in_a_large_message(direct: bool) -> None:
    ws, events = WebSocketServer(max_byte_rate=(4e6, 100_000), on_rate="wait"), Events()
    ws.on_message(lambda conn, message: events.add(len(message)))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x" * 1_000_000))
        assert await events.reach(1) == [1_000_000]
        await client.close()


@on_each_loop
async def test_one_that_waits_is_told_to_go_at_shutdown(direct: bool) -> None:
    ws, events = WebSocketServer(max_message_rate=(0.001, 1), on_rate="wait"), Events()
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_close(lambda conn, code, reason: events.add("close", code, conn.discarded))
    async with App(retry_after=None).listening(direct=direct) as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x") * 3)
            await events.reach(1)
            stopping = asyncio.ensure_future(server.stop())
            assert (await client.frame()).code == 1001
            await client.send(close_frame(1001))
        await stopping
        assert events.seen == ["x", ("close", 1001, 2)]


@pytest.mark.parametrize(("value", "error"), [("", ValueError), ("pause", ValueError), (None, TypeError)])
def test_a_policy_that_is_none(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="on_rate must be"):
        WebSocketServer(on_rate=value)

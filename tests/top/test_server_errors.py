"""crest.server: what the peer does wrong, and how it ends: the RFC's close code, on_error, then on_close."""

import asyncio
import logging

import pytest
from support.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    close_frame,
    connect,
    frame,
    upgraded,
)
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, ErrorText, WebSocketServer

MISTAKES = {
    "not masked": (frame(TEXT, "x", masking_key=None), 1002, "not masked"),
    "first reserved bit": (frame(TEXT, "x", rsv=4), 1002, "reserved bit"),
    "second reserved bit": (frame(TEXT, "x", rsv=2), 1002, "reserved bit"),
    "third reserved bit": (frame(TEXT, "x", rsv=1), 1002, "reserved bit"),
    "reserved data opcode": (frame(0x3, "x"), 1002, "opcode 0x3 is reserved"),
    "reserved control opcode": (frame(0xB), 1002, "opcode 0xb is reserved"),
    "fragmented control frame": (frame(PING, "x", fin=False), 1002, "must not be fragmented"),
    "long control frame": (frame(PING, "x" * 126), 1002, "over 125 bytes"),
    "continuation of nothing": (frame(CONTINUATION, "x"), 1002, "no message has begun"),
    "interrupted message": (frame(TEXT, "x", fin=False) + frame(BINARY, "y"), 1002, "not finished"),
    "length in three bytes for one": (frame(TEXT, "x", length_bytes=3), 1002, "shortest encoding"),
    "length in nine bytes for three": (frame(TEXT, "x" * 200, length_bytes=9), 1002, "shortest encoding"),
    "length with its top bit": (frame(TEXT, length=1 << 63, length_bytes=9), 1002, "most significant bit"),
    "close frame of one byte": (frame(CLOSE, b"\x03"), 1002, "one byte"),
    "close reason not UTF-8": (close_frame(1000, b"\xff"), 1007, "close reason is not UTF-8"),
    "text not UTF-8": (frame(TEXT, b"ab\xff"), 1007, "not UTF-8 at byte 2"),
    "text cut in a character": (frame(TEXT, "ü".encode()[:1]), 1007, "not UTF-8 at byte 0"),
    "text with a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007, "not UTF-8"),
    "fragmented text not UTF-8": (
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"\xff", fin=False),
        1007,
        "UTF-8",
    ),
    "message too big": (frame(TEXT, "x" * 1001), 1009, "max_message_size, 1000"),
    "message too big by announcement": (frame(BINARY, length=1 << 40), 1009, "max_message_size, 1000"),
    "fragments too big": (frame(TEXT, "x" * 999, fin=False) + frame(CONTINUATION, "xx"), 1009, "max_message_size"),
    "too many fragments": (frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 9, 1008, "max_fragments, 9"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mistake", MISTAKES)
@on_each_loop
async def test_a_mistake_fails_the_connection(kind: str, mistake: str) -> None:
    data, code, text = MISTAKES[mistake]
    ws, events = WebSocketServer(max_message_size=1000, max_fragments=9), Events()
    ws.on_message(lambda conn, message: events.add("message"))
    ws.on_binary(lambda conn, message: events.add("message"))
    ws.on_error(of_kind(kind, lambda conn, error: events.add("error", error)))
    ws.on_close(of_kind(kind, lambda conn, code, reason: events.add("close", code, reason)))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(data)
        (close,) = await client.until_close()
        assert close.code == code
        assert await client.eof() == b""
        (_, error), closed = await events.reach(2)
    assert text in error
    assert error.startswith(close.reason)
    assert closed == ("close", code, error)
    assert len(events.seen) == 2


@on_each_loop
async def test_the_error_says_which_frame_it_was() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(lambda conn, error: events.add(error))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x") * 4, frame(0x3))
        await client.eof()
        assert (await events.reach(1))[0].startswith("frame 5: ")


@on_each_loop
async def test_the_peers_error_has_no_exception() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(lambda conn, error: events.add(error))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(0x3))
        (error,) = await events.reach(1)
    assert isinstance(error, ErrorText)
    assert error.exception is None


@on_each_loop
async def test_what_came_before_a_mistake_is_handled_and_what_follows_is_not() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_error(lambda conn, error: events.add("error"))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "before"), frame(0x3), frame(TEXT, "behind"), close_frame(1000))
        await client.eof()
        assert events.seen == ["before", "error", 1002]


@on_each_loop
async def test_on_error_of_the_peer_waits_for_an_async_handler() -> None:
    ws, events, release = WebSocketServer(), Events(), asyncio.Event()

    async def received(conn: object, message: str) -> None:
        await release.wait()
        events.add(message)

    ws.on_message(received)
    ws.on_error(lambda conn, error: events.add("error"))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"), frame(0x3))
        await client.eof()
        assert events.seen == []
        release.set()
        assert await events.reach(3) == ["x", "error", 1002]


@on_each_loop
async def test_the_connection_is_not_open_any_more_in_on_error_of_the_peer() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_error(lambda conn, error: events.add(conn.is_open(), conn.send("x"), ws.connection_count()))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(0x3))
        assert await events.reach(1) == [(False, False, 0)]


@on_each_loop
async def test_without_on_error_the_peers_mistake_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening() as server, upgraded(server) as client:
            await client.send(frame(0x3))
            assert await events.reach(1) == [1002]
    (record,) = [record for record in caplog.records if "reserved" in record.getMessage()]
    assert record.levelno == logging.INFO


@on_each_loop
async def test_a_failed_connection_does_not_touch_others() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: ws.broadcast(message))
    async with App().listening() as server, connect(server) as other, upgraded(server) as client:
        await client.send(frame(0x3))
        await client.eof()
        await other.send("still here")
        assert await other.recv() == "still here"


@on_each_loop
async def test_a_peer_that_goes_on_sending_after_a_mistake_is_cut_off_in_the_end() -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(0x3))
        assert (await client.frame()).code == 1002

        async def flood() -> None:
            while True:
                await client.send(frame(BINARY, bytes(1000)))

        with pytest.raises(ConnectionError):
            await flood()
        assert events.seen == [1002]


# ---- 1003: the other type of message ---------------------------------------------------------------------------------


async def refused(server: object, message: bytes) -> tuple[int | None, str]:
    async with upgraded(server) as client:  # type: ignore[arg-type]
        await client.send(message)
        (close,) = await client.until_close()
        assert await client.eof() == b""
        return close.code, close.reason


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_binary_message_where_only_on_message_is_registered_closes_with_1003(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(of_kind(kind, lambda conn, message: events.add(message)))
    ws.on_error(of_kind(kind, lambda conn, error: events.add(error)))
    ws.on_close(of_kind(kind, lambda conn, code, reason: events.add(code)))
    async with App().listening() as server:
        assert await refused(server, frame(BINARY, b"x")) == (
            1003,
            "a binary message, but only on_message is registered",
        )
        assert await events.reach(2) == ["a binary message, but only on_message is registered", 1003]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_text_message_where_only_on_binary_is_registered_closes_with_1003(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_binary(of_kind(kind, lambda conn, data: events.add(data)))
    ws.on_error(of_kind(kind, lambda conn, error: events.add(error)))
    ws.on_close(of_kind(kind, lambda conn, code, reason: events.add(code)))
    async with App().listening() as server:
        assert await refused(server, frame(TEXT, "x")) == (1003, "a text message, but only on_binary is registered")
        assert await events.reach(2) == ["a text message, but only on_binary is registered", 1003]


# ---- What is no mistake ----------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_limits_themselves_are_allowed() -> None:
    ws, events = WebSocketServer(max_message_size=1000, max_fragments=9), Events()
    ws.on_message(lambda conn, message: events.add(len(message)))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x" * 1000))
        await client.send(frame(TEXT, "x" * 500, fin=False), frame(CONTINUATION, "x" * 500))
        await client.send(
            frame(TEXT, "x", fin=False), frame(CONTINUATION, "x", fin=False) * 7, frame(CONTINUATION, "x")
        )
        assert await events.reach(3) == [1000, 1000, 9]


@on_each_loop
async def test_control_frames_may_come_between_fragments() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, message: events.add(message))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "a", fin=False))
        await client.round_trip()
        await client.send(frame(CONTINUATION, "b"))
        assert await events.reach(1) == ["ab"]

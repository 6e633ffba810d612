"""crest.connection: sending, what may be sent, and when it is too late."""

import array
import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.client import BINARY, TEXT, Frame, close_frame, connect, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop
from support.opened import asked

from crest import App, WebSocketConnection, WebSocketServer

# ---- send ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["", "x", "naïve 🦀", "\x00", "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, "ü" * 500_000]
)
@on_each_loop
async def test_send_sends_one_text_message(kind: str, text: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(of_kind(kind, lambda conn: events.add(conn.send(text))))
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == text
        assert events.seen == [True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"\xff", b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536, b"x" * 1_000_000])
@on_each_loop
async def test_send_binary_sends_one_binary_message(kind: str, data: bytes) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(of_kind(kind, lambda conn: events.add(conn.send_binary(data))))
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == data
        assert events.seen == [True]


BYTES_LIKE = [
    b"\x01\x02\x03\x04",
    bytearray(b"\x01\x02\x03\x04"),
    memoryview(b"\x01\x02\x03\x04"),
    memoryview(b"\x01-\x02-\x03-\x04-")[::2],
    memoryview(b"\x04\x03\x02\x01")[::-1],
    array.array("H", [0x0201, 0x0403]),
    type("Sub", (bytes,), {})(b"\x01\x02\x03\x04"),
]


@pytest.mark.parametrize("data", BYTES_LIKE, ids=lambda data: type(data).__name__)
@on_each_loop
async def test_send_binary_takes_any_bytes_like_object(data: Any) -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.send_binary(data))
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == b"\x01\x02\x03\x04"


@on_each_loop
async def test_send_takes_a_subclass_of_str() -> None:
    class Text(str): ...

    ws = WebSocketServer()
    ws.on_connect(lambda conn: conn.send(Text("x")))
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == "x"


def caught(function: Callable[[], Any]) -> str:
    try:
        function()
    except TypeError as error:
        return str(error)
    return "nothing"


@pytest.mark.parametrize("wrong", [b"x", bytearray(b"x"), 1, ["x"]])
@on_each_loop
async def test_send_of_anything_but_str_names_the_right_method(wrong: Any) -> None:
    error = await asked(lambda conn: caught(lambda: conn.send(wrong)))
    assert error == f"send() takes str, not {type(wrong).__name__}; send_binary() takes bytes"


@pytest.mark.parametrize("wrong", ["x", 1, ["x"]])
@on_each_loop
async def test_send_binary_of_anything_but_bytes_names_the_right_method(wrong: Any) -> None:
    error = await asked(lambda conn: caught(lambda: conn.send_binary(wrong)))
    assert error == f"send_binary() takes a bytes-like object, not {type(wrong).__name__}; send() takes str"


@on_each_loop
async def test_send_of_none_is_a_type_error() -> None:
    nothing: Any = None
    assert "None" in await asked(lambda conn: caught(lambda: conn.send(nothing)))
    assert "None" in await asked(lambda conn: caught(lambda: conn.send_binary(nothing)))


@on_each_loop
async def test_a_wrong_type_is_refused_on_a_closed_connection_too() -> None:
    def wrong(conn: Any) -> str:
        conn.close()
        return caught(lambda: conn.send(b"x")) + caught(lambda: conn.send_binary("x"))

    assert (await asked(wrong)).count("takes") == 4


@on_each_loop
async def test_a_lone_surrogate_is_refused_and_the_connection_goes_on() -> None:
    def surrogate(conn: WebSocketConnection) -> None:
        with pytest.raises(UnicodeEncodeError):
            conn.send("a\udc80")
        conn.send("fine")

    ws = WebSocketServer()
    ws.on_connect(surrogate)
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == "fine"


# ---- Sending when it is too late -------------------------------------------------------------------------------------


@on_each_loop
async def test_sending_returns_false_once_closing_has_started() -> None:
    def sends(conn: WebSocketConnection) -> list[bool]:
        before = [conn.is_open(), conn.send("x"), conn.send_binary(b"x"), conn.ping()]
        conn.close()
        return [*before, conn.is_open(), conn.send("x"), conn.send_binary(b"x"), conn.ping()]

    assert await asked(sends) == [True] * 4 + [False] * 4


@pytest.mark.parametrize("how", ["close frame", "end", "reset"])
@on_each_loop
async def test_sending_to_a_peer_that_has_gone_returns_false_and_never_raises(how: str) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(conn))
    async with App().listening() as server:
        async with upgraded(server) as client:
            (conn,) = await opened.reach(1)
            if how == "close frame":
                await client.send(close_frame(1000))
                await client.eof()
            elif how == "reset":
                client.reset()
        while conn.is_open():
            conn.send("x" * 1000)
            await asyncio.sleep(0)
        await closed.reach(1)
        assert [conn.send("x"), conn.send_binary(b"x"), conn.ping(), conn.is_open()] == [False] * 4
    assert [conn.send("x"), conn.send_binary(b"x"), conn.ping(), conn.is_open()] == [False] * 4
    conn.close()


@on_each_loop
async def test_what_was_sent_before_close_still_arrives() -> None:
    ws = WebSocketServer(max_backlog=1 << 24)

    def connected(conn: WebSocketConnection) -> None:
        for _ in range(20):
            conn.send("x" * 300_000)
        conn.close(1000, "done")

    ws.on_connect(connected)
    async with App().listening() as server, connect(server) as client:
        assert [len(message) async for message in client] == [300_000] * 20
        assert (client.close_code, client.close_reason) == (1000, "done")


@on_each_loop
async def test_text_and_binary_messages_carry_their_opcodes() -> None:
    ws = WebSocketServer()

    def connected(conn: WebSocketConnection) -> None:
        conn.send("text")
        conn.send_binary(b"binary")

    ws.on_connect(connected)
    async with App().listening() as server, upgraded(server) as client:
        assert [await client.frame(), await client.frame()] == [Frame(TEXT, b"text"), Frame(BINARY, b"binary")]

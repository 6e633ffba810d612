"""Peers that break RFC 6455 sections 5 and 7, over real sockets: what they get to see of it.

The close frame must arrive even while the peer floods: to close a socket with bytes unread resets the connection, and
the reset can overtake the close frame. Which text belongs to which mistake is test_server_errors.py's; here each ends
with what the peer receives, and with on_error and on_close once.
"""

import asyncio
import tracemalloc

import pytest
from support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_frame, frame, tcp, upgraded
from support.events import on_each_loop
from support.record import Record, rest

from crest import App

LEGAL_CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
ILLEGAL_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]

MISTAKES: dict[str, tuple[bytes, int]] = {
    "5.1 an unmasked text frame": (frame(TEXT, "x", masking_key=None), 1002),
    "5.1 an unmasked empty frame": (frame(TEXT, "", masking_key=None), 1002),
    "5.1 an unmasked close frame": (frame(CLOSE, b"\x03\xe8", masking_key=None), 1002),
    **{f"5.2 reserved bits {rsv:03b}": (frame(TEXT, "x", rsv=rsv), 1002) for rsv in range(1, 8)},
    "5.2 reserved bits of a control frame": (frame(PING, "x", rsv=4), 1002),
    "5.2 reserved bits of a continuation": (frame(TEXT, "x", fin=False) + frame(CONTINUATION, "y", rsv=4), 1002),
    **{f"5.2 opcode {opcode:#x}": (frame(opcode, "x"), 1002) for opcode in [*range(3, 8), *range(11, 16)]},
    "5.2 125 bytes' length in 16 bits": (frame(BINARY, b"x" * 125, length_bytes=3), 1002),
    "5.2 65535 bytes' length in 64 bits": (frame(BINARY, b"x" * 65535, length_bytes=9), 1002),
    "5.2 a length with its top bit": (frame(BINARY, length=1 << 63, length_bytes=9), 1002),
    "5.2 all bits of a length": (frame(BINARY, length=(1 << 64) - 1, length_bytes=9), 1002),
    "5.4 a continuation of nothing": (frame(CONTINUATION, "x"), 1002),
    "5.4 a first fragment twice": (frame(TEXT, "x", fin=False) * 2, 1002),
    "5.4 a message within a message": (frame(BINARY, "x", fin=False) + frame(TEXT, "y"), 1002),
    "5.4 a continuation after the last": (frame(TEXT, "x") + frame(CONTINUATION, "y"), 1002),
    "5.5 a fragmented ping": (frame(PING, "x", fin=False), 1002),
    "5.5 a fragmented close": (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    "5.5 a ping of 126 bytes": (frame(PING, "x" * 126), 1002),
    "5.5 a pong of 64 KiB": (frame(PONG, b"x" * 65536), 1002),
    "5.5 a close frame of 126 bytes": (close_frame(1000, "x" * 124), 1002),
    "5.5.1 a close frame of one byte": (frame(CLOSE, b"\x03"), 1002),
    "5.5.1 a close reason that is not UTF-8": (close_frame(1000, b"\xc3\x28"), 1007),
    "5.6 text that is not UTF-8": (frame(TEXT, b"\xce\xba\xed\xa0\x80edited"), 1007),
    "5.6 text that is not UTF-8 yet and goes on": (frame(TEXT, b"ok\xff", fin=False), 1007),
    "5.6 text that ends within a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "7.4 too big": (frame(BINARY, bytes(10_001)), 1009),
    "7.4 too big in fragments": (frame(BINARY, bytes(9_999), fin=False) + frame(CONTINUATION, b"xx"), 1009),
    "7.4 announced to be huge": (frame(BINARY, length=(1 << 63) - 1, length_bytes=9), 1009),
    **{f"7.4 close code {code}": (close_frame(code), 1002) for code in ILLEGAL_CODES},
}

FLOOD = frame(BINARY, b"flood" * 1000) * 100
"""Half a megabyte that is right in itself."""


# --- Mistakes


@pytest.mark.parametrize("mistake", MISTAKES)
@on_each_loop
async def test_the_close_frame_reaches_who_keeps_flooding(mistake: str, direct: bool) -> None:
    data, code = MISTAKES[mistake]
    record = Record()
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "before"), data, FLOOD)
            close = (await client.until_close())[-1]
            assert close.code == code
            await client.send(FLOOD, close_frame(1000), FLOOD)
            assert await rest(client) == b"", "the stream ends, and nothing resets it"
            await client.send(FLOOD)
        assert record.ws.connection_count() == 0
    (_, error), closed = record.without_messages()
    assert close.reason == error.encode()[:123].decode()
    assert closed == ("close", code)
    assert record.events.seen[0] == ("message", "before")
    assert ("message", b"flood" * 1000) not in record.events.seen


@on_each_loop
async def test_a_flood_without_a_reader(direct: bool) -> None:
    """The peer sends many megabytes behind its mistake before it reads for the first time."""
    record = Record()
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(0x3), *[FLOOD] * 20)
        assert (await client.frame()).code == 1002
        assert await rest(client) == b""
    assert [event[0] for event in record.events.seen] == ["error", "close"]


@on_each_loop
async def test_a_mistake_byte_by_byte(direct: bool) -> None:
    """As soon as it is one: the rest of the frame is not awaited."""
    record = Record()
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        for byte in frame(BINARY, length=1 << 40, length_bytes=9)[:10]:
            await client.send(bytes([byte]))
        assert (await client.frame()).code == 1009
        assert await rest(client) == b""
    assert record.events.seen[-1] == ("close", 1009)


@on_each_loop
async def test_a_flood_of_fragments(direct: bool) -> None:
    """One byte each, or none at all: bounded by max_fragments."""
    for payload in (b"x", b""):
        record = Record()
        async with App().listening(direct=direct) as server, upgraded(server) as client:
            await client.send(frame(BINARY, payload, fin=False), frame(CONTINUATION, payload, fin=False) * 50_000)
            assert (await client.frame()).code == 1008
            assert await rest(client) == b""
        assert [event[0] for event in record.events.seen] == ["error", "close"]


@on_each_loop
async def test_as_many_fragments_as_are_allowed(direct: bool) -> None:
    record = Record()
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        fragments = [frame(TEXT, "x", fin=False), *[frame(CONTINUATION, "x", fin=False)] * 48, frame(CONTINUATION, "x")]
        await client.send(*fragments * 3)
        await client.round_trip()
    assert record.events.seen[:3] == [("message", "x" * 50)] * 3


@on_each_loop
async def test_announced_lengths_cost_nothing(direct: bool) -> None:
    record = Record(max_message_size=1 << 50)
    async with App().listening(direct=direct) as server:
        tracemalloc.start()
        try:
            clients = []
            for i in range(20):
                client = upgraded(server)
                clients.append(client)
                connected = await client.__aenter__()
                await connected.send(frame(BINARY, b"x" * 10, length=1 << 49, length_bytes=9))
                if i == 0:
                    before = tracemalloc.get_traced_memory()[0]
            while record.ws.connection_count() < 20:
                await asyncio.sleep(0)
            assert tracemalloc.get_traced_memory()[0] - before < 40 << 20
        finally:
            tracemalloc.stop()
            for client in clients:
                await client.__aexit__(None, None, None)
        await record.events.reach(20)
    assert record.events.seen == [("close", 1006)] * 20


# --- Closing


@pytest.mark.parametrize("code", LEGAL_CODES)
@on_each_loop
async def test_legal_codes_are_answered_with_themselves(code: int) -> None:
    record = Record()
    async with App().listening() as server, upgraded(server) as client:
        await client.send(close_frame(code, "ä" * 61))
        answer = await client.frame()
        assert (answer.opcode, answer.code) == (CLOSE, code)
        assert await rest(client) == b""
    assert record.events.seen == [("close", code)]


@on_each_loop
async def test_what_comes_behind_a_close_frame_is_ignored(direct: bool) -> None:
    record = Record()
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "1"), close_frame(4000), frame(TEXT, "2"), frame(PING, "3"), frame(0x7), FLOOD)
        assert await client.frame() == Frame(CLOSE, b"\x0f\xa0")
        await client.send(close_frame(4001), FLOOD)
        assert await rest(client) == b""
    assert record.events.seen == [("message", "1"), ("close", 4000)]


@on_each_loop
async def test_a_peer_that_closes_and_keeps_its_connection(direct: bool) -> None:
    """After close_timeout it is cut off, though it would never end it."""
    record = Record(close_timeout=0.01)
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(close_frame(1000))
        assert await client.frame() == Frame(CLOSE, b"\x03\xe8")
        assert await rest(client) == b""
        with pytest.raises(ConnectionError):
            while True:
                await client.send(FLOOD)
    assert record.events.seen == [("close", 1000)]


@on_each_loop
async def test_a_peer_that_never_answers_a_close_frame(direct: bool) -> None:
    record = Record(close_timeout=0.01)
    record.ws.on_connect(lambda conn: conn.close(4000, "out"))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        assert await client.frame() == Frame(CLOSE, b"\x0f\xa0out")
        await record.events.reach(1)
        assert await client.eof() == b""
    assert record.events.seen == [("close", 1006)]


@on_each_loop
async def test_a_peer_that_floods_instead_of_answering_a_close_frame(direct: bool) -> None:
    record = Record()
    record.ws.on_connect(lambda conn: conn.close(4000))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(*[FLOOD] * 10)
        assert await client.frame() == Frame(CLOSE, b"\x0f\xa0")
        await client.send(FLOOD, frame(PING, "x"), close_frame(4000))
        assert await rest(client) == b""
    assert record.events.seen == [("close", 4000)], "what comes after close() is not handled"


@on_each_loop
async def test_mistakes_while_a_close_frame_is_awaited(direct: bool) -> None:
    record = Record()
    record.ws.on_connect(lambda conn: conn.close(4000))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(0x3), FLOOD)
        assert await client.frame() == Frame(CLOSE, b"\x0f\xa0"), "there is one close frame"
        assert await rest(client) == b""
    assert record.events.seen[-1] == ("close", 1002)
    assert [event[0] for event in record.events.seen] == ["error", "close"]


# --- Who does not read


@on_each_loop
async def test_a_ping_flood_without_reading_is_closed(direct: bool) -> None:
    """Pongs count like messages: past max_backlog the connection is closed, and the pongs before that are whole."""
    record = Record(max_backlog=50_000)
    async with App().listening(direct=direct) as server, tcp(server, receive_buffer=2048) as client:
        await client.upgrade()
        client.stop_reading()
        while not record.events.seen:
            await client.send(frame(PING, b"p" * 125) * 1000)
            await asyncio.sleep(0)
        client.read_on()
        *pongs, close = await client.until_close()
        assert set(pongs) == {Frame(PONG, b"p" * 125)}
        assert close.code == 1013
        assert await rest(client) == b""
    (_, error), closed = record.events.seen
    assert "max_backlog" in error and closed == ("close", 1013)


@on_each_loop
async def test_a_ping_flood_without_reading_drops(direct: bool) -> None:
    """With on_backlog="drop" the connection stays, and answers again when its peer reads."""
    record = Record(max_backlog=50_000, on_backlog="drop")
    async with App().listening(direct=direct) as server, tcp(server, receive_buffer=2048) as client:
        await client.upgrade()
        (conn,) = record.ws.get_connections()
        client.stop_reading()
        while conn.dropped < 1000:
            await client.send(frame(PING, b"p" * 125) * 1000)
            await asyncio.sleep(0)
            assert conn.buffered <= 70_000, "that, or what one turn sends when nothing waits yet"
        client.read_on()
        while conn.buffered:
            assert await client.frame() == Frame(PONG, b"p" * 125)
        await client.send(frame(PING, b"last"))
        while await client.frame() != Frame(PONG, b"last"):
            pass
        await client.send(close_frame(1000))
        assert (await client.frame()).code == 1000
    assert record.events.seen == [("close", 1000)]

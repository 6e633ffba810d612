"""Peers whose connection ends without a close frame, or right behind their last bytes: by a reset, or by its half."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import Run
from support.client import BINARY, CLOSE, TEXT, Frame, close_frame, frame, handshake, request, upgraded
from support.events import on_each_loop
from support.record import Record, rest

from crest import App


@pytest.mark.parametrize(
    "unfinished",
    [b"", b"\x82", frame(BINARY, b"x" * 5000)[:100], frame(TEXT, "x", fin=False), frame(TEXT, "x" * 9000)[:5000]],
    ids=["between frames", "in a header", "in a payload", "between fragments", "in a long text"],
)
@pytest.mark.parametrize("how", ["reset", "close", "half"])
@on_each_loop
async def test_an_end_without_a_close_frame(unfinished: bytes, how: str, direct: bool) -> None:
    record = Record()
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "before"), unfinished)
            await record.events.reach(1)
            if how == "reset":
                client.reset()
            elif how == "half":
                client.writer.write_eof()
                assert await rest(client) == b"", "the server ends its half, too"
            else:
                await client.close()
            await record.events.reach(2)
        assert record.ws.connection_count() == 0
    assert record.events.seen == [("message", "before"), ("close", 1006)]


@on_each_loop
async def test_answers_reach_who_has_closed_its_half(direct: bool) -> None:
    """Requests and an end of stream in one packet, as `nc -N` sends them."""
    record = Record(max_backlog=1 << 30)
    record.ws.on_message(lambda conn, message: conn.send(message * 2000))
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        client.writer.write(frame(TEXT, "x" * 1000) * 10)
        client.writer.write_eof()
        frames = [await client.frame() for _ in range(10)]
        assert frames == [Frame(TEXT, b"x" * 2_000_000)] * 10
        assert await rest(client) == b""
    assert record.events.seen == [("close", 1006)]


@on_each_loop
async def test_a_close_frame_and_the_end_of_a_half(direct: bool) -> None:
    record = Record()
    async with App().listening(direct=direct) as server, upgraded(server) as client:
        client.writer.write(close_frame(4000))
        client.writer.write_eof()
        assert await client.frame() == Frame(CLOSE, b"\x0f\xa0")
        assert await rest(client) == b""
    assert record.events.seen == [("close", 4000)]


LAST_WORDS = [close_frame(4000), frame(0x3), frame(TEXT, "x") + close_frame(), frame(TEXT, "x") + frame(0x3)]


@contextmanager
def raw(address: tuple[str, int]) -> Iterator[socket.socket]:
    """A blocking socket that is reset when it is closed: what it does happens before the loop runs again."""
    with socket.create_connection(address) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield sock


@pytest.mark.parametrize("last", [b"", *LAST_WORDS])
def test_a_reset_right_behind(run: Run[None], direct: bool, last: bytes) -> None:
    """The reset has come before the server reads: its answer can not be sent, nor its half be closed."""

    async def main() -> None:
        record = Record()
        record.ws.on_message(lambda conn, message: conn.send(message * 100_000))
        async with App().listening(direct=direct) as server:
            for i in range(20):
                with raw(server.address) as sock:
                    sock.sendall(handshake("/ws"))
                    while record.ws.connection_count() == 0:
                        await asyncio.sleep(0)
                    sock.sendall(last)
                while len([event for event in record.events.seen if event[0] == "close"]) <= i:
                    await record.events.reach(len(record.events.seen) + 1)
            codes = {event[1] for event in record.events.seen if event[0] == "close"}
            assert codes <= {1006, 4000, 1002, 1005}

    run(main())


@pytest.mark.parametrize("last", LAST_WORDS)
def test_an_end_right_behind(run: Run[None], direct: bool, last: bytes) -> None:
    """Here the answer is what is answered with a reset: nobody reads it any more."""

    async def main() -> None:
        record = Record()
        record.ws.on_message(lambda conn, message: conn.send(message * 100_000))
        async with App().listening(direct=direct) as server:
            for i in range(20):
                with socket.create_connection(server.address) as sock:
                    sock.sendall(handshake("/ws"))
                    while record.ws.connection_count() == 0:
                        await asyncio.sleep(0)
                    sock.sendall(last)
                while len([event for event in record.events.seen if event[0] == "close"]) <= i:
                    await record.events.reach(len(record.events.seen) + 1)
            codes = {event[1] for event in record.events.seen if event[0] == "close"}
            assert codes <= {4000, 1002, 1005}

    run(main())


def test_a_reset_behind_pipelined_requests(run: Run[None], direct: bool) -> None:
    """An answer that is not needed any more is not begun, and nobody warns that it never was."""

    async def main() -> None:
        record, app = Record(), App()

        @app.get("/page")
        async def page(_: object) -> str:
            return "x" * 3_000_000

        async with app.listening(direct=direct) as server:
            for _ in range(20):
                with raw(server.address) as sock:
                    sock.sendall(request("/page") * 3)
                    for _ in range(5):
                        await asyncio.sleep(0)
            async with upgraded(server) as client:
                await client.send(close_frame(1000))
                await client.frame()
        assert record.events.seen == [("close", 1000)]

    run(main())


def test_a_reset_during_the_handshake(run: Run[None], direct: bool) -> None:
    async def main() -> None:
        record = Record()
        record.ws.on_connect(lambda conn: record.events.add("connect"))
        async with App().listening(direct=direct) as server:
            for size in (0, 10, len(handshake("/ws"))):
                with raw(server.address) as sock:
                    sock.sendall(handshake("/ws")[:size])
            async with upgraded(server) as client:
                await client.send(close_frame(1000))
                await client.frame()
                await rest(client)
        connects = [event for event in record.events.seen if event == "connect"]
        closes = [event for event in record.events.seen if event[0] == "close"]
        assert len(connects) == len(closes) in (1, 2)

    run(main())


def test_resets_while_much_is_sent(run: Run[None], direct: bool) -> None:
    """A reader that stalls and then resets, with output in the outbox, in the transport and in the kernel."""

    async def main() -> None:
        record = Record(max_backlog=1 << 26)
        record.ws.on_connect(lambda conn: [conn.send("x" * 100_000) for _ in range(100)])
        async with App().listening(direct=direct) as server:
            for i in range(10):
                with raw(server.address) as sock:
                    sock.sendall(handshake("/ws"))
                    while record.ws.connection_count() == 0:
                        await asyncio.sleep(0)
                    record.ws.broadcast("y" * 100_000)
                    await asyncio.sleep(0)
                    sock.recv(1 << i)
                await record.events.reach(i + 1)
        assert record.events.seen == [("close", 1006)] * 10

    run(main())

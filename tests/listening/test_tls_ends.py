"""crest.listening.tls: how WebSockets over TLS end, and peers that do not read."""

import asyncio

import pytest
from support.certificates import Pair
from support.client import BINARY, CLOSE, GUARD, TEXT, close_frame, frame, tcp, upgraded
from support.events import Events, on_each_loop, until
from support.tls import echo, served

from crest import WebSocketConnection, WebSocketServer


@on_each_loop
async def test_the_close_frame_arrives_behind_everything_that_was_sent(pair: Pair, direct: bool) -> None:
    ws = WebSocketServer(max_backlog=1 << 26)

    @ws.on_message
    def received(conn: WebSocketConnection, message: str) -> None:
        conn.send_binary(bytes(1 << 23))
        conn.close(4001, "done")

    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(frame(TEXT, "go"))
        data, close = await client.until_close()
        assert len(data.payload) == 1 << 23
        assert (close.code, close.reason) == (4001, "done")
        await client.send(close_frame(4001))
        assert await client.eof() == b""


@on_each_loop
async def test_a_client_that_goes_on_sending_gets_the_close_frame(pair: Pair, direct: bool) -> None:
    ws = WebSocketServer(max_message_size=1000)
    ws.on_message(lambda conn, message: None)
    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(frame(TEXT, "x" * 1001), *[frame(BINARY, bytes(60_000))] * 20)
        assert [each.code for each in await client.until_close() if each.opcode == CLOSE] == [1009]


@pytest.mark.parametrize("ending", ["close", "reset"])
@on_each_loop
async def test_the_end_without_a_close_frame_is_1006(
    ending: str, pair: Pair, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events = echo(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with served(pair, direct) as server:
        async with upgraded(server, ws.path, tls=pair.client()) as client:
            if ending == "reset":
                client.reset()
        assert await events.reach(1) == [1006]
    assert caplog.records == []


@on_each_loop
async def test_a_peer_that_never_answers_is_cut_off(pair: Pair, direct: bool) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_connect(lambda conn: conn.close())
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        assert (await client.frame()).code == 1000
        assert await client.eof() == b""
        assert await events.reach(1) == [1006]


@on_each_loop
async def test_a_peer_that_reads_nothing_is_cut_off(pair: Pair, direct: bool) -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with asyncio.timeout(GUARD), served(pair, direct, shutdown_timeout=1000) as server:
        async with upgraded(server, tls=pair.client()) as client:
            client.stop_reading()
            await client.send(close_frame(1000))
            assert await events.reach(1) == [1000]
            await server.stop()
            client.writer.transport.abort()


@on_each_loop
async def test_what_a_slow_reader_does_not_take_is_bounded(pair: Pair, direct: bool) -> None:
    ws, opened, closed = WebSocketServer(max_backlog=1 << 20), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with served(pair, direct) as server, tcp(server, receive_buffer=4096, tls=pair.client()) as client:
        await client.upgrade()
        client.stop_reading()
        (conn,) = await opened.reach(1)
        sent = 0
        while conn.send_binary(bytes(1 << 16)):
            assert conn.buffered <= (1 << 20) + (1 << 17)
            sent += 1
            await asyncio.sleep(0)
            assert sent < 1000, "nothing holds the sender back"
        assert await closed.reach(1) == [1013]
        client.writer.transport.abort()


@on_each_loop
async def test_a_full_queue_stops_the_reading(pair: Pair, direct: bool) -> None:
    ws, begun, release, events = WebSocketServer(max_queue=2), asyncio.Event(), asyncio.Event(), Events()

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        begun.set()
        await release.wait()
        events.add(message)

    async with served(pair, direct) as server, upgraded(server, tls=pair.client()) as client:
        await client.send(*[frame(TEXT, str(number)) for number in range(50)])
        await until(begun)
        assert events.seen == []
        release.set()
        assert await events.reach(50) == [str(number) for number in range(50)]

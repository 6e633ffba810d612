"""max_backlog_total over real sockets: past it the slowest clients go, and nobody else notices."""

import asyncio
import gc
import logging
import socket
import tracemalloc
from contextlib import AsyncExitStack

import pytest
from support.certificates import Pair
from support.client import CLOSE, TEXT, Client, Frame, tcp, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer
from crest.listening.listener import Listener

TOTAL = 4_000_000
"""Bytes, the limit of most tests."""

PART = 50_000
"""Bytes of a message."""


def slow_server(**options: object) -> WebSocketServer:
    return WebSocketServer(max_backlog=1 << 26, **options)  # type: ignore[arg-type]


def little_kernel(server: Listener) -> None:
    """Have the kernel take little for a connection; accepted sockets inherit it."""
    for each in server.sockets:
        with socket.fromfd(each.fileno(), each.family, each.type) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)


async def send_parts(conn: WebSocketConnection, size: int, name: str) -> list[str]:
    """Send messages, all different, until so many bytes wait; returns those that were accepted."""
    sent = []
    while conn.is_open() and conn.buffered < size:
        sent.append(f"{name} {len(sent)} ".ljust(PART, "."))
        if not conn.send(sent[-1]):
            del sent[-1]
        await asyncio.sleep(0)
    return sent


async def stalled(client: Client, ws: WebSocketServer) -> WebSocketConnection:
    await client.upgrade()
    client.stop_reading()
    return ws.get_connections()[-1]


@on_each_loop
async def test_the_slowest_is_closed_with_1013_and_the_others_go_on(
    direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events = slow_server(), Events()
    ws.on_error(lambda conn, error: events.add(conn, str(error)))
    ws.on_close(lambda conn, code, reason: events.add(conn, code, reason))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(App(max_backlog_total=TOTAL).listening(direct=direct))
        little_kernel(server)
        reader = await stack.enter_async_context(upgraded(server))
        clients = [await stack.enter_async_context(tcp(server, receive_buffer=2048)) for _ in range(3)]
        conns = [await stalled(client, ws) for client in clients]
        sent = [await send_parts(conn, 800_000, f"{i}") for i, conn in enumerate(conns)]
        assert events.seen == []
        sent[1] += await send_parts(conns[1], TOTAL, "more")
        ((failed, error), (closed, code, reason)) = await events.reach(2)
        assert failed is closed is conns[1]
        assert (code, reason) == (1013, error)
        assert error.startswith("the peer reads too slowly: ")
        assert error.endswith(f" bytes waited for it, and for all together more than max_backlog_total, {TOTAL} bytes")
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().endswith(f"max_backlog_total is {TOTAL}: of 3 slow connections 1 are closed")

        ws.broadcast("to all")
        assert await reader.frame() == Frame(TEXT, b"to all")
        for i, client in enumerate(clients):
            client.read_on()
            if i == 1:
                *frames, close = await client.until_close()
                assert (close.opcode, close.code) == (CLOSE, 1013)
                assert 0 < len(frames) < len(sent[i]) / 2, "what waited is given up"
                assert len(frames) + conns[i].dropped == len(sent[i])
            else:
                frames = [await client.frame() for _ in sent[i]]
                assert await client.frame() == Frame(TEXT, b"to all")
            assert [frame.payload.decode() for frame in frames] == sent[i][: len(frames)], "whole, and in order"
        assert len(events.seen) == 2


@on_each_loop
async def test_over_tls_too(pair: Pair, direct: bool) -> None:
    ws, events = slow_server(), Events()
    ws.on_close(lambda conn, code, reason: events.add(conn, code))
    app = App(max_backlog_total=TOTAL)
    listening = app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=direct)
    async with listening as server, AsyncExitStack() as stack:
        little_kernel(server)
        clients = [
            await stack.enter_async_context(tcp(server, receive_buffer=4096, tls=pair.client())) for _ in range(2)
        ]
        conns = [await stalled(client, ws) for client in clients]
        sent = await send_parts(conns[0], TOTAL // 3, "few")
        await send_parts(conns[1], TOTAL, "many")
        assert await events.reach(1) == [(conns[1], 1013)]
        clients[0].read_on()
        assert [(await clients[0].frame()).payload.decode() for _ in sent] == sent
        for client in clients:
            client.writer.transport.abort()


@on_each_loop
async def test_without_a_limit_each_has_its_own_only() -> None:
    ws, events = slow_server(), Events()
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App(max_backlog_total=None).listening() as server, tcp(server, receive_buffer=2048) as client:
        conn = await stalled(client, ws)
        sent = await send_parts(conn, 20_000_000, "much")
        client.read_on()
        for text in sent:
            assert (await client.frame()).payload.decode() == text
    assert events.seen == [1006]


STALLED, LARGE_TOTAL = 200, 1 << 25


@pytest.mark.parametrize("policy", ["close", "drop-newest", "drop-oldest", "latest"])
@on_each_loop
async def test_the_memory_for_two_hundred_who_never_read(policy: str, direct: bool) -> None:
    """A tenth of what they may have each, together, over two servers: Python's memory keeps to it, and who reads gets
    everything."""
    first = slow_server(on_backlog=policy)
    second = WebSocketServer("/second", max_backlog=1 << 26, on_backlog=policy, compression="deflate")
    codes = Events()
    for ws in (first, second):
        ws.on_close(lambda conn, code, reason: codes.add(code))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(App(max_backlog_total=LARGE_TOTAL).listening(direct=direct))
        little_kernel(server)
        reader = await stack.enter_async_context(upgraded(server))
        for i in range(STALLED):
            client = await stack.enter_async_context(tcp(server, receive_buffer=2048))
            await client.upgrade(second.path if i % 2 else first.path)
            client.stop_reading()
        conns = [conn for ws in (first, second) for conn in ws.get_connections()][1:]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for number in range(60):
                for i, conn in enumerate(conns):
                    conn.send(f"{number} {i} ".ljust(20_000 + 40 * i, "."), compress=False)
                text = f"{number}".ljust(30_000, ".")
                first.broadcast(text, key=number)
                second.broadcast(text, key=number)
                assert await reader.frame() == Frame(TEXT, text.encode())
            grown = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert grown < 1.3 * LARGE_TOTAL
        assert set(codes.seen) == {1013} and 0 < len(codes.seen) < STALLED
        opened = [conn.is_open() for conn in conns]
        assert sum(opened[:50]) > sum(opened[-50:]), "the slowest first"
    assert len(codes.seen) == STALLED + 1


@on_each_loop
async def test_what_waits_below_tls_counts(pair: Pair) -> None:
    """The loop's transport of TLS has another one below it, which keeps more than 64 KiB before the upper one says that
    there is no room."""
    ws = slow_server(close_timeout=60)
    app = App(max_backlog_total=1 << 30)
    listening = app.listening(certfile=pair.certfile, keyfile=pair.keyfile, direct=False)
    async with listening as server, AsyncExitStack() as stack:
        little_kernel(server)
        client = await stack.enter_async_context(tcp(server, receive_buffer=4096, tls=pair.client()))
        conn = await stalled(client, ws)
        await send_parts(conn, 1_000_000, "much")
        assert server.turn.budget.used >= conn.buffered + (1 << 16)
        client.writer.transport.abort()

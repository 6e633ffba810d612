"""crest.connection: messages arrive in the order of the calls, sends and broadcasts alike, with what they held then."""

import asyncio
import random
from typing import Any

import pytest
from support.client import GUARD, TEXT, Client, connect, frame, tcp, upgraded
from support.events import KINDS, Events, of_kind, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer

SIZES = [0, 1, 125, 126, 8191, 8192, 8193, 65535, 65536, 65537, 200_000, 1_000_000]
"""Bytes; around the sizes at which frame headers grow, and output is copied, referenced or flushed."""


async def payloads(client: Client, count: int) -> list[bytes]:
    return [(await client.frame()).payload for _ in range(count)]


# ---- Order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_sends_arrive_in_the_order_of_the_calls(kind: str) -> None:
    ws = WebSocketServer(max_backlog=1 << 26)
    messages = [str(i).ljust(size, "x") for i, size in enumerate(SIZES * 3)]
    ws.on_message(of_kind(kind, lambda conn, message: [conn.send(each) for each in messages]))
    async with App().listening() as server, connect(server) as client:
        await client.send("go")
        assert [await client.recv() for _ in messages] == messages


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_text_and_binary_keep_their_order(kind: str) -> None:
    ws = WebSocketServer()

    def received(conn: WebSocketConnection, message: str) -> None:
        for i in range(100):
            conn.send(str(i)) if i % 3 else conn.send_binary(str(i).encode())

    ws.on_message(of_kind(kind, received))
    async with App().listening() as server, connect(server) as client:
        await client.send("go")
        assert [await client.recv() for _ in range(100)] == [str(i) if i % 3 else str(i).encode() for i in range(100)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", ["sb", "bs", "ssb", "bbs", "sbbs", "bssb"])
@pytest.mark.parametrize("size", [1, 9000, 70_000])
@on_each_loop
async def test_sends_and_broadcasts_of_one_handler_keep_their_order(kind: str, pattern: str, size: int) -> None:
    ws = WebSocketServer(max_backlog=1 << 26)

    def received(conn: WebSocketConnection, message: str) -> None:
        for i, what in enumerate(pattern * 5):
            text = str(i).ljust(size)
            conn.send(text) if what == "s" else ws.broadcast(text)

    ws.on_message(of_kind(kind, received))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "go"))
        got = await payloads(client, len(pattern) * 5)
        assert [int(each) for each in got] == list(range(len(pattern) * 5))


@pytest.mark.parametrize("seed", range(5))
@on_each_loop
async def test_calls_of_many_handlers_and_tasks_keep_their_order(seed: int) -> None:
    """Whoever calls, whenever, to whom: each client gets what was sent to it, in the order of all the calls."""
    rng = random.Random(seed)
    ws, opened = WebSocketServer(max_backlog=1 << 28), Events()
    ws.on_connect(opened.add)
    expected: dict[WebSocketConnection, list[str]] = {}
    number = 0

    def act() -> None:
        nonlocal number
        for _ in range(rng.randrange(1, 5)):
            number += 1
            text = str(number).ljust(rng.choice([1, 1, 1, 100, 9000, 70_000]), "x")
            if rng.random() < 0.5:
                ws.broadcast(text) if rng.random() < 0.7 else ws.broadcast_binary(text.encode())
                for each in expected.values():
                    each.append(text)
            else:
                conn = rng.choice(list(expected))
                conn.send(text) if rng.random() < 0.7 else conn.send_binary(text.encode())
                expected[conn].append(text)

    ws.on_message(of_kind("plain", lambda conn, message: act()))
    ws.on_binary(of_kind("async", lambda conn, data: act()))
    async with App().listening() as server, upgraded(server) as one, upgraded(server) as two, upgraded(server) as three:
        expected.update({conn: [] for conn in await opened.reach(3)})
        clients = {client.address: client for client in (one, two, three)}
        for _ in range(60):
            client = rng.choice(list(clients.values()))
            client.writer.write(b"".join(frame(rng.choice([1, 2]), b"x") for _ in range(rng.randrange(1, 4))))
            if rng.random() < 0.5:
                await asyncio.sleep(0)
            if rng.random() < 0.3:
                act()
        ws.broadcast("last")
        before = {conn: [*messages, "last"] for conn, messages in expected.items()}
        for conn, messages in before.items():
            got = await payloads(clients[conn.remote_address], len(messages))
            assert [each.decode() for each in got] == messages


@on_each_loop
async def test_a_slow_reader_gets_sends_and_broadcasts_in_order() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 28), Events()
    ws.on_connect(opened.add)
    sizes = [10, 300_000, 5, 70_000, 0, 9000, 1_000_000, 3, 125, 126] * 10
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        (conn,) = await opened.reach(1)
        for i, size in enumerate(sizes):
            text = f"{i} ".ljust(size, "x")
            conn.send(text) if i % 3 == 0 else ws.broadcast(text)
            if i % 7 == 0:
                await asyncio.sleep(0)
        assert conn.buffered > 0
        got = await payloads(client, len(sizes))
        assert [int(each.split()[0]) for each in got] == list(range(len(sizes)))
        assert [len(each) for each in got] == [max(size, len(f"{i} ")) for i, size in enumerate(sizes)]


@on_each_loop
async def test_pongs_and_messages_come_in_the_order_of_what_they_answer() -> None:
    ws = WebSocketServer()
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(*(frame(0x9 if i % 2 else TEXT, str(i)) for i in range(40)))
        assert await payloads(client, 40) == [b"%d" % i for i in range(40)]


# ---- Buffers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@on_each_loop
async def test_a_bytearray_may_be_changed_as_soon_as_send_binary_returns(kind: str, size: int) -> None:
    ws = WebSocketServer(max_backlog=1 << 26)

    def connected(conn: WebSocketConnection) -> None:
        data = bytearray(b"a" * size)
        conn.send_binary(data)
        data[:] = b"b" * size
        conn.send_binary(memoryview(data))
        data[:] = b"c" * size
        data.clear()  # and no export of it is left

    ws.on_connect(of_kind(kind, connected))
    async with App().listening() as server, connect(server) as client:
        assert [await client.recv(), await client.recv()] == [b"a" * size, b"b" * size]


@pytest.mark.parametrize("size", [1, 9000, 70_000, 1_000_000])
@on_each_loop
async def test_a_buffer_may_be_changed_while_the_peer_does_not_read(size: int) -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 28), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        (conn,) = await opened.reach(1)
        conn.send_binary(bytes(1 << 24))
        data = bytearray(b"a" * size)
        for letter in (b"b", b"c", b"d"):
            conn.send_binary(data)
            ws.broadcast_binary(data)
            data[:] = letter * size
        got = (await payloads(client, 7))[1:]
        assert got == [letter * size for letter in (b"a", b"a", b"b", b"b", b"c", b"c")]


@on_each_loop
async def test_what_was_sent_lives_until_it_has_been_sent() -> None:
    """Large str and bytes are not copied: nobody else holds them any more."""
    ws, opened = WebSocketServer(max_backlog=1 << 28), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        (conn,) = await opened.reach(1)
        for i in range(30):
            conn.send(chr(0x100 + i) * 200_000)
            conn.send_binary(bytes([i]) * 200_000)
        rubbish: list[Any] = [bytes([255]) * 200_000 for _ in range(60)]
        for i in range(30):
            assert (await client.frame()).payload.decode() == chr(0x100 + i) * 200_000
            assert (await client.frame()).payload == bytes([i]) * 200_000
        del rubbish


# ---- The backlog policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["send", "broadcast"])
@on_each_loop
async def test_past_max_backlog_send_returns_false_and_the_connection_closes_with_1013(how: str) -> None:
    ws, opened, events = WebSocketServer(max_backlog=100_000, close_timeout=0.1), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_error(lambda conn, error: events.add(error))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        client.stop_reading()
        (conn,) = await opened.reach(1)
        accepted = True
        while accepted:
            if how == "send":
                accepted = conn.send("x" * 50_000)
            else:
                ws.broadcast("x" * 50_000)
                accepted = conn.is_open()
            await asyncio.sleep(0)
        error, code = await events.reach(2)
        assert "max_backlog is 100000 bytes" in error
        assert code == 1013
        assert conn.send("x") is False


@on_each_loop
async def test_with_drop_the_newest_messages_are_dropped_and_the_connection_stays_open() -> None:
    ws, opened = WebSocketServer(max_backlog=100_000, on_backlog="drop"), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        (conn,) = await opened.reach(1)
        accepted, number = [], 0
        while conn.dropped < 5:
            if conn.send(str(number).ljust(50_000)):
                accepted.append(number)
            number += 1
            await asyncio.sleep(0)
        assert conn.is_open()
        assert number == len(accepted) + 5
        assert [int(each) for each in await payloads(client, len(accepted))] == accepted
        await client.round_trip()
        assert conn.send("last") is True
        assert await payloads(client, 1) == [b"last"]


@on_each_loop
async def test_a_slow_reader_does_not_hold_up_others() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 28), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, tcp(server, receive_buffer=32768) as slow, connect(server) as quick:
        await slow.upgrade()
        await opened.reach(2)
        for i in range(30):
            ws.broadcast(str(i).ljust(200_000))
            async with asyncio.timeout(GUARD):
                assert int(await quick.recv()) == i

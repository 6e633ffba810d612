"""crest.server: how handlers are called. Plain ones at once, async ones one by one; no connection waits for another."""

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from support.client import BINARY, GUARD, PING, PONG, TEXT, Client, Frame, close_frame, connect, frame, tcp, upgraded
from support.events import KINDS, Events, Gate, of_kind, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_messages_are_handled_in_the_order_of_their_arrival(kind: str) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(of_kind(kind, lambda conn, message: events.add(message)))
    ws.on_binary(of_kind(kind, lambda conn, data: events.add(data)))
    expected = [str(i) if i % 3 else str(i).encode() for i in range(200)]
    async with App().listening() as server, upgraded(server) as client:
        await client.send(*(frame(TEXT if i % 3 else BINARY, str(i)) for i in range(200)))
        assert await events.reach(200) == expected


@on_each_loop
async def test_a_plain_handler_is_called_on_the_event_loop() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(asyncio.get_running_loop()))
    async with App().listening() as server, connect(server):
        assert await events.reach(1) == [asyncio.get_running_loop()]


@on_each_loop
async def test_async_handlers_of_one_connection_run_one_at_a_time() -> None:
    ws, events = WebSocketServer(), Events()
    running = 0

    async def handler(*args: Any) -> None:
        nonlocal running
        running += 1
        for _ in range(5):
            await asyncio.sleep(0)
        events.add(running)
        running -= 1

    for register in (ws.on_connect, ws.on_message, ws.on_binary, ws.on_close):
        register(handler)
    async with App().listening() as server, upgraded(server) as client:
        await client.send(*(frame(TEXT if i % 2 else BINARY, "x") for i in range(20)), close_frame(1000))
        assert await events.reach(22) == [1] * 22


@pytest.mark.parametrize("blocked_in", ["on_connect", "on_message", "on_binary"])
@on_each_loop
async def test_everything_of_a_connection_waits_for_its_async_handler(blocked_in: str) -> None:
    ws, events, gate = WebSocketServer(), Events(), Gate()

    slow = gate.before(lambda *args: events.add("slow"))
    ws.on_message(lambda conn, message: events.add(message))
    ws.on_binary(lambda conn, data: events.add(data))
    ws.on_close(lambda conn, code, reason: events.add(code))
    getattr(ws, blocked_in)(slow)
    text, binary = frame(TEXT, "text"), frame(BINARY, b"binary")
    messages = {"on_connect": [text, binary], "on_message": [text, binary], "on_binary": [binary, text]}[blocked_in]
    rest = {"on_connect": ["text", b"binary"], "on_message": [b"binary"], "on_binary": ["text"]}[blocked_in]
    async with App().listening() as server, upgraded(server) as client:
        await client.send(*messages)
        await client.round_trip()
        await client.send(close_frame(1000))
        await client.eof()
        await gate.reached()
        assert events.seen == []
        gate.open()
        assert await events.reach(2 + len(rest)) == ["slow", *rest, 1000]


@on_each_loop
async def test_plain_handlers_wait_for_an_async_handler_of_their_connection() -> None:
    ws, events, release = WebSocketServer(), Events(), asyncio.Event()

    async def connected(conn: WebSocketConnection) -> None:
        await release.wait()
        events.add("connect")

    ws.on_connect(connected)
    ws.on_message(lambda conn, message: events.add(message))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await client.round_trip()
        assert events.seen == []
        release.set()
        assert await events.reach(2) == ["connect", "x"]


@on_each_loop
async def test_connections_do_not_wait_for_each_others_async_handlers() -> None:
    ws, gate = WebSocketServer(), Gate()

    async def received(conn: WebSocketConnection, message: str) -> None:
        if message == "wait":
            await gate.passed()
        conn.send(message)

    ws.on_message(received)
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await one.send("wait")
        await gate.reached()
        await two.send("pass")
        assert await two.recv() == "pass"
        async with connect(server) as three:
            await three.send("pass")
            assert await three.recv() == "pass"
        gate.open()
        assert await one.recv() == "wait"


@on_each_loop
async def test_each_connection_keeps_its_own_order() -> None:
    ws, seen, events = WebSocketServer(), defaultdict(list), Events()

    async def received(conn: WebSocketConnection, message: str) -> None:
        for _ in range(int(message) % 4):
            await asyncio.sleep(0)
        seen[conn].append(int(message))
        events.add(message)

    ws.on_message(received)
    async with App().listening() as server, asyncio.TaskGroup() as group:

        async def talk() -> None:
            async with upgraded(server) as client:
                await client.send(*(frame(TEXT, str(i)) for i in range(100)))
                await client.round_trip()

        for _ in range(5):
            group.create_task(talk())
        await events.reach(500)
    assert list(seen.values()) == [list(range(100))] * 5


@on_each_loop
async def test_a_ping_is_answered_while_a_handler_is_pending() -> None:
    ws, gate = WebSocketServer(), Gate()

    async def received(conn: WebSocketConnection, message: str) -> None:
        await gate.passed()

    ws.on_message(received)
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await gate.reached()
        await client.send(frame(PING, b"?"))
        assert await client.frame() == Frame(PONG, b"?")
        gate.open()


# ---- The bound on what waits -----------------------------------------------------------------------------------------


async def settled(client: Client, other: Client) -> int:
    """What the client could not get rid of, once nothing moves any more; `other` shows that the server goes on."""
    before, same = -1, 0
    while same < 20:
        size = client.writer.transport.get_write_buffer_size()
        same, before = same + 1 if size == before else 0, size
        await other.round_trip()
    return before


@on_each_loop
async def test_past_max_queue_the_socket_is_not_read_until_the_handler_has_ended() -> None:
    ws, events, release = WebSocketServer(max_queue=4), Events(), asyncio.Event()

    async def received(conn: WebSocketConnection, data: bytes) -> None:
        await release.wait()
        events.add(data[:2])

    ws.on_binary(received)
    messages = [b"%02d" % i + bytes(900_000) for i in range(30)]
    async with App().listening() as server, upgraded(server) as client, upgraded(server) as other:
        client.writer.write(b"".join(frame(BINARY, message) for message in messages))
        left = await settled(client, other)
        assert left > 0
        release.set()
        assert await events.reach(30) == [message[:2] for message in messages]
        async with asyncio.timeout(GUARD):
            await client.writer.drain()


@on_each_loop
async def test_without_a_pending_handler_the_socket_is_read() -> None:
    ws, events = WebSocketServer(max_queue=4), Events()
    ws.on_binary(lambda conn, data: events.add(data[:2]))
    async with App().listening() as server, upgraded(server) as client, upgraded(server) as other:
        client.writer.write(b"".join(frame(BINARY, b"%02d" % i + bytes(900_000)) for i in range(30)))
        assert await settled(client, other) == 0
        await events.reach(30)


@on_each_loop
async def test_a_close_frame_behind_more_messages_than_max_queue_waits_for_all_of_them() -> None:
    ws, events, gate = WebSocketServer(max_queue=1), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    messages = [str(i) for i in range(50)]
    async with App().listening() as server, upgraded(server) as client:
        await client.send(*(frame(TEXT, message) for message in messages), close_frame(4000))
        await gate.reached()
        assert events.seen == []
        gate.open()
        assert await events.reach(51) == [*messages, 4000]


@pytest.mark.parametrize("leave", ["end", "reset"])
@on_each_loop
async def test_messages_that_wait_are_handled_although_the_peer_has_gone(leave: str) -> None:
    ws, events, gate = WebSocketServer(max_queue=2), Events(), Gate()

    ws.on_message(gate.before(lambda conn, message: events.add(message)))
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "a"), frame(TEXT, "b"))
            await gate.reached()
            await client.round_trip()
            if leave == "reset":
                client.reset()
        gate.open()
        assert await events.reach(3) == ["a", "b", 1006]


# ---- What handlers do to their own connection ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_binary", "on_error"])
@on_each_loop
async def test_a_handler_may_close_its_own_connection(kind: str, handler: str) -> None:
    ws, events = WebSocketServer(), Events()

    def fails(conn: WebSocketConnection, message: str) -> None:
        raise ValueError

    if handler == "on_error":
        ws.on_message(fails)
    ws.on_close(lambda conn, code, reason: events.add(code, conn.is_open()))
    getattr(ws, handler)(of_kind(kind, lambda conn, *args: conn.close(4001, "enough")))
    async with App().listening() as server, connect(server) as client:
        if handler != "on_connect":
            await client.send(b"x" if handler == "on_binary" else "x")
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4001, "enough")
        assert await events.reach(1) == [(4001, False)]


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_on_close_may_close_and_send_to_no_effect(kind: str) -> None:
    ws, events = WebSocketServer(), Events()

    def closed(conn: WebSocketConnection, code: int, reason: str) -> None:
        conn.close()
        events.add(conn.send("x"), conn.send_binary(b"x"), conn.ping(), conn.is_open())

    ws.on_close(of_kind(kind, closed))
    async with App().listening() as server:
        async with connect(server):
            pass
        assert await events.reach(1) == [(False, False, False, False)]


@on_each_loop
async def test_messages_behind_the_one_that_closed_the_connection_are_not_handled() -> None:
    ws, events = WebSocketServer(), Events()

    def received(conn: WebSocketConnection, message: str) -> None:
        events.add(message)
        conn.close()

    ws.on_message(received)
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "first"), frame(TEXT, "second"), close_frame(1000))
        assert await events.reach(2) == ["first", 1000]


@on_each_loop
async def test_a_handler_may_close_another_connection() -> None:
    ws = WebSocketServer()

    def received(conn: WebSocketConnection, message: str) -> None:
        for other in ws.get_connections():
            if other is not conn:
                other.close(4002)
        conn.send("done")

    ws.on_message(received)
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        await one.send("x")
        assert await one.recv() == "done"
        await two.wait_closed()
        assert two.close_code == 4002


@on_each_loop
async def test_an_async_handler_that_never_returns_is_cancelled_after_close_timeout() -> None:
    ws, events = WebSocketServer(close_timeout=0.1), Events()

    async def received(conn: WebSocketConnection, message: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            events.add("cancelled")

    ws.on_message(received)
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.send("x")
            await client.close(4000)
        assert await events.reach(2) == ["cancelled", 4000]


@on_each_loop
async def test_handlers_may_start_tasks_that_outlive_them() -> None:
    ws, tasks = WebSocketServer(), set()

    async def later(conn: WebSocketConnection) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        conn.send("later")

    def connected(conn: WebSocketConnection) -> None:
        tasks.add(asyncio.create_task(later(conn)))

    ws.on_connect(connected)
    async with App().listening() as server, connect(server) as client:
        assert await client.recv() == "later"


@on_each_loop
async def test_a_client_without_messages_hears_nothing() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_message(lambda conn, message: events.add(message))
    async with App().listening() as server, upgraded(server) as client:
        await client.round_trip()
    assert events.seen == []


@on_each_loop
async def test_what_handlers_return_is_ignored() -> None:
    ws = WebSocketServer()
    ws.on_connect(lambda conn: ["anything"])
    ws.on_message(lambda conn, message: conn.send(message))
    async with App().listening() as server, tcp(server) as client:
        await client.upgrade()
        await client.send(frame(TEXT, "x"))
        assert await client.frame() == Frame(TEXT, b"x")

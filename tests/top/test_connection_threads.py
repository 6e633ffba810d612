"""crest.connection, crest.server: what may be called from any thread, and wakes the loop by itself."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.client import CLOSE, GUARD, PING, TEXT, connect, frame, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer


def in_thread(function: Callable[[], Any]) -> Any:
    """What it returns, or raises, in a thread of its own; the caller waits, and so does the loop that it runs on."""
    outcome: list[Any] = []

    def target() -> None:
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(GUARD)
    assert outcome, "the call blocks"
    return outcome[0]


ACTIONS: dict[str, tuple[Callable[[WebSocketServer, WebSocketConnection], Any], int, bytes, Any]] = {
    "send": (lambda ws, conn: conn.send("text"), TEXT, b"text", True),
    "send_binary": (lambda ws, conn: conn.send_binary(b"binary"), 0x2, b"binary", True),
    "close": (lambda ws, conn: conn.close(4000, "bye"), CLOSE, b"\x0f\xa0bye", None),
    "broadcast": (lambda ws, conn: ws.broadcast("text"), TEXT, b"text", None),
    "broadcast_binary": (lambda ws, conn: ws.broadcast_binary(b"binary"), 0x2, b"binary", None),
}


@pytest.mark.parametrize("action", ACTIONS)
@on_each_loop
async def test_a_call_from_a_thread_wakes_the_loop(action: str) -> None:
    """Nothing else happens on the loop that could: the thread acts once the test waits, and it waits only for that."""
    function, opcode, payload, returned = ACTIONS[action]
    ws, opened, results = WebSocketServer(), Events(), []
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        asleep = threading.Event()
        thread = threading.Thread(target=lambda: (asleep.wait(GUARD), results.append(function(ws, conn))))
        thread.start()
        asyncio.get_running_loop().call_soon(asleep.set)
        assert tuple(await client.frame())[:2] == (opcode, payload)
        thread.join(GUARD)
        assert results == [returned]


@on_each_loop
async def test_ping_works_from_a_thread() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        assert in_thread(conn.ping) is True
        assert (await client.frame()).opcode == PING


@on_each_loop
async def test_a_call_from_a_thread_does_not_wait_for_the_loop() -> None:
    """`in_thread` blocks the loop meanwhile: a call that waited for it would never come back."""
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as client:
        (conn,) = await opened.reach(1)
        assert in_thread(lambda: [conn.send(str(i)) for i in range(100)]) == [True] * 100
        assert [await client.recv() for _ in range(100)] == [str(i) for i in range(100)]


@on_each_loop
async def test_order_is_kept_within_a_thread() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)

    def act(conn: WebSocketConnection) -> None:
        for i in range(0, 200, 4):
            conn.send(str(i))
            ws.broadcast(str(i + 1))
            conn.send_binary(b"%d" % (i + 2))
            ws.broadcast_binary(b"%d" % (i + 3))
        conn.close(4000)

    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        in_thread(lambda: act(conn))
        frames = await client.until_close()
        assert [int(each.payload) for each in frames[:-1]] == list(range(200))
        assert frames[-1].code == 4000


@on_each_loop
async def test_threads_send_at_the_same_time_without_mixing_their_messages() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 26), Events()
    ws.on_connect(opened.add)

    def act(conn: WebSocketConnection, number: int) -> None:
        for i in range(100):
            text = f"{number} {i} ".ljust(20_000 if i % 10 == 0 else 10, "x")
            conn.send(text) if i % 2 else ws.broadcast(text)

    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        threads = [threading.Thread(target=act, args=(conn, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        got = [(await client.frame()).payload.split()[:2] for _ in range(400)]
        for thread in threads:
            thread.join(GUARD)
    for number in range(4):
        assert [int(i) for who, i in got if int(who) == number] == list(range(100))


@on_each_loop
async def test_a_mutable_buffer_may_be_changed_after_a_call_from_a_thread() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)

    def act(conn: WebSocketConnection) -> None:
        data = bytearray(b"a" * 100_000)
        conn.send_binary(data)
        data[:] = b"b" * 100_000
        ws.broadcast_binary(data)
        data[:] = b"c" * 100_000

    async with App().listening() as server, connect(server) as client:
        (conn,) = await opened.reach(1)
        in_thread(lambda: act(conn))
        assert [await client.recv(), await client.recv()] == [b"a" * 100_000, b"b" * 100_000]


@on_each_loop
async def test_everything_that_only_reads_works_from_a_thread() -> None:
    ws, opened = WebSocketServer(subprotocols=["v1"]), Events()
    ws.on_connect(opened.add)

    def read(conn: WebSocketConnection) -> list[Any]:
        return [
            ws.connection_count(),
            ws.get_connections(),
            conn.is_open(),
            conn.get_id(),
            conn.request.query["x"],
            conn.request.cookies,
            conn.remote_address,
            conn.subprotocol,
            conn.latency,
            conn.buffered,
            conn.user,
            vars(conn.state),
        ]

    async with App().listening() as server, connect(server, "/ws?x=1", subprotocols=["v1"]):
        (conn,) = await opened.reach(1)
        assert in_thread(lambda: read(conn)) == read(conn)
        assert read(conn)[:3] == [1, [conn], True]


@on_each_loop
async def test_connections_can_be_listed_from_a_thread_while_they_come_and_go() -> None:
    ws, opened, stop = WebSocketServer(), Events(), threading.Event()
    ws.on_connect(opened.add)
    odd: list[Any] = []

    def watch() -> None:
        while not stop.is_set():
            listed = ws.get_connections()
            if not 0 <= ws.connection_count() <= 30 or len(set(listed)) != len(listed):
                odd.append(listed)

    async with App().listening() as server:
        thread = threading.Thread(target=watch)
        thread.start()

        async def come_and_go() -> None:
            for _ in range(5):
                async with upgraded(server) as client:
                    await client.round_trip()

        await asyncio.gather(*(come_and_go() for _ in range(6)))
        stop.set()
        thread.join(GUARD)
    assert len(opened.seen) == 30
    assert odd == []


@on_each_loop
async def test_wrong_arguments_are_refused_in_the_thread_that_calls() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, connect(server) as client:
        (conn,) = await opened.reach(1)
        wrong: list[tuple[Callable[[], Any], type[Exception]]] = [
            (lambda: conn.send(b"x"), TypeError),
            (lambda: conn.send_binary("x"), TypeError),
            (lambda: conn.send("\ud800"), UnicodeEncodeError),
            (lambda: conn.close(1005), ValueError),
            (lambda: ws.broadcast(b"x"), TypeError),  # type: ignore[arg-type]
            (lambda: ws.broadcast_binary("x"), TypeError),  # type: ignore[arg-type]
            (lambda: ws.broadcast("\ud800"), UnicodeEncodeError),
        ]
        for call, error in wrong:
            assert type(in_thread(call)) is error
        conn.send("fine")
        assert await client.recv() == "fine"


@on_each_loop
async def test_after_the_connection_has_ended_threads_get_false() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(conn))
    async with App().listening() as server:
        async with upgraded(server):
            (conn,) = await opened.reach(1)
        await closed.reach(1)
        calls = [lambda: conn.send("x"), lambda: conn.send_binary(b"x"), conn.ping, conn.is_open]
        assert [in_thread(call) for call in calls] == [False] * 4
        assert in_thread(conn.close) is None
    assert [in_thread(call) for call in calls] == [False] * 4
    assert in_thread(lambda: ws.broadcast("x")) is None


def test_after_the_loop_was_closed_threads_get_false() -> None:
    ws, opened, loop = WebSocketServer(), Events(), asyncio.new_event_loop()
    ws.on_connect(opened.add)
    serving = App().listening()
    server = loop.run_until_complete(serving.__aenter__())
    client = upgraded(server)
    loop.run_until_complete(client.__aenter__())
    (conn,) = loop.run_until_complete(opened.reach(1))
    loop.run_until_complete(client.__aexit__(None, None, None))
    loop.run_until_complete(serving.__aexit__(None, None, None))
    loop.close()
    assert in_thread(lambda: conn.send("x")) is False
    assert in_thread(conn.close) is None
    assert in_thread(lambda: ws.broadcast("x")) is None


@on_each_loop
async def test_a_handler_may_leave_its_work_to_a_thread() -> None:
    ws = WebSocketServer()

    async def received(conn: WebSocketConnection, message: str) -> None:
        await asyncio.to_thread(lambda: conn.send(message.upper()))

    ws.on_message(received)
    async with App().listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"), frame(TEXT, "y"))
        assert [(await client.frame()).payload for _ in range(2)] == [b"X", b"Y"]


@on_each_loop
async def test_a_server_may_run_in_another_thread_than_the_main_one() -> None:
    ws, ready, done = WebSocketServer(), threading.Event(), threading.Event()
    ws.on_message(lambda conn, message: conn.send(message))
    bound: list[Any] = []

    async def serve() -> None:
        async with App().listening() as server:
            bound.append(server)
            ready.set()
            await asyncio.to_thread(done.wait, GUARD)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    await asyncio.to_thread(ready.wait, GUARD)
    try:
        async with connect(bound[0]) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            ws.broadcast("from elsewhere")
            assert await client.recv() == "from elsewhere"
    finally:
        done.set()
        await asyncio.to_thread(thread.join, GUARD)


@on_each_loop
async def test_buffered_counts_what_another_thread_has_sent() -> None:
    """Also before the loop has got to it; and only until then."""
    ws, opened = WebSocketServer(compression="deflate"), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        await client.round_trip()
        assert conn.buffered == 0
        assert in_thread(lambda: (conn.send("x" * 10), conn.buffered)) == (True, 10)
        assert in_thread(lambda: (ws.broadcast("x" * 20), conn.buffered)) == (None, 30)
        assert [(await client.frame()).payload for _ in range(2)] == [b"x" * 10, b"x" * 20]
        await client.round_trip()
        assert conn.buffered == 0


@on_each_loop
async def test_what_another_thread_could_not_send_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        await client.round_trip()
        for wrong in (lambda: ws.broadcast("\ud800"), lambda: conn.send("\ud800")):
            assert isinstance(in_thread(wrong), UnicodeEncodeError)
        assert conn.buffered == 0

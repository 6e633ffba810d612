"""crest.connection: what a handler holds. Who is at the other end, and what is left of it."""

import asyncio
import gc
import multiprocessing
import re
import sys
import weakref
from typing import Any

import pytest
from support.client import GUARD, PING, PONG, TEXT, Frame, close_frame, connect, frame, tcp, upgraded
from support.events import Events, on_each_loop
from support.opened import asked

from crest import App, Request, WebSocketConnection, WebSocketServer

# ---- get_id ----------------------------------------------------------------------------------------------------------


def ids_of_this_process(count: int) -> list[str]:
    return [WebSocketConnection(b"", None, "http", None).get_id() for _ in range(count)]


def put_ids(queue: Any) -> None:
    queue.put(ids_of_this_process(100))


@on_each_loop
async def test_an_id_is_a_str_that_is_safe_to_log_and_stays_the_same() -> None:
    first, second = await asked(lambda conn: (conn.get_id(), conn.get_id()))
    assert first == second
    assert re.fullmatch(r"[0-9a-z-]{8,64}", first)


@on_each_loop
async def test_connections_of_one_process_have_different_ids() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(lambda conn: opened.add(conn.get_id()))
    async with App().listening() as server:
        for _ in range(3):
            async with connect(server), connect(server):
                pass
        assert len(set(await opened.reach(6))) == 6


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_connections_of_different_processes_have_different_ids(method: str) -> None:
    """Workers are forked; two runs of a program have as little in common as spawned processes."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    context: Any = multiprocessing.get_context(method)
    queue: Any = context.SimpleQueue()
    processes = [context.Process(target=put_ids, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    ids = [*queue.get(), *queue.get(), *ids_of_this_process(100)]
    for process in processes:
        process.join()
    assert len(set(ids)) == 300


# ---- Who is at the other end -----------------------------------------------------------------------------------------


@on_each_loop
async def test_the_request_has_path_query_headers_and_cookies() -> None:
    ws, events = WebSocketServer("/a b"), Events()
    ws.on_connect(lambda conn: events.add(conn.request))
    headers = [("X-Tag", "one"), ("X-Tag", "two"), ("Cookie", "session=abc; theme=dark")]
    async with App().listening() as server, connect(server, "/a%20b?x=1&y=%C3%A9&x=2", additional_headers=headers):
        (request,) = await events.reach(1)
    assert isinstance(request, Request)
    assert request.method == "GET"
    assert request.path == "/a b"
    assert request.query_string == "x=1&y=%C3%A9&x=2"
    assert list(request.query.items()) == [("x", "1"), ("y", "é"), ("x", "2")]
    assert request.headers.getall("x-tag") == ["one", "two"]
    assert request.headers["HOST"] == f"127.0.0.1:{server.port}"
    assert request.cookies == {"session": "abc", "theme": "dark"}


@on_each_loop
async def test_the_request_is_one_object_and_outlives_the_connection() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(conn))
    async with App().listening() as server:
        async with connect(server, "/ws?x=1"):
            pass
        (conn,) = await events.reach(1)
    assert conn.request is conn.request
    assert conn.request.query["x"] == "1"


@on_each_loop
async def test_the_clients_address_is_known() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.remote_address, conn.request.client))
    async with App().listening() as server, upgraded(server) as client:
        assert await events.reach(1) == [(client.address, client.address)]


@on_each_loop
async def test_the_clients_address_is_known_when_it_has_gone(direct: bool) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: events.add(conn))
    async with App().listening(direct=direct) as server:
        async with upgraded(server) as client:
            address = client.address
            client.reset()
        (conn,) = await events.reach(1)
    gc.collect()
    assert conn.remote_address == address
    assert conn.remote_address is conn.remote_address
    assert conn.request.client == address


@on_each_loop
async def test_the_clients_address_is_known_in_a_thread() -> None:
    def ask(conn: WebSocketConnection) -> tuple[object, object]:
        return conn.remote_address, conn.request.client

    ws, events = WebSocketServer(), Events()
    ws.on_connect(events.add)
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await events.reach(1)
        answers = await asyncio.gather(*[asyncio.to_thread(ask, conn) for _ in range(8)])
        assert set(answers) == {(client.address, client.address)}


@on_each_loop
async def test_user_is_none_without_authentication_and_may_be_set() -> None:
    ws, events = WebSocketServer(), Events()

    def connected(conn: WebSocketConnection) -> None:
        assert conn.user is None
        conn.user = {"name": "Ann"}

    ws.on_connect(connected)
    ws.on_message(lambda conn, message: events.add(conn.user))
    async with App().listening() as server, connect(server) as client:
        await client.send("x")
        assert await events.reach(1) == [{"name": "Ann"}]


@on_each_loop
async def test_state_is_a_namespace_of_each_connection() -> None:
    ws = WebSocketServer()

    def connected(conn: WebSocketConnection) -> None:
        conn.state.count = 0

    def received(conn: WebSocketConnection, message: str) -> None:
        conn.state.count += 1
        conn.send(str(conn.state.count))

    ws.on_connect(connected)
    ws.on_message(received)
    async with App().listening() as server, connect(server) as one, connect(server) as two:
        for client, expected in [(one, "1"), (one, "2"), (two, "1")]:
            await client.send("x")
            assert await client.recv() == expected


@on_each_loop
async def test_a_connection_is_always_the_same_object() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(events.add)
    ws.on_message(lambda conn, message: events.add(conn))
    ws.on_close(lambda conn, code, reason: events.add(conn))
    async with App().listening() as server:
        async with connect(server) as client:
            await client.send("x")
            (listed,) = [*ws.get_connections()] or await events.reach(1)
        connected, received, closed = await events.reach(3)
    assert connected is received is closed is listed


@on_each_loop
async def test_the_subprotocol_is_the_servers_first_that_the_client_offers() -> None:
    ws, events = WebSocketServer(subprotocols=["v2", "v1"]), Events()
    ws.on_connect(lambda conn: events.add(conn.subprotocol))
    async with App().listening() as server:
        for offered, agreed in [(["v1", "v2"], "v2"), (["x", "v1"], "v1"), (["x"], None), (None, None)]:
            async with connect(server, subprotocols=offered) as client:
                assert client.subprotocol == agreed
                assert (await events.reach(1)).pop() == agreed


@on_each_loop
async def test_a_connection_shows_its_id_and_whether_it_is_open() -> None:
    def shown(conn: WebSocketConnection) -> tuple[str, str, str]:
        before = repr(conn)
        conn.close()
        return conn.get_id(), before, repr(conn)

    name, before, after = await asked(shown)
    assert (before, after) == (f"<WebSocketConnection {name} open>", f"<WebSocketConnection {name} closed>")


# ---- ping, latency, buffered -----------------------------------------------------------------------------------------


@on_each_loop
async def test_a_ping_is_a_ping_frame_and_its_pong_sets_latency() -> None:
    ws, opened, messages = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_message(lambda conn, message: messages.add(conn.latency))
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        assert conn.latency is None
        assert conn.ping() is True
        ping = await client.frame()
        assert ping.opcode == PING
        await client.send(frame(PONG, ping.payload), frame(TEXT, "x"))
        (latency,) = await messages.reach(1)
        assert 0 <= latency < GUARD


@on_each_loop
async def test_a_pong_that_answers_no_ping_of_ours_says_nothing() -> None:
    ws, opened, messages = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_message(lambda conn, message: messages.add(conn.latency))
    async with App().listening() as server, upgraded(server) as client:
        (conn,) = await opened.reach(1)
        await client.send(frame(PONG, bytes(4)), frame(PONG), frame(TEXT, "x"))
        assert await messages.reach(1) == [None]
        conn.ping()
        await client.frame()
        await client.send(frame(PONG, b"else"), frame(PONG, b"x" * 125), frame(TEXT, "x"))
        assert await messages.reach(2) == [None, None]


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff" * 125])
@on_each_loop
async def test_the_peers_ping_is_answered_with_its_payload(payload: bytes) -> None:
    ws = WebSocketServer()
    async with App().listening() as server, upgraded(server, ws.path) as client:
        await client.send(frame(PING, payload))
        assert await client.frame() == Frame(PONG, payload)


@on_each_loop
async def test_buffered_counts_what_the_kernel_has_not_taken() -> None:
    ws, opened, closed = WebSocketServer(max_backlog=1 << 26), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(conn))
    size = 1 << 25
    async with App().listening() as server, tcp(server, receive_buffer=32768) as client:
        await client.upgrade()
        (conn,) = await opened.reach(1)
        assert conn.buffered == 0
        assert conn.send_binary(bytes(size))
        assert 0 < conn.buffered <= size + 10
        assert len((await client.frame()).payload) == size
        await client.round_trip()
        assert conn.buffered == 0


@on_each_loop
async def test_buffered_is_zero_once_the_connection_has_ended() -> None:
    ws, opened, closed = WebSocketServer(max_backlog=1 << 26), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(conn))
    async with App().listening() as server:
        async with tcp(server, receive_buffer=32768) as client:
            await client.upgrade()
            (conn,) = await opened.reach(1)
            conn.send_binary(bytes(1 << 25))
            assert conn.buffered > 0
            client.reset()
        await closed.reach(1)
    assert conn.buffered == 0


# ---- The garbage collector -------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_collector_visits_only_what_the_application_has_hung_something_on() -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn))
    async with App().listening() as server, upgraded(server), upgraded(server), upgraded(server):
        plain, with_user, with_state = await events.reach(3)
        with_user.user = "Ada"
        with_state.state.count = 1
        assert not gc.is_tracked(plain)
        assert gc.is_tracked(with_user) and gc.is_tracked(with_state)
        with_state.user = with_user.user = None


class Thing:
    """Something that can be seen to be gone."""


@pytest.mark.parametrize("where", ["user", "state"])
@on_each_loop
async def test_what_refers_to_its_connection_goes_with_it(where: str) -> None:
    ws, events = WebSocketServer(), Events()

    @ws.on_connect
    def connected(conn: WebSocketConnection) -> None:
        thing: Any = Thing()
        thing.conn = conn
        if where == "user":
            conn.user = thing
        else:
            conn.state.thing = thing
        events.add(weakref.ref(thing))

    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with upgraded(server) as client:
            (thing,) = await events.reach(1)
            gc.collect()
            assert thing() is not None
            await client.send(close_frame(1000))
        await events.reach(2)
    gc.collect()
    assert thing() is None


# ---- Weak references -------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_connection_may_be_in_a_weak_set() -> None:
    """And is in it no longer than it is anywhere else."""
    ws, room, closed = WebSocketServer(), weakref.WeakSet[WebSocketConnection](), Events()
    ws.on_connect(room.add)
    ws.on_close(lambda conn, code, reason: closed.add(len(room)))
    async with App().listening() as server:
        async with upgraded(server) as client, upgraded(server):
            await client.round_trip()
            assert set(room) == set(ws.get_connections()) and len(room) == 2
        await closed.reach(2)
        async with asyncio.timeout(GUARD):
            while room:
                await asyncio.sleep(0)


@pytest.mark.skipif(sys.implementation.name != "cpython" or sys.maxsize < 1 << 32, reason="sizes are those of 64 bits")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython 3.12 keeps weak references in 16 bytes of their own")
def test_that_costs_no_memory() -> None:
    """CPython allocates multiples of 16 bytes, the collector's header among them."""
    size = WebSocketConnection.__basicsize__ + 16
    assert WebSocketConnection.__weakrefoffset__ > 0
    assert -(-size // 16) == -(-(size - 8) // 16)

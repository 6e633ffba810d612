"""crest.listener: the bound address, why an address can not be bound, and how everything ends at shutdown."""

import asyncio
import errno
import gc
import logging
import os
import re
import socket
from typing import Any

import pytest
from client import GUARD, TEXT, close_frame, connect, frame, handshake, request, tcp, upgraded
from conftest import LoopFactory
from events import KINDS, Events, of_kind, on_each_loop, until

from crest import App, ListenError, Request, WebSocketConnection, WebSocketServer
from crest.io.poller import Poller


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "crest"]


async def never(*args: Any) -> None:
    await asyncio.Event().wait()


# ---- The address -----------------------------------------------------------------------------------------------------


@on_each_loop
async def test_port_0_binds_a_free_port_and_says_which() -> None:
    async with App().listening("127.0.0.1", 0) as one, App().listening("127.0.0.1", 0) as two:
        assert one.host == two.host == "127.0.0.1"
        assert 0 < one.port != two.port > 0
        assert one.address == ("127.0.0.1", one.port)
        assert [each.getsockname() for each in one.sockets] == [one.address]


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", None])
@on_each_loop
async def test_hosts_that_mean_several_or_all_addresses(host: str | None) -> None:
    ws = WebSocketServer()
    async with App().listening(host) as server:
        for each in server.sockets:
            family, port = each.family, each.getsockname()[1]
            target = Address("127.0.0.1" if family == socket.AF_INET else "::1", port)
            async with upgraded(target, ws.path) as client:
                await client.round_trip()
        assert server.port in [each.getsockname()[1] for each in server.sockets]


class Address:
    """Where a client connects to."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
@on_each_loop
async def test_ipv6_is_served_and_written_in_brackets(caplog: pytest.LogCaptureFixture) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.remote_address))
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening("::1") as server, upgraded(server) as client:
            assert server.host == "::1"
            assert await events.reach(1) == [client.address]
    assert f"http://[::1]:{server.port} " in messages(caplog)[0]


# ---- Addresses that can not be bound (test_sockets.py has more) ------------------------------------------------------


async def refusal(host: str | None, port: int) -> str:
    """Why this address can not be listened on."""
    with pytest.raises(ListenError) as raised:
        async with App().listening(host, port):
            pass
    assert raised.value.__cause__ is not None
    return str(raised.value)


@on_each_loop
async def test_a_port_in_use() -> None:
    async with App().listening() as server:
        assert await refusal("127.0.0.1", server.port) == (
            f"cannot listen on 127.0.0.1:{server.port}: the port is in use"
        )


@on_each_loop
async def test_a_process_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what watches the connections; the address is free again."""

    class NoPoller:
        exists = True

        def __init__(self, loop: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    app = App()
    with monkeypatch.context() as patched:
        patched.setattr("crest.listener.Poller", NoPoller)
        with pytest.raises(ListenError) as raised:
            async with app.listening("127.0.0.1", 0):
                pass
        reason = re.escape(os.strerror(errno.EMFILE))
        assert re.fullmatch(rf"cannot listen on http://127\.0\.0\.1:[1-9]\d*: {reason}", str(raised.value))
    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        assert (await client.answer()).status == 404


# ---- What is logged --------------------------------------------------------------------------------------------------


@on_each_loop
async def test_the_log_says_where_it_listens_and_what_is_served(caplog: pytest.LogCaptureFixture) -> None:
    app, chat, game = App(), WebSocketServer("/chat"), WebSocketServer("/game")
    app.mount("/chat", chat)
    app.mount("/game", game)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server:
            where = f"127.0.0.1:{server.port}"
            assert messages(caplog) == [
                f"Listening on http://{where} (WebSocket: ws://{where}/chat, ws://{where}/game)"
            ]


@on_each_loop
async def test_the_log_says_how_many_connections_were_open_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening() as server:
            clients = [await connect(server) for _ in range(3)]
            await opened.reach(3)
        assert messages(caplog)[1:] == ["Stopped; 3 connections were open when the shutdown began"]
    for client in clients:
        await client.wait_closed()


@on_each_loop
async def test_connections_of_a_server_with_two_paths_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    app, ws, opened = App(), WebSocketServer(), Events()
    ws.on_connect(opened.add)
    app.mount("/a", ws)
    app.mount("/b", ws)
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening() as server:
            client = await connect(server, "/a")
            await opened.reach(1)
        assert messages(caplog)[1:] == ["Stopped; 1 connections were open when the shutdown began"]
    await client.wait_closed()


# ---- Shutdown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_shutdown_closes_every_connection_with_1001_and_runs_every_on_close(kind: str) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(of_kind(kind, lambda conn, code, reason: closed.add(conn, code)))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(5)]
        await opened.reach(5)
    assert {conn for conn, _ in closed.seen} == set(opened.seen)
    assert [code for _, code in closed.seen] == [1001] * 5
    for client in clients:
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1001, "the server is shutting down")


@on_each_loop
async def test_shutdown_accepts_no_more() -> None:
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with upgraded(server) as client:
            await opened.reach(1)
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1001
            with pytest.raises(ConnectionRefusedError):
                async with tcp(server):
                    pass
        await stopping


@on_each_loop
async def test_shutdown_waits_for_what_was_sent() -> None:
    ws, opened = WebSocketServer(max_backlog=1 << 26), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        async with connect(server, max_size=None) as client:
            (conn,) = await opened.reach(1)
            conn.send("x" * (1 << 24))
            stopping = asyncio.create_task(server.stop())
            assert len(await client.recv()) == 1 << 24
            await client.wait_closed()
            assert client.close_code == 1001
        await stopping


@on_each_loop
async def test_shutdown_waits_for_handlers_that_end() -> None:
    ws, events, begun, release = WebSocketServer(), Events(), asyncio.Event(), asyncio.Event()

    async def received(conn: WebSocketConnection, message: str) -> None:
        begun.set()
        await release.wait()
        events.add(message)

    ws.on_message(received)
    ws.on_close(lambda conn, code, reason: events.add(code))
    async with App().listening() as server:
        async with upgraded(server) as client:
            await client.send(frame(TEXT, "x"))
            await until(begun)
            stopping = asyncio.create_task(server.stop())
            assert (await client.frame()).code == 1001
            await client.send(close_frame(1001))
            assert await client.eof() == b""
        assert events.seen == []
        release.set()
        await stopping
        assert events.seen == ["x", 1001]


@on_each_loop
async def test_after_shutdown_timeout_peers_that_do_not_answer_are_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as one, upgraded(server) as two:
        await opened.reach(2)
        await server.stop()
        assert closed.seen == [1006, 1006]
        for client in (one, two):
            assert (await client.frame()).code == 1001
            assert await client.eof() == b""
    assert "2 connections did not close within 0.1 s and are cut off" in messages(caplog)


@pytest.mark.parametrize("handler", ["on_connect", "on_message"])
@on_each_loop
async def test_after_shutdown_timeout_handlers_that_never_return_are_cancelled(handler: str) -> None:
    ws, closed, begun = WebSocketServer(), Events(), asyncio.Event()

    async def stuck(*args: Any) -> None:
        begun.set()
        try:
            await never()
        finally:
            closed.add("cancelled")

    getattr(ws, handler)(stuck)
    ws.on_close(lambda conn, code, reason: closed.add("closed"))
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        await until(begun)
    assert closed.seen == ["cancelled", "closed"]


@pytest.mark.parametrize("handler", ["on_connect", "on_message", "on_close", "on_error"])
@on_each_loop
async def test_handlers_that_ignore_their_cancellation_do_not_keep_the_server_from_ending(
    handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    ws, begun, release = WebSocketServer(), asyncio.Event(), asyncio.Event()

    async def stubborn(*args: Any) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    getattr(ws, handler)(stubborn)
    async with App(shutdown_timeout=0.1).listening() as server, upgraded(server) as client:
        await client.send(frame(0x3 if handler == "on_error" else TEXT, "x"))
        if handler != "on_close":
            await until(begun)
    await until(begun)
    assert "handlers of 1 connections ignore their cancellation" in messages(caplog)
    release.set()


@on_each_loop
async def test_on_close_that_broadcasts_during_shutdown_harms_nobody() -> None:
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(ws.broadcast("somebody left")))
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(4)]
        await opened.reach(4)
    assert len(closed.seen) == 4
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1001


@on_each_loop
async def test_shutdown_ends_connections_that_have_not_sent_a_request() -> None:
    ws = WebSocketServer()
    async with asyncio.timeout(GUARD), App(shutdown_timeout=2 * GUARD).listening() as server:
        async with tcp(server) as silent, tcp(server) as half, tcp(server) as idle:
            await half.send(handshake(ws.path)[:30])
            await idle.send(request("/"))
            assert (await idle.answer()).status == 404
            async with upgraded(server, ws.path) as other:
                await other.round_trip()
            stopping = asyncio.create_task(server.stop())
            assert [await client.eof() for client in (silent, half, idle)] == [b""] * 3
        await stopping


@on_each_loop
async def test_shutdown_waits_for_a_page_that_is_being_made() -> None:
    app, begun, release = App(), asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def page(request: Request) -> str:
        begun.set()
        await release.wait()
        return "page"

    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await until(begun)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        release.set()
        assert (await client.answer()).body == b"page"
        assert await client.eof() == b""
        await client.close()
        await stopping


@pytest.mark.parametrize("kind", KINDS)
@on_each_loop
async def test_a_client_that_leaves_behind_its_last_page_is_not_waited_for(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(shutdown_timeout=2)
    app.get("/")(of_kind(kind, lambda request: "page"))
    async with app.listening() as server:
        async with tcp(server) as client:
            await client.send(request("/", {"Host": "test", "Connection": "close"}))
            assert (await client.answer()).body == b"page"
            assert await client.eof() == b""
    assert [text for text in messages(caplog) if "cut off" in text] == []


@on_each_loop
async def test_after_shutdown_timeout_a_page_that_is_never_done_is_cancelled() -> None:
    app, begun, events = App(shutdown_timeout=0.1), asyncio.Event(), Events()

    @app.get("/")
    async def page(request: Request) -> str:
        begun.set()
        try:
            await never()
        finally:
            events.add("cancelled")
        return ""

    async with app.listening() as server, tcp(server) as client:
        await client.send(request("/"))
        await until(begun)
        await server.stop()
        assert events.seen == ["cancelled"]


@on_each_loop
async def test_one_connection_that_was_reset_does_not_keep_others_from_being_closed() -> None:
    """The server has not read of the reset yet when it is asked to stop."""
    ws, opened = WebSocketServer(), Events()
    ws.on_connect(opened.add)
    async with App().listening() as server:
        clients = [await connect(server) for _ in range(3)]
        raw = [await asyncio.open_connection(server.host, server.port) for _ in range(3)]
        await opened.reach(3)
        async with upgraded(server) as other:
            await other.round_trip()
        for _, writer in raw:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            writer.transport.abort()
        await asyncio.sleep(0)
    for client in clients:
        await client.wait_closed()
        assert client.close_code == 1001


@on_each_loop
async def test_stopping_twice_is_a_no_op() -> None:
    ws, closed = WebSocketServer(), Events()
    ws.on_close(lambda conn, code, reason: closed.add(code))
    async with App().listening() as server:
        client = await connect(server)
        await server.stop()
        await server.stop()
    await client.wait_closed()
    assert closed.seen == [1001]


@on_each_loop
async def test_listeners_of_one_loop_end_on_their_own(direct: bool) -> None:
    one, two = WebSocketServer("/one"), WebSocketServer("/two")
    first, second = App(), App()
    first.mount("/one", one)
    second.mount("/two", two)
    async with second.listening(direct=direct) as other:
        async with first.listening(direct=direct) as server, upgraded(other, "/two") as client:
            async with upgraded(server, "/one") as leaver:
                await leaver.round_trip()
                await client.round_trip()
        await client.close()
        async with upgraded(other, "/two") as client:
            await client.round_trip()


@on_each_loop
async def test_connections_that_nobody_has_accepted_yet_are_ended(direct: bool) -> None:
    """The kernel has let them in; they are told at once, instead of waiting for an answer for ever."""
    async with App().listening(direct=direct) as server:
        waiting = [socket.create_connection(server.address) for _ in range(5)]
        await server.stop()
        for sock in waiting:
            with sock:
                sock.settimeout(GUARD)
                try:
                    assert sock.recv(1) == b""
                except ConnectionResetError:
                    pass


@pytest.mark.skipif(not Poller.exists, reason="the loop's own transports are closed by their collection only")
def test_a_loop_that_is_closed_without_a_shutdown(loop_factory: LoopFactory) -> None:
    """Nobody is left to run a handler; but no descriptor is left either, and each client sees the end."""
    ws, opened, closed = WebSocketServer(), Events(), Events()
    ws.on_connect(opened.add)
    ws.on_close(lambda conn, code, reason: closed.add(code))

    def serve() -> list[socket.socket]:
        loop = loop_factory()
        listening = App().listening()
        server = loop.run_until_complete(listening.__aenter__())
        peers = [socket.create_connection(server.address) for _ in range(3)]
        for peer in peers:
            peer.settimeout(GUARD)
        peers[0].send(handshake(ws.path))
        peers[1].send(request("/"))
        for _ in range(10):
            loop.run_until_complete(asyncio.sleep(0))
        assert peers[0].recv(1 << 16).startswith(b"HTTP/1.1 101 ")
        assert peers[1].recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        with pytest.warns(ResourceWarning):
            loop.close()
            del server, listening
            gc.collect()
        return peers

    for peer in serve():
        with peer:
            assert peer.recv(1) == b""
    assert closed.seen == []
    (conn,) = opened.seen
    assert not conn.is_open() and not conn.send("x" * (1 << 17)) and ws.connection_count() == 0
    conn.close()
    ws.broadcast("x")

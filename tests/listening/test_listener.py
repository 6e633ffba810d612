"""crest.listening.listener: the bound address, why an address can not be bound, and that nothing is left."""

import asyncio
import errno
import gc
import logging
import os
import re
import socket
from typing import Any

import pytest
from conftest import LoopFactory
from support.client import GUARD, TEXT, frame, handshake, request, tcp, upgraded
from support.events import Events, on_each_loop

from crest import App, ListenError, WebSocketConnection, WebSocketServer
from crest.io.loop.poller import Poller


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


@on_each_loop
async def test_it_says_that_it_ends() -> None:
    ws, seen = WebSocketServer(), Events()
    async with App().listening() as server, upgraded(server, ws.path) as client:
        ws.on_close(lambda *_: seen.add(server.stopping))
        await client.round_trip()
        assert not server.stopping
        await server.stop()
        assert server.stopping
    assert seen.seen == [True]


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
        patched.setattr("crest.listening.listener.Poller", NoPoller)
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


# ---- The end; test_shutdown.py has more ------------------------------------------------------------------------------


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
        stopping = asyncio.ensure_future(server.stop())
        for sock in waiting:
            with sock:
                sock.settimeout(GUARD)
                try:
                    assert await asyncio.to_thread(sock.recv, 1) == b""
                except ConnectionResetError:
                    pass
        await stopping


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


@pytest.mark.skipif(not Poller.exists, reason="the loop's own transports are closed by their collection only")
def test_a_loop_that_is_closed_while_messages_wait(loop_factory: LoopFactory) -> None:
    """Their handler is awaited no further. What they took counts no more."""
    ws, begun, ended = WebSocketServer(slow_handler=1000), Events(), Events()

    async def received(conn: WebSocketConnection, message: str) -> None:
        begun.add(message)
        try:
            await asyncio.Event().wait()
        finally:
            ended.add(message)

    def serve() -> None:
        loop = loop_factory()
        listening = App().listening()
        server = loop.run_until_complete(listening.__aenter__())
        budget = server.turn.budget
        with socket.create_connection(server.address) as peer:
            peer.send(handshake(ws.path) + frame(TEXT, "begun") + frame(TEXT, "waits") * 3)
            loop.run_until_complete(begun.reach(1))
            assert budget.used > 0
            with pytest.warns(ResourceWarning):
                loop.close()
                assert budget.used == 0
                del server, listening
                gc.collect()

    ws.on_message(received)
    serve()
    assert (begun.seen, ended.seen) == (["begun"], ["begun"])


@on_each_loop
async def test_what_is_mounted_while_it_listens_is_told() -> None:
    app, late = App(), WebSocketServer()
    told: list[tuple[str, object]] = []
    app.mount("/early", WebSocketServer())
    async with app.listening() as server:
        server.mounted = lambda path, ws: told.append((path, ws))
        app.mount("/late", late)
        assert told == [("/late", late)]

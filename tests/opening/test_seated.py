"""crest.opening.seated: `max_sockets_per_ip`, which counts connections from the moment they are accepted."""

import asyncio
import logging
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Pair
from support.client import GUARD, TEXT, Client, frame, request, tcp, upgraded
from support.events import Events, on_each_loop

from crest import App, WebSocketConnection, WebSocketServer
from crest.io.loop.poller import Poller

V1 = b"PROXY TCP4 %b 198.51.100.1 56324 443\r\n"
ALICE, BOB = V1 % b"192.0.2.7", V1 % b"192.0.2.8"
LOCAL = b"PROXY UNKNOWN\r\n"


def limited(most: int = 2, **options: Any) -> App:
    """An app with a page; it will serve WebSockets at /ws, too."""
    app = App(max_sockets_per_ip=most, open_timeout=1000, **options)
    app.mount("/ws", WebSocketServer())
    app.get("/")(lambda request: "page")
    return app


async def serves(client: Client) -> bool:
    """True if it is, False if the connection has ended instead."""
    try:
        await client.send(request("/"))
        return (await client.answer()).body == b"page"
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def all_gone(server: Any) -> None:
    async with asyncio.timeout(GUARD):
        while server.protocols:
            await asyncio.sleep(0)


@on_each_loop
async def test_more_are_closed_as_they_come(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever they are: one that has said nothing, a WebSocket."""
    app, opened = limited(), Events()
    with caplog.at_level(logging.INFO, "crest"):
        async with app.listening(direct=direct) as server:
            for _ in range(3):
                async with tcp(server) as silent, upgraded(server):
                    for _ in range(2):
                        async with tcp(server) as client:
                            opened.add(await serves(client))
                    assert await serves(silent)
                await all_gone(server)
            async with tcp(server) as client:
                assert await serves(client)
            assert server.site.counts_sockets
            await all_gone(server)
            assert len(server.site._sockets) == 0
    assert opened.seen == [False] * 6
    assert app.refused == {"max_sockets_per_ip": 6}
    first, *others = [message for message in caplog.messages if message.startswith("Refused")]
    assert "127.0.0.1 has too many (max_sockets_per_ip)" in first
    assert all("more like the last one (max_sockets_per_ip)" in message for message in others)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the loopback interface has one address")
@on_each_loop
async def test_each_address_for_itself(direct: bool) -> None:
    app = limited(1)
    async with app.listening(direct=direct) as server, tcp(server):
        async with tcp(server, source="127.0.0.2") as client, tcp(server, source="127.0.0.3") as other:
            assert await serves(client) and await serves(other)
        async with tcp(server) as client:
            assert not await serves(client)


@on_each_loop
async def test_a_trusted_proxy_is_not_counted(direct: bool) -> None:
    app = limited(1, trusted_proxies=["127.0.0.0/8"])
    async with app.listening(direct=direct) as server, AsyncExitStack() as stack:
        for _ in range(5):
            assert await serves(await stack.enter_async_context(tcp(server)))
    assert app.refused == {}


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets for Python here")
@on_each_loop
async def test_peers_of_a_unix_socket_are_not_counted(direct: bool, tmp_path: Path) -> None:
    app, path = limited(1), str(tmp_path / "s")
    async with app.listening(unix=path, direct=direct), AsyncExitStack() as stack:
        for _ in range(3):
            client = Client(*await asyncio.open_unix_connection(path))
            stack.push_async_callback(client.close)
            assert await serves(client)


# ---- The PROXY protocol ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=pytest.mark.skipif(not Poller.exists, reason="no"))])
@on_each_loop
async def test_whom_a_header_names_is_counted(tls: bool, direct: bool, pair: Pair) -> None:
    """And not the proxy: that may have any number, and those that it names nobody for."""
    app = limited(2, trusted_proxies=["127.0.0.1"], proxy_protocol=True)
    files = {"certfile": pair.certfile, "keyfile": pair.keyfile} if tls else {}
    async with app.listening(direct=direct, **files) as server, AsyncExitStack() as stack:

        async def comes(header: bytes) -> bool:
            sock = socket.create_connection(server.address)
            sock.send(header)
            sock.setblocking(False)
            options: dict[str, Any] = {"ssl": pair.client(), "server_hostname": server.host} if tls else {}
            try:
                async with asyncio.timeout(GUARD):
                    client = Client(*await asyncio.open_connection(sock=sock, **options))
            except ConnectionError:
                sock.close()
                return False
            stack.push_async_callback(client.close)
            return await serves(client)

        assert [await comes(header) for header in (ALICE, ALICE, BOB, LOCAL, LOCAL, LOCAL)] == [True] * 6
        assert [await comes(header) for header in (ALICE, BOB, ALICE)] == [False, True, False]
        await stack.aclose()
        await all_gone(server)
        assert server.site.counts_sockets and len(server.site._sockets) == 0
        assert await comes(ALICE)
    assert app.refused == {"max_sockets_per_ip": 2}


@on_each_loop
async def test_a_handler_that_cancels_itself_is_no_farewell(direct: bool) -> None:
    """A server that serves on parts from no client. The connection is counted, and as any other."""
    app, ws, told = App(max_sockets_per_ip=1, open_timeout=1000), WebSocketServer(), Events()
    app.mount("/ws", ws)

    @ws.on_message
    async def received(conn: WebSocketConnection, message: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    ws.on_error(lambda conn, error: told.add(error))
    async with app.listening(direct=direct) as server, upgraded(server) as client:
        await client.send(frame(TEXT, "x"))
        (error,) = await told.reach(1)
        assert "CancelledError" in error
        await client.round_trip()

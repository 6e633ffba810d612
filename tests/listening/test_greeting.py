"""crest.listening.greeting: where the event loop accepts, as on Windows, and has made a transport before anything is
read."""

import asyncio
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from support.client import GUARD, TEXT, Client, Frame, frame, handshake, request, tcp
from support.events import Events, on_each_loop

from crest import App, WebSocketServer

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
ALICE = ("192.0.2.7", 56324)
NONE = "Refused a connection of {}: its PROXY protocol header: {}"


@pytest.fixture(autouse=True)
def _no_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crest.listening.listener.Poller", SimpleNamespace(exists=False))


def behind(**options: Any) -> App:
    """An app behind a proxy that speaks the PROXY protocol; it tells who asks."""
    app = App(**({"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True} | options))
    app.mount("/ws", WebSocketServer())
    app.get("/")(lambda request: str(request.client))
    return app


async def asks(client: Client, *before: bytes) -> bytes:
    """What the page says to a client; nothing if it has no answer."""
    try:
        await client.send(*before, request("/"))
        return (await client.answer()).body
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""


async def all_gone(server: Any) -> None:
    async with asyncio.timeout(GUARD):
        while server.protocols:
            await asyncio.sleep(0)


@pytest.mark.parametrize("header", [b"", V1])
@on_each_loop
async def test_those_that_are_too_many_are_closed(header: bytes) -> None:
    app = behind(max_sockets_per_ip=1, **({} if header else {"trusted_proxies": (), "proxy_protocol": False}))
    async with app.listening() as server:
        async with tcp(server) as first, tcp(server) as second:
            assert await asks(first, header)
            assert not await asks(second, header)
        await all_gone(server)
        async with tcp(server) as client:
            assert await asks(client, header)
        await all_gone(server)
        assert len(server.site._sockets) == 0
    assert app.refused == {"max_sockets_per_ip": 1}


@pytest.mark.parametrize("size", [1, 7, 1000])
@on_each_loop
async def test_a_header_in_pieces(size: int) -> None:
    async with behind().listening() as server, tcp(server) as client:
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = V1 + request("/")
        for at in range(0, len(data), size):
            await client.send(data[at : at + size])
        assert (await client.answer()).body == str(ALICE).encode()


@on_each_loop
async def test_a_websocket_behind_it() -> None:
    app, ws, clients = behind(), WebSocketServer(), Events()
    app.mount("/echo", ws)
    ws.on_connect(lambda conn: clients.add(conn.remote_address))
    ws.on_message(lambda conn, message: conn.send(message))
    async with app.listening() as server, tcp(server) as client:
        await client.send(V1 + handshake("/echo") + frame(TEXT, "hello"))
        assert (await client.answer()).status == 101
        assert await client.frame() == Frame(TEXT, b"hello")
        assert clients.seen == [ALICE]


@on_each_loop
async def test_those_of_which_none_is_expected() -> None:
    app = behind(trusted_proxies=["192.0.2.1"])
    async with app.listening() as server, tcp(server) as client, tcp(server) as other:
        assert await asks(client) == str(client.address).encode()
        await other.send(V1 + request("/"))
        assert (await other.answer()).status == 400


@pytest.mark.parametrize(
    ("sent", "end", "lines"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", False, ["neither version 1 nor version 2"]),
        (V1[:9], True, ["it is not complete"]),
        (b"", True, []),
        (V1[:9], False, ["none within 0.05 s"]),
        (b"", False, ["none within 0.05 s"]),
    ],
)
@on_each_loop
async def test_what_is_no_header(sent: bytes, end: bool, lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    seconds = 0.05 if lines == ["none within 0.05 s"] else 1000
    app = behind(open_timeout=seconds, max_sockets_per_ip=1)
    async with app.listening() as server, tcp(server) as client:
        with caplog.at_level(logging.INFO, "crest"):
            caplog.clear()
            await client.send(sent)
            if end:
                client.writer.write_eof()
            assert await client.eof() == b""
            assert caplog.messages == [NONE.format(client.address, line) for line in lines]
        assert len(server.site._sockets) == 0 and not server._greetings


@on_each_loop
async def test_shutdown_does_not_wait_for_it() -> None:
    async with behind(open_timeout=1000, shutdown_timeout=1000).listening() as server, tcp(server) as client:
        await client.send(V1[:7])
        async with asyncio.timeout(GUARD):
            while not server._greetings:
                await asyncio.sleep(0)
        await server.stop()
        assert await client.eof() == b""

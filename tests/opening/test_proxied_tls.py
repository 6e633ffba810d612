"""crest.opening.proxied: the header of the PROXY protocol comes before TLS."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from support.certificates import Pair
from support.client import GUARD, Client, Server, request, tcp, upgraded
from support.events import on_each_loop
from support.proxied import ALICE, BEGUN, LOCAL, NONE, V1, V2, assert_ends, behind, dropped, echo, greet

from crest import ConfigurationError
from crest.io.loop.poller import Poller

TLS = pytest.mark.skipif(not Poller.exists, reason="there, the two exclude each other")


@asynccontextmanager
async def secured(server: Server, header: list[bytes], context: ssl.SSLContext) -> AsyncIterator[Client]:
    """A client that has sent a header, in pieces, and then shaken hands as TLS wants it."""
    loop = asyncio.get_running_loop()
    sock = socket.create_connection((server.host, server.port))
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in header:
        await loop.sock_sendall(sock, piece)
        await asyncio.sleep(0)
    async with asyncio.timeout(GUARD):
        reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=server.host)
    client = Client(reader, writer)
    try:
        yield client
    finally:
        await client.close()


@TLS
@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 7, 100])
@on_each_loop
async def test_tls_behind_the_header(header: bytes, size: int, pair: Pair) -> None:
    _, clients = echo()
    pieces = [header[at : at + size] for at in range(0, len(header), size)]
    async with behind().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        async with secured(server, pieces, pair.client()) as client:
            await greet(client)
            assert clients.seen == [(ALICE, ALICE)]
        async with secured(server, [LOCAL], pair.client()) as client:
            await client.upgrade(changed={"X-Forwarded-For": "192.0.2.66"})
            assert await clients.reach(2) == [(ALICE, ALICE), (client.address, client.address)]


@TLS
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x16\x03\x01", "neither version 1 nor version 2"),
        (request("/"), "neither version 1 nor version 2"),
        (V2[:13] + b"\xff" + V2[14:], "family 15 and transport 15"),
    ],
)
@on_each_loop
async def test_tls_without_the_header(data: bytes, reason: str, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with behind().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        assert await dropped(server, data, caplog) == [NONE.format("{}", reason)]


@TLS
@BEGUN
@on_each_loop
async def test_an_end_before_it_with_tls(
    begun: bytes, lines: int, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with behind().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server, tcp(server) as client:
        await assert_ends(client, begun, lines, caplog)


@TLS
@on_each_loop
async def test_no_tls_behind_the_header(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with behind().listening(certfile=pair.certfile, keyfile=pair.keyfile) as server, tcp(server) as client:
        with caplog.at_level(logging.INFO, "crest"):
            await client.send(V1, request("/"))
            assert (await client.answer()).status == 400
    assert any(message.startswith("Refused a request of ('192.0.2.7', 56324): 400, ") for message in caplog.messages)


@TLS
@on_each_loop
async def test_tls_of_who_is_no_proxy(pair: Pair) -> None:
    _, clients = echo()
    async with behind("192.0.2.1").listening(certfile=pair.certfile, keyfile=pair.keyfile) as server:
        async with upgraded(server, tls=pair.client()) as client:
            assert await clients.reach(1) == [(client.address, client.address)]


@on_each_loop
async def test_where_the_two_exclude_each_other(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crest.listening.listener.Poller", SimpleNamespace(exists=False))
    with pytest.raises(ConfigurationError, match="proxy_protocol and TLS exclude each other"):
        async with behind().listening(certfile=pair.certfile, keyfile=pair.keyfile):
            pass

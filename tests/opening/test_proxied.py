"""crest.opening.proxied: connections that begin with a header of the PROXY protocol, from whom it is taken, and what
comes of it; with HAProxy itself too. What is a header and what is none is wire/test_proxy.py's.
"""

import asyncio
import logging
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.certificates import Pair
from support.client import Client, handshake, request, tcp, upgraded
from support.events import Events, on_each_loop
from support.foreign import free_socket, haproxy, needs_haproxy
from support.proxied import ALICE, BEGUN, LOCAL, NONE, UNKNOWN, V1, V2, assert_ends, behind, dropped, echo, greet

from crest import App, Request, WebSocketServer

# ---- What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@on_each_loop
async def test_the_client_is_whom_the_header_names(header: bytes, direct: bool) -> None:
    ws, clients = echo()
    async with behind().listening(direct=direct) as server, tcp(server) as client:
        await greet(client, header)
        assert clients.seen == [(ALICE, ALICE)]
    assert ws.refused == {}


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@on_each_loop
async def test_it_comes_in_pieces(header: bytes, direct: bool) -> None:
    _, clients = echo()
    async with behind().listening(direct=direct) as server, tcp(server) as client:
        client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header + handshake():
            await client.send(bytes([byte]))
        assert (await client.answer()).status == 101
        assert await clients.reach(1) == [(ALICE, ALICE)]


OVER_TLS = V2[:14] + b"\x00\x14" + V2[16:] + b"\x20\x00\x05\x01\0\0\0\0"


@pytest.mark.parametrize(
    ("header", "scheme", "status"), [(V1, "http", 101), (V2, "http", 101), (OVER_TLS, "https", 403)]
)
@on_each_loop
async def test_who_speaks_tls_with_the_proxy_is_no_page_that_came_in_the_clear(
    header: bytes, scheme: str, status: int, direct: bool
) -> None:
    ws, schemes, app = WebSocketServer(), Events(), behind()
    ws.on_connect(lambda conn: schemes.add(conn.request.scheme))
    app.get("/scheme")(lambda request: request.scheme)
    async with app.listening(direct=direct) as server:
        for origin, expected in (("http://test", status), ("https://test", 101)):
            async with tcp(server) as client:
                await client.send(header, request("/scheme"))
                assert (await client.answer()).body == scheme.encode()
                await client.send(handshake(changed={"Origin": origin}))
                assert (await client.answer()).status == expected
    assert set(schemes.seen) == {scheme}


@on_each_loop
async def test_pages_and_several_requests() -> None:
    async with behind().listening() as server, tcp(server) as client:
        await client.send(V2, request("/who"), request("/who"))
        for _ in range(2):
            assert (await client.answer()).body == b'{"client":["192.0.2.7",56324]}'
        await client.send(request("/who"))
        assert (await client.answer()).body == b'{"client":["192.0.2.7",56324]}'


@on_each_loop
async def test_requests_that_wait_behind_a_page_that_is_async(direct: bool) -> None:
    app = behind()

    @app.get("/later")
    async def later(request: Request) -> str:
        return "later"

    async with app.listening(direct=direct) as server, tcp(server) as client:
        await client.send(V2 + request("/later") * 3)
        for _ in range(3):
            assert (await client.answer()).body == b"later"


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN], ids=["LOCAL", "UNKNOWN"])
@on_each_loop
async def test_one_that_names_nobody_is_the_proxys_own(header: bytes) -> None:
    _, clients = echo()
    async with behind().listening() as server, tcp(server) as client:
        await client.send(header, handshake(changed={"X-Forwarded-For": "192.0.2.66"}))
        assert (await client.answer()).status == 101
        assert await clients.reach(1) == [(client.address, client.address)]


@on_each_loop
async def test_x_forwarded_for_is_read_behind_another_trusted_proxy_only() -> None:
    _, clients = echo()
    app = App(trusted_proxies=["127.0.0.1", "10.0.0.0/8"], proxy_protocol=True)
    async with app.listening() as server:
        for source in (b"192.0.2.7", b"10.1.2.3"):
            async with tcp(server) as client:
                await client.send(V1.replace(b"192.0.2.7", source))
                await client.upgrade(changed={"X-Forwarded-For": "192.0.2.66"})
        assert await clients.reach(2) == [(ALICE, ALICE), (("192.0.2.66", 0), ("192.0.2.66", 0))]


@on_each_loop
async def test_limits_count_by_it(direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    ws, _ = echo(max_connections_per_ip=1, max_connect_rate_per_ip=(0.01, 2))
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    with caplog.at_level(logging.INFO, "crest"):
        async with behind().listening(direct=direct) as server, tcp(server) as one, tcp(server) as two:
            await greet(one, V1)
            await greet(two, other)
            for text in (b"too many connections from 192.0.2.7", b"192.0.2.7 connects too often"):
                async with tcp(server) as client:
                    await client.send(V2, handshake())
                    answer = await client.answer()
                    assert answer.status == 429
                    assert text in answer.body
    assert ws.refused == {"max_connections_per_ip": 1, "max_connect_rate_per_ip": 1}
    assert any(message.startswith("Refused a request of ('192.0.2.7', 56324): 429, ") for message in caplog.messages)


@on_each_loop
async def test_a_malformed_request_behind_it_is_logged_with_the_client(caplog: pytest.LogCaptureFixture) -> None:
    async with behind().listening() as server, tcp(server) as client:
        with caplog.at_level(logging.INFO, "crest"):
            await client.send(V1, b"nonsense\r\n\r\n")
            assert (await client.answer()).status == 400
    assert any(message.startswith("Refused a request of ('192.0.2.7', 56324): 400, ") for message in caplog.messages)


# ---- From whom it is taken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (handshake(), "neither version 1 nor version 2"),
        (V1[:-2] + b"\n" + handshake(), "a line that version 1 does not know"),
        (V2[:12] + b"\x31" + V2[13:] + handshake(), "version 3 in the form of version 2"),
    ],
)
@on_each_loop
async def test_a_proxy_must_send_it(data: bytes, reason: str, direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    _, clients = echo()
    async with behind().listening(direct=direct) as server:
        assert await dropped(server, data, caplog) == [NONE.format("{}", reason)]
    assert clients.seen == []


@on_each_loop
async def test_nobody_else_may_send_it(direct: bool) -> None:
    _, clients = echo()
    async with behind("192.0.2.1").listening(direct=direct) as server:
        for header in (V1, V2):
            async with tcp(server) as client:
                await client.send(header, handshake())
                assert (await client.answer()).status == 400
        async with upgraded(server) as client:
            assert await clients.reach(1) == [(client.address, client.address)]


@on_each_loop
async def test_nor_a_trusted_proxy_without_the_option() -> None:
    echo()
    async with App(trusted_proxies=["127.0.0.1"]).listening() as server, tcp(server) as client:
        await client.send(V1, handshake())
        assert (await client.answer()).status == 400


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
@on_each_loop
async def test_over_a_unix_socket(tmp_path: Path, direct: bool) -> None:
    _, clients = echo()
    path = str(tmp_path / "socket")
    async with behind("unix").listening(unix=path, direct=direct):
        client = Client(*await asyncio.open_unix_connection(path))
        await greet(client, V2)
        await client.close()
        client = Client(*await asyncio.open_unix_connection(path))
        await client.send(UNKNOWN, handshake(changed={"X-Forwarded-For": "192.0.2.66"}))
        assert (await client.answer()).status == 101
        await client.close()
        client = Client(*await asyncio.open_unix_connection(path))
        await client.send(handshake())
        assert await client.eof() == b""
        await client.close()
    assert clients.seen == [(ALICE, ALICE), (None, None)]


def test_it_needs_trusted_proxies() -> None:
    with pytest.raises(ValueError, match="proxy_protocol needs trusted_proxies"):
        App(proxy_protocol=True)
    with pytest.raises(TypeError, match="proxy_protocol must be bool, not str"):
        App(trusted_proxies=["127.0.0.1"], proxy_protocol="v2")  # type: ignore[arg-type]


# ---- What does not come ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", V2[:3]])
@on_each_loop
async def test_it_has_the_time_of_a_request(begun: bytes, direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with behind(open_timeout=0.05).listening(direct=direct) as server:
        assert await dropped(server, begun, caplog) == [NONE.format("{}", "none within 0.05 s")]


@on_each_loop
async def test_a_request_is_awaited_from_the_beginning(caplog: pytest.LogCaptureFixture) -> None:
    async with behind(open_timeout=0.05).listening() as server, tcp(server) as client:
        await client.send(V1 + b"GET")
        assert (await client.answer()).status == 408


@on_each_loop
async def test_a_connection_without_a_request_is_closed_in_silence() -> None:
    async with behind(open_timeout=0.05).listening() as server, tcp(server) as client:
        await client.send(V1)
        assert await client.eof() == b""


@BEGUN
@on_each_loop
async def test_an_end_before_it(begun: bytes, lines: int, direct: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with behind().listening(direct=direct) as server, tcp(server) as client:
        await assert_ends(client, begun, lines, caplog)


@on_each_loop
async def test_shutdown_does_not_wait_for_it(direct: bool) -> None:
    async with (
        behind(open_timeout=1000, shutdown_timeout=1000).listening(direct=direct) as server,
        tcp(server) as client,
    ):
        await client.send(V2[:7])
        async with tcp(server) as other:
            await other.send(V1, request("/who"))
            assert (await other.answer()).status == 200  # by now the first has been accepted
        await server.stop()
        assert await client.eof() == b""


@on_each_loop
async def test_shutdown_ends_what_waits_behind_it_for_another_request() -> None:
    app = behind(shutdown_timeout=1000)
    app.get("/")(lambda request: "page")
    async with app.listening() as server:
        async with tcp(server) as client:
            await client.send(V2, request("/"))
            assert (await client.answer()).status == 200
            stopped = asyncio.create_task(server.stop())
            assert await client.eof() == b""
        await stopped


@on_each_loop
async def test_the_log_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "crest"):
        async with behind().listening() as server:
            for _ in range(5):
                async with tcp(server) as client:
                    await client.send(b"x")
                    assert await client.eof() == b""
    told = [message for message in caplog.messages if "Refused" in message]
    assert len(told) == 2 and told[1] == "Refused 4 more like the last one (proxy_protocol)"


# ---- HAProxy ---------------------------------------------------------------------------------------------------------

CONFIGURATION = """
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
listen test
    bind fd@{fd}
    server crest 127.0.0.1:{port} {options}
"""


@needs_haproxy
@pytest.mark.parametrize(
    "options",
    [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2 check check-send-proxy inter 100ms",
    ],
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@on_each_loop
async def test_behind_haproxy(
    options: str, encrypted: bool, pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, clients = echo()
    certificate = {"certfile": pair.certfile, "keyfile": pair.keyfile} if encrypted else {}
    async with behind().listening(**certificate) as server:
        with free_socket() as front:
            configuration = CONFIGURATION.format(fd=front.fileno(), port=server.port, options=options)
            with haproxy(configuration, tmp_path, front), caplog.at_level(logging.INFO, "crest"):
                before = SimpleNamespace(host="127.0.0.1", port=front.getsockname()[1])
                caplog.clear()
                async with tcp(before, tls=pair.client() if encrypted else None) as client:
                    await greet(client)
                    assert await clients.reach(1) == [(client.address, client.address)]
                assert caplog.messages == []

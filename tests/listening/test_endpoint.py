"""crest.listening.endpoint: how addresses are written down, and several of them in one app."""

import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Pair
from support.client import TEXT, connect, frame, upgraded
from support.events import Events, on_each_loop

from crest import App, ListenError, WebSocketServer
from crest.listening.endpoint import Address, SystemdAddress, UnixAddress, addresses_of


class At:
    """Where a client connects to."""

    def __init__(self, url: str) -> None:
        host, _, port = url.partition("://")[2].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)


# ---- Notation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("127.0.0.1:8000", Address("127.0.0.1", 8000)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8000", Address("::1", 8000)),
        ("*:80", Address(None, 80)),
        (":80", Address(None, 80)),
        ("http://localhost:80", Address("localhost", 80, False)),
        ("https://[::]:443/", Address("::", 443, True)),
        ("unix:/run/s", UnixAddress("/run/s", 0o660)),
        ("unix:s:t", UnixAddress("s:t", 0o660)),
        ("systemd", SystemdAddress(None)),
        ("systemd:web", SystemdAddress("web")),
    ],
)
def test_addresses(entry: str, address: Any) -> None:
    assert addresses_of("ignored", 1, entry, None, 0o660) == [address]


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "8000",
        "localhost",
        "localhost:",
        "localhost:x",
        "localhost:\uff18",
        "::1:8000",
        "ftp://x:1",
        "http://x",
        "x:1/path",
        "unix:",
    ],
)
def test_what_is_no_address(entry: str) -> None:
    with pytest.raises(ListenError) as raised:
        addresses_of(None, 1, entry, None, None)
    assert str(raised.value) == (
        f"cannot listen on {entry!r}: it is neither HOST:PORT nor unix:PATH nor systemd[:NAME]"
    )


@pytest.mark.parametrize("listen", [8000, [8000], [b"x:1"]])
def test_what_is_not_even_text(listen: Any) -> None:
    with pytest.raises(TypeError):
        addresses_of(None, 1, listen, None, None)


def test_host_and_port_are_for_when_there_is_nothing_else() -> None:
    assert addresses_of("h", 1, None, None, None) == addresses_of("h", 1, [], None, None) == [Address("h", 1)]
    assert addresses_of("h", 1, None, Path("/s"), None) == [UnixAddress("/s", None)]
    assert addresses_of("h", 1, "a:2", "/s", None) == [Address("a", 2), UnixAddress("/s", None)]


@pytest.mark.parametrize("mode", ["660", True])
def test_a_mode_is_a_number(mode: Any) -> None:
    with pytest.raises(TypeError, match="unix_mode must be int"):
        addresses_of("h", 1, None, "/s", mode)


# ---- Several ---------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_one_app_listens_in_several_places(
    pair: Pair, tmp_path: Path, direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ws, events = WebSocketServer(), Events()
    ws.on_connect(lambda conn: events.add(conn.request.scheme))
    ws.on_message(lambda conn, message: ws.broadcast(message))
    passed = socket.create_server(("127.0.0.1", 0))
    listen = ["http://127.0.0.1:0", "127.0.0.1:0", passed]
    with caplog.at_level(logging.INFO, "crest"):
        async with App().listening(
            listen=listen, certfile=pair.certfile, keyfile=pair.keyfile, direct=direct
        ) as server:
            plain, tls, own = server.urls
            assert plain.startswith("http://") and tls.startswith("https://")
            assert own == f"https://127.0.0.1:{passed.getsockname()[1]}"
            assert server.port == At(plain).port
            assert [each.getsockname()[1] for each in server.sockets] == [At(url).port for url in server.urls]
            async with (
                connect(At(plain)) as one,
                connect(At(tls), ssl=pair.client()) as other,
                upgraded(At(own), tls=pair.client()) as third,
            ):
                assert sorted(await events.reach(3)) == ["http", "https", "https"]
                await third.send(frame(TEXT, "to all"))
                assert await one.recv() == await other.recv() == "to all"
    assert passed.fileno() == -1
    said = [record.getMessage() for record in caplog.records if record.name == "crest"]
    assert [line.split()[2] for line in said[:3]] == [plain, tls, own]


@on_each_loop
async def test_if_one_address_is_taken_none_is_listened_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = socket.create_server(("127.0.0.1", 0))
        with pytest.raises(ListenError, match="the port is in use"):
            async with App().listening(listen=[free, f"127.0.0.1:{taken.getsockname()[1]}"]):
                pass
        assert free.fileno() == -1


@on_each_loop
async def test_https_without_a_certificate() -> None:
    with pytest.raises(ListenError, match="there is no certificate"):
        async with App().listening(listen="https://127.0.0.1:0"):
            pass


@pytest.mark.parametrize("kind", ["datagram", "connected"])
@on_each_loop
async def test_sockets_that_can_not_be_listened_at(kind: str) -> None:
    one, other = socket.socketpair()
    with other, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ListenError, match="cannot listen on the socket that was passed: "):
            async with App().listening(listen=datagram if kind == "datagram" else one):
                pass
        one.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
@on_each_loop
async def test_a_unix_socket_for_datagrams() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ListenError, match="it is no stream socket"):
            async with App().listening(listen=datagram):
                pass
        assert datagram.fileno() == -1


@on_each_loop
async def test_a_socket_that_is_only_bound_is_listened_at() -> None:
    ws = WebSocketServer()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    async with App().listening(listen=sock) as server, upgraded(server, ws.path) as client:
        await client.round_trip()

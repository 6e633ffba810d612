"""crest.listening.sockets: which sockets a host and a port mean, what they are set to, and what stands in the way."""

import asyncio
import errno
import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.client import GUARD
from support.events import on_each_loop

from crest import ListenError
from crest.listening.sockets import ATTEMPTS, listen, shown

IPV6 = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")

V4, V6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


def addresses(sockets: list[socket.socket]) -> list[tuple[int, str]]:
    return [(each.family, each.getsockname()[0]) for each in sockets]


@contextmanager
def closing(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


async def refusal(host: str | None, port: int) -> str:
    """Why it can not be listened on; nothing of the attempt is left open."""
    with pytest.raises(ListenError) as raised:
        await listen(host, port)
    assert raised.value.__cause__ is not None
    text = str(raised.value)
    del raised
    gc.collect()  # a socket that was forgotten would warn, and so fail the test
    return text


def resolve_to(monkeypatch: pytest.MonkeyPatch, *found: tuple[int, str]) -> None:
    """Every host has these addresses."""

    def getaddrinfo(host: object, port: int, *args: Any, **options: Any) -> list[Any]:
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port) if family == socket.AF_INET else (each, port, 0, 0))
            for family, each in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# ---- Hosts -----------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_an_address_needs_no_thread() -> None:
    """Nor a name server: a server must start where there is none."""
    threads = set(threading.enumerate())  # some of them may be about to end: other tests'
    for host in ("127.0.0.1", "0.0.0.0", None, ""):
        with closing(await listen(host, 0)) as sockets:
            assert sockets
    assert threads.issuperset(threading.enumerate())


@on_each_loop
async def test_a_name_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up by the loop, which has threads for that."""
    asked: list[tuple[Any, ...]] = []
    loop = asyncio.get_running_loop()

    class Spy:
        async def getaddrinfo(self, host: str, port: int, **options: Any) -> Any:
            asked.append((host, port))
            return await loop.getaddrinfo("127.0.0.1", port, **options)

    with monkeypatch.context() as patched:
        patched.setattr("crest.listening.sockets.asyncio.get_running_loop", Spy)
        sockets = await listen("a-name.invalid", 0)
    with closing(sockets):
        assert asked == [("a-name.invalid", 0)]
        assert addresses(sockets) == [V4]


@on_each_loop
async def test_localhost() -> None:
    with closing(await listen("localhost", 0)) as sockets:
        assert set(addresses(sockets)) <= {V4, V6}


@pytest.mark.parametrize("host", [None, ""])
@on_each_loop
async def test_no_host_is_all_of_this_machine(host: str | None) -> None:
    with closing(await listen(host, 0)) as sockets:
        assert (socket.AF_INET, "0.0.0.0") in addresses(sockets)
        assert set(addresses(sockets)) <= {(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")}
        assert len({each.getsockname()[1] for each in sockets}) == 1


@IPV6
@on_each_loop
async def test_ipv6() -> None:
    with closing(await listen("::1", 0)) as (sock,):
        assert addresses([sock]) == [V6]


@pytest.mark.parametrize("host", ["256.256.256.256", "no such host", "a" * 64 + ".example", "..", "é\udc80"])
@on_each_loop
async def test_a_host_that_does_not_exist(host: str) -> None:
    assert await refusal(host, 80) == f"cannot listen on {host}:80: there is no such host"


@on_each_loop
async def test_a_text_that_no_resolver_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any, **options: Any) -> None:
        raise ValueError("embedded null byte")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await refusal("a\0b", 80) == "cannot listen on a\0b:80: there is no such host"


# ---- Several addresses -----------------------------------------------------------------------------------------------


@IPV6
@on_each_loop
async def test_a_name_with_several_addresses_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, V4, V6, V4)
    with closing(await listen("both", 0)) as sockets:
        assert addresses(sockets) == [V4, V6], "each once"
        assert len({each.getsockname()[1] for each in sockets}) == 1


@IPV6
@on_each_loop
async def test_the_port_is_taken_at_the_second_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is listened on, the first neither."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        resolve_to(monkeypatch, V4, V6)
        assert await refusal("both", port) == f"cannot listen on both:{port}: the port is in use"
        with socket.socket() as peer, pytest.raises(ConnectionRefusedError):
            peer.settimeout(GUARD)
            peer.connect(("127.0.0.1", port))


class Bind:
    """socket.bind, which says that the port is in use at some of the calls for IPv6."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
        self.refusals = refusals
        self.ports: list[int] = []
        real = socket.socket.bind

        def bind(sock: socket.socket, address: Any) -> None:
            if sock.family == socket.AF_INET6:
                self.ports.append(address[1])
                if len(self.ports) <= self.refusals:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            real(sock, address)

        monkeypatch.setattr(socket.socket, "bind", bind)


@IPV6
@on_each_loop
async def test_a_free_port_is_looked_for_until_it_is_free_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, V4, V6)
    bind = Bind(monkeypatch, 3)
    with closing(await listen("both", 0)) as sockets:
        assert addresses(sockets) == [V4, V6]
        assert [each.getsockname()[1] for each in sockets] == [bind.ports[3]] * 2
        assert len(bind.ports) == 4


@IPV6
@on_each_loop
async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, V4, V6)
    bind = Bind(monkeypatch, 1 << 30)
    assert await refusal("both", 0) == "cannot listen on both:0: the port is in use"
    assert len(bind.ports) == ATTEMPTS


@IPV6
@on_each_loop
async def test_a_port_that_was_asked_for_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, V6)
    bind = Bind(monkeypatch, 1)
    assert await refusal("both", 8080) == "cannot listen on both:8080: the port is in use"
    assert bind.ports == [8080]


# ---- What this machine does not have ---------------------------------------------------------------------------------


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **options: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *args, **options)

    monkeypatch.setattr(socket, "socket", Socket)


@on_each_loop
async def test_no_ipv6_here(no_ipv6: None, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, V6, V4)
    with closing(await listen("both", 0)) as sockets:
        assert addresses(sockets) == [V4]
    resolve_to(monkeypatch, V6)
    assert await refusal("::1", 80) == "cannot listen on [::1]:80: Address family not supported by protocol"


@on_each_loop
async def test_an_address_of_another_machine_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, (socket.AF_INET, "198.51.100.1"), V4)
    with closing(await listen("name", 0)) as sockets:
        assert addresses(sockets) == [V4]
    resolve_to(monkeypatch, (socket.AF_INET, "198.51.100.1"), (socket.AF_INET, "198.51.100.2"))
    assert await refusal("name", 0) == "cannot listen on name:0: this machine does not have that address"


# ---- Ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [-1, 65536, 1 << 40])
@on_each_loop
async def test_a_port_out_of_range(port: int) -> None:
    assert await refusal(None, port) == f"cannot listen on *:{port}: a port is 0 to 65535"


@on_each_loop
async def test_a_port_in_use() -> None:
    with closing(await listen("127.0.0.1", 0)) as (sock,):
        port = sock.getsockname()[1]
        assert await refusal("127.0.0.1", port) == f"cannot listen on 127.0.0.1:{port}: the port is in use"


@on_each_loop
async def test_a_port_whose_last_connections_linger() -> None:
    """A server that is restarted gets its port though the kernel still remembers connections of the one before."""
    with closing(await listen("127.0.0.1", 0)) as (sock,):
        address = sock.getsockname()
        with socket.create_connection(address) as peer:
            server, _ = sock.accept()
            server.close()  # first: so the waiting is on the server's side
            assert peer.recv(1) == b""
    with closing(await listen(*address)) as sockets:
        assert sockets[0].getsockname() == address


@on_each_loop
async def test_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(sock: socket.socket, address: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket.socket, "bind", bind)
    assert await refusal("127.0.0.1", 0) == f"cannot listen on 127.0.0.1:0: {os.strerror(errno.EMFILE)}"


@pytest.mark.parametrize(
    ("port", "text"),
    [(80, "no permission; ports below 1024 may need privileges"), (8080, "no permission")],
)
@on_each_loop
async def test_a_port_without_permission(port: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", bind)
    assert await refusal("127.0.0.1", port) == f"cannot listen on 127.0.0.1:{port}: {text}"


# ---- What the sockets are set to -------------------------------------------------------------------------------------


@on_each_loop
async def test_what_they_are_set_to() -> None:
    with closing(await listen(None, 0)) as sockets:
        for sock in sockets:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert not sock.getblocking()
            assert not sock.get_inheritable()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if sock.family == socket.AF_INET6:
                assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@on_each_loop
async def test_accepted_sockets_send_at_once() -> None:
    """Nagle's algorithm would hold a small message back for tens of milliseconds; they inherit that it does not."""
    with closing(await listen("127.0.0.1", 0)) as (sock,), socket.create_connection(sock.getsockname()):
        server, _ = sock.accept()
        with server:
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- What is said of them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "text"),
    [("127.0.0.1", "127.0.0.1:80"), ("name", "name:80"), ("::1", "[::1]:80"), ("", "*:80"), (None, "*:80")],
)
def test_shown(host: str | None, text: str) -> None:
    assert shown(host, 80) == text

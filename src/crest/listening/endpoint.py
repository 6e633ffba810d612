"""The places where an app listens: from how they are written down to open sockets.

127.0.0.1:8000, [::1]:8000, localhost:8000     a host and a port; with TLS if the app has a certificate
*:8000                                         the same, on all addresses of this machine
http://127.0.0.1:8000, https://*:8443          the same, without TLS or with it
unix:/run/app.sock                             a Unix socket, without TLS
systemd, systemd:name                          what systemd has passed on, all of it or what has this name
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from typing import NamedTuple

from crest.exceptions import ListenError
from crest.listening.sockets import BACKLOG, listen, shown
from crest.listening.systemd import passed_sockets
from crest.listening.unix import SocketFile, listen_unix
from crest.options import is_int

Listen = str | socket.socket

TCP = re.compile(r"(?:(?P<scheme>https?)://)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<host>[^:/]*)):(?P<port>[0-9]{1,6})/?")


class Endpoint:
    """Sockets that were opened together.

    Attributes:
        url: Its name in the log: `http://127.0.0.1:8000`, `unix:/run/app.sock`.
        tls: True if TLS is spoken there.
        sockets: All listening, not blocking.
        passed: True if crest has not made the sockets: others may listen there as well.
        announced: True if the log has it already.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        tls: bool,
        file: SocketFile | None = None,
        *,
        passed: bool = False,
        announced: bool = False,
    ) -> None:
        self.sockets = sockets
        self.passed = passed
        self.announced = announced
        first = min(sockets, key=lambda each: each.family != socket.AF_INET)
        self.tls = tls and first.family in (socket.AF_INET, socket.AF_INET6)
        self.host, self.port = "", 0
        self._file = file
        if first.family in (socket.AF_INET, socket.AF_INET6):
            self.host, self.port = first.getsockname()[:2]
            self.url = f"{'https' if self.tls else 'http'}://{shown(self.host, self.port)}"
        else:
            self.url = f"unix:{first.getsockname()}"

    def websocket(self, path: str) -> str:
        """Return the address of a WebSocket here, for the log."""
        return f"ws{self.url[4:]}{path}" if self.host else path

    def close(self) -> None:
        """Listen no more."""
        for each in self.sockets:
            each.close()
        if self._file is not None:
            self._file.remove()


class Address(NamedTuple):
    """Where to listen, as the program says it."""

    host: str | None
    port: int
    tls: bool | None = None
    """None: if there is a certificate."""

    async def open(self, certified: bool) -> list[Endpoint]:
        """Listen.

        Raises:
            ListenError: That can not be; its text says why.
        """
        if self.tls and not certified:
            raise ListenError(f"cannot listen on https://{shown(self.host, self.port)}: there is no certificate")
        return [Endpoint(await listen(self.host, self.port), certified if self.tls is None else self.tls)]


class UnixAddress(NamedTuple):
    """A path to listen at; for `mode` see `listen_unix`."""

    path: str
    mode: int | None

    async def open(self, certified: bool) -> list[Endpoint]:
        """Listen, without TLS.

        Raises:
            ListenError: That can not be; its text says why.
        """
        sock, file = listen_unix(self.path, self.mode)
        return [Endpoint([sock], False, file)]


class SystemdAddress(NamedTuple):
    """The sockets that systemd has passed on; None: all of them."""

    name: str | None

    async def open(self, certified: bool) -> list[Endpoint]:
        """Listen, with TLS on TCP sockets if there is a certificate.

        Raises:
            ListenError: That can not be; its text says why.
        """
        return [Endpoint([_ready(each)], certified, passed=True) for each in passed_sockets(self.name)]


class SocketAddress(NamedTuple):
    """A socket that the program has bound; it is closed at the end."""

    sock: socket.socket

    async def open(self, certified: bool) -> list[Endpoint]:
        """Listen, with TLS on a TCP socket if there is a certificate.

        Raises:
            ListenError: That can not be; its text says why.
        """
        return [Endpoint([_ready(self.sock)], certified, passed=True)]


class OpenAddress(NamedTuple):
    """Listening sockets that another process has opened for this one."""

    endpoints: list[Endpoint]

    async def open(self, certified: bool) -> list[Endpoint]:
        """Return what is open already."""
        return self.endpoints


AnyAddress = Address | UnixAddress | SystemdAddress | SocketAddress | OpenAddress


def addresses_of(
    host: str | None,
    port: int,
    listen: Listen | Sequence[Listen] | None,
    unix: str | os.PathLike[str] | None,
    unix_mode: int | None,
) -> list[AnyAddress]:
    """Find the addresses that the arguments of `App.listening` mean. `listen` and `unix` are in place of host and port.

    Raises:
        TypeError, ListenError: They mean nothing.
    """
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host must be str or None, not {type(host).__name__}")
    if not is_int(port):
        raise TypeError(f"port must be int, not {type(port).__name__}")
    if unix_mode is not None and not is_int(unix_mode):
        raise TypeError(f"unix_mode must be int, such as 0o660, or None, not {type(unix_mode).__name__}")
    entries = [listen] if isinstance(listen, Listen) else list(listen or ())
    addresses = [_parse(each, unix_mode) for each in entries]
    if unix is not None:
        addresses.append(UnixAddress(os.fsdecode(unix), unix_mode))
    return addresses or [Address(host, port)]


def _parse(entry: Listen, unix_mode: int | None) -> AnyAddress:
    if isinstance(entry, socket.socket):
        return SocketAddress(entry)
    if not isinstance(entry, str):
        raise TypeError(f"listen takes str and sockets, not {type(entry).__name__}")
    kind, _, rest = entry.partition(":")
    if kind == "unix" and rest:
        return UnixAddress(rest, unix_mode)
    if kind == "systemd":
        return SystemdAddress(rest or None)
    found = TCP.fullmatch(entry)
    if found is None:
        raise ListenError(f"cannot listen on {entry!r}: it is neither HOST:PORT nor unix:PATH nor systemd[:NAME]")
    host = found["bracketed"] or found["host"]
    tls = None if found["scheme"] is None else found["scheme"] == "https"
    return Address(None if host in ("*", "") else host, int(found["port"]), tls)


def _ready(sock: socket.socket) -> socket.socket:
    """Prepare a socket that crest has not made, so that it listens as crest needs it."""
    try:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the accepted ones inherit it
        if sock.type != socket.SOCK_STREAM:
            raise OSError(None, "it is no stream socket")
        if not (hasattr(socket, "SO_ACCEPTCONN") and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on the socket that was passed: {error.strerror or error}") from error
    return sock

"""Listening sockets: from a host and a port to sockets that are bound, or one clear line that says why not."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from crest.exceptions import ListenError
from crest.options import MOST_PORT

BACKLOG = 4096
"""Connections that the kernel may hold for a listening socket until they are accepted."""

ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""A name may mean addresses of a family that this machine does not have; another of its addresses will do."""


ATTEMPTS = 16
"""Attempts to find a free port that is free on every address."""


async def listen(host: str | None, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host; None or "": of this machine. Port 0 is any that is free, the same on each.

    Raises:
        ListenError: None of the addresses can be bound, or one is taken.
    """
    try:
        if not 0 <= port <= MOST_PORT:
            raise OverflowError(port)
        addresses = await _resolve(host or None, port)
        attempts = ATTEMPTS if port == 0 else 1
        while True:
            attempts -= 1
            try:
                return _listen_on_all(addresses)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempts == 0:
                    raise
    except (OSError, OverflowError, ValueError) as error:
        raise ListenError(f"cannot listen on {shown(host, port)}: {_why(error, port)}") from error


def shown(host: str | None, port: int) -> str:
    """Write a host and a port as a person reads them, and a URL has them."""
    return f"[{host}]:{port}" if host and ":" in host else f"{host or '*'}:{port}"


async def _resolve(host: str | None, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Find the address families and addresses of a host."""
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    try:  # an address costs neither a thread nor a name server
        found = socket.getaddrinfo(host, port, type=kind, flags=flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind, flags=flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listen_on_all(addresses: list[tuple[int, tuple[Any, ...]]]) -> list[socket.socket]:
    """Open a socket for each address that this machine has. On an error none stays open, and the error is raised."""
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, (host, port, *scope) in addresses:
            if port == 0 and sockets:
                port = sockets[0].getsockname()[1]
            try:
                sockets.append(_listen_on(family, (host, port, *scope)))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def _listen_on(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name == "posix":  # elsewhere it would let another program take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the accepted ones inherit it
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _why(error: Exception, port: int) -> str:
    if isinstance(error, socket.gaierror | ValueError):  # not text that could name one
        return "there is no such host"
    if isinstance(error, OverflowError):
        return f"a port is 0 to {MOST_PORT}"
    reasons = {
        errno.EADDRINUSE: "the port is in use",
        errno.EACCES: "no permission; ports below 1024 may need privileges" if port < 1024 else "no permission",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
    }
    assert isinstance(error, OSError)
    return reasons.get(error.errno or 0, error.strerror or str(error))

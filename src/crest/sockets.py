"""Listening sockets: from a host and a port to sockets that are bound, or one clear line that says why not."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

from crest.exceptions import ListenError

BACKLOG = 4096
"""Connections that the kernel may hold for a listening socket until they are accepted."""

MOST_PORT = 65535

ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""A name may mean addresses of a family that this machine does not have; another of its addresses will do."""


async def listen(host: str | None, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host; None: on all of this machine. Port 0 is any that is free, the same on each.

    Raises:
        ListenError: None of the addresses can be bound, or one is taken.
    """
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        if not 0 <= port <= MOST_PORT:
            raise OverflowError(port)
        for family, address in await _resolve(host or None, port):
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(_listen_on(family, address))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except (OSError, OverflowError, UnicodeError) as error:
        for each in sockets:
            each.close()
        raise ListenError(f"cannot listen on {host}:{port}: {_why(error, port)}") from error
    return sockets


async def _resolve(host: str | None, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The address families and addresses of a host."""
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    try:  # what is an address already costs neither a thread nor a name server
        found = socket.getaddrinfo(host, port, type=kind, flags=flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind, flags=flags)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


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
    if isinstance(error, socket.gaierror | UnicodeError):
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

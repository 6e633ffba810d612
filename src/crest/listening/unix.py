"""Listening Unix sockets: their file, which is there as long as a server listens."""

from __future__ import annotations

import errno
import os
import socket
import stat

from crest.exceptions import ListenError
from crest.listening.sockets import BACKLOG


class SocketFile:
    """The file of a Unix socket that was bound here.

    Args:
        path: Where the file is. Only this very file is removed, none that another program put there since.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)  # the program may change its directory
        self._identity = _identity(self._path)

    def remove(self) -> None:
        """Remove it, if it is still there."""
        try:
            if _identity(self._path) == self._identity:
                os.unlink(self._path)
        except OSError:
            pass  # another program was first


def listen_unix(path: str, mode: int | None) -> tuple[socket.socket, SocketFile]:
    """Listen at a path. A socket at which no server listens any more is replaced.

    Args:
        mode: Permissions of the file; None: what the umask leaves. A client must be allowed to write.

    Raises:
        ListenError: Something else is there, another server listens there, or the socket can not be made.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ListenError(f"cannot listen on unix:{path}: this system has no Unix sockets for Python")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    file: SocketFile | None = None
    try:
        sock.setblocking(False)
        _remove_stale(path)
        sock.bind(path)
        file = SocketFile(path)
        if mode is not None:
            os.chmod(path, mode)  # no client can have connected yet
        sock.listen(BACKLOG)
    except (OSError, ValueError) as error:
        sock.close()
        if file is not None:
            file.remove()
        raise ListenError(f"cannot listen on unix:{path}: {_why(error)}") from error
    return sock, file


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "something is there that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:  # its backlog is full: a server does listen
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another server listens there"
    return (isinstance(error, OSError) and error.strerror) or str(error)

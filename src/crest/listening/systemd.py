"""Listening sockets that systemd has opened and passed on: socket activation, see sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket

from crest.exceptions import ListenError

FIRST = 3
"""The descriptor of the first socket."""


def passed_sockets(name: str | None) -> list[socket.socket]:
    """Find the sockets that this process was started with, or those of one name (`FileDescriptorName=`).

    They are duplicates: systemd's own stay open, so that clients that come between two runs wait and are not refused.

    Raises:
        ListenError: There is none, or one can not be listened at.
    """
    shown = "systemd" if name is None else f"systemd:{name}"
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise ListenError(f"cannot listen on {shown}: systemd has passed no sockets to this process")
    try:
        count = int(os.environ.get("LISTEN_FDS", ""))
    except ValueError:
        raise ListenError(f"cannot listen on {shown}: LISTEN_FDS is no number") from None
    names = os.environ["LISTEN_FDNAMES"].split(":") if os.environ.get("LISTEN_FDNAMES") else []
    names += ["unknown"] * (count - len(names))  # as sd_listen_fds_with_names(3) calls them
    wanted = [FIRST + at for at in range(count) if name is None or names[at] == name]
    if not wanted:
        known = f"; there are {', '.join(sorted(set(names[:count])))}" if count > 0 else ""
        raise ListenError(f"cannot listen on {shown}: systemd has passed no such socket{known}")
    sockets: list[socket.socket] = []
    try:
        for fd in wanted:
            os.set_inheritable(fd, False)
            sockets.append(socket.socket(fileno=os.dup(fd)))
    except OSError as error:
        for each in sockets:
            each.close()
        raise ListenError(f"cannot listen on {shown}: descriptor {fd}: {error.strerror}") from error
    return sockets

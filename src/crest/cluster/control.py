"""Messages between the supervisor and its children, over a pair of Unix sockets.

A message is one line of JSON, an object, and may carry descriptors. The other end of the pair says when a process is
gone: its end closes with it, on every system.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from crest.log import logger

Message = dict[str, Any]
Received = Callable[[Message, list[int]], None]

MOST_READ: Final = 1 << 16
MOST_DESCRIPTORS: Final = 64
"""Descriptors that one read may bring."""


class Control:
    """One end of the pair, on the running loop.

    Args:
        sock: The end; it is this object's from now on.
        received: Is called with each message, and the descriptors that came with it, which are its own then.
        ended: Is called once when the other end is gone.
    """

    def __init__(self, sock: socket.socket, received: Received, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._received = received
        self._ended = ended
        self._data = b""
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def send(self, message: Message, *descriptors: int) -> None:
        """Send a message, with duplicates of descriptors: the caller's remain its own. No-op once this is closed."""
        if self.closed:
            return
        if descriptors:
            message = {**message, "descriptors": len(descriptors)}
        was_empty = not self._unsent
        self._unsent.append((json.dumps(message).encode() + b"\n", [os.dup(each) for each in descriptors]))
        if was_empty:
            self._write()

    def close(self) -> None:
        """Close this end. What was not sent is lost, and nothing is called any more."""
        if not self.closed:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            left = [*self._descriptors, *(each for _, held in self._unsent for each in held)]
            for descriptor in left:
                os.close(descriptor)
            self._descriptors.clear()
            self._unsent.clear()

    def _write(self) -> None:
        while self._unsent:
            data, descriptors = self._unsent[0]
            try:
                sent = socket.send_fds(self._sock, [data], descriptors) if descriptors else self._sock.send(data)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._write)
                return
            except OSError:
                self._end()
                return
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._unsent[0] = data[sent:], []
            else:
                self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, MOST_READ, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        if not data:
            self._end()
            return
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            if self.closed:
                return
            message = json.loads(line)
            count = message.pop("descriptors", 0)
            try:
                self._received(message, [self._descriptors.popleft() for _ in range(count)])
            except Exception:
                logger.exception("A message of another process could not be handled: %r", message)

    def _end(self) -> None:
        self.close()
        self._ended()

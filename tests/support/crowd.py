"""Clients that only read, many of them and much: what each has got of which publisher, whatever happens to servers.

Publishers broadcast texts of the form "PUBLISHER:NUMBER", with numbers from 1, and "end PUBLISHER:NUMBER" as the last
one. A server answers the text "who" by "at PROCESS:0".
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from support.client import CLOSE, GUARD, TEXT, close_frame, frame, handshake


class Session:
    """One connection, from its handshake to its end.

    Attributes:
        process: The server's.
        heard: The numbers of each publisher, in the order in which they came.
        ends: How many texts a publisher says that it has sent.
        others: Frames that are no texts.
        code: With which the server has closed it; 0: it has ended without a close frame. None: it is open.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        plain = socket.create_connection(("127.0.0.1", port), GUARD)
        self.sock = plain if tls is None else tls.wrap_socket(plain, server_hostname="127.0.0.1")
        self.sock.sendall(handshake())
        self.process = 0
        self.heard: dict[int, list[int]] = {}
        self.ends: dict[int, int] = {}
        self.code: int | None = None
        self.others = 0
        self._closed = 0
        self._data = bytearray()
        while b"\r\n\r\n" not in self._data:
            data = self.sock.recv(1000)
            assert data, "the server has not answered"
            self._data += data
        assert self._data.startswith(b"HTTP/1.1 101"), self._data
        del self._data[: self._data.index(b"\r\n\r\n") + 4]
        self.say("who")
        self.sock.setblocking(False)

    def say(self, message: str) -> None:
        self.sock.sendall(frame(TEXT, message.encode()))

    def read(self) -> None:
        """Take in what has come."""
        while self.code is None:
            try:
                data = self.sock.recv(1 << 16)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                data = b""
            if not data:
                self.code = self._closed
            self._data += data
            self._parse()

    def _parse(self) -> None:
        at, data = 0, self._data
        while len(data) >= at + 2:
            size, start = data[at + 1], at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : start], "big")
            if len(data) < start + size:
                break
            self._take(data[at] & 0xF, data[start : start + size])
            at = start + size
        del data[:at]

    def _take(self, opcode: int, payload: bytearray) -> None:
        if opcode == CLOSE:
            self._closed = int.from_bytes(payload[:2], "big")
            self.sock.send(close_frame(self._closed))
        if opcode != TEXT:
            self.others += 1
            return
        *what, text = payload.decode().split()
        publisher, number = map(int, text.split(":"))
        if what == ["at"]:
            self.process = publisher
        elif what == ["end"]:
            self.ends[publisher] = number
        else:
            self.heard.setdefault(publisher, []).append(number)

    def last(self, publisher: int) -> int:
        """The number of the last text of a publisher; 0: none has come."""
        return self.heard.get(publisher, [0])[-1]

    def is_in_order(self) -> bool:
        """True if nothing has come twice, or before what was sent earlier."""
        return all(numbers == sorted(set(numbers)) for numbers in self.heard.values())

    def is_whole(self) -> bool:
        """True if of each publisher all has come, from the first one that came to the last one."""
        return all(numbers == list(range(numbers[0], numbers[-1] + 1)) for numbers in self.heard.values())


class Crowd:
    """The sessions with the servers at a port.

    Args:
        comes_back: A client whose connection was closed with 1012 (service restart) connects anew.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, *, comes_back: bool = False) -> None:
        self.port = port
        self.tls = tls
        self.comes_back = comes_back
        self.sessions: list[Session] = []
        self.ended: list[Session] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: Any) -> None:
        for each in self.sessions:
            each.sock.close()
        self._selector.close()

    def join(self) -> None:
        """Connect one more client."""
        made = Session(self.port, self.tls)
        self._selector.register(made.sock, selectors.EVENT_READ, made)
        self.sessions.append(made)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until something has come about."""
        end = time.monotonic() + 6 * GUARD
        while not condition():
            assert time.monotonic() < end, "it does not come about"
            for key, _ in self._selector.select(0.05):
                key.data.read()
                if key.data.code is not None:
                    self._leave(key.data)

    def _leave(self, session: Session) -> None:
        self._selector.unregister(session.sock)
        session.sock.close()
        self.sessions.remove(session)
        self.ended.append(session)
        if self.comes_back and session.code == 1012:
            self.join()

    def processes(self) -> list[int]:
        """The servers, once it is known of each client where it is."""
        self.until(lambda: all(each.process for each in self.sessions))
        return sorted({each.process for each in self.sessions})

    def at(self, process: int) -> list[Session]:
        """The open sessions with one server."""
        return [each for each in self.sessions if each.process == process]

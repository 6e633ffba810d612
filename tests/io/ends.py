"""Connections over socket pairs whose server ends are transports on a real loop, and what their protocols saw.

A unix socket pair is synchronous: what one end did, the other end sees at once. So everything that is going to happen
has happened after a few turns of the loop, and nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest
from client import GUARD
from events import turns

from crest.io.poller import Poller
from crest.io.protocol import ServerProtocol
from crest.io.stream import StreamTransport
from crest.io.turn import Turn

SETTLED = 8
"""Turns after which nothing more happens by itself."""

MUCH = 1 << 20
"""Bytes that no socket pair takes at once."""

Does = Callable[["End"], object]


class WatchedLoop:
    """A loop that remembers the descriptors that it was given to read: one, the poller's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.fds: list[int] = []

    @property
    def fd(self) -> int:
        (fd,) = self.fds
        return fd

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self.fds.append(fd)
        self.loop.add_reader(fd, callback)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loop, name)

    def is_quiet(self) -> bool:
        """Whether nothing that the poller watches is ready."""
        readable, _, _ = select.select([self.fd], [], [], 0)
        return not readable


class Recorded(ServerProtocol):
    """Tells its end what it is called for, which then does what the test wants."""

    end: End

    def connection_made(self, transport: Any) -> None:
        self.end.transport = transport
        super().connection_made(transport)
        self.end.called("made")

    def eof_received(self) -> bool:
        return bool(self.end.called("eof"))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.end.called("pause")

    def resume_writing(self) -> None:
        super().resume_writing()
        self.end.called("resume")

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.end.called("lost")


class End:
    """One connection.

    Attributes:
        transport: The server's end, from `made` on.
        peer: The other.
        calls: What the protocol was called for: made, data, eof, pause, resume, lost.
        data: All that it was given.
        does: By such a name, what happens in that call; `eof` keeps the connection open if that returns true.
    """

    def __init__(self, turn: Turn, does: dict[str, Does]) -> None:
        self.accepted, self.peer = socket.socketpair()  # `accepted` is handed to the transport
        self.fd = self.accepted.fileno()
        self.accepted.setblocking(False)
        self.peer.setblocking(False)
        self.does = does
        self.calls: list[str] = []
        self.data = b""
        self.transport: Any = None
        self.changed = asyncio.Event()
        self.protocol = Recorded(turn, self)
        self.protocol.end = self

    def called(self, name: str) -> object:
        self.calls.append(name)
        self.changed.set()
        return self.does[name](self) if name in self.does else None

    @property
    def story(self) -> str:
        """The calls in one line, those for data that follow each other as one."""
        return " ".join(name for name, _ in groupby(self.calls, lambda name: name))

    async def until(self, name: str) -> None:
        """Wait until the protocol has been called for this."""
        async with asyncio.timeout(GUARD):
            while name not in self.calls:
                self.changed.clear()
                await self.changed.wait()

    def server(self) -> socket.socket:
        """A duplicate of the server's end, behind the transport's back."""
        return socket.socket(fileno=os.dup(self.fd))

    def fill(self) -> int:
        """Write until the kernel's buffer is full; how many bytes it took."""
        size = 0
        with self.server() as sock:
            try:
                while True:
                    size += sock.send(bytes(1000))
            except BlockingIOError:
                return size

    def read(self, most: int = 1 << 30) -> bytes:
        """What has come for the peer, up to so many bytes."""
        found = b""
        try:
            while len(found) < most and (chunk := self.peer.recv(most - len(found))):
                found += chunk
        except (BlockingIOError, ConnectionResetError):
            pass
        return found

    async def read_to_end(self) -> bytes:
        """Read until the stream ends."""
        found = b""
        async with asyncio.timeout(GUARD):
            while True:
                try:
                    chunk = self.peer.recv(1 << 16)
                except BlockingIOError:
                    await asyncio.sleep(0)
                    continue
                except ConnectionResetError:
                    return found
                if not chunk:
                    return found
                found += chunk

    def reset(self) -> None:
        """The peer goes with bytes unread: on Linux the server's kernel says ECONNRESET then."""
        with self.server() as sock:
            sock.send(b"unread")
        self.peer.close()

    # ---- What a protocol asks of its site and its opening ------------------------------------------------------------

    def opened(self, protocol: object) -> End:
        return self

    def ended(self, protocol: object) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.called("data")

    def resume_writing(self) -> None:
        pass

    def connection_lost(self) -> None:
        pass


class Ends:
    """The connections of one loop.

    Args:
        own: Whether their server ends are StreamTransports; else they are the loop's own transports, for comparison.
    """

    def __init__(self, own: bool = True) -> None:
        self.loop = WatchedLoop(asyncio.get_running_loop())
        self.turn = Turn(self.loop)
        self.poller = Poller(self.loop) if own else None
        self.made: list[End] = []
        self.errors: list[dict[str, Any]] = []

    async def connect(self, **does: Does) -> End:
        """A new connection, already made."""
        end = End(self.turn, does)
        self.made.append(end)
        if self.poller is None:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: end.protocol, end.accepted)
        else:
            StreamTransport(self.poller, end.protocol, end.accepted.detach()).start()
        return end

    def is_quiet(self) -> bool:
        """Whether the loop would not be woken over and over."""
        return self.poller is None or self.loop.is_quiet()

    def catch_errors(self) -> list[dict[str, Any]]:
        """The list that what goes to the loop's exception handler is appended to from now on."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.errors.append(context))
        return self.errors

    async def close(self) -> None:
        for end in self.made:
            if end.transport is not None and "lost" not in end.calls:  # asyncio's raise an error then
                end.transport.abort()
        await turns(SETTLED)
        for end in self.made:
            end.peer.close()
        if self.poller is not None:
            self.poller.close()


@asynccontextmanager
async def ends(own: bool = True) -> AsyncIterator[Ends]:
    """Connections that are cleaned up."""
    made = Ends(own)
    try:
        yield made
    finally:
        await made.close()


async def settled() -> None:
    """Everything that follows from what was done has happened."""
    await turns(SETTLED)


def close(end: End) -> None:
    end.transport.close()


def abort(end: End) -> None:
    end.transport.abort()


def is_open(fd: int) -> bool:
    """Whether this process has such a descriptor."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def skip_uvloop(own: bool, why: str) -> None:
    """Its transports differ from asyncio's here, so StreamTransport is compared with asyncio's only."""
    if not own and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip(f"uvloop's transports {why}")

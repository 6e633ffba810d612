"""Connections over socket pairs whose server ends are transports on a real loop, and what their protocols saw.

A unix socket pair is synchronous: what one end did, the other end sees at once. So everything that is going to happen
has happened after a few turns of the loop, and nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pytest

from crest.io.life.protocol import ServerProtocol
from crest.io.loop.poller import Poller
from crest.io.loop.turn import Turn
from crest.io.net.secure import Handshake, SecureTransport
from crest.io.net.stream import StreamTransport
from support.client import GUARD
from support.events import turns

SETTLED = 8
"""Turns after which nothing more happens by itself."""

MUCH = 1 << 20
"""Bytes that no socket pair takes at once."""

Does = Callable[["End"], object]


@dataclass(frozen=True)
class Whose:
    """Whose transports the server ends are.

    Attributes:
        own: crest's, or, for comparison, the loop's.
        context: The server's, if crest's speak TLS.
    """

    own: bool = True
    context: ssl.SSLContext | None = None


PLAIN, LOOP = Whose(), Whose(own=False)


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


class SecurePeer:
    """A socket that speaks TLS, as a client.

    Args:
        sock: Does not block.
        version: Of TLS, the only one that is spoken; None: any.
        piece: How many bytes are sent at a time, asked anew each time.
    """

    def __init__(
        self,
        sock: socket.socket,
        version: ssl.TLSVersion | None = None,
        piece: Callable[[], int] | None = None,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version is not None:
            context.minimum_version = context.maximum_version = version
        self.sock = sock
        self.piece = piece
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.unread = self.unsent = b""
        self.at_end = False

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is over."""
        self.receive()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def receive(self, size: int = 1 << 20) -> bool:
        """Take what has come; whether there was anything."""
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            return False
        if data:
            self.incoming.write(data)
        self.at_end = not data
        return True

    def flush(self) -> bool:
        """Send records, or one piece of them; whether the kernel has taken them all."""
        self.unsent += self.outgoing.read()
        try:
            if self.piece is not None:
                self.unsent = self.unsent[self.sock.send(self.unsent[: self.piece()]) :]
                return not self.unsent
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return False
        return True

    def send(self, data: bytes) -> int:
        if not self.flush():
            raise BlockingIOError
        size = self.tls.write(data)
        self.flush()
        return size

    def recv(self, size: int) -> bytes:
        if self.unread:
            data, self.unread = self.unread[:size], self.unread[size:]
            return data
        while True:
            try:
                return self.tls.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                if not self.at_end and not self.receive(size):
                    raise BlockingIOError from None
            if self.at_end:
                return b""

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR
        with suppress(ssl.SSLError):  # OpenSSL can not say close_notify while it has something
            while data := self.tls.read(1 << 20):
                self.unread += data
        with suppress(ssl.SSLError):  # that the server has not said close_notify as well
            self.tls.unwrap()
        with suppress(OSError):
            self.flush()
        self.sock.shutdown(how)

    def close(self) -> None:
        self.sock.close()


class End:
    """One connection.

    Args:
        secure: Makes the peer of its socket, if TLS is spoken.

    Attributes:
        transport: The server's end, from `made` on.
        peer: The other.
        calls: What the protocol was called for: made, data, eof, pause, resume, lost.
        data: All that it was given.
        overhead_size: Bytes of TLS records that had nothing for it.
        does: By such a name, what happens in that call; `eof` keeps the connection open if that returns true.
    """

    def __init__(
        self, turn: Turn, does: dict[str, Does], secure: Callable[[socket.socket], SecurePeer] | None = None
    ) -> None:
        self.accepted, peer = socket.socketpair()  # `accepted` is handed to the transport
        self.fd = self.accepted.fileno()
        self.accepted.setblocking(False)
        peer.setblocking(False)
        self.peer = secure(peer) if secure else peer
        self.does = does
        self.calls: list[str] = []
        self.data = b""
        self.overhead_size = 0
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

    async def send(self, data: bytes) -> None:
        """Have the peer send it all, however long that takes."""
        loop = asyncio.get_running_loop()
        if isinstance(self.peer, socket.socket):
            await loop.sock_sendall(self.peer, data)
            return
        async with asyncio.timeout(GUARD):
            self.peer.tls.write(data)
            while not self.peer.flush():
                await asyncio.sleep(0)

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

    def left(self, protocol: object) -> None:
        pass

    def ended(self, protocol: object) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.called("data")

    def overhead(self, size: int) -> None:
        self.overhead_size += size

    def left_by_client(self) -> bool:
        return bool(self.called("left"))

    def resume_writing(self) -> None:
        pass

    def connection_lost(self) -> None:
        pass


class Shaking(Handshake):
    """A handshake whose end can be awaited.

    Attributes:
        ended: Has the exception, if it has failed.
    """

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def over(self, error: BaseException | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)


class Ends:
    """The connections of one loop.

    Args:
        whose: Transports their server ends are.
    """

    def __init__(self, whose: Whose = PLAIN) -> None:
        self.loop = WatchedLoop(asyncio.get_running_loop())
        self.turn = Turn(self.loop)
        self.poller = Poller(self.loop) if whose.own else None
        self.context = whose.context
        self.room = bytearray(1 << 16)
        self.made: list[End] = []
        self.errors: list[dict[str, Any]] = []

    async def connect(self, **does: Does) -> End:
        """A new connection, already made."""
        end = End(self.turn, does, SecurePeer if self.context else None)
        self.made.append(end)
        if self.poller is None:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: end.protocol, end.accepted)
        elif isinstance(end.peer, SecurePeer):
            shaking = Shaking()
            transport = SecureTransport(self.poller, end.protocol, end.accepted.detach())
            transport.shake_hands(self.context, self.room, shaking)
            while not shaking.ended.done() or not end.peer.shake_hands():
                end.peer.shake_hands()
                await asyncio.sleep(0)
            await shaking.ended
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
async def ends(whose: Whose = PLAIN) -> AsyncIterator[Ends]:
    """Connections that are cleaned up."""
    made = Ends(whose)
    try:
        yield made
    finally:
        await made.close()


async def settled() -> None:
    """Everything that follows from what was done has happened."""
    await turns(SETTLED)


def skip_uvloop(whose: Whose, why: str) -> None:
    """Its transports differ from asyncio's here, so StreamTransport is compared with asyncio's only."""
    if not whose.own and type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip(f"uvloop's transports {why}")


def skip_tls(whose: Whose, why: str) -> None:
    """It can not be the same there."""
    if whose.context is not None:
        pytest.skip(f"with TLS {why}")

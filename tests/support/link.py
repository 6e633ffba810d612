"""Doubles for what surrounds crest.io, so that its tests decide when a turn ends and what the kernel takes.

A `Scene` is one server: a loop that turns when told, a hub, its site, and the events that handlers saw. A `Link` is one
connection of it: protocol, transport double and the peer's end. Frames from a client come from client.py.
"""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crest.io.life.protocol import ServerProtocol
from crest.io.out.hub import Hub
from crest.io.out.member import Member
from crest.wire.extensions import Agreement
from support.client import CLOSE, PING, TEXT, Frame, frame
from support.loop import Loop, turn_of
from support.transport import Transport

SMALL_KERNEL = 4608
"""SO_SNDBUF: the least that Linux allows."""

RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
"""What the opening handshake is answered with here."""


class Connection(Member):
    """What handlers get."""

    link: Link

    def get_id(self) -> str:
        return "test-1"


class Opening:
    """What `Site.opened` returns: it waits for the test to upgrade."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def resume_writing(self) -> None:
        self.calls.append("resume_writing")

    def left_by_client(self) -> bool:
        self.calls.append("left_by_client")
        return False

    def timed_out(self) -> None:
        self.calls.append("timed_out")

    def connection_lost(self) -> None:
        self.calls.append("connection_lost")


class Site:
    """Whom protocols report to."""

    def __init__(self) -> None:
        self.openings: list[Opening] = []
        self.gone: list[ServerProtocol] = []
        self.handling: list[ServerProtocol] = []
        """Those that had handlers to wait for when they went."""

    def opened(self, protocol: ServerProtocol) -> Opening:
        self.openings.append(Opening())
        return self.openings[-1]

    def left(self, protocol: ServerProtocol) -> None:
        self.handling.append(protocol)

    def ended(self, protocol: ServerProtocol) -> None:
        self.gone.append(protocol)

    def farewell(self) -> tuple[int, str] | None:
        return None


class Scene:
    """One server and its loop.

    Args:
        direct: Whether output goes past the transport; its kernel is then a socketpair.
        max_backlog_total: Of the turn.
        limits: Of the hub.

    Attributes:
        events: (what, link, argument...) as handlers were called; tests that register handlers of their own add to it.
    """

    def __init__(self, *, direct: bool = False, max_backlog_total: int | None = None, **limits: Any) -> None:
        defaults = {"max_message_size": 1 << 24, "max_fragments": 1024, "max_backlog": 1 << 20, "on_backlog": "close"}
        self.loop = Loop()
        self.turn = turn_of(self.loop, max_backlog_total)
        self.site = Site()
        self.hub = Hub(**{**defaults, "max_queue": 16, "close_timeout": 10.0, "fanout_slice": 1.0, **limits})
        self.hub.open(self.turn)
        self.direct = direct
        self.links: list[Link] = []
        self.events: list[tuple[Any, ...]] = []
        self.hub.on_close = lambda conn, code, reason: self.events.append(("close", conn.link, code, reason))
        self.hub.on_error = lambda conn, error: self.events.append(("error", conn.link, error))

    def link(self, **options: Any) -> Link:
        """A connection that is open, its response read; see `Link`."""
        link = Link(self, **options)
        self.links.append(link)
        return link

    def end_turn(self, times: int = 1) -> None:
        """Let the loop run all that is scheduled; once, or more often for what is scheduled by that."""
        self.loop.turn(times)

    def pending(self) -> list[float]:
        """Seconds to each deadline that runs."""
        return self.turn.clock.pending()

    def seen(self, link: Link) -> list[tuple[Any, ...]]:
        """The events of one connection."""
        return [(event[0], *event[2:]) for event in self.events if event[1] is link]

    def close(self) -> None:
        """The test is over."""
        for link in self.links:
            link.transport.end()
        self.end_turn(3)
        while tasks := asyncio.all_tasks(self.loop):
            for link in self.links:
                link.protocol.end_now()
            for task in tasks:
                task.cancel()
            self.end_turn(3)
        for link in self.links:
            link.peer.close()
            # The garbage collector does not look into connections and protocols.
            del link.connection.link, link.protocol, link.transport.protocol
        self.site.gone.clear()
        self.hub.close()
        self.loop.close()


class Link:
    """One connection: `connection` is the server's end, `read` and `receive` are the peer's.

    Args:
        kind: Of the socketpair in direct mode: SOCK_SEQPACKET keeps apart what was sent apart.
        send_buffer: SO_SNDBUF of the server's end.
        room: In transport mode, the bytes that the kernel takes after the response; None: any.
        rest: What comes behind the request.
        agreed: On compression; see `inflated` for what the peer gets then.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        kind: socket.SocketKind = socket.SOCK_STREAM,
        send_buffer: int | None = None,
        room: int | None = None,
        rest: bytes = b"",
        agreed: Agreement | None = None,
    ) -> None:
        self.scene = scene
        sock, self.peer = socket.socketpair(socket.AF_UNIX, kind)
        sock.setblocking(False)
        self.peer.setblocking(False)
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if not scene.direct:
            sock.close()
        self.transport = Transport(scene.loop, sock if scene.direct else None)
        self.protocol = ServerProtocol(scene.turn, scene.site)
        self.transport.protocol = self.protocol
        self.protocol.connection_made(self.transport)
        self.connection = Connection()
        self.connection.link = self
        self.unread = b""
        self.stream = bytearray()
        self.agreed = agreed
        self.window = zlib.decompressobj(-(agreed.server_max_window_bits if agreed else 15))
        self.protocol.upgrade(self.connection, scene.hub, RESPONSE, rest, agreed)
        if scene.direct:
            self.read()
        else:
            self.stream += self.transport.wire
            self.transport.wire.clear()
            self.transport.room = room
        assert self.stream.startswith(RESPONSE)
        del self.stream[: len(RESPONSE)]

    def receive(self, data: bytes) -> None:
        """Bytes come from the peer, as a transport hands them over: until it is told to pause."""
        self.unread += data
        while self.unread and self.transport.reading and not self.transport.closing:
            buffer = memoryview(self.protocol.get_buffer(-1)).cast("B")
            size = min(len(buffer), len(self.unread))
            buffer[:size] = self.unread[:size]
            self.unread = self.unread[size:]
            self.protocol.buffer_updated(size)

    def fill(self) -> int:
        """Fill the kernel's buffer behind the server's back; how many bytes the peer will have to read before."""
        size = 0
        if self.scene.direct:
            assert self.transport.sock is not None
            try:
                while True:
                    size += self.transport.sock.send(bytes(1000))
            except BlockingIOError:
                pass
        return size

    def read(self, most: int = 1 << 30) -> list[bytes]:
        """What the kernel has for the peer, up to so many bytes, one item for each recv(2)."""
        chunks = []
        if not self.scene.direct:
            chunks.append(bytes(self.transport.wire[:most]))
            del self.transport.wire[:most]
        else:
            try:
                while most and (chunk := self.peer.recv(min(most, 1 << 18))):
                    most -= len(chunk)
                    chunks.append(chunk)
            except (BlockingIOError, ConnectionResetError):
                pass
        for chunk in chunks:
            self.stream += chunk
        return chunks

    def read_all(self) -> None:
        """Read until nothing comes any more, the transport writing whenever it can."""
        if not self.scene.direct:
            self.transport.writable()
        while any(self.read()) or self.transport.buffer:
            self.transport.writable()

    def frames(self) -> list[Frame]:
        """All frames that the peer got, which must be whole; forgets them."""
        found, size = parse(self.stream)
        assert size == len(self.stream), f"{len(self.stream) - size} bytes behind the last whole frame"
        self.stream.clear()
        return found

    def texts(self) -> list[str]:
        """Likewise, when all of them are text messages."""
        frames = self.frames()
        assert all(each.opcode == TEXT for each in frames), frames
        return [each.payload.decode() for each in frames]

    def inflated(self) -> list[tuple[str, bool]]:
        """The text messages that have come by now, and whether each was compressed; read as RFC 7692 section 7.2.2
        says, by a client with just the window that was agreed on."""
        self.read_all()
        found = []
        for each in self.frames():
            assert each.opcode == TEXT, each
            found.append((self._inflate(each), each.rsv1))
        return found

    def messages(self) -> list[Frame]:
        """All frames that the peer got, as they were before they were compressed; forgets them."""
        return [Frame(each.opcode, self._payload(each)) for each in self.frames()]

    def _inflate(self, message: Frame) -> str:
        return self._payload(message).decode()

    def _payload(self, message: Frame) -> bytes:
        if not message.rsv1:
            return message.payload
        assert self.agreed is not None
        if self.agreed.server_no_context_takeover:
            self.window = zlib.decompressobj(-self.agreed.server_max_window_bits)
        return self.window.decompress(message.payload + b"\x00\x00\xff\xff")

    def taken(self) -> list[str]:
        """The text messages that have come by now, without a turn."""
        self.read_all()
        return self.texts()


def parse(data: bytes | bytearray) -> tuple[list[Frame], int]:
    """The whole frames of a server that `data` begins with, and their bytes (RFC 6455 section 5.2)."""
    found, at = [], 0
    while len(data) >= at + 2:
        first, size, body = data[at], data[at + 1], at + 2
        assert not first & 0x30 and not size & 0x80, f"no frame of a server at byte {at}"
        if size >= 126:
            body += 2 if size == 126 else 8
            if len(data) < body:
                break
            short, size = size == 126, int.from_bytes(data[at + 2 : body], "big")
            assert size >= (126 if short else 1 << 16), f"length not in its shortest encoding at byte {at}"
        if len(data) < body + size:
            break
        found.append(Frame(first & 0xF, bytes(data[body : body + size]), bool(first & 0x80), bool(first & 0x40)))
        at = body + size
    return found, at


@contextmanager
def scene(**options: Any) -> Iterator[Scene]:
    """A scene that is cleaned up."""
    made = Scene(**options)
    try:
        yield made
    finally:
        made.close()


def stalled(stage: Scene, first: str = "x" * 80_000, agreed: Agreement | None = None) -> Link:
    """A connection whose kernel and transport have taken the beginning of its first message, and not all."""
    link = stage.link(send_buffer=SMALL_KERNEL, room=0, agreed=agreed)
    assert link.connection.send(first, compress=False)
    stage.end_turn()
    assert link.connection.buffered > 0
    return link


def used(stage: Scene) -> int:
    """Bytes that count in the budget."""
    return stage.turn.budget.used


def leave(stage: Scene, *links: Link) -> None:
    """Connections end."""
    for link in links:
        link.transport.abort()
    stage.end_turn(3)


def text(payload: str) -> bytes:
    """A text message from a client."""
    return frame(TEXT, payload)


def ping(payload: bytes) -> bytes:
    """A ping from a client."""
    return frame(PING, payload)


def closed_with(link: Link) -> int | None:
    """The code of the close frame that the peer got last."""
    link.read_all()
    last = link.frames()[-1]
    assert last.opcode == CLOSE, last
    return last.code

"""Five core paths without a network: what runs for each message, recipient or connection, for callgrind to count.

`paths.py PATH COUNT` runs one path COUNT times, in one process and with the same input each time. Sockets are socket
pairs, so that send(2) is called as it is in service; callgrind counts user-space instructions, not the kernel's.
"""

import asyncio
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable

from crest import App, WebSocketServer
from crest.http.pages import Pages
from crest.io.life.protocol import ServerProtocol
from crest.io.loop.poller import Pollable
from crest.io.loop.turn import Turn
from crest.opening.opening import Opening
from crest.opening.site import Site

BATCH = 32  # frames that arrive in one read
RECIPIENTS = 1000
REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost:8000\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
KEY = bytes.fromhex("37fa213d")


class Transport(Pollable):
    """As much of a transport as a connection needs that never has to wait for its peer."""

    def __init__(self) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 50000) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


def masked(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + KEY + bytes(byte ^ KEY[i & 3] for i, byte in enumerate(payload))


class Bench:
    """One server, and connections to it over socket pairs."""

    def __init__(self, ping_interval: float | None = 20) -> None:
        self.ws = WebSocketServer(fanout_slice=3600, ping_interval=ping_interval)
        app = App()
        app.mount("/ws", self.ws)
        self.site = Site(app, {"/ws": self.ws}, Pages(), Counter(), app.open_timeout, Opening)
        self.turn = Turn(asyncio.get_running_loop())
        self.ws._hub.open(self.turn)

    def connect(self, transport: Transport | None = None) -> tuple[ServerProtocol, Transport]:
        protocol, transport = ServerProtocol(self.turn, self.site), transport or Transport()
        protocol.connection_made(transport)
        self.receive(protocol, REQUEST)
        assert transport.peer.recv(4096).startswith(b"HTTP/1.1 101 ")
        return protocol, transport

    def receive(self, protocol: ServerProtocol, data: bytes) -> None:
        """Have the protocol read the data, as a loop would."""
        at = 0
        while at < len(data):
            view = memoryview(protocol.get_buffer(-1))
            size = min(len(view), len(data) - at)
            view[:size] = data[at : at + size]
            view.release()
            protocol.buffer_updated(size)
            at += size


async def receive_text(count: int) -> None:
    """Parse a text message of 64 bytes and call its handler."""
    bench = Bench()
    received = 0

    @bench.ws.on_message
    def on_message(conn: object, message: str) -> None:
        nonlocal received
        received += 1

    protocol, _ = bench.connect()
    data = masked(1, b"abcdefgh" * 8) * BATCH
    for _ in range(count // BATCH):
        bench.receive(protocol, data)
    assert received == count // BATCH * BATCH


async def receive_binary(count: int) -> None:
    """Parse a binary message of 512 KiB, which comes in two reads, and call its handler."""
    bench = Bench()
    received = 0

    @bench.ws.on_binary
    def on_binary(conn: object, data: bytes) -> None:
        nonlocal received
        received += len(data)

    protocol, _ = bench.connect()
    data = masked(2, b"abcdefgh" * (1 << 16))
    for _ in range(count):
        bench.receive(protocol, data)
    assert received == count << 19


async def send(count: int) -> None:
    """Echo a text message of 64 bytes, 32 in one write; reading them is counted too, see receive_text."""
    bench = Bench()

    @bench.ws.on_message
    def on_message(conn, message):  # type: ignore[no-untyped-def]
        conn.send(message)

    protocol, transport = bench.connect()
    data = masked(1, b"abcdefgh" * 8) * BATCH
    for _ in range(count // BATCH):
        bench.receive(protocol, data)
        assert len(transport.peer.recv(1 << 16)) == BATCH * 66


async def broadcast(count: int) -> None:
    """Broadcast a text message of 64 bytes; COUNT is deliveries. A delivery takes so few instructions that nothing else
    may happen for each: turns end without the loop, and peers read a hundred messages at a time."""
    bench = Bench()
    peers = [bench.connect()[1].peer for _ in range(RECIPIENTS)]
    for sent in range(count // RECIPIENTS):
        bench.ws.broadcast("abcdefgh" * 8)
        bench.turn.run()
        if sent % 100 == 99:
            assert all(len(peer.recv(1 << 16)) == 100 * 66 for peer in peers)


async def handshake(count: int) -> None:
    """Open a connection and lose it. All use one transport, which would cost more than what is to be measured."""
    bench, transport = Bench(), Transport()
    for _ in range(count):
        protocol, _ = bench.connect(transport)
        protocol.connection_lost(None)


PATHS: dict[str, Callable[[int], object]] = {
    each.__name__: each for each in (receive_text, receive_binary, send, broadcast, handshake)
}

if __name__ == "__main__":
    asyncio.run(PATHS[sys.argv[1]](int(sys.argv[2])))

"""What one connection can make a server keep, by kind: Python's memory, and bytes that the client sends.

`memory.py [--connections N] [--total BYTES]`. The server runs here, with defaults and compression, and each kind of
client as often as `--connections` says; each then has the worst that its kind can do. `counted` is what the budget says
of it (`max_backlog_total`), `measured` what tracemalloc does. With `--total`, the budget is that: then `measured` is
what is left of the connections that were not shed. OpenSSL's own memory is in none of this.
"""

import argparse
import asyncio
import gc
import os
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from crest import App, WebSocketServer
from crest.listening.listener import Listener

LEAST_KERNEL = 4096
SETTLED = 0.3
"""Seconds in which a server on this machine has read what was sent."""

MESSAGE = "😀" + "x" * ((1 << 20) - 4)
"""The longest that `max_message_size` allows, with four bytes a character in memory."""

KEY = bytes(4)
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
FIN, RSV1, CONTINUATION, TEXT, BINARY = 0x80, 0x40, 0, 1, 2

gate: asyncio.Event


def frame(first: int, payload: bytes) -> bytes:
    """A frame, masked with a key of zeros."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
    return head + KEY + payload


def compressed(data: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


LONG = frame(FIN | RSV1 | TEXT, compressed(MESSAGE.encode()))
PARTIAL = compressed(bytes(1 << 20))[:-8]

KINDS: dict[str, tuple[bytes, bytes]] = {
    # What is sent, at once, and behind the upgrade.
    "an idle WebSocket": (UPGRADE % b"/ws", b""),
    "17 compressed messages, one emoji in each": (UPGRADE % b"/ws", LONG * 17),
    "the same in ASCII, not compressed": (UPGRADE % b"/ws", frame(FIN | TEXT, b"x" * (1 << 20)) * 17),
    "short messages behind a full queue": (UPGRADE % b"/ws", frame(FIN | TEXT, b"x") * 100_000),
    "a message that does not end": (UPGRADE % b"/ws", frame(BINARY, bytes((1 << 20) - 1))),
    "the same, compressed": (UPGRADE % b"/ws", frame(RSV1 | BINARY, PARTIAL)),
    "a request's head that does not end": (b"GET /" + b"x" * 16_000, b""),
    "what follows a request that is being decided about": (UPGRADE % b"/decide", bytes(1 << 19)),
    "a response of 10 MB that is not read": (b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
}


def served(total: int | None) -> App:
    """An app for all kinds, whose handlers wait for the gate."""
    app = App(max_backlog_total=total, open_timeout=600)
    ws = WebSocketServer(compression="deflate", ping_interval=None)
    deciding = WebSocketServer("/decide", compression="deflate")
    app.mount("/ws", ws)
    app.mount("/decide", deciding)
    ws.on_message(_wait)
    ws.on_binary(_wait)
    deciding.on_upgrade(_wait)
    app.get("/large")(lambda request: bytes(10_000_000))
    return app


async def _wait(*_: object) -> None:
    await gate.wait()


@asynccontextmanager
async def clients(server: Listener, count: int, first: bytes, rest: bytes) -> AsyncIterator[list[int]]:
    """So many clients that have sent this, and read no more than the answer to an upgrade; how much each could send."""
    loop = asyncio.get_running_loop()
    opened = []
    sent = []
    try:
        for _ in range(count):
            sock = socket.socket()
            opened.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_KERNEL)
            await loop.sock_connect(sock, server.address)
            await loop.sock_sendall(sock, first)
            if rest and b"/decide" not in first:
                await loop.sock_recv(sock, 1000)
            sent.append(len(first) + await _send(loop.sock_sendall, sock, rest))
        await asyncio.sleep(SETTLED)
        yield sent
    finally:
        gate.set()
        for sock in opened:
            sock.close()
        await asyncio.sleep(SETTLED)
        gate.clear()


async def _send(send: Callable[[socket.socket, bytes], Awaitable[None]], sock: socket.socket, data: bytes) -> int:
    """Send as much as the server reads; how much that is."""
    size = 0
    for at in range(0, len(data), 1 << 14):
        try:
            async with asyncio.timeout(SETTLED):
                await send(sock, data[at : at + (1 << 14)])
        except (TimeoutError, ConnectionError):
            break
        size += len(data[at : at + (1 << 14)])
    return size


async def measure(count: int, total: int | None) -> None:
    global gate
    gate = asyncio.Event()
    async with served(total).listening(direct=os.environ.get("DIRECT") != "0") as server:
        print(f"{'of each of ' + str(count) + ' connections, in bytes':52}{'sent':>12}{'counted':>12}{'measured':>12}")
        for name, (first, rest) in KINDS.items():
            async with clients(server, 1, first, rest):
                pass  # what is only made once
            gc.collect()
            tracemalloc.start()
            before, counted = tracemalloc.get_traced_memory()[0], server._turn.budget.used
            async with clients(server, count, first, rest) as sent:
                grown = tracemalloc.get_traced_memory()[0] - before
                counted = server._turn.budget.used - counted
                print(f"{name:52}{max(sent):12,}{counted // count:12,}{grown // count:12,}")
            tracemalloc.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=20, metavar="N")
    parser.add_argument("--total", type=int, default=None, metavar="BYTES")
    options = parser.parse_args()
    asyncio.run(measure(options.connections, options.total))

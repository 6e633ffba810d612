"""A WebSocket server that does one thing wrong on purpose, and the load generator run against it.

Knows RFC 6455 well enough to be right otherwise, independently of crest and of the load generator.
"""

import asyncio
import base64
import hashlib
import json
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
WRONG = 5  # the number of the message that `wrong` treats wrongly
GUARD = 60  # seconds after which a run hangs


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = struct.pack("!BH", 126, size)
    else:
        length = struct.pack("!BQ", 127, size)
    return bytes([fin << 7 | rsv << 4 | opcode]) + length + payload


def response(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


@dataclass
class Connection:
    """One connection of the server, and what it answers; a test replaces one of its methods."""

    index: int
    writer: asyncio.StreamWriter
    target: str = ""
    sent: int = 0
    held: bytes = b""
    pongs: list[bytes] = field(default_factory=list)

    def opened(self, response: bytes) -> bytes:
        return response

    def delivered(self, opcode: int, payload: bytes) -> bytes:
        """The bytes that deliver message number `sent` to this connection."""
        return frame(opcode, payload)

    def closed(self, payload: bytes) -> bytes:
        return frame(CLOSE, payload)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, second = await reader.readexactly(2)
    assert first & 0xF0 == 0x80
    assert second & 0x80
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    key = await reader.readexactly(4)
    masked = await reader.readexactly(size)
    mask = (key * (size // 4 + 1))[:size]
    return first & 0x0F, (int.from_bytes(masked, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")


@dataclass
class Server:
    """Echoes or broadcasts by `Connection`s of the given class."""

    connection: type[Connection] = Connection
    broadcast: bool = False
    connections: list[Connection] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connection(len(self.connections), writer)
        self.connections.append(connection)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            connection.target = request.split()[1].decode()
            key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            writer.write(connection.opened(response(key)))
            while True:
                self.received(connection, *await read_frame(reader))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def received(self, connection: Connection, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            connection.writer.write(connection.closed(payload))
        elif opcode == PONG:
            connection.pongs.append(payload)
        else:
            for each in self.audience(connection):
                each.writer.write(each.delivered(opcode, payload))
                each.sent += 1

    def audience(self, sender: Connection) -> list[Connection]:
        """The connections that get the next message of this one, each as often as it is here."""
        return self.connections if self.broadcast else [sender]


@dataclass
class Outcome:
    status: int | None
    out: str
    err: str

    @property
    def figures(self) -> dict[str, Any]:
        assert self.status == 0, self.err
        figures: dict[str, Any] = json.loads(self.out)
        return figures


def run(load: Path, server: Server, *arguments: str) -> Outcome:
    async def main() -> Outcome:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 22)
        port = listener.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            str(load),
            *arguments,
            str(port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), GUARD)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            listener.close()
        return Outcome(process.returncode, out.decode(), err.decode())

    return asyncio.run(main())


ECHO = ("echo", "--connections", "3", "--depth", "16", "--messages", "20")
BROADCAST = ("bcast", "--connections", "4", "--depth", "16", "--messages", "20")
ROOMS = ("rooms", "--connections", "24", "--depth", "4", "--messages", "20")


def wrong(index: int) -> Callable[[Callable[[Connection, int, bytes], bytes]], type[Connection]]:
    """Make a class of connections of which number `index` delivers message WRONG by the decorated function."""

    def make(deliver: Callable[[Connection, int, bytes], bytes]) -> type[Connection]:
        class Wrong(Connection):
            def delivered(self, opcode: int, payload: bytes) -> bytes:
                if self.index == index and self.sent == WRONG:
                    return deliver(self, opcode, payload)
                held, self.held = self.held, b""
                return frame(opcode, payload) + held

        return Wrong

    return make


def expect_failure(outcome: Outcome, text: str) -> None:
    assert outcome.status == 1, outcome
    assert text in outcome.err
    assert outcome.err.startswith("load: ")
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""

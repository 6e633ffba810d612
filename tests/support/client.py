"""Clients for tests: one that sends any bytes at all and shows each frame as it came, and the `websockets` library's.

It shares no code with crest: framing and masking are written down here once more, so that a mistake in crest's own can
not hide. Every wait has an end (`GUARD`), which no test is meant to reach.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import websockets

T = TypeVar("T")

GUARD = 20.0
"""Seconds after which a test that waits for something has failed."""

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUATION = 0x0

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The sample key of RFC 6455 section 1.3 and what it must be answered with."""

EXAMPLE = (
    b"GET /chat HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Origin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
"""The opening handshake of RFC 6455 section 1.2, its Origin included."""

MASKING_KEY = b"\x37\xfa\x21\x3d"


class Server(Protocol):
    """What `app.listening` gives, as far as clients need it."""

    host: str
    port: int


class Frame(NamedTuple):
    """A frame from the server, which never masks."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv1: bool = False

    @property
    def code(self) -> int | None:
        """The close code, of a close frame."""
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def reason(self) -> str:
        """The close reason, of a close frame."""
        return self.payload[2:].decode()


class Answer(NamedTuple):
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


# ---- What to send ----------------------------------------------------------------------------------------------------

HANDSHAKE: Mapping[str, str] = {
    "Host": "test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(path: str = "/", headers: Mapping[str, str] | None = None, method: str = "GET") -> bytes:
    """A plain HTTP request."""
    fields = {"Host": "test"} if headers is None else headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def handshake(path: str = "/ws", changed: Mapping[str, str | None] | None = None, method: str = "GET") -> bytes:
    """An opening handshake (RFC 6455 section 4.1), with some headers changed, added or, by None, left out."""
    fields = {**HANDSHAKE, **(changed or {})}
    return request(path, {name: value for name, value in fields.items() if value is not None}, method)


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masking_key: bytes | None = MASKING_KEY,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """One frame from a client (RFC 6455 section 5.2), right or wrong.

    Args:
        rsv: The three reserved bits, as a number from 0 to 7.
        masking_key: None leaves the frame unmasked.
        length: What the header says, instead of the payload's own.
        length_bytes: How many bytes the length is encoded in (1, 3 or 9), instead of as few as possible.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 1 if length < 126 else 3 if length < 1 << 16 else 9
    first, mask_bit = fin << 7 | rsv << 4 | opcode, 0 if masking_key is None else 0x80
    if length_bytes == 1:
        head = struct.pack("!BB", first, mask_bit | length)
    elif length_bytes == 3:
        head = struct.pack("!BBH", first, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, length)
    return head + payload if masking_key is None else head + masking_key + mask(payload, masking_key)


def mask(payload: bytes, masking_key: bytes) -> bytes:
    """Section 5.3, by way of one large number, so that large payloads are quick."""
    size = len(payload)
    key = int.from_bytes((masking_key * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def close_frame(code: int | None = None, reason: str | bytes = b"") -> bytes:
    """A close frame with a code and a reason, or with neither."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


# ---- The client ------------------------------------------------------------------------------------------------------


class Client:
    """One TCP connection to the server, with nothing done on its own: no pong, no answer to a close frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.compresses = False  # permessage-deflate was negotiated

    @property
    def address(self) -> tuple[str, int]:
        """This end's host and port."""
        host, port = self.writer.get_extra_info("sockname")[:2]
        return host, port

    async def send(self, *pieces: bytes) -> None:
        """Send bytes, as soon as there is room for them."""
        self.writer.write(b"".join(pieces))
        async with asyncio.timeout(GUARD):
            await self.writer.drain()

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Read one HTTP response; `head_only` if the request was HEAD."""
        async with asyncio.timeout(GUARD):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            pairs = (field.partition(": ") for field in fields)
            headers = {name.lower(): value for name, _, value in pairs}
            size = 0 if head_only else int(headers.get("content-length", "0"))
            return Answer(int(line.split(" ")[1]), headers, await self.reader.readexactly(size))

    async def frame(self) -> Frame:
        """Read one frame."""
        async with asyncio.timeout(GUARD):
            first, second = await self.reader.readexactly(2)
            assert not second & 0x80, "a server must not mask (RFC 6455 section 5.1)"
            assert not first & (0x30 if self.compresses else 0x70), "no extension that defines it was negotiated"
            size = second
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
            return Frame(first & 0xF, payload, bool(first & 0x80), bool(first & 0x40))

    async def until_close(self) -> list[Frame]:
        """Read all frames up to the close frame, which is the last of the list."""
        frames = [await self.frame()]
        while frames[-1].opcode != CLOSE:
            frames.append(await self.frame())
        return frames

    async def eof(self) -> bytes:
        """Read to the end of the stream; what came before it. A reset is an end too."""
        async with asyncio.timeout(GUARD):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def round_trip(self) -> None:
        """A ping and its pong: the server has read everything that was sent before. For when nothing else comes."""
        await self.send(frame(PING, b"round trip"))
        assert await self.frame() == Frame(PONG, b"round trip")

    async def upgrade(self, path: str = "/ws", changed: Mapping[str, str | None] | None = None) -> Answer:
        """Shake hands; the answer, which must accept."""
        await self.send(handshake(path, changed))
        answer = await self.answer()
        assert answer.status == 101, answer
        assert answer.headers["sec-websocket-accept"] == ACCEPT
        self.compresses = "sec-websocket-extensions" in answer.headers
        return answer

    def stop_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_on(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def reset(self) -> None:
        """End the TCP connection by a reset, without a close frame."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def close(self) -> None:
        """End the TCP connection, without a close frame."""
        self.writer.close()
        try:
            async with asyncio.timeout(GUARD):
                await self.writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def tcp(
    server: Server,
    *,
    receive_buffer: int | None = None,
    tls: ssl.SSLContext | None = None,
    source: str | None = None,
) -> AsyncIterator[Client]:
    """A client that has only connected.

    Args:
        receive_buffer: Bytes of the kernel's receive buffer (SO_RCVBUF), for a client that reads slowly.
        tls: For a client that has shaken hands as TLS wants it, too.
        source: Address that the client has; on Linux any of 127.0.0.0/8.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        if source is not None:
            sock.bind((source, 0))
        async with asyncio.timeout(GUARD):
            await asyncio.get_running_loop().sock_connect(sock, (server.host, server.port))
            name = None if tls is None else server.host
            client = Client(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name))
    except BaseException:
        sock.close()
        raise
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def upgraded(
    server: Server,
    path: str = "/ws",
    changed: Mapping[str, str | None] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """A client that has shaken hands."""
    async with tcp(server, tls=tls) as client:
        await client.upgrade(path, changed)
        yield client


def connect(server: Server, path: str = "/ws", **options: Any) -> websockets.connect:
    """The `websockets` library's client; `async with connect(server) as client`."""
    defaults = {
        "proxy": None,
        "compression": None,
        "ping_interval": None,
        "open_timeout": GUARD,
        "close_timeout": GUARD,
    }
    scheme = "wss" if "ssl" in options else "ws"
    return websockets.connect(f"{scheme}://{server.host}:{server.port}{path}", **{**defaults, **options})

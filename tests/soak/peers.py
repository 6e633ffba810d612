"""The clients of the soak test: some that do anything at all, and some that count what they get back."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import websockets
from support.client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame, handshake, request

from .served import CHAOS, ECHO, FILE_SIZE, OPEN_TIMEOUT

WORDS = """
echo broadcast keyed.... bigcast.. burst.... big...... closeme.. closeany. raise.... ping.....
""".split()

PATIENCE = 60.0
"""Seconds in which an honest client must have got what it is owed, on a machine that has other things to do."""


class Patience:
    """The server's: past open_timeout it may refuse or cut a client that has not sent its request. On a busy machine
    honest clients are as late as that."""

    def __init__(self) -> None:
        self.begun = time.monotonic()

    def is_over(self) -> bool:
        """True if so much time has gone since this was made."""
        return time.monotonic() - self.begun >= OPEN_TIMEOUT


class Target(NamedTuple):
    """Where the server listens."""

    plain: int
    tls: int

    def pick(self, random: random.Random) -> tuple[int, ssl.SSLContext | None]:
        """A port, and how to speak TLS if that is the one."""
        return (self.tls, TLS) if random.random() < 0.3 else (self.plain, None)


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


TLS = _trusting()


class Peer:
    """One client, which does one thing after the other until something ends it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, target: Target, seed: int) -> None:
        self.random = random.Random(seed)
        self.target = target

    async def run(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self.connect()
                try:
                    await self.open()
                    for _ in range(self.random.randrange(12)):
                        await self.random.choices(
                            [
                                self.valid,
                                self.read,
                                self.invalid,
                                self.garbage,
                                self.flood,
                                self.bytewise,
                                self.fragments,
                            ],
                            [30, 20, 2, 1, 2, 2, 5],
                        )[0]()
                    await self.end()
                finally:
                    self.leave()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass

    def deeds(self) -> list[Callable[[], Awaitable[None]]]:
        return [self.valid, self.read, self.invalid, self.garbage, self.flood, self.bytewise, self.fragments]

    async def connect(self) -> None:
        """Some have little room in their kernel, and those read slowly: the server keeps what they do not take."""
        sock = socket.socket()
        try:
            if self.random.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setblocking(False)
            port, tls = self.target.pick(self.random)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            self.reader, self.writer = await asyncio.open_connection(
                sock=sock, ssl=tls, server_hostname="localhost" if tls else None, limit=1024
            )
        except BaseException:
            sock.close()
            raise

    def leave(self) -> None:
        """By a reset, without any word, or in good order."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and self.random.random() < 0.4:  # None: it is lost already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def open(self) -> None:
        """The handshake; perhaps behind other requests, cut in two, cut off, wrong, or with frames behind it."""
        extensions = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
        path = self.random.choice(list(CHAOS))
        how, head = self.random.random(), handshake(path, extensions if self.random.random() < 0.5 else None)
        if how < 0.1:
            pages = request("/large") * self.random.randrange(3) + request("/files/file") * self.random.randrange(2)
            head = pages + request("/none") + head
        elif how < 0.15:
            await self.send(head[:20])
            await asyncio.sleep(0)
            head = head[20:]
        elif how < 0.2:
            head = head[: self.random.randrange(len(head))]
        elif how < 0.25:
            head = head.replace(b"13", b"12")
        elif how < 0.4:
            head += self.message() * self.random.randrange(5)
        await self.send(head)

    def message(self) -> bytes:
        key = self.random.randbytes(4)
        size = self.random.choice([0, 1, 100, 126, 5000, 66_000])
        if self.random.random() < 0.5:
            return frame(TEXT, self.random.choice(WORDS) + "." * size, masking_key=key)
        return frame(self.random.choice([BINARY, BINARY, PING, PONG]), bytes(min(size, 125)), masking_key=key)

    async def valid(self) -> None:
        await self.send(b"".join(self.message() for _ in range(self.random.choice([1, 1, 3, 30]))))

    async def read(self) -> None:
        """Whatever is there."""
        for _ in range(self.random.randrange(5)):
            try:
                async with asyncio.timeout(0.002):
                    if not await self.reader.read(self.random.choice([1, 1000, 1 << 16])):
                        raise ConnectionResetError
            except TimeoutError:
                pass

    async def invalid(self) -> None:
        await self.send(
            self.random.choice(
                [
                    frame(TEXT, b"\xff"),
                    frame(0x3, "x"),
                    frame(TEXT, "x", rsv=self.random.randint(1, 7)),
                    frame(TEXT, "x", masking_key=None),
                    frame(CONTINUATION, "x"),
                    frame(PING, "x" * 126),
                    frame(BINARY, length=1 << self.random.randrange(16, 64), length_bytes=9),
                    frame(CLOSE, b"x"),
                    close_frame(self.random.choice([0, 999, 1005, 5000])),
                ]
            )
            + self.message()
        )

    async def garbage(self) -> None:
        """Bytes of anything, or valid ones with some of them changed."""
        data = bytearray(self.message() * 5)
        for _ in range(self.random.randrange(4)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        await self.send(self.random.choice([bytes(data), self.random.randbytes(200)]))

    async def flood(self) -> None:
        await self.send(self.random.choice([self.message(), frame(PING, "x" * 125)]) * self.random.randrange(500))

    async def bytewise(self) -> None:
        for byte in self.message()[:200]:
            await self.send(bytes([byte]))

    async def fragments(self) -> None:
        opcode = self.random.choice([TEXT, BINARY])
        for _ in range(self.random.randrange(50)):
            await self.send(frame(opcode, "ä" * self.random.randrange(3000), fin=False))
            opcode = CONTINUATION
        if opcode == CONTINUATION and self.random.random() < 0.8:
            await self.send(frame(opcode, "ü"))

    async def end(self) -> None:
        how = self.random.random()
        if how < 0.4:
            closes = [close_frame(), close_frame(1000, "bye"), close_frame(4999) + self.message()]
            await self.send(self.random.choice(closes))
        elif how < 0.5 and self.writer.can_write_eof():
            self.writer.write_eof()
        if how < 0.2 or 0.4 < how < 0.5:
            while await self.reader.read(1 << 16):
                pass


class Wrong(Exception):
    """What a client was owed, and did not get."""


class Owed:
    """A client that must get all that it is owed.

    Attributes:
        counts: What was sent and received, added to.
    """

    def __init__(self, target: Target, seed: int, counts: Counter[str]) -> None:
        self.random = random.Random(seed)
        self.target = target
        self.counts = counts


class Honest(Owed):
    """A client of the `websockets` library that sends messages of every form and size, and must get each one back."""

    async def run(self) -> None:
        port, tls = self.target.pick(self.random)
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}{self.random.choice(list(ECHO))}"
        patience, opened = Patience(), False
        try:
            async with (
                asyncio.timeout(PATIENCE),
                websockets.connect(url, ssl=tls, proxy=None, max_size=None, open_timeout=PATIENCE) as client,
            ):
                opened = True
                for _ in range(self.random.randrange(1, 5)):
                    await self.exchange(client, [self.message() for _ in range(self.random.choice([1, 5, 40]))])
        except (OSError, EOFError, TimeoutError, websockets.WebSocketException) as error:
            if opened or not patience.is_over():
                raise Wrong(f"{url}: {error!r}") from error
            self.counts["late"] += 1

    def message(self) -> str | bytes:
        size = self.random.choice([0, 1, 30, 125, 126, 3000, 60_000])
        if self.random.random() < 0.5:
            return self.random.choice(["a", "é", "語", "😀"]) * (size // 4)
        return self.random.randbytes(size)

    async def exchange(self, client: websockets.ClientConnection, messages: list[str | bytes]) -> None:
        """Send all of them, and receive them meanwhile; in order, and nothing else."""
        sending = asyncio.create_task(self.send(client, messages))
        for message in messages:
            found = await client.recv()
            if found != message:
                raise Wrong(f"sent {message[:40]!r} of {len(message)}, received {found[:40]!r} of {len(found)}")
            self.counts["received"] += 1
        await sending

    async def send(self, client: websockets.ClientConnection, messages: list[str | bytes]) -> None:
        for message in messages:
            self.counts["sent"] += 1
            # Not an empty one: of an iterator without items, or with an empty first, the library makes no message.
            await client.send(message if self.random.random() < 0.7 or not message else self.pieces(message))
            if self.random.random() < 0.1:
                await (await client.ping())

    async def pieces(self, message: str | bytes) -> AsyncIterator[str | bytes]:
        """The message, for as many frames as there are items."""
        size = max(1, len(message) // self.random.randrange(1, 6))
        for at in range(0, len(message), size):
            yield message[at : at + size]


class Visitor(Owed):
    """A browser's requests for pages and files, on one connection that stays open."""

    async def run(self) -> None:
        port, tls = self.target.pick(self.random)
        sizes = {"/large": 500_000, "/files/file": FILE_SIZE, "/nothing": 10}
        patience = Patience()
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
                )
                for path in self.random.choices(list(sizes), k=self.random.randrange(1, 6)):
                    next_patience = Patience()  # the server's begins with its response, which is later
                    writer.write(request(path))
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    await reader.readexactly(size)
                    if size != sizes[path]:
                        raise Wrong(f"{path} has {size} bytes: {head!r}")
                    self.counts["pages"] += 1
                    patience = next_patience
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError, Wrong) as error:
            if not patience.is_over():
                raise Wrong(f"port {port}: {error!r}") from error
            self.counts["late"] += 1

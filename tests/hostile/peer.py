"""A client in the server's own thread: it sends and receives when it is told to, and what it got is looked at here."""

from __future__ import annotations

import socket
import ssl
import struct
import zlib
from typing import Any

from model import Message
from support.client import CLOSE, CONTINUATION, PING, PONG, TEXT, frame, handshake

READ = 1 << 18
DEFLATE = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"


class Peer:
    """One connection.

    Args:
        address: Of a TCP or Unix socket.
        tls: The client's context; None: plain.
        receive_buffer: SO_RCVBUF, for one that reads slowly.
        before: What is sent before everything else, TLS included.

    Attributes:
        messages: What came, in order.
        pongs: Payloads of pongs.
        head: The response's first bytes, up to the blank line.
        body: What follows the head of a response that is no 101.
        close: The payload of the close frame; None: none came.
        ended: The stream has ended, or was reset.
        faults: What no server may send.
    """

    def __init__(
        self,
        name: str,
        address: Any,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
        before: bytes = b"",
    ) -> None:
        self.name = name
        self.messages: list[Message] = []
        self.pongs: list[bytes] = []
        self.head = self.body = b""
        self.close: bytes | None = None
        self.ended = False
        self.faults: list[str] = []
        self.reading = True
        self._unread = bytearray()
        self._unsent = bytearray()
        self._inflater: Any = None
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(20)
        self.sock.connect(address)
        self.sock.sendall(before)
        self.sock.setblocking(False)
        self._tls: ssl.SSLObject | None = None
        if tls is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
            self._plain = bytearray()  # to be encrypted when the handshake is over
            self._shake()

    # ---- Sending -------------------------------------------------------------------------------------------------

    def upgrade(self, path: str, extensions: str | None = None, rest: bytes = b"") -> None:
        self.send(handshake(path, {"Sec-WebSocket-Extensions": extensions}) + rest)

    def send(self, data: bytes) -> None:
        """As much as the kernel takes now; the rest goes with the next `turn`."""
        if self._tls is None:
            self._unsent += data
        else:
            self._plain += data
        self._push()

    def say(self, text: str) -> None:
        self.send(frame(TEXT, text))

    def fragments(self, text: str) -> None:
        """A message in three frames, with a ping between them."""
        parts = text[:1], text[1:3], text[3:]
        self.send(
            frame(TEXT, parts[0], fin=False)
            + frame(CONTINUATION, parts[1], fin=False)
            + frame(PING, b"between")
            + frame(CONTINUATION, parts[2])
        )

    def _push(self) -> None:
        if self._tls is not None and self._plain and self._shaken():
            try:
                self._tls.write(self._plain)
                self._plain.clear()
            except ssl.SSLError:
                self.ended = True
        if self._tls is not None:
            self._unsent += self._outgoing.read()
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._unsent.clear()

    def _shaken(self) -> bool:
        return self._tls is not None and self._tls.version() is not None and not self._shaking

    def _shake(self) -> None:
        assert self._tls is not None
        self._shaking = True
        try:
            self._tls.do_handshake()
            self._shaking = False
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = True
        self._push()

    # ---- Receiving -----------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Send what is left, and take all that has come."""
        self._push()
        while self.reading and not self.ended:
            try:
                data = self.sock.recv(READ)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self.ended = True
            elif self._tls is None:
                self._unread += data
            else:
                self._decrypt(data)
        self._parse()

    def _decrypt(self, data: bytes) -> None:
        assert self._tls is not None
        self._incoming.write(data)
        if self._shaking:
            self._shake()
        try:
            while not self._shaking and (plain := self._tls.read(READ)):
                self._unread += plain
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = True

    def _parse(self) -> None:
        if not self.head:
            end = self._unread.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = bytes(self._unread[:end])
            del self._unread[: end + 4]
            if DEFLATE.encode() in self.head:
                self._inflater = zlib.decompressobj(-15)
        if not self.upgraded:
            self.body += self._unread
            self._unread.clear()
            return
        while self._frame():
            pass

    def _frame(self) -> bool:
        data = self._unread
        if len(data) < 2:
            return False
        size, start = data[1], 2
        if size == 126:
            start = 4
        elif size == 127:
            start = 10
        if len(data) < start:
            return False
        if size == 126:
            (size,) = struct.unpack("!H", data[2:4])
        elif size == 127:
            (size,) = struct.unpack("!Q", data[2:10])
        if len(data) < start + size:
            return False
        first, payload = data[0], bytes(data[start : start + size])
        del data[: start + size]
        self._got(first, payload)
        return True

    def _got(self, first: int, payload: bytes) -> None:
        opcode = first & 0xF
        if self.close is not None:
            self.faults.append(f"{self.name} got {payload[:20]!r} after the close frame")
        elif first & 0x40 and self._inflater is not None:
            try:
                payload = self._inflater.decompress(payload + TAIL)
            except zlib.error as error:
                self.faults.append(f"{self.name} got what does not inflate: {error}")
                return
        elif first & 0x70 or not first & 0x80:
            self.faults.append(f"{self.name} got a frame that begins with {first:#x}")
        if opcode == CLOSE:
            self.close = payload
        elif opcode == PING:
            self.send(frame(PONG, payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        else:
            self.messages.append(Message(opcode, payload))

    # ---- The end -------------------------------------------------------------------------------------------------

    @property
    def upgraded(self) -> bool:
        return b" 101 " in self.head[:16]

    @property
    def over(self) -> bool:
        """True if nothing more is to be expected."""
        return self.ended or self.close is not None or bool(self.head and not self.upgraded)

    def heard(self, tag: str) -> bool:
        """True if a message with this tag has come."""
        mark = f":{tag}:".encode()
        return any(mark in message.payload[:40] for message in reversed(self.messages))

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self) -> None:
        self.ended = True
        self.sock.close()

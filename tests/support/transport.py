"""A double of a socket transport, so that tests decide what the kernel takes."""

from __future__ import annotations

import socket
from typing import Any

from crest.io.loop.poller import Pollable
from support.loop import Loop


class Transport(Pollable):
    """A socket transport, whose kernel is a socketpair or, without one, `room` bytes.

    Attributes:
        writes: What `write` was called with.
        ignored: How often it was called though the connection had ended; asyncio logs a warning from the fifth time on.
        wire: In memory, what the kernel has taken.
        room: In memory, how many bytes it will still take; None: any.
    """

    def __init__(self, loop: Loop, sock: socket.socket | None = None, room: int | None = None) -> None:
        self.fd = -1 if sock is None else sock.fileno()
        self.loop, self.sock, self.room = loop, sock, room
        self.writes: list[bytes] = []
        self.wire = bytearray()
        self.protocol: Any = None
        self.buffer = bytearray()
        self.high, self.low = 1 << 16, 1 << 14
        self.writing_paused = self.eof = self.closing = self.ended = False
        self.reading = True
        self.ignored = 0
        self.calls: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.ended:
            self.ignored += 1
            return
        self.writes.append(bytes(data))
        self.buffer += data
        if len(self.buffer) == len(data):
            self._drain()
        self._maybe_pause()

    def _drain(self) -> None:
        if self.sock is not None:
            try:
                while self.buffer:
                    del self.buffer[: self.sock.send(self.buffer)]
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
        else:
            taken = len(self.buffer) if self.room is None else min(self.room, len(self.buffer))
            if self.room is not None:
                self.room -= taken
            self.wire += self.buffer[:taken]
            del self.buffer[:taken]

    def _maybe_pause(self) -> None:
        if len(self.buffer) > self.high and not self.writing_paused:
            self.writing_paused = True
            self.protocol.pause_writing()

    def writable(self, room: int | None = None) -> None:
        """The kernel has room again; in memory, for so many bytes more, or any number."""
        if self.sock is None:
            self.room = None if room is None else (self.room or 0) + room
        if self.buffer:
            self._drain()
            if self.writing_paused and len(self.buffer) <= self.low:
                self.writing_paused = False
                self.protocol.resume_writing()
            if not self.buffer:
                if self.eof and self.sock is not None:
                    self.sock.shutdown(socket.SHUT_WR)
                if self.closing:
                    self.end()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.low, self.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 1 << 16 if high is None else high
        self.low = self.high // 4 if low is None else low
        self._maybe_pause()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.calls.append("write_eof")
        self.eof = True
        if self.sock is not None and not self.buffer:
            self.sock.shutdown(socket.SHUT_WR)

    def pause_reading(self) -> None:
        self.calls.append("pause_reading")
        self.reading = False

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.calls.append("close")
        if not self.closing:
            self.closing = True
            if not self.buffer:
                self.end()

    def abort(self) -> None:
        self.calls.append("abort")
        self.closing = True
        self.buffer.clear()
        self.end()

    def end(self, error: Exception | None = None) -> None:
        """The connection is gone; the protocol hears of it in the next turn."""
        if not self.ended:
            self.ended = self.closing = True
            self.loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        if self.sock is not None:
            self.sock.close()

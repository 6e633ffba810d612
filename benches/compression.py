"""What compression costs a broadcast: server CPU for each delivery to 1000 connections, compressed and plain.

`compression.py [--rounds N] [--seconds S]`. A server sends every text to all its connections, which in every other run
have offered permessage-deflate. One of them reads and inflates what comes, and so knows
what is due; the others, to whom the same bytes are sent, only count. That keeps the load from costing more than the
server.
"""

import argparse
import base64
import os
import random
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measurement import BENCHES, end, free_port, processors, start, wait_until_it_listens

CONNECTIONS = 1000
REQUEST = (
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n{}\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
TEXT, RSV1 = 1, 0x40
GUARD = 30.0  # seconds


def messages(size: int) -> list[bytes]:
    """Texts as applications send them: JSON with names that repeat, and numbers that do not."""
    rng = random.Random(1)
    found = []
    for number in range(64):
        text = f'{{"type":"prices","number":{number},"items":['
        while len(text) < size:
            text += f'{{"symbol":"{rng.choice(["AAPL", "MSFT", "NVDA", "AMZN"])}","price":{rng.uniform(50, 900):.2f}}},'
        found.append(text[:size].encode())
    return found


def masked(payload: bytes) -> bytes:
    size = len(payload)
    head = struct.pack("!BB", 0x80 | TEXT, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size)
    return head + bytes(4) + payload  # masked with zeros: as they are


def cpu_time(pid: int) -> float:
    """Seconds that a process of one thread has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


class Crowd:
    """Connections to one server that all get the same.

    Args:
        port: of the server.
        compressed: whether they offer permessage-deflate.
    """

    def __init__(self, port: int, compressed: bool) -> None:
        self.compressed = compressed
        self.sockets = [self._open(port) for _ in range(CONNECTIONS)]
        self.reader = self.sockets[0]
        self.unread = b""
        self.epoll = select.epoll()
        for each in self.sockets[1:]:
            self.epoll.register(each, select.EPOLLIN)
        self.by_number = {each.fileno(): each for each in self.sockets}

    def _open(self, port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port), GUARD)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(REQUEST.format(key, OFFER if self.compressed else "").encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ") and self.compressed == (b"permessage-deflate" in answer), answer
        return sock

    def exchange(self, texts: list[bytes]) -> int:
        """Send texts from one of them, all at once, until all have got all. The bytes that each was sent."""
        self.reader.sendall(b"".join(masked(text) for text in texts))
        size = 0
        for text in texts:
            first, length = self._read(2)
            assert length < 127 and first & 0x8F == 0x81, (first, length)
            header = 2
            if length == 126:
                (length,), header = struct.unpack("!H", self._read(2)), 4
            payload = self._read(length)
            if first & RSV1:
                payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
            assert payload == text
            size += header + length
        self._await_the_others(size)
        return size

    def _read(self, size: int) -> bytes:
        while len(self.unread) < size:
            chunk = self.reader.recv(1 << 18)
            assert chunk, "the server has closed the connection"
            self.unread += chunk
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def _await_the_others(self, size: int) -> None:
        due = {number: size for number in self.by_number if number != self.reader.fileno()}
        while due:
            ready = self.epoll.poll(GUARD)
            assert ready, "the server has stopped sending"
            for number, _ in ready:
                due[number] -= len(self.by_number[number].recv(1 << 18))
                assert due[number] >= 0, "more bytes than the first connection was sent"
                if not due[number]:
                    del due[number]

    def close(self) -> None:
        for each in self.sockets:
            each.close()
        self.epoll.close()


@contextmanager
def serving(cpu: int | None) -> Iterator[tuple[int, int]]:
    """A server that compresses whatever it may; its port and process."""
    port = free_port()
    command = [sys.executable, str(BENCHES / "servers" / "crest_server.py"), str(port), "bcast-deflate"]
    process = start(command, cpu, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        refused = wait_until_it_listens(process, port)
        if refused:
            raise SystemExit(f"compression: {refused}")
        yield port, process.pid
    finally:
        end(process)


def measure(crowd: Crowd, pid: int, texts: list[bytes], depth: int, seconds: float) -> tuple[float, float]:
    """Microseconds of CPU a delivery, and bytes of one."""
    crowd.exchange(texts[:depth])
    began, count, size = cpu_time(pid), 0, 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        at = count % (len(texts) - depth + 1)
        size += crowd.exchange(texts[at : at + depth])
        count += depth
    return (cpu_time(pid) - began) * 1e6 / (count * CONNECTIONS), size / count


def compare(size: int, depth: int, rounds: int, seconds: float, cpus: tuple[int, int] | None) -> None:
    """Print a line: medians, and the median of the ratios of each round."""
    texts = messages(size)
    costs: dict[bool, list[float]] = {False: [], True: []}
    sizes = {}
    for number in range(rounds):
        for compressed in (False, True) if number % 2 else (True, False):
            with serving(cpus and cpus[0]) as (port, pid):
                crowd = Crowd(port, compressed)
                cost, sizes[compressed] = measure(crowd, pid, texts, depth, seconds)
                crowd.close()
            costs[compressed].append(cost)
    ratio = statistics.median(b / a for a, b in zip(costs[False], costs[True], strict=True))
    plain, compressed_cost = (statistics.median(costs[kind]) for kind in (False, True))
    print(
        f"{size:>6} B, {depth:>2} in flight: plain {plain:6.3f} us, {sizes[False]:7.1f} B;  compressed"
        f" {compressed_cost:6.3f} us, {sizes[True]:7.1f} B;  ratio {ratio:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What compression costs a broadcast to 1000 connections.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    arguments = parser.parse_args()
    cpus = processors()
    if cpus:
        os.sched_setaffinity(0, {cpus[1]})
    for size in (1024, 64):
        for depth in (1, 16):
            compare(size, depth, arguments.rounds, arguments.seconds, cpus)


if __name__ == "__main__":
    main()

"""Throws valid, invalid and abrupt clients at a server in a process of its own, and checks what it must never lose.

    python tests/fuzz/stress_server.py --seconds 120 --loop uvloop

The server must stay alive and write nothing to its log that nobody expects; on_connect and on_close must have run
equally often; in the end no connection and no task may be left; and its memory must settle. With PYTHONMALLOC=debug in
the environment the server checks its memory, too. Exit code 0 if all of that holds, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_frame, frame, handshake, request

PATHS = ["/close", "/drop", "/slow"]
AT_ONCE = 60
"""Clients that are connected at the same time."""

ROUND = 400
"""Clients after which counts and memory are compared."""

PATIENCE = 60.0
"""Seconds for the server to see the end of the last client of a round."""

# ---- The server ------------------------------------------------------------------------------------------------------


class Mess:
    """Handlers that do what a message says, or anything at all."""

    def __init__(self, servers: list[Any]) -> None:
        self.random = random.Random(0)
        self.servers = servers
        self.counts = {"connects": 0, "closes": 0, "errors": 0, "twice": 0}
        self.alive: dict[str, Any] = {}
        for ws in servers:
            ws.on_connect(self.connected)
            ws.on_message(self.waits if ws.path == "/slow" else self.act)
            ws.on_binary(self.echo)
            ws.on_error(self.failed)
            ws.on_close(self.closed_later if ws.path == "/slow" else self.closed)

    def connected(self, conn: Any) -> None:
        self.counts["connects"] += 1
        self.alive[conn.get_id()] = conn
        if self.random.random() < 0.1:
            conn.send("welcome" * self.random.choice([1, 100, 20_000]))
        if self.random.random() < 0.03:
            conn.close(4000, "not you")

    def closed(self, conn: Any, code: int, reason: str) -> None:
        self.counts["closes"] += 1
        if conn.get_id() not in self.alive:
            self.counts["twice"] += 1
        self.alive.pop(conn.get_id(), None)
        assert not conn.is_open() and not conn.send("x")
        if self.random.random() < 0.2:
            self.random.choice(self.servers).broadcast(f"{code} {reason}")

    async def closed_later(self, conn: Any, code: int, reason: str) -> None:
        self.closed(conn, code, reason)  # before it waits: past close_timeout it is cancelled
        await asyncio.sleep(0)

    def failed(self, conn: Any, error: str) -> None:
        self.counts["errors"] += 1
        if self.random.random() < 0.1:
            conn.close(4001)

    def echo(self, conn: Any, data: bytes) -> None:
        conn.send_binary(bytearray(data))

    async def waits(self, conn: Any, message: str) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(self.random.choice([0, 0, 0.001]))
        self.act(conn, message)

    def act(self, conn: Any, message: str) -> None:
        word = message[:9]
        ws = self.random.choice(self.servers)
        if word == "broadcast":
            ws.broadcast(message)
        elif word == "bigcast..":
            ws.broadcast_binary(bytes(self.random.choice([70_000, 300_000])))
        elif word == "burst....":
            for i in range(self.random.randrange(300)):
                self.random.choice([conn.send, ws.broadcast])(f"{i}" * (i % 50))
        elif word == "big......":
            conn.send("ä" * self.random.choice([5_000, 40_000, 200_000]))
        elif word == "closeme..":
            conn.close(self.random.choice([1000, 1011, 4999]), "as you wish")
        elif word == "closeany.":
            for other in self.random.sample(open_now := ws.get_connections(), min(3, len(open_now))):
                other.send("goodbye")
                other.close(4002)
        elif word == "raise....":
            raise RuntimeError("as you wish")
        elif word == "ping.....":
            conn.ping()
        else:
            conn.send(message)
        _ = conn.buffered, conn.latency, conn.dropped, conn.is_open(), ws.connection_count()


async def serve(direct: bool) -> None:
    """Serve until stdin ends; GET /counts tells what happened."""
    from crest import App, WebSocketServer

    options: dict[str, Any] = {"max_message_size": 100_000, "max_fragments": 40, "max_queue": 3, "close_timeout": 2}
    servers = [
        WebSocketServer("/close", max_backlog=100_000, **options),
        WebSocketServer("/drop", max_backlog=50_000, on_backlog="drop", **options),
        WebSocketServer("/slow", max_backlog=100_000, **options),
    ]
    mess, app, ended = Mess(servers), App(open_timeout=1), threading.Event()

    @app.get("/counts")
    def counts(_: Any) -> dict[str, Any]:
        gc.collect()
        left = len(asyncio.all_tasks()) - 1
        connections = sum(ws.connection_count() for ws in servers)
        alive = [f"{conn.request.path} {conn.buffered}" for conn in mess.alive.values()]
        return {**mess.counts, "open": connections, "tasks": left, "alive": alive, "memory": resident()}

    @app.get("/large")
    async def large(_: Any) -> str:
        await asyncio.sleep(0)
        return "x" * 500_000

    def from_elsewhere() -> None:
        while not ended.wait(0.005):
            for ws in servers:
                ws.broadcast("from a thread")
                for conn in ws.get_connections()[:2]:
                    conn.send("from a thread, to you")

    async with app.listening(direct=direct) as server:
        print(server.port, flush=True)
        thread = threading.Thread(target=from_elsewhere)
        thread.start()
        await asyncio.to_thread(sys.stdin.read)
        ended.set()
        thread.join()


def resident() -> int:
    """Bytes of memory that this process has; at most, where /proc does not say it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- The clients -----------------------------------------------------------------------------------------------------

WORDS = ["echo", "broadcast", "bigcast..", "burst....", "big......", "closeme..", "closeany.", "raise....", "ping....."]


class Peer:
    """One client, which does one thing after the other until something ends it."""

    def __init__(self, port: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.port = port
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket()
        if self.random.random() < 0.5:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.sock.setblocking(False)

    async def run(self) -> None:
        try:
            await self.loop.sock_connect(self.sock, ("127.0.0.1", self.port))
            async with asyncio.timeout(5):
                await self.open()
                for _ in range(self.random.randrange(12)):
                    await self.random.choices(
                        [self.valid, self.read, self.invalid, self.garbage, self.flood, self.bytewise, self.fragments],
                        [30, 20, 2, 1, 2, 2, 5],
                    )[0]()
                await self.end()
        except (OSError, TimeoutError):
            pass
        finally:
            if self.random.random() < 0.4:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def open(self) -> None:
        """The handshake; perhaps behind other requests, cut in two, cut off, wrong, or with frames behind it."""
        how, head = self.random.random(), handshake(self.random.choice(PATHS))
        if how < 0.1:
            head = request("/large") * self.random.randrange(3) + request("/none") + head
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
                if not self.sock.recv(self.random.choice([1, 1000, 1 << 16])):
                    raise ConnectionResetError
            except BlockingIOError:
                await asyncio.sleep(self.random.choice([0, 0.001]))

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
            if how < 0.2:
                while await self.loop.sock_recv(self.sock, 1 << 16):
                    pass
        elif how < 0.5:
            self.sock.shutdown(socket.SHUT_WR)
            while await self.loop.sock_recv(self.sock, 1 << 16):
                pass


async def get_counts(port: int) -> dict[str, Any]:
    """What the server says of itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("/counts", {"Host": "test", "Connection": "close"}))
    answer = await reader.read()
    writer.close()
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


async def settled(port: int) -> dict[str, Any]:
    """The server's counts once it has seen the end of every client."""
    async with asyncio.timeout(PATIENCE):
        while True:
            counts = await get_counts(port)
            idle = counts["open"] == counts["tasks"] == len(counts["alive"]) == 0
            if idle and counts["connects"] == counts["closes"]:
                return counts
            await asyncio.sleep(0.05)


async def throw(port: int, first: int, count: int) -> None:
    """So many clients, some at once."""
    seeds = iter(range(first, first + count))

    async def one_after_the_other() -> None:
        for seed in seeds:
            await Peer(port, seed).run()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_the_other())


async def stress(port: int, seconds: float, clients: int, seed: int) -> str | None:
    """Rounds of clients until the time is over, or their number; what is wrong, or None."""
    end, thrown, memory = time.monotonic() + seconds, 0, []
    while thrown < clients and (not memory or time.monotonic() < end):
        size = min(ROUND, clients - thrown)
        await throw(port, seed + thrown, size)
        thrown += size
        try:
            counts = await settled(port)
        except TimeoutError:
            return f"after {thrown} clients: {await get_counts(port)}"
        memory.append(counts.pop("memory"))
        print(f"{thrown} clients: {counts}, {memory[-1] >> 10} KiB")
        if counts["twice"]:
            return "on_close ran for a connection that was closed, or had never opened"
    if len(memory) > 20 and min(memory[-5:]) > max(memory[5:10]) + (8 << 20):
        return f"the server's memory grows: {[each >> 10 for each in memory]} KiB"
    return None


def unexpected(log: str) -> list[str]:
    """Lines of the server's log that nobody expects."""
    known = ("was cancelled, 2 s after the connection ended", "did not close within")
    return [line for line in log.splitlines() if line and not any(each in line for each in known)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=1 << 60, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop")
    parser.add_argument("--transport", action="store_true", help="write through the loop's transports")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        logging.basicConfig(level=logging.WARNING)
        if options.loop == "uvloop":
            import uvloop

            uvloop.run(serve(not options.transport))
        else:
            asyncio.run(serve(not options.transport))
        return 0
    command = [sys.executable, "-X", "faulthandler", *sys.argv, "--serve"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        log: list[str] = []
        reading = threading.Thread(target=log.extend, args=(server.stderr,))
        reading.start()
        try:
            wrong = asyncio.run(stress(int(server.stdout.readline()), options.seconds, options.clients, options.seed))
        except (OSError, ValueError) as error:
            wrong = f"the server does not answer: {error!r}"
        server.stdin.close()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            wrong = wrong or "the server does not stop"
            server.kill()
        reading.join()
    lines = unexpected("".join(log))
    for line in lines[:2000]:
        print(line)
    if server.returncode != 0:
        wrong = wrong or f"the server ended with {server.returncode}"
    if lines:
        wrong = wrong or f"{len(lines)} lines of log that nobody expects"
    print(wrong or "nothing went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

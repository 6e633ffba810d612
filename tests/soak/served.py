"""The server of the soak test: handlers that do what a message says, or anything at all, under every policy.

runner.py starts it in a process of its own; it serves until stdin ends. GET /counts tells what happened.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import resource
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from support.certificates import Pair

from crest import App, Deflate, WebSocketServer

LIMITS: dict[str, Any] = {"max_message_size": 100_000, "max_fragments": 40, "max_queue": 3, "close_timeout": 2}

CHAOS: dict[str, dict[str, Any]] = {
    "/close": {"max_backlog": 100_000},
    "/drop": {"max_backlog": 50_000, "on_backlog": "drop-newest"},
    "/oldest": {"max_backlog": 50_000, "on_backlog": "drop-oldest", "compression": "deflate"},
    "/latest": {"max_backlog": 50_000, "on_backlog": "latest"},
    "/takeover": {
        "max_backlog": 100_000,
        "compression": Deflate(server_no_context_takeover=False, client_no_context_takeover=False),
    },
    "/slow": {"max_backlog": 100_000},
}
"""Servers by path, whose clients may do anything; the handlers of /slow are async."""

ECHO: dict[str, dict[str, Any]] = {
    "/echo": {"max_backlog": 1 << 24},
    "/echo-later": {"max_backlog": 1 << 24},
    "/echo-deflate": {
        "max_backlog": 1 << 24,
        "compression": Deflate(server_no_context_takeover=False, client_no_context_takeover=False, threshold=1),
    },
}
"""Servers that send back what comes, all of it; the handlers of /echo-later are async."""

KEYS = [f"key {number}" for number in range(50)]

FILE_SIZE = 300_000

OPEN_TIMEOUT = 2.0
"""Seconds; short, so that clients which never send their request are cut while others come."""


class AsWished(Exception):
    """What a handler raises when a message says so."""


class Mess:
    """Handlers, and what they were called for.

    Attributes:
        alive: The connections whose on_close has not run, by id.
    """

    def __init__(self, chaos: list[WebSocketServer], echo: list[WebSocketServer]) -> None:
        self.random = random.Random(0)
        self.chaos, self.echo = chaos, echo
        self.servers = [*chaos, *echo]
        self.counts = Counter({"connects": 0, "closes": 0, "errors": 0, "twice": 0, "received": 0, "sent": 0})
        self.alive: dict[str, Any] = {}
        for ws in self.servers:
            ws.on_connect(self.connected)
            ws.on_error(self.failed)
            ws.on_close(self.closed_later if ws.path == "/slow" else self.closed)
        for ws in chaos:
            ws.on_message(self.waits if ws.path == "/slow" else self.act)
            ws.on_binary(self.send_back)
        for ws in echo:
            ws.on_message(self.send_back_later if ws.path == "/echo-later" else self.send_back)
            ws.on_binary(self.send_back_later if ws.path == "/echo-later" else self.send_back)

    def connected(self, conn: Any) -> None:
        self.counts["connects"] += 1
        self.alive[conn.get_id()] = conn
        if conn.request.path in ECHO:
            return
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
            self.random.choice(self.chaos).broadcast(f"{code} {reason}")

    async def closed_later(self, conn: Any, code: int, reason: str) -> None:
        self.closed(conn, code, reason)  # before it waits: past close_timeout it is cancelled
        await asyncio.sleep(0)

    def failed(self, conn: Any, error: str) -> None:
        self.counts["errors"] += 1
        if self.random.random() < 0.1:
            conn.close(4001)

    def send_back(self, conn: Any, message: str | bytes) -> None:
        self.counts["received"] += 1
        sent = conn.send(message) if isinstance(message, str) else conn.send_binary(bytearray(message))
        self.counts["sent"] += sent

    async def send_back_later(self, conn: Any, message: str | bytes) -> None:
        await asyncio.sleep(self.random.choice([0, 0, 0, 0.001]))
        self.send_back(conn, message)

    async def waits(self, conn: Any, message: str) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(self.random.choice([0, 0, 0.001]))
        self.act(conn, message)

    def act(self, conn: Any, message: str) -> None:
        self.counts["received"] += 1
        word = message[:9]
        ws = self.random.choice(self.chaos)
        if word == "broadcast":
            ws.broadcast(message)
        elif word == "keyed....":
            for key in self.random.choices(KEYS, k=20):
                ws.broadcast(f"{key} {message}", key=key, compress=self.random.random() < 0.5)
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
            raise AsWished
        elif word == "ping.....":
            conn.ping()
        else:
            self.counts["sent"] += conn.send(message)
        _ = conn.buffered, conn.latency, conn.dropped, conn.is_open(), ws.connection_count()

    def tell(self) -> dict[str, Any]:
        gc.collect()
        return {
            **self.counts,
            "open": sum(ws.connection_count() for ws in self.servers),
            "tasks": len(asyncio.all_tasks()) - 1,
            "alive": [f"{conn.request.path} {conn.buffered}" for conn in self.alive.values()],
            "memory": resident(),
            "descriptors": descriptors(),
        }


def app_of(mess: Mess, files: Path) -> App:
    app = App(open_timeout=OPEN_TIMEOUT)
    for ws in mess.servers:
        app.mount(ws.path, ws)
    (files / "file").write_bytes(b"x" * FILE_SIZE)
    app.static("/files", files)

    @app.get("/counts")
    def counts(_: Any) -> dict[str, Any]:
        return mess.tell()

    @app.get("/large")
    async def large(_: Any) -> str:
        await asyncio.sleep(0)
        return "x" * 500_000

    return app


async def serve(direct: bool) -> None:
    """Serve, and say at which two ports, until stdin ends."""
    mess = Mess(
        [WebSocketServer(path, **{**LIMITS, **options}) for path, options in CHAOS.items()],
        [WebSocketServer(path, **{**LIMITS, "max_queue": 16, **options}) for path, options in ECHO.items()],
    )
    ended = threading.Event()

    def from_elsewhere() -> None:
        number = 0
        while not ended.wait(0.005):
            number += 1
            for ws in mess.chaos:
                ws.broadcast("from a thread", key=KEYS[number % len(KEYS)])
                for conn in ws.get_connections()[:2]:
                    conn.send("from a thread, to you")

    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        files = Path(folder, "files")
        files.mkdir()
        app = app_of(mess, files)
        addresses = ["http://127.0.0.1:0", "https://127.0.0.1:0"]
        async with app.listening(
            listen=addresses, certfile=pair.certfile, keyfile=pair.keyfile, direct=direct
        ) as server:
            print(*(url.rpartition(":")[2] for url in server.urls), flush=True)
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


def descriptors() -> int:
    """How many descriptors this process has open; 0 where /proc does not say it."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
